package sdk_test

import (
	"testing"

	"github.com/loralab/loralab/plugins/sdk"
)

func TestDivisorsNear(t *testing.T) {
	for _, c := range []struct {
		n, k int
		want string
	}{
		{384, 50, "32, 48, 64 or 96"},
		{384, 1, "1 or 2"},
		{384, 1000, "192 or 384"},
		{7, 3, "1 or 7"},
		{1, 5, "1"},
	} {
		if got := sdk.DivisorsNear(c.n, c.k); got != c.want {
			t.Errorf("divisors of %d near %d: %q, want %q", c.n, c.k, got, c.want)
		}
	}
}
