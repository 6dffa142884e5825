package sampler

import (
	"fmt"
	"math/bits"
	"strconv"

	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/runner/search/space"
)

// Sobol proposes the points of a Sobol sequence by the number of the trial, so
// that they fill the space evenly however many are asked at the same time: the
// first 2^k have one in each of 2^k equal bins of every dimension. Owen's
// scrambling by the seed of the study gives each seed points of its own, and a
// refused point is replaced by a random one.
type Sobol struct{}

// Ask proposes a point. See [Sampler]. It fails when there are more than 64
// parameters.
func (Sobol) Ask(a Ask) (space.Point, error) {
	if n := a.Space.Len(); n > len(directions)+1 {
		return nil, fmt.Errorf("a Sobol sequence has up to %d parameters, and the search has %d", len(directions)+1, n)
	}
	r := a.stream()
	first := true
	return a.first(func() (space.Point, error) {
		if !first {
			return a.Space.Draw(r.Float64), nil
		}
		first = false
		return a.Space.FromUnit(sobol(a.Seed, uint32(a.Number), a.Space.Len())), nil
	})
}

// sobol is the n-th point of the scrambled sequence.
func sobol(seed uint64, n uint32, dims int) []float64 {
	u := make([]float64, dims)
	for d := range u {
		key := rng.New(seed, "search", "sobol", strconv.Itoa(d)).Uint32()
		u[d] = (float64(scramble(sequence(d, n), key)) + 0.5) / (1 << 32)
	}
	return u
}

// sequence is the n-th number of a dimension, as a fraction of 2^32.
func sequence(dim int, n uint32) uint32 {
	if dim == 0 {
		return bits.Reverse32(n)
	}
	d := directions[dim-1]
	s := uint32(len(d.m))
	var v [33]uint32 // the direction numbers, from 1
	var x uint32
	for i := uint32(1); n != 0; i, n = i+1, n>>1 {
		if i <= s {
			v[i] = d.m[i-1] << (32 - i)
		} else {
			v[i] = v[i-s] ^ v[i-s]>>s
			for k := uint32(1); k < s; k++ {
				v[i] ^= (d.a >> (s - 1 - k) & 1) * v[i-k]
			}
		}
		x ^= (n & 1) * v[i]
	}
	return x
}

// scramble permutes the halves of the interval, of each half, and so forth, by
// Laine and Karras' hash: Burley, "Practical hash-based Owen scrambling", 2020.
func scramble(x, key uint32) uint32 {
	x = bits.Reverse32(x) + key
	x ^= x * 0x6c50b47c
	x ^= x * 0xb82f1e52
	x ^= x * 0xc7afe638
	x ^= x * 0x8d22f6e6
	return bits.Reverse32(x)
}

