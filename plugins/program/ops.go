package program

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/plugins/protocol"
)

// row is everything there is to know about one operation.
type row struct {
	name string
	// least and most inputs; positions is the index of the one that takes
	// int64 positions, or -1.
	least, most int
	positions   int
	since       uint32 // version of the op list that it came with, 0 for 1
	takes       string // attributes that mean something, space separated
	linear      func(in []*Value) Linearity
	from        Source // in addition to that of the inputs
	// shape gives the shape of the result. It may rely on arity, element
	// types and attributes being right.
	shape func(c *call) ([]int64, error)
}

// call is one use of an operation.
type call struct {
	*protocol.Node
	in    []*Value
	param *Value // PARAM only
	site  *protocol.Site
}

// ops has a row for every operation of the protocol.
var ops = map[protocol.Op]row{
	protocol.Op_X: source("x", "", FromX, func(c *call) ([]int64, error) {
		return []int64{T, int64(c.site.GetIn())}, nil
	}),
	protocol.Op_BASE: {name: "base", least: 1, most: 1, positions: -1, linear: keeps, from: FromBase, shape: func(c *call) ([]int64, error) {
		want := []int64{T, int64(c.site.GetIn())}
		if !slices.Equal(c.in[0].Shape, want) {
			return nil, fmt.Errorf("input has shape %s, want %s", ShapeText(c.in[0].Shape), ShapeText(want))
		}
		return []int64{T, int64(c.site.GetOut())}, nil
	}},
	protocol.Op_WEIGHT: source("weight", "", FromBase, func(c *call) ([]int64, error) {
		if c.site.GetKind() == protocol.Site_STREAM {
			return nil, errors.New("a stream has no W")
		}
		return []int64{int64(c.site.GetOut()), int64(c.site.GetIn())}, nil
	}),
	protocol.Op_BIAS: source("bias", "", FromBase, func(c *call) ([]int64, error) {
		if !c.site.GetBias() {
			return nil, errors.New("this site has no bias")
		}
		return []int64{int64(c.site.GetOut())}, nil
	}),
	protocol.Op_PARAM: source("param", "param", 0, func(c *call) ([]int64, error) { return c.param.Shape, nil }),
	protocol.Op_CONST: source("const", "ints floats", 0, func(c *call) ([]int64, error) {
		if err := fixedShape(c.Ints); err != nil {
			return nil, err
		}
		if int64(len(c.Floats)) != elements(c.Ints) {
			return nil, fmt.Errorf("%d values for shape %s, want %d", len(c.Floats), ShapeText(c.Ints), elements(c.Ints))
		}
		return slices.Clone(c.Ints), nil
	}),
	protocol.Op_EYE: source("eye", "ints", 0, func(c *call) ([]int64, error) {
		if len(c.Ints) != 1 || c.Ints[0] < 1 {
			return nil, fmt.Errorf("ints %s, want one size of at least 1", rawShape(c.Ints))
		}
		return []int64{c.Ints[0], c.Ints[0]}, nil
	}),

	protocol.Op_ADD:   op("add", 2, "", keeps, broadcast),
	protocol.Op_SUB:   op("sub", 2, "", keeps, broadcast),
	protocol.Op_MUL:   op("mul", 2, "", product, broadcast),
	protocol.Op_DIV:   op("div", 2, "", quotient, broadcast),
	protocol.Op_NEG:   op("neg", 1, "", keeps, same),
	protocol.Op_SCALE: op("scale", 1, "number", keeps, same),

	protocol.Op_MATMUL: op("matmul", 2, "", product, matmul),
	protocol.Op_EINSUM: {name: "einsum", least: 1, most: 8, positions: -1, takes: "text", linear: product, shape: func(c *call) ([]int64, error) {
		shapes := make([][]int64, len(c.in))
		for i, v := range c.in {
			shapes[i] = v.Shape
		}
		return einsum(c.Text, shapes)
	}},
	protocol.Op_KRON: op("kron", 2, "", product, kron),

	protocol.Op_RESHAPE: op("reshape", 1, "ints", keeps, reshape),
	protocol.Op_PERMUTE: op("permute", 1, "ints", keeps, func(c *call) ([]int64, error) {
		s := c.in[0].Shape
		order := slices.Sorted(slices.Values(c.Ints))
		for d := range s {
			if len(order) != len(s) || order[d] != int64(d) {
				return nil, fmt.Errorf("ints %s, want each dimension of %s once", rawShape(c.Ints), ShapeText(s))
			}
		}
		if len(order) != len(s) {
			return nil, fmt.Errorf("ints %s of a scalar, want none", rawShape(c.Ints))
		}
		r := make([]int64, len(s))
		for d, from := range c.Ints {
			r[d] = s[from]
		}
		return r, nil
	}),
	protocol.Op_SLICE: op("slice", 1, "ints", keeps, func(c *call) ([]int64, error) {
		if len(c.Ints) != 3 {
			return nil, fmt.Errorf("ints %s, want [dim, start, length]", rawShape(c.Ints))
		}
		if err := own(c.in[0].Shape, c.Ints[0], "slices"); err != nil {
			return nil, err
		}
		r := slices.Clone(c.in[0].Shape)
		start, length := c.Ints[1], c.Ints[2]
		if start < 0 || length < 1 || start > r[c.Ints[0]] || length > r[c.Ints[0]]-start {
			return nil, fmt.Errorf("%d from %d on does not lie within dimension %d of %s", length, start, c.Ints[0], ShapeText(r))
		}
		r[c.Ints[0]] = length
		return r, nil
	}),
	protocol.Op_CONCAT: {name: "concat", least: 1, most: MaxNodes, positions: -1, takes: "ints", linear: keeps, shape: func(c *call) ([]int64, error) {
		if len(c.Ints) != 1 {
			return nil, fmt.Errorf("ints %s, want [dim]", rawShape(c.Ints))
		}
		r := slices.Clone(c.in[0].Shape)
		d := c.Ints[0]
		for i, v := range c.in {
			if err := own(v.Shape, d, "concatenates"); err != nil {
				return nil, err
			}
			if i == 0 {
				continue
			}
			s := slices.Clone(v.Shape)
			if len(s) == len(r) {
				s[d] = r[d]
			}
			if !slices.Equal(s, r) {
				return nil, fmt.Errorf("input %d has shape %s, want that of input 0, %s, but for dimension %d", i, ShapeText(v.Shape), ShapeText(c.in[0].Shape), d)
			}
			if r[d] += v.Shape[d]; r[d] > MaxElements {
				return nil, fmt.Errorf("more than %d elements", MaxElements)
			}
		}
		return r, nil
	}},
	protocol.Op_REPEAT: op("repeat", 1, "ints", keeps, func(c *call) ([]int64, error) {
		r := slices.Clone(c.in[0].Shape)
		if len(c.Ints) != len(r) {
			return nil, fmt.Errorf("ints %s, want one for each dimension of %s", rawShape(c.Ints), ShapeText(r))
		}
		for d, times := range c.Ints {
			switch {
			case times < 1 || times > MaxElements:
				return nil, fmt.Errorf("ints %s, want 1 to %d each", rawShape(c.Ints), MaxElements)
			case r[d] == T && times != 1:
				return nil, fmt.Errorf("repeats the tokens (dimension %d)", d)
			case r[d] != T:
				r[d] *= times // both at most 2^28
			}
		}
		return r, nil
	}),

	protocol.Op_SUM:  op("sum", 1, "ints keepdim", keeps, reduce),
	protocol.Op_NORM: op("norm", 1, "ints keepdim", bends, reduce),
	protocol.Op_SQRT: op("sqrt", 1, "", bends, same),
	protocol.Op_CLAMP: op("clamp", 1, "floats", bends, func(c *call) ([]int64, error) {
		if n := len(c.Floats); n < 1 || n > 2 || n == 2 && c.Floats[0] > c.Floats[1] {
			return nil, fmt.Errorf("floats %v, want [min] or [min, max] with min ≤ max", firstFloats(c.Floats))
		}
		return c.in[0].Shape, nil
	}),
	protocol.Op_SOLVE: op("solve", 2, "", func(in []*Value) Linearity {
		if in[0].Linearity != Constant {
			return Nonlinear
		}
		return in[1].Linearity
	}, solve),
	protocol.Op_SOFTMAX: op("softmax", 1, "ints", bends, func(c *call) ([]int64, error) {
		if len(c.Ints) != 1 {
			return nil, fmt.Errorf("ints %s, want [dim]", rawShape(c.Ints))
		}
		return c.in[0].Shape, own(c.in[0].Shape, c.Ints[0], "normalizes")
	}),
	protocol.Op_RELU: op("relu", 1, "", bends, same),
	protocol.Op_GELU: op("gelu", 1, "", bends, same),
	protocol.Op_DROPOUT: {name: "dropout", least: 1, most: 1, positions: -1, takes: "number", linear: keeps, from: FromRandom, shape: func(c *call) ([]int64, error) {
		if !(c.Number >= 0 && c.Number < 1) {
			return nil, fmt.Errorf("p is %v, want 0 ≤ p < 1", c.Number)
		}
		return c.in[0].Shape, nil
	}},
	protocol.Op_DETACH: op("detach", 1, "", keeps, same),
	protocol.Op_GATHER: {name: "gather", least: 2, most: 2, positions: 1, takes: "ints", linear: keeps, shape: func(c *call) ([]int64, error) {
		if len(c.Ints) != 1 {
			return nil, fmt.Errorf("ints %s, want [dim]", rawShape(c.Ints))
		}
		r := slices.Clone(c.in[0].Shape)
		if err := own(r, c.Ints[0], "gathers"); err != nil {
			return nil, err
		}
		if c.in[1].bound > r[c.Ints[0]] {
			return nil, fmt.Errorf("positions go up to %d, but dimension %d of %s ends at %d", c.in[1].bound-1, c.Ints[0], ShapeText(r), r[c.Ints[0]]-1)
		}
		r[c.Ints[0]] = c.in[1].Shape[0]
		return r, nil
	}},
	protocol.Op_SCATTER: {name: "scatter", least: 2, most: 2, positions: 1, takes: "ints", linear: keeps, shape: func(c *call) ([]int64, error) {
		if !slices.Equal(c.in[0].Shape, c.in[1].Shape) {
			return nil, fmt.Errorf("values have shape %s, want that of the positions, %s", ShapeText(c.in[0].Shape), ShapeText(c.in[1].Shape))
		}
		if err := fixedShape(c.Ints); err != nil {
			return nil, err
		}
		if c.in[1].bound > elements(c.Ints) {
			return nil, fmt.Errorf("positions go up to %d, but shape %s has %d elements", c.in[1].bound-1, ShapeText(c.Ints), elements(c.Ints))
		}
		if !c.in[1].distinct {
			return nil, errors.New("a position comes twice: it is undefined which value stays")
		}
		return slices.Clone(c.Ints), nil
	}},

	protocol.Op_EXP: op("exp", 1, "", bends, same),
	protocol.Op_SIN: op("sin", 1, "", bends, same),
	protocol.Op_COS: op("cos", 1, "", bends, same),
	protocol.Op_TOPK_MASK: op("topk_mask", 1, "ints", bends, func(c *call) ([]int64, error) {
		if len(c.Ints) != 2 {
			return nil, fmt.Errorf("ints %s, want [dim, k]", rawShape(c.Ints))
		}
		s := c.in[0].Shape
		if err := own(s, c.Ints[0], "compares"); err != nil {
			return nil, err
		}
		if c.Ints[1] < 1 || c.Ints[1] > s[c.Ints[0]] {
			return nil, fmt.Errorf("k is %d, want 1 to %d, the size of dimension %d", c.Ints[1], s[c.Ints[0]], c.Ints[0])
		}
		return s, nil
	}),
	protocol.Op_IFFT2: op("ifft2", 1, "", keeps, func(c *call) ([]int64, error) {
		s := c.in[0].Shape
		if len(s) < 2 {
			return nil, fmt.Errorf("shape %s, want at least 2 dimensions", ShapeText(s))
		}
		if slices.Contains(s[len(s)-2:], T) {
			return nil, fmt.Errorf("transforms over the tokens of shape %s", ShapeText(s))
		}
		return s, nil
	}),

	protocol.Op_SIGMOID: later(op("sigmoid", 1, "", bends, same)),
	protocol.Op_TANH:    later(op("tanh", 1, "", bends, same)),
	protocol.Op_SILU:    later(op("silu", 1, "", bends, same)),
	protocol.Op_LOG:     later(op("log", 1, "", bends, same)),
	protocol.Op_ABS:     later(op("abs", 1, "", bends, same)),
	protocol.Op_MAXIMUM: later(op("maximum", 2, "", bends, broadcast)),
	protocol.Op_MINIMUM: later(op("minimum", 2, "", bends, broadcast)),
	protocol.Op_WHERE: later(op("where", 3, "", func(in []*Value) Linearity {
		if in[0].Linearity != Constant {
			return Nonlinear
		}
		return keeps(in[1:])
	}, broadcast)),
	protocol.Op_MAX:  later(op("max", 1, "ints keepdim", bends, reduce)),
	protocol.Op_MIN:  later(op("min", 1, "ints keepdim", bends, reduce)),
	protocol.Op_MEAN: later(op("mean", 1, "ints keepdim", keeps, reduce)),
	protocol.Op_LAYER_NORM: later(op("layer_norm", 1, "number", bends, func(c *call) ([]int64, error) {
		s := c.in[0].Shape
		if len(s) == 0 {
			return nil, errors.New("a scalar has no dimension to normalize over")
		}
		if !(c.Number > 0) {
			return nil, fmt.Errorf("eps is %v, want a positive number: equal entries have the variance 0", c.Number)
		}
		return s, own(s, int64(len(s)-1), "normalizes")
	})),
}

