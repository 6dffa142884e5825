package sampler

import (
	"fmt"
	"testing"

	"github.com/loralab/loralab/runner/search"
)

// BenchmarkAsk is one ask of TPE over six floats: at most 5 ms after 1,000
// trials and 30 ms after 10,000.
func BenchmarkAsk(b *testing.B) {
	six := problems(b)[3]
	for _, n := range []int{1000, 10_000} {
		var seen []search.Trial
		for i := range n {
			p, err := Random{}.Ask(Ask{Number: i, Space: six.space})
			if err != nil {
				b.Fatal(err)
			}
			seen = append(seen, search.Trial{Number: i, Point: p, State: search.Complete, Value: six.f(six.space.Decode(p))})
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (TPE{}).Ask(Ask{Number: n, Space: six.space, Seen: seen}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
