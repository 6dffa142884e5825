package sdk

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// Tokens stands for T in Reshape.
const Tokens = program.T

// Graph is the adapted layer of one site while it is drawn. Equal operations
// on equal inputs are one node. A dimension may be counted from the end: -1 is
// the last one (not in Reshape, where it is Tokens).
type Graph struct {
	w    *program.Writer
	site *protocol.Site
	same map[string]Node // by operation, inputs and attributes
	peft []*protocol.PeftTensor

	nodes int
	until int    // the node whose line is looked for, -1: none
	where string // that line, "main.go:23"
}

// Node is a value in the graph.
type Node struct {
	g     *Graph
	index uint32
	value program.Value
}

// Shape has -1 (Tokens) for T.
func (n Node) Shape() []int {
	s := make([]int, len(n.value.Shape))
	for i, d := range n.value.Shape {
		s[i] = int(d)
	}
	return s
}

func newGraph(s *protocol.Site) *Graph {
	return &Graph{w: program.NewWriter(s), site: s, same: map[string]Node{}, until: -1}
}

// mistake is how the graph stops Build.
type mistake struct {
	where   string // "main.go:23"
	message string
}

func (m mistake) Error() string {
	if m.where == "" {
		return m.message
	}
	return m.where + ": " + m.message
}

// stop ends Build at the line that called into this package.
func stop(message string) { panic(mistake{where: caller(), message: message}) }

// caller is the line that called into this package.
func caller() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if !strings.Contains(f.Function, "/plugins/sdk.(*Graph)") && !strings.Contains(f.Function, "/plugins/sdk.stop") {
			return fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line)
		}
		if !more {
			return ""
		}
	}
}

// Dims is a shape.
func Dims(d ...int) []int { return d }

func wide(d []int) []int64 {
	w := make([]int64, len(d))
	for i, n := range d {
		w[i] = int64(n)
	}
	return w
}

func (g *Graph) node(n *protocol.Node, in ...Node) Node {
	for _, i := range in {
		if i.g != g {
			stop(fmt.Sprintf("%s: %s got a node of another graph", program.SiteName(g.site), program.OpName(n.Op)))
		}
		n.Inputs = append(n.Inputs, i.index)
	}
	key, err := proto.MarshalOptions{Deterministic: true}.Marshal(n)
	if err != nil { // a text that is not UTF-8
		stop(fmt.Sprintf("%s: %s: %v", program.SiteName(g.site), program.OpName(n.Op), err))
	}
	random := n.Op == protocol.Op_DROPOUT // two of them are not the same
	if same, ok := g.same[string(key)]; ok && !random {
		return same
	}
	if g.nodes++; g.nodes > program.MaxNodes { // a loop over a parameter that is far too large
		stop(fmt.Sprintf("%s: more than %d nodes", program.SiteName(g.site), program.MaxNodes))
	}
	index, v, err := g.w.Node(n)
	if err != nil {
		stop(err.Error())
	}
	out := Node{g: g, index: index, value: v}
	g.same[string(key)] = out
	if int(index) == g.until {
		g.where = caller()
	}
	return out
}

// dim counts d from the front.
func dim(n Node, d int) int64 {
	if d < 0 {
		d += len(n.value.Shape)
	}
	return int64(d)
}

func dimsOf(n Node, d []int) []int64 {
	w := make([]int64, len(d))
	for i := range d {
		w[i] = dim(n, d[i])
	}
	return w
}

// X is the input of the layer, [T, in].
func (g *Graph) X() Node { return g.node(&protocol.Node{Op: protocol.Op_X}) }

// Base is the frozen layer applied to x, [T, in] to [T, out]; of a stream, x.
func (g *Graph) Base(x Node) Node { return g.node(&protocol.Node{Op: protocol.Op_BASE}, x) }

// W is the weight of the layer, [out, in]. A stream has none.
func (g *Graph) W() Node { return g.node(&protocol.Node{Op: protocol.Op_WEIGHT}) }

// B is the bias of the layer, [out], if Site.Bias.
func (g *Graph) B() Node { return g.node(&protocol.Node{Op: protocol.Op_BIAS}) }