// later is a row that version 2 of the op list added.
func later(r row) row {
	r.since = 2
	return r
}

// op is a row of n float inputs.
func op(name string, n int, takes string, linear func([]*Value) Linearity, shape func(*call) ([]int64, error)) row {
	return row{name: name, least: n, most: n, positions: -1, takes: takes, linear: linear, shape: shape}
}

// source is a row without inputs.
func source(name, takes string, from Source, shape func(*call) ([]int64, error)) row {
	linear := func([]*Value) Linearity { return Constant }
	if from&FromX != 0 {
		linear = func([]*Value) Linearity { return Affine }
	}
	return row{name: name, positions: -1, takes: takes, linear: linear, from: from, shape: shape}
}

// OpName is how messages and the text form call an operation.
func OpName(op protocol.Op) string {
	if r, ok := ops[op]; ok {
		return r.name
	}
	return fmt.Sprintf("op %d", op)
}

// attributes checks operation and attributes of a node.
func attributes(n *protocol.Node) error {
	r, ok := ops[n.GetOp()]
	if !ok {
		return fmt.Errorf("unknown operation %d", n.GetOp())
	}
	takes := strings.Fields(r.takes)
	for _, a := range []struct {
		name string
		set  bool
	}{
		{"param", n.GetParam() != ""},
		{"ints", len(n.GetInts()) > 0},
		{"floats", len(n.GetFloats()) > 0},
		{"number", n.GetNumber() != 0},
		{"text", n.GetText() != ""},
		{"keepdim", n.GetKeepdim()},
	} {
		if a.set && !slices.Contains(takes, a.name) {
			return fmt.Errorf("takes no %s", a.name)
		}
	}
	for i, v := range n.GetFloats() {
		if !finite(v) {
			return fmt.Errorf("floats[%d] is %v, want a finite number", i, v)
		}
	}
	if !finite(n.GetNumber()) {
		return fmt.Errorf("number is %v, want a finite number", n.GetNumber())
	}
	if len(n.GetInputs()) < r.least || len(n.GetInputs()) > r.most {
		want := fmt.Sprint(r.least)
		if r.most > r.least {
			want = fmt.Sprintf("%d to %d", r.least, r.most)
		}
		return fmt.Errorf("%d inputs, want %s", len(n.GetInputs()), want)
	}
	return nil
}