// directions has the primitive polynomials and initial direction numbers of the
// dimensions from the second on: S. Joe and F. Y. Kuo, new-joe-kuo-6.21201.
var directions = [...]struct {
	a uint32
	m []uint32
}{
	{0, []uint32{1}},
	{1, []uint32{1, 3}},
	{1, []uint32{1, 3, 1}},
	{2, []uint32{1, 1, 1}},
	{1, []uint32{1, 1, 3, 3}},
	{4, []uint32{1, 3, 5, 13}},
	{2, []uint32{1, 1, 5, 5, 17}},
	{4, []uint32{1, 1, 5, 5, 5}},
	{7, []uint32{1, 1, 7, 11, 19}},
	{11, []uint32{1, 1, 5, 1, 1}},
	{13, []uint32{1, 1, 1, 3, 11}},
	{14, []uint32{1, 3, 5, 5, 31}},
	{1, []uint32{1, 3, 3, 9, 7, 49}},
	{13, []uint32{1, 1, 1, 15, 21, 21}},
	{16, []uint32{1, 3, 1, 13, 27, 49}},
	{19, []uint32{1, 1, 1, 15, 7, 5}},
	{22, []uint32{1, 3, 1, 15, 13, 25}},
	{25, []uint32{1, 1, 5, 5, 19, 61}},
	{1, []uint32{1, 3, 7, 11, 23, 15, 103}},
	{4, []uint32{1, 3, 7, 13, 13, 15, 69}},
	{7, []uint32{1, 1, 3, 13, 7, 35, 63}},
	{8, []uint32{1, 3, 5, 9, 1, 25, 53}},
	{14, []uint32{1, 3, 1, 13, 9, 35, 107}},
	{19, []uint32{1, 3, 1, 5, 27, 61, 31}},
	{21, []uint32{1, 1, 5, 11, 19, 41, 61}},
	{28, []uint32{1, 3, 5, 3, 3, 13, 69}},
	{31, []uint32{1, 1, 7, 13, 1, 19, 1}},
	{32, []uint32{1, 3, 7, 5, 13, 19, 59}},
	{37, []uint32{1, 1, 3, 9, 25, 29, 41}},
	{41, []uint32{1, 3, 5, 13, 23, 1, 55}},
	{42, []uint32{1, 3, 7, 3, 13, 59, 17}},
	{50, []uint32{1, 3, 1, 3, 5, 53, 69}},
	{55, []uint32{1, 1, 5, 5, 23, 33, 13}},
	{56, []uint32{1, 1, 7, 7, 1, 61, 123}},
	{59, []uint32{1, 1, 7, 9, 13, 61, 49}},
	{62, []uint32{1, 3, 3, 5, 3, 55, 33}},
	{14, []uint32{1, 3, 1, 15, 31, 13, 49, 245}},
	{21, []uint32{1, 3, 5, 15, 31, 59, 63, 97}},
	{22, []uint32{1, 3, 1, 11, 11, 11, 77, 249}},
	{38, []uint32{1, 3, 1, 11, 27, 43, 71, 9}},
	{47, []uint32{1, 1, 7, 15, 21, 11, 81, 45}},
	{49, []uint32{1, 3, 7, 3, 25, 31, 65, 79}},
	{50, []uint32{1, 3, 1, 1, 19, 11, 3, 205}},
	{52, []uint32{1, 1, 5, 9, 19, 21, 29, 157}},
	{56, []uint32{1, 3, 7, 11, 1, 33, 89, 185}},
	{67, []uint32{1, 3, 3, 3, 15, 9, 79, 71}},
	{70, []uint32{1, 3, 7, 11, 15, 39, 119, 27}},
	{84, []uint32{1, 1, 3, 1, 11, 31, 97, 225}},
	{97, []uint32{1, 1, 1, 3, 23, 43, 57, 177}},
	{103, []uint32{1, 3, 7, 7, 17, 17, 37, 71}},
	{115, []uint32{1, 3, 1, 5, 27, 63, 123, 213}},
	{122, []uint32{1, 1, 3, 5, 11, 43, 53, 133}},
	{8, []uint32{1, 3, 5, 5, 29, 17, 47, 173, 479}},
	{13, []uint32{1, 3, 3, 11, 3, 1, 109, 9, 69}},
	{16, []uint32{1, 1, 1, 5, 17, 39, 23, 5, 343}},
	{22, []uint32{1, 3, 1, 5, 25, 15, 31, 103, 499}},
	{25, []uint32{1, 1, 1, 11, 11, 17, 63, 105, 183}},
	{44, []uint32{1, 1, 5, 11, 9, 29, 97, 231, 363}},
	{47, []uint32{1, 1, 5, 15, 19, 45, 41, 7, 383}},
	{52, []uint32{1, 3, 7, 7, 31, 19, 83, 137, 221}},
	{55, []uint32{1, 1, 1, 3, 23, 15, 111, 223, 83}},
	{59, []uint32{1, 1, 5, 13, 31, 15, 55, 25, 161}},
	{62, []uint32{1, 1, 3, 13, 25, 47, 39, 87, 257}},
}