// Const is a fixed tensor, its values row by row.
func (g *Graph) Const(dims []int, values ...float64) Node {
	return g.node(&protocol.Node{Op: protocol.Op_CONST, Ints: wide(dims), Floats: values})
}

// Eye is the identity matrix, [n, n].
func (g *Graph) Eye(n int) Node {
	return g.node(&protocol.Node{Op: protocol.Op_EYE, Ints: []int64{int64(n)}})
}

// Add broadcasts as NumPy does, like Sub, Mul and Div.
func (g *Graph) Add(a, b Node) Node { return g.node(&protocol.Node{Op: protocol.Op_ADD}, a, b) }

// Sub is a − b.
func (g *Graph) Sub(a, b Node) Node { return g.node(&protocol.Node{Op: protocol.Op_SUB}, a, b) }

// Mul is a · b, element by element.
func (g *Graph) Mul(a, b Node) Node { return g.node(&protocol.Node{Op: protocol.Op_MUL}, a, b) }

// Div is a / b, element by element.
func (g *Graph) Div(a, b Node) Node { return g.node(&protocol.Node{Op: protocol.Op_DIV}, a, b) }

// Neg is −a.
func (g *Graph) Neg(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_NEG}, a) }

// Scale is s · a; a itself if s is 1.
func (g *Graph) Scale(s float64, a Node) Node {
	if s == 1 {
		return a
	}
	return g.node(&protocol.Node{Op: protocol.Op_SCALE, Number: s}, a)
}

// MatMul is the matrix product over the last two dimensions, broadcast over
// the ones before.
func (g *Graph) MatMul(a, b Node) Node { return g.node(&protocol.Node{Op: protocol.Op_MATMUL}, a, b) }

// Einsum follows an equation with one letter for each dimension and the result
// spelled out: "tin,ijrn->tijr".
func (g *Graph) Einsum(equation string, in ...Node) Node {
	return g.node(&protocol.Node{Op: protocol.Op_EINSUM, Text: equation}, in...)
}

// Kron is the Kronecker product.
func (g *Graph) Kron(a, b Node) Node { return g.node(&protocol.Node{Op: protocol.Op_KRON}, a, b) }

// Reshape gives a the shape dims, with Tokens for T: Reshape(x, Tokens, k,
// in/k). Tokens stay apart: what lies before T keeps its size.
func (g *Graph) Reshape(a Node, dims ...int) Node {
	return g.node(&protocol.Node{Op: protocol.Op_RESHAPE, Ints: wide(dims)}, a)
}

// Permute orders the dimensions anew.
func (g *Graph) Permute(a Node, dims ...int) Node {
	return g.node(&protocol.Node{Op: protocol.Op_PERMUTE, Ints: dimsOf(a, dims)}, a)
}