// infer types a node whose operation, attributes and inputs are known to be
// right by themselves.
func infer(n *protocol.Node, in []*Value, param *Value, s *protocol.Site) (*Value, error) {
	r := ops[n.GetOp()]
	for i, v := range in {
		switch {
		case i == r.positions && v.DType != Int64:
			return nil, fmt.Errorf("input %d is float, want int64 positions: a parameter of permutation, integers, topk_abs_w or indices", i)
		case i != r.positions && v.DType != Float:
			return nil, fmt.Errorf("input %d is int64: positions only go into gather and scatter", i)
		}
	}
	c := &call{Node: n, in: in, param: param, site: s}
	shape, err := r.shape(c)
	if err != nil {
		return nil, err
	}
	if err := bounded(shape); err != nil {
		return nil, err
	}
	if i := slices.Index(shape, T); i >= 0 && slices.Contains(shape[i+1:], T) {
		return nil, fmt.Errorf("result has shape %s: pairs every token with every other", ShapeText(shape))
	}
	v := &Value{Shape: shape, Linearity: r.linear(in), From: r.from}
	if n.GetOp() == protocol.Op_DROPOUT && n.GetNumber() == 0 {
		v.From = 0
	}
	if param != nil {
		v.DType, v.From, v.bound, v.distinct = param.DType, param.From, param.bound, param.distinct
	}
	for _, i := range in {
		v.From |= i.From
	}
	return v, nil
}

