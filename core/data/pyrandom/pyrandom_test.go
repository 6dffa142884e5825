package pyrandom

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// Orders are those of CPython, see testdata/make_shuffles.py.
func TestShuffled(t *testing.T) {
	text, err := os.ReadFile("testdata/shuffles.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Seed   uint64 `json:",string"`
		N      int
		Order  []int
		SHA256 string
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 10 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		r := New(c.Seed)
		order := r.Shuffled(c.N)
		if c.Order != nil && !slices.Equal(order, c.Order) {
			t.Errorf("seed %d: %v, Python has %v", c.Seed, order, c.Order)
		}
		// Twice, as the second goes on where the first has stopped.
		both := fmt.Sprint(slices.Concat(order, r.Shuffled(c.N)))
		sum := sha256.Sum256([]byte(strings.Trim(both, "[]")))
		if got := hex.EncodeToString(sum[:]); got != c.SHA256 {
			t.Errorf("seed %d, %d numbers: not in Python's order", c.Seed, c.N)
		}
	}
}