// T swaps the last two dimensions.
func (g *Graph) T(a Node) Node {
	n := len(a.value.Shape)
	if n < 2 {
		stop(fmt.Sprintf("%s: T of shape %s, want at least 2 dimensions", program.SiteName(g.site), program.ShapeText(a.value.Shape)))
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	order[n-1], order[n-2] = n-2, n-1
	return g.Permute(a, order...)
}

// Slice takes length entries of a dimension, from start on; a itself if those
// are all.
func (g *Graph) Slice(a Node, d, start, length int) Node {
	if at := dim(a, d); at >= 0 && at < int64(len(a.value.Shape)) && start == 0 && int64(length) == a.value.Shape[at] {
		return a
	}
	return g.node(&protocol.Node{Op: protocol.Op_SLICE, Ints: []int64{dim(a, d), int64(start), int64(length)}}, a)
}

// Concat joins along a dimension.
func (g *Graph) Concat(d int, in ...Node) Node {
	at := int64(d)
	if len(in) > 0 {
		at = dim(in[0], d)
	}
	return g.node(&protocol.Node{Op: protocol.Op_CONCAT, Ints: []int64{at}}, in...)
}

// Repeat repeats a as a whole, times for each dimension; a itself if that is
// once for each.
func (g *Graph) Repeat(a Node, times ...int) Node {
	if len(times) == len(a.value.Shape) && !slices.ContainsFunc(times, func(n int) bool { return n != 1 }) {
		return a
	}
	return g.node(&protocol.Node{Op: protocol.Op_REPEAT, Ints: wide(times)}, a)
}

// Sum sums over the dimensions, all of them if none is given, and drops them.
func (g *Graph) Sum(a Node, dims ...int) Node {
	return g.reduce(protocol.Op_SUM, a, dims, false)
}

// SumKeep is Sum that leaves the dimensions with size 1.
func (g *Graph) SumKeep(a Node, dims ...int) Node {
	return g.reduce(protocol.Op_SUM, a, dims, true)
}

// Norm is the 2-norm over the dimensions, all of them if none is given; they
// are dropped.
func (g *Graph) Norm(a Node, dims ...int) Node {
	return g.reduce(protocol.Op_NORM, a, dims, false)
}

// NormKeep is Norm that leaves the dimensions with size 1.
func (g *Graph) NormKeep(a Node, dims ...int) Node {
	return g.reduce(protocol.Op_NORM, a, dims, true)
}

func (g *Graph) reduce(op protocol.Op, a Node, dims []int, keep bool) Node {
	if len(a.value.Shape) == 0 && op != protocol.Op_NORM { // which is |a|
		return a
	}
	if len(dims) == 0 {
		for d := range a.value.Shape {
			dims = append(dims, d)
		}
	}
	return g.node(&protocol.Node{Op: op, Ints: dimsOf(a, dims), Keepdim: keep}, a)
}

// Sqrt is the square root, element by element.
func (g *Graph) Sqrt(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_SQRT}, a) }

// ClampMin is max(a, least).
func (g *Graph) ClampMin(a Node, least float64) Node {
	return g.node(&protocol.Node{Op: protocol.Op_CLAMP, Floats: []float64{least}}, a)
}

// Clamp keeps a within least and most.
func (g *Graph) Clamp(a Node, least, most float64) Node {
	return g.node(&protocol.Node{Op: protocol.Op_CLAMP, Floats: []float64{least, most}}, a)
}

// Solve is Z with a · Z = b, a being square in its last two dimensions.
func (g *Graph) Solve(a, b Node) Node { return g.node(&protocol.Node{Op: protocol.Op_SOLVE}, a, b) }

// Softmax is over one dimension.
func (g *Graph) Softmax(a Node, d int) Node {
	return g.node(&protocol.Node{Op: protocol.Op_SOFTMAX, Ints: []int64{dim(a, d)}}, a)
}

// ReLU is max(a, 0).
func (g *Graph) ReLU(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_RELU}, a) }

// GELU is a · Φ(a), exact.
func (g *Graph) GELU(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_GELU}, a) }

// Dropout zeroes entries with probability p while training and scales the
// others by 1/(1-p); a itself if p is 0. Each call draws for itself.
func (g *Graph) Dropout(a Node, p float64) Node {
	if p == 0 {
		return a
	}
	return g.node(&protocol.Node{Op: protocol.Op_DROPOUT, Number: p}, a)
}

// Detach is a, through which no gradient passes.
func (g *Graph) Detach(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_DETACH}, a) }

// Gather takes the entries of a dimension at the positions of an int64
// parameter (Permutation, Integers, TopKAbsW, Indices).
func (g *Graph) Gather(a Node, d int, positions Node) Node {
	return g.node(&protocol.Node{Op: protocol.Op_GATHER, Ints: []int64{dim(a, d)}}, a, positions)
}

// Scatter is zero but for values [n], written at the flat positions [n].
func (g *Graph) Scatter(dims []int, values, positions Node) Node {
	return g.node(&protocol.Node{Op: protocol.Op_SCATTER, Ints: wide(dims)}, values, positions)
}

// Exp is eᵃ, element by element.
func (g *Graph) Exp(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_EXP}, a) }

// Sin is element by element.
func (g *Graph) Sin(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_SIN}, a) }

// Cos is element by element.
func (g *Graph) Cos(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_COS}, a) }

// TopKMask is 1 at the k largest along a dimension, else 0.
func (g *Graph) TopKMask(a Node, d, k int) Node {
	return g.node(&protocol.Node{Op: protocol.Op_TOPK_MASK, Ints: []int64{dim(a, d), int64(k)}}, a)
}