// The rules of linearity in x.

// keeps: f(cx) = c f(x) in all inputs together.
func keeps(in []*Value) Linearity {
	l := Constant
	for _, v := range in {
		l = max(l, v.Linearity)
	}
	return l
}

// product: linear in each input alone.
func product(in []*Value) Linearity {
	moving := 0
	for _, v := range in {
		if v.Linearity != Constant {
			moving++
		}
	}
	if moving > 1 {
		return Nonlinear
	}
	return keeps(in)
}

func quotient(in []*Value) Linearity {
	if in[1].Linearity != Constant {
		return Nonlinear
	}
	return in[0].Linearity
}

// bends: linear in nothing.
func bends(in []*Value) Linearity {
	if keeps(in) == Constant {
		return Constant
	}
	return Nonlinear
}

// The rules of shape.

func same(c *call) ([]int64, error) { return c.in[0].Shape, nil }

// own wants d to be a dimension other than that of the tokens.
func own(s []int64, d int64, does string) error {
	if d < 0 || d >= int64(len(s)) {
		return fmt.Errorf("dimension %d of shape %s with %d", d, ShapeText(s), len(s))
	}
	if s[d] == T {
		return fmt.Errorf("%s over the tokens (dimension %d of %s)", does, d, ShapeText(s))
	}
	return nil
}

