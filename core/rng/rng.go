// Package rng gives every random decision of a run a stream of its own.
//
// A stream is named: hash(seed, purpose, names…). Nothing draws from a stream
// shared with anything else, so the order in which adapters, heads and batches
// are made never changes a value, and adding a site to an experiment leaves the
// starting weights of the others as they were.
package rng

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// Stream is a sequence of random numbers that depends on its name alone.
type Stream struct{ *rand.Rand }

// New returns the stream of a seed and a name made of parts. ChaCha8 under a
// SHA-256 key: both are fixed by their specifications, so the values are the
// same on every machine and with every Go release.
func New(seed uint64, parts ...string) Stream {
	h := sha256.New()
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], seed)
	h.Write(n[:])
	for _, p := range parts {
		// The length first, so that ("ab","c") and ("a","bc") differ.
		binary.LittleEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	var key [32]byte
	h.Sum(key[:0])
	return Stream{rand.New(rand.NewChaCha8(key))}
}

// Uniform fills dst with draws from U(lo, hi).
func (s Stream) Uniform(dst []float32, lo, hi float64) {
	for i := range dst {
		dst[i] = float32(lo + (hi-lo)*s.Float64())
	}
}

// Normal fills dst with draws from N(0, std²), by Box and Muller's transform.
// Go's own ziggurat is not promised to stay as it is; this is.
func (s Stream) Normal(dst []float32, std float64) {
	for i := 0; i < len(dst); i += 2 {
		r := math.Sqrt(-2 * math.Log(1-s.Float64()))
		sin, cos := math.Sincos(2 * math.Pi * s.Float64())
		dst[i] = float32(std * r * cos)
		if i+1 < len(dst) {
			dst[i+1] = float32(std * r * sin)
		}
	}
}

// KaimingBound is the bound of the uniform distribution that keeps the variance
// of activations through a leaky ReLU of slope a: √(6 / ((1+a²)·fan)).
// He et al., "Delving deep into rectifiers", 2015. With a = √5 it is PyTorch's
// default for linear and convolution layers, 1/√fan.
func KaimingBound(a, fan float64) float64 { return math.Sqrt(6 / ((1 + a*a) * fan)) }

// Permutation returns 0..n-1 in random order (Fisher and Yates).
func (s Stream) Permutation(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := int(s.Uint64N(uint64(i + 1)))
		p[i], p[j] = p[j], p[i]
	}
	return p
}
