package program

import (
	"math"
	"slices"
	"strings"

	"github.com/loralab/loralab/plugins/protocol"
)

// What a program as a whole may not exceed, at one place. The limits stop a
// program that would take the memory or the time of everything else; those of
// the field stay below a hundredth of them on the largest vision transformers.
const (
	MaxMemory      = 1 << 28 // elements of parameters and of nodes without T
	MaxTokenMemory = 1 << 20 // elements of nodes with T, for one token
	MaxWork        = 1 << 40 // multiplications of nodes without T
	MaxTokenWork   = 1 << 32 // multiplications of nodes with T, for one token
)

// cost is what a pass through some nodes takes. Counts of elements and
// multiplications are float64: they may be far beyond what an integer holds.
type cost struct{ memory, work, tokenMemory, tokenWork float64 }

// views are the operations that only look at their input in another way.
var views = []protocol.Op{
	protocol.Op_X, protocol.Op_WEIGHT, protocol.Op_BIAS, protocol.Op_PARAM,
	protocol.Op_RESHAPE, protocol.Op_PERMUTE, protocol.Op_SLICE, protocol.Op_DETACH,
}

// limits checks what the program takes as a whole.
func (k *checker) limits(p *protocol.Program) {
	var c cost
	for _, q := range p.GetParams() {
		c.memory += count(q.GetShape())
		for i := q.GetInit(); i != nil; i = i.GetInner() {
			if len(i.GetMaxShape()) > 0 {
				c.memory += count(i.GetMaxShape())
			}
		}
	}
	needed := live(p)
	for i, n := range p.GetNodes() {
		if needed[i] && !slices.Contains(views, n.GetOp()) {
			c.node(n, k.nodes, k.nodes[i], k.site)
		}
	}
	for _, l := range []struct {
		takes float64
		most  float64
		what  string
	}{
		{c.memory, MaxMemory, "elements in parameters and in what does not depend on x"},
		{c.tokenMemory, MaxTokenMemory, "elements for each token"},
		{c.work, MaxWork, "multiplications in what does not depend on x"},
		{c.tokenWork, MaxTokenWork, "multiplications for each token"},
	} {
		if l.takes > l.most {
			k.program("takes %.10g %s, at most %.10g are allowed", l.takes, l.what, l.most)
		}
	}
}

// node adds one node.
func (c *cost) node(n *protocol.Node, nodes []*Value, out *Value, s *protocol.Site) {
	in := make([][]int64, len(n.GetInputs()))
	for i, at := range n.GetInputs() {
		in[i] = nodes[at].Shape
	}
	memory, work := count(out.Shape), count(out.Shape)
	switch n.GetOp() {
	case protocol.Op_BASE:
		work = float64(s.GetIn()) * float64(s.GetOut())
	case protocol.Op_MATMUL:
		work *= count(in[0][len(in[0])-1:])
	case protocol.Op_SOLVE: // by LU
		n := float64(in[0][len(in[0])-1])
		work = work*n + count(in[0])*n
	case protocol.Op_IFFT2:
		work *= 8 * math.Log2(work+1)
	case protocol.Op_MAX, protocol.Op_MIN, protocol.Op_MEAN:
		work = count(in[0])
	case protocol.Op_LAYER_NORM: // mean, variance, quotient
		work *= 3
	case protocol.Op_EINSUM:
		memory, work = einsumCost(n.GetText(), in)
	}
	if slices.Contains(out.Shape, T) {
		c.tokenMemory, c.tokenWork = c.tokenMemory+memory, c.tokenWork+work
	} else {
		c.memory, c.work = c.memory+memory, c.work+work
	}
}

// einsumCost follows libtorch, which multiplies from left to right and sums
// over a letter as soon as nothing that follows has it.
func einsumCost(text string, in [][]int64) (memory, work float64) {
	left, right, _ := strings.Cut(text, "->")
	terms := strings.Split(left, ",")
	size := map[rune]float64{}
	for i, term := range terms {
		for d, l := range term {
			size[l] = count(in[i][d : d+1])
		}
	}
	have := terms[0]
	for i := 1; i < len(terms); i++ {
		both := have
		for _, l := range terms[i] {
			if !strings.ContainsRune(both, l) {
				both += string(l)
			}
		}
		after := strings.Join(terms[i+1:], "") + right
		have = strings.Map(func(l rune) rune {
			if strings.ContainsRune(after, l) {
				return l
			}
			return -1
		}, both)
		memory += sizes(have, size)
		work += sizes(both, size)
	}
	if len(terms) == 1 {
		memory, work = sizes(right, size), sizes(left, size)
	}
	return memory, work
}

func sizes(letters string, size map[rune]float64) float64 {
	n := 1.0
	for _, l := range letters {
		n *= size[l]
	}
	return n
}

// count is elements as a float64.
func count(shape []int64) float64 {
	n := 1.0
	for _, d := range shape {
		if d != T {
			n *= float64(d)
		}
	}
	return n
}