func broadcast(c *call) ([]int64, error) {
	r := c.in[0].Shape
	for _, v := range c.in[1:] {
		both, ok := broadcastShapes(r, v.Shape)
		if !ok {
			return nil, fmt.Errorf("shapes %s and %s do not broadcast", ShapeText(r), ShapeText(v.Shape))
		}
		r = both
	}
	return r, nil
}

// broadcastShapes aligns from the right, as NumPy does; T only meets T or 1.
func broadcastShapes(a, b []int64) ([]int64, bool) {
	if len(a) < len(b) {
		a, b = b, a
	}
	r := slices.Clone(a)
	for i := range b {
		d := len(a) - len(b) + i
		switch {
		case b[i] == 1 || b[i] == a[d]:
		case a[d] == 1:
			r[d] = b[i]
		default:
			return nil, false
		}
	}
	return r, true
}

func matmul(c *call) ([]int64, error) {
	a, b := c.in[0].Shape, c.in[1].Shape
	if len(a) < 2 || len(b) < 2 {
		return nil, fmt.Errorf("shapes %s and %s, want at least 2 dimensions each", ShapeText(a), ShapeText(b))
	}
	inner := a[len(a)-1]
	if inner != b[len(b)-2] {
		return nil, fmt.Errorf("inner dimensions of %s and %s differ", ShapeText(a), ShapeText(b))
	}
	if inner == T {
		return nil, fmt.Errorf("sums over the tokens of %s and %s", ShapeText(a), ShapeText(b))
	}
	r, ok := broadcastShapes(a[:len(a)-2], b[:len(b)-2])
	if !ok {
		return nil, fmt.Errorf("leading dimensions of %s and %s do not broadcast", ShapeText(a), ShapeText(b))
	}
	return append(r, a[len(a)-2], b[len(b)-1]), nil
}