// IFFT2 is the real part of the inverse 2-D Fourier transform of the last two
// dimensions.
func (g *Graph) IFFT2(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_IFFT2}, a) }

// Sigmoid is 1/(1+e⁻ᵃ). Written with Exp it would overflow for a of −100.
func (g *Graph) Sigmoid(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_SIGMOID}, a) }

// Tanh is the hyperbolic tangent.
func (g *Graph) Tanh(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_TANH}, a) }

// SiLU is a · Sigmoid(a).
func (g *Graph) SiLU(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_SILU}, a) }

// Log is the natural logarithm; ClampMin keeps a away from 0.
func (g *Graph) Log(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_LOG}, a) }

// Abs is |a|, whose gradient at 0 is 0.
func (g *Graph) Abs(a Node) Node { return g.node(&protocol.Node{Op: protocol.Op_ABS}, a) }

// Maximum is the larger of a and b, element by element. It broadcasts as Add does,
// like Minimum and Where; equal entries share the gradient.
func (g *Graph) Maximum(a, b Node) Node { return g.node(&protocol.Node{Op: protocol.Op_MAXIMUM}, a, b) }

// Minimum is the smaller of a and b, element by element.
func (g *Graph) Minimum(a, b Node) Node { return g.node(&protocol.Node{Op: protocol.Op_MINIMUM}, a, b) }

// Where is a where condition is greater than 0, else b. No gradient passes to
// condition. The branch that is left out has to be finite too: the gradient of
// Where(c, Sqrt(c), b) is NaN where c is negative, that of
// Where(c, Sqrt(ClampMin(c, 1e-6)), b) is not.
func (g *Graph) Where(condition, a, b Node) Node {
	return g.node(&protocol.Node{Op: protocol.Op_WHERE}, condition, a, b)
}

// Max is the largest entry over the dimensions, all of them if none is given; they
// are dropped. Equal ones share the gradient.
func (g *Graph) Max(a Node, dims ...int) Node { return g.reduce(protocol.Op_MAX, a, dims, false) }

// MaxKeep is Max that leaves the dimensions with size 1.
func (g *Graph) MaxKeep(a Node, dims ...int) Node { return g.reduce(protocol.Op_MAX, a, dims, true) }

// Min is the smallest entry, as Max is the largest.
func (g *Graph) Min(a Node, dims ...int) Node { return g.reduce(protocol.Op_MIN, a, dims, false) }

// MinKeep is Min that leaves the dimensions with size 1.
func (g *Graph) MinKeep(a Node, dims ...int) Node { return g.reduce(protocol.Op_MIN, a, dims, true) }

// Mean is the mean over the dimensions, all of them if none is given; they are
// dropped.
func (g *Graph) Mean(a Node, dims ...int) Node { return g.reduce(protocol.Op_MEAN, a, dims, false) }

// MeanKeep is Mean that leaves the dimensions with size 1.
func (g *Graph) MeanKeep(a Node, dims ...int) Node { return g.reduce(protocol.Op_MEAN, a, dims, true) }

// LayerNorm brings the last dimension of a to mean 0 and variance 1; eps, 1e-5 or
// 1e-6 as a rule, is added to the variance. It has no weight and no bias: Mul and
// Add them.
func (g *Graph) LayerNorm(a Node, eps float64) Node {
	return g.node(&protocol.Node{Op: protocol.Op_LAYER_NORM, Number: eps}, a)
}

// Aux adds weight · a to the loss, a being a scalar.
func (g *Graph) Aux(name string, weight float64, a Node) {
	g.w.Aux(&protocol.Aux{Node: a.index, Weight: weight, Name: name})
}

// Param declares a parameter, trainable and one for each site unless options
// say otherwise, and returns its value.
func (g *Graph) Param(name string, dims []int, init Init, options ...Option) Node {
	p := &protocol.Param{
		Name: name, Shape: wide(dims), Init: init.proto(),
		Trainable: true, Scope: protocol.Param_SITE,
	}
	for _, o := range options {
		o(p)
	}
	if err := g.w.Param(p); err != nil {
		stop(err.Error())
	}
	return g.node(&protocol.Node{Op: protocol.Op_PARAM, Param: name})
}
