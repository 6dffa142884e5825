// Package pyrandom is the part of Python's random that the original project
// divides its images with: random.seed of a whole number and random.shuffle. A
// split that was made there comes out the same here.
//
// Python draws from a Mersenne Twister (Matsumoto & Nishimura, 1998), MT19937,
// which its initialiser by array seeds. It is no source of anything else in this
// project: what is random otherwise comes from core/rng.
package pyrandom

import "math/bits"

const (
	words = 624 // of the state
	lag   = 397
)

// Random is the state of a generator after random.seed.
type Random struct {
	state [words]uint32
	next  int
}

// New is the generator after random.seed(seed).
func New(seed uint64) *Random {
	r := &Random{next: words}
	s := &r.state
	s[0] = 19650218
	for i := 1; i < words; i++ {
		s[i] = 1812433253*(s[i-1]^s[i-1]>>30) + uint32(i)
	}
	key := []uint32{uint32(seed)}
	if high := uint32(seed >> 32); high != 0 {
		key = append(key, high)
	}
	i, j := 1, 0
	forward := func() {
		if i++; i == words {
			s[0], i = s[words-1], 1
		}
	}
	for range max(words, len(key)) {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1664525) + key[j] + uint32(j)
		forward()
		j = (j + 1) % len(key)
	}
	for range words - 1 {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1566083941) - uint32(i)
		forward()
	}
	s[0] = 1 << 31
	return r
}

// uint32 draws 32 bits.
func (r *Random) uint32() uint32 {
	if r.next == words {
		s := &r.state
		for i := range s {
			y := s[i]&(1<<31) | s[(i+1)%words]&(1<<31-1)
			s[i] = s[(i+lag)%words] ^ y>>1 ^ -(y&1)&0x9908b0df
		}
		r.next = 0
	}
	y := r.state[r.next]
	r.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// below draws from 0 to n−1: as many bits as n has, until they are below n.
func (r *Random) below(n uint32) uint32 {
	for {
		if v := r.uint32() >> (32 - bits.Len32(n)); v < n {
			return v
		}
	}
}

// Shuffled is what random.shuffle makes of 0 to n−1: place i of the shuffled
// list has what stood at Shuffled(n)[i].
func (r *Random) Shuffled(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	for i := n - 1; i >= 1; i-- {
		j := r.below(uint32(i) + 1)
		list[i], list[j] = list[j], list[i]
	}
	return list
}