func kron(c *call) ([]int64, error) {
	a, b := c.in[0].Shape, c.in[1].Shape
	if len(a) != len(b) {
		return nil, fmt.Errorf("shapes %s and %s, want as many dimensions each", ShapeText(a), ShapeText(b))
	}
	r := make([]int64, len(a))
	for d := range a {
		switch {
		case a[d] != T && b[d] != T:
			r[d] = a[d] * b[d]
		case a[d] == 1 || b[d] == 1:
			r[d] = T
		default:
			return nil, fmt.Errorf("repeats the tokens (dimension %d of %s and %s)", d, ShapeText(a), ShapeText(b))
		}
	}
	return r, nil
}

// reshape keeps elements and, so that tokens stay apart, what lies before T.
func reshape(c *call) ([]int64, error) {
	s, r := c.in[0].Shape, slices.Clone(c.Ints)
	tokens := 0
	for _, d := range r {
		if d == T {
			tokens++
		} else if d < 1 {
			return nil, fmt.Errorf("ints %s, want sizes of at least 1, or -1 for T", rawShape(r))
		}
	}
	if err := bounded(r); err != nil {
		return nil, err
	}
	has := slices.Contains(s, T)
	switch {
	case tokens > 1:
		return nil, fmt.Errorf("ints %s: -1 stands for T and comes once", rawShape(r))
	case has && tokens == 0:
		return nil, fmt.Errorf("%s to %s loses T: write it as -1", ShapeText(s), ShapeText(r))
	case !has && tokens > 0:
		return nil, fmt.Errorf("%s has no T: -1 in ints stands for T, not for a size to be worked out", ShapeText(s))
	case elements(s) != elements(r):
		per := ""
		if has {
			per = " for each token"
		}
		return nil, fmt.Errorf("%s has %d elements%s, %s has %d", ShapeText(s), elements(s), per, ShapeText(r), elements(r))
	case has && elements(s[:slices.Index(s, T)]) != elements(r[:slices.Index(r, T)]):
		return nil, fmt.Errorf("%s to %s mixes tokens: permute first", ShapeText(s), ShapeText(r))
	}
	return r, nil
}

