package rng

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestStreamsAreKnown(t *testing.T) {
	// The first values of one stream, written down: a change of algorithm
	// would silently change every run's starting weights.
	s := New(1, "adapter", "block6.query", "lora_A")
	got := []uint64{s.Uint64(), s.Uint64()}
	want := []uint64{knownFirst, knownSecond}
	if !slices.Equal(got, want) {
		t.Fatalf("stream moved: got %#x, want %#x", got, want)
	}
}

func TestNamesSeparateStreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "a")
		b := rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "b")
		same := New(7, a...).Uint64() == New(7, b...).Uint64()
		if same != slices.Equal(a, b) {
			t.Fatalf("%q and %q: same stream %v", a, b, same)
		}
	})
}

func TestNormalMoments(t *testing.T) {
	x := make([]float32, 200_001)
	New(3, "normal").Normal(x, 2)
	var sum, sq float64
	for _, v := range x {
		sum += float64(v)
		sq += float64(v) * float64(v)
	}
	n := float64(len(x))
	if mean, std := sum/n, math.Sqrt(sq/n); math.Abs(mean) > 0.02 || math.Abs(std-2) > 0.02 {
		t.Fatalf("mean %.4f, std %.4f, want 0 and 2", mean, std)
	}
}

func TestPermutation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 50).Draw(t, "n")
		p := New(rapid.Uint64().Draw(t, "seed"), "order").Permutation(n)
		slices.Sort(p)
		for i, v := range p {
			if i != v {
				t.Fatalf("not a permutation: %v", p)
			}
		}
	})
}

const (
	knownFirst  = 0x5e9ce35d0ef7150e
	knownSecond = 0xdd0b28a5276c8fd2
)