func reduce(c *call) ([]int64, error) {
	s := c.in[0].Shape
	if len(c.Ints) == 0 {
		return nil, errors.New("no dimensions to reduce")
	}
	gone := map[int64]bool{}
	for _, d := range c.Ints {
		if err := own(s, d, "reduces"); err != nil {
			return nil, err
		}
		if gone[d] {
			return nil, fmt.Errorf("dimension %d comes twice", d)
		}
		gone[d] = true
	}
	r := []int64{}
	for d, n := range s {
		switch {
		case !gone[int64(d)]:
			r = append(r, n)
		case c.Keepdim:
			r = append(r, 1)
		}
	}
	return r, nil
}

func solve(c *call) ([]int64, error) {
	a, b := c.in[0].Shape, c.in[1].Shape
	if len(a) < 2 || len(b) < 2 {
		return nil, fmt.Errorf("shapes %s and %s, want at least 2 dimensions each", ShapeText(a), ShapeText(b))
	}
	n := a[len(a)-1]
	if n != a[len(a)-2] || n == T {
		return nil, fmt.Errorf("input 0 has shape %s, want square matrices", ShapeText(a))
	}
	if b[len(b)-2] != n {
		return nil, fmt.Errorf("input 1 has shape %s, want %d rows, as %s has", ShapeText(b), n, ShapeText(a))
	}
	r, ok := broadcastShapes(a[:len(a)-2], b[:len(b)-2])
	if !ok {
		return nil, fmt.Errorf("leading dimensions of %s and %s do not broadcast", ShapeText(a), ShapeText(b))
	}
	return append(r, n, b[len(b)-1]), nil
}

// einsum types an equation such as "tin,ijrn->tijr": one letter a dimension,
// every letter of one size, the result spelled out.
func einsum(text string, in [][]int64) ([]int64, error) {
	left, right, ok := strings.Cut(text, "->")
	if !ok {
		return nil, fmt.Errorf("equation %s, want one like \"ti,ri->tr\" with its result", clip(text))
	}
	terms := strings.Split(left, ",")
	if len(terms) != len(in) {
		return nil, fmt.Errorf("equation %s has %d terms for %d inputs", clip(text), len(terms), len(in))
	}
	size := map[rune]int64{}
	letters := func(term string) error {
		seen := map[rune]bool{}
		for _, l := range term {
			if !(l >= 'a' && l <= 'z' || l >= 'A' && l <= 'Z') {
				return fmt.Errorf("equation %s: %q is not a letter", clip(text), l)
			}
			if seen[l] {
				return fmt.Errorf("equation %s: %c comes twice in %s", clip(text), l, clip(term))
			}
			seen[l] = true
		}
		return nil
	}
	for i, term := range terms {
		if err := letters(term); err != nil {
			return nil, err
		}
		if len(term) != len(in[i]) {
			return nil, fmt.Errorf("equation %s: %s names %d dimensions of input %d, which has shape %s", clip(text), clip(term), len(term), i, ShapeText(in[i]))
		}
		for d, l := range term {
			if was, ok := size[l]; ok && was != in[i][d] {
				return nil, fmt.Errorf("equation %s: %c is %s and, in input %d, %s", clip(text), l, sizeText(was), i, sizeText(in[i][d]))
			}
			size[l] = in[i][d]
		}
	}
	if err := letters(right); err != nil {
		return nil, err
	}
	r := []int64{}
	for _, l := range right {
		n, ok := size[l]
		if !ok {
			return nil, fmt.Errorf("equation %s: %c of the result is in no input", clip(text), l)
		}
		r = append(r, n)
	}
	for l, n := range size {
		if n == T && !strings.ContainsRune(right, l) {
			return nil, fmt.Errorf("equation %s sums over the tokens (%c)", clip(text), l)
		}
	}
	return r, nil
}

func sizeText(n int64) string {
	if n == T {
		return "T"
	}
	return fmt.Sprint(n)
}

func firstFloats(f []float64) []float64 { return f[:min(len(f), 4)] }
