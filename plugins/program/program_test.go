package program

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/loralab/loralab/plugins/protocol"
)

// layer is a site whose sizes cannot be confused.
func layer() *protocol.Site {
	return &protocol.Site{Name: "query", Block: 6, Kind: protocol.Site_LINEAR, In: 6, Out: 10, Bias: true}
}

func f(v float64) *float64 { return &v }

func zeros() *protocol.Init { return &protocol.Init{Kind: protocol.Init_ZEROS} }

func par(name string, init *protocol.Init, shape ...int64) *protocol.Param {
	return &protocol.Param{Name: name, Shape: shape, Init: init, Trainable: true, Scope: protocol.Param_SITE}
}

// frozen is a parameter that is not trained.
func frozen(name string, init *protocol.Init, shape ...int64) *protocol.Param {
	p := par(name, init, shape...)
	p.Trainable = false
	return p
}

func nd(op protocol.Op, in ...uint32) *protocol.Node { return &protocol.Node{Op: op, Inputs: in} }

// Contract: the table is complete, so that no program can name an operation or
// initialiser nobody has thought about.
func TestEveryOperationAndInitialiserHasARow(t *testing.T) {
	names := map[string]bool{}
	for n, name := range protocol.Op_name {
		row, ok := ops[protocol.Op(n)]
		if ok == (n == 0) {
			t.Errorf("%s: has a row: %v", name, ok)
		}
		if ok && (row.name == "" || names[row.name] || row.linear == nil || row.shape == nil) {
			t.Errorf("%s: row %+v is not complete", name, row)
		}
		names[row.name] = true
	}
	names = map[string]bool{}
	for n, name := range protocol.Init_Kind_name {
		row, ok := inits[protocol.Init_Kind(n)]
		if ok == (n == 0) {
			t.Errorf("%s: has a row: %v", name, ok)
		}
		if ok && (row.name == "" || names[row.name]) {
			t.Errorf("%s: row %+v is not complete", name, row)
		}
		names[row.name] = true
	}
	if len(ops) != len(protocol.Op_name)-1 || len(inits) != len(protocol.Init_Kind_name)-1 {
		t.Errorf("%d operations and %d initialisers", len(ops), len(inits))
	}
}

// What every operation makes of its inputs, and what it refuses.
func TestOperations(t *testing.T) {
	// Inputs by letter, with linearity and shape.
	in := map[byte]*Value{
		'x': {Shape: []int64{T, 6}, Linearity: Affine, From: FromX},
		'n': {Shape: []int64{T, 6}, Linearity: Nonlinear, From: FromX},
		'h': {Shape: []int64{T, 2, 3}, Linearity: Affine, From: FromX},
		'z': {Shape: []int64{6, T}, Linearity: Affine, From: FromX},
		'a': {Shape: []int64{6, 4}, From: FromTrained},
		'b': {Shape: []int64{4, 6}},
		's': {Shape: []int64{6, 6}},
		'c': {Shape: []int64{2, 6, 6}},
		'v': {Shape: []int64{6}},
		'w': {Shape: []int64{4}},
		'e': {Shape: []int64{}},
		'p': {Shape: []int64{4}, DType: Int64, bound: 6, distinct: true},
		'q': {Shape: []int64{4}, DType: Int64, bound: 6},
	}
	const (
		keep = "affine"
		none = "constant"
		bent = "nonlinear"
	)
	type node = protocol.Node
	o := func(op protocol.Op, n *node) *node { n.Op = op; return n }
	for _, c := range []struct {
		node  *node
		in    string
		shape string // or ""
		lin   string // or part of the error
	}{
		{o(protocol.Op_X, &node{}), "", "[T, 6]", keep},
		{o(protocol.Op_X, &node{}), "x", "", "1 inputs, want 0"},
		{o(protocol.Op_X, &node{Number: 1}), "", "", "takes no number"},
		{o(protocol.Op_BASE, &node{}), "x", "[T, 10]", keep},
		{o(protocol.Op_BASE, &node{}), "n", "[T, 10]", bent},
		{o(protocol.Op_BASE, &node{}), "h", "", "input has shape [T, 2, 3], want [T, 6]"},
		{o(protocol.Op_WEIGHT, &node{}), "", "[10, 6]", none},
		{o(protocol.Op_BIAS, &node{}), "", "[10]", none},
		{o(protocol.Op_CONST, &node{Ints: []int64{2, 1}, Floats: []float64{1, 2}}), "", "[2, 1]", none},
		{o(protocol.Op_CONST, &node{Floats: []float64{1}}), "", "[]", none},
		{o(protocol.Op_CONST, &node{Ints: []int64{2}, Floats: []float64{1}}), "", "", "1 values for shape [2], want 2"},
		{o(protocol.Op_CONST, &node{Ints: []int64{-1}, Floats: []float64{1}}), "", "", "at least 1"},
		{o(protocol.Op_CONST, &node{Ints: []int64{1}, Floats: []float64{math.NaN()}}), "", "", "finite"},
		{o(protocol.Op_EYE, &node{Ints: []int64{3}}), "", "[3, 3]", none},
		{o(protocol.Op_EYE, &node{Ints: []int64{1 << 40}}), "", "", "elements"},
		{o(protocol.Op_EYE, &node{}), "", "", "want one size"},
		{o(protocol.Op_ADD, &node{}), "xv", "[T, 6]", keep},
		{o(protocol.Op_ADD, &node{}), "xn", "[T, 6]", bent},
		{o(protocol.Op_ADD, &node{}), "xw", "", "shapes [T, 6] and [4] do not broadcast"},
		{o(protocol.Op_ADD, &node{}), "xs", "", "do not broadcast"},
		{o(protocol.Op_ADD, &node{}), "xp", "", "input 1 is int64"},
		{o(protocol.Op_ADD, &node{}), "x", "", "1 inputs, want 2"},
		{o(protocol.Op_SUB, &node{}), "vx", "[T, 6]", keep},
		{o(protocol.Op_MUL, &node{}), "xv", "[T, 6]", keep},
		{o(protocol.Op_MUL, &node{}), "xx", "[T, 6]", bent},
		{o(protocol.Op_MUL, &node{}), "sv", "[6, 6]", none},
		{o(protocol.Op_DIV, &node{}), "xv", "[T, 6]", keep},
		{o(protocol.Op_DIV, &node{}), "vx", "[T, 6]", bent},
		{o(protocol.Op_DIV, &node{}), "xe", "[T, 6]", keep},
		{o(protocol.Op_NEG, &node{}), "x", "[T, 6]", keep},
		{o(protocol.Op_SCALE, &node{Number: 2}), "x", "[T, 6]", keep},
		{o(protocol.Op_SCALE, &node{Number: math.Inf(1)}), "x", "", "finite"},
		{o(protocol.Op_MATMUL, &node{}), "xa", "[T, 4]", keep},
		{o(protocol.Op_MATMUL, &node{}), "bz", "[4, T]", keep},
		{o(protocol.Op_MATMUL, &node{}), "cs", "[2, 6, 6]", none},
		{o(protocol.Op_MATMUL, &node{}), "xc", "[2, T, 6]", keep},
		{o(protocol.Op_MATMUL, &node{}), "xb", "", "inner dimensions of [T, 6] and [4, 6] differ"},
		{o(protocol.Op_MATMUL, &node{}), "zx", "", "sums over the tokens"},
		{o(protocol.Op_MATMUL, &node{}), "xz", "", "pairs every token with every other"},
		{o(protocol.Op_MATMUL, &node{}), "xv", "", "at least 2 dimensions"},
		{o(protocol.Op_EINSUM, &node{Text: "ti,ir->rt"}), "xa", "[4, T]", keep},
		{o(protocol.Op_EINSUM, &node{Text: "ti,ti->t"}), "xx", "[T]", bent},
		{o(protocol.Op_EINSUM, &node{Text: "ij->"}), "s", "[]", none},
		{o(protocol.Op_EINSUM, &node{Text: "ti->i"}), "x", "", "sums over the tokens (t)"},
		{o(protocol.Op_EINSUM, &node{Text: "ti,si->ts"}), "xx", "", "pairs every token"},
		{o(protocol.Op_EINSUM, &node{Text: "ti,ri->tr"}), "xa", "", "i is 6 and, in input 1, 4"},
		{o(protocol.Op_EINSUM, &node{Text: "ti"}), "x", "", "with its result"},
		{o(protocol.Op_EINSUM, &node{Text: "ti,ir->tr"}), "x", "", "2 terms for 1 inputs"},
		{o(protocol.Op_EINSUM, &node{Text: "tij->t"}), "x", "", "names 3 dimensions of input 0"},
		{o(protocol.Op_EINSUM, &node{Text: "ii->i"}), "s", "", "comes twice"},
		{o(protocol.Op_EINSUM, &node{Text: "ti->tk"}), "x", "", "k of the result is in no input"},
		{o(protocol.Op_EINSUM, &node{Text: "t1->t1"}), "x", "", "not a letter"},
		{o(protocol.Op_KRON, &node{}), "ab", "[24, 24]", none},
		{o(protocol.Op_KRON, &node{}), "xa", "", "repeats the tokens"},
		{o(protocol.Op_KRON, &node{}), "av", "", "as many dimensions"},
		{o(protocol.Op_RESHAPE, &node{Ints: []int64{-1, 2, 3}}), "x", "[T, 2, 3]", keep},
		{o(protocol.Op_RESHAPE, &node{Ints: []int64{1, -1, 6}}), "x", "[1, T, 6]", keep},
		{o(protocol.Op_RESHAPE, &node{Ints: []int64{24}}), "a", "[24]", none},
		{o(protocol.Op_RESHAPE, &node{Ints: []int64{6, -1}}), "x", "", "mixes tokens"},
		{o(protocol.Op_RESHAPE, &node{Ints: []int64{-1, 4}}), "x", "", "6 elements for each token, [T, 4] has 4"},
		{o(protocol.Op_RESHAPE, &node{Ints: []int64{6}}), "x", "", "loses T"},
		{o(protocol.Op_RESHAPE, &node{Ints: []int64{-1, 6}}), "a", "", "has no T"},
		{o(protocol.Op_RESHAPE, &node{Ints: []int64{-1, -1}}), "x", "", "comes once"},
		{o(protocol.Op_RESHAPE, &node{Ints: []int64{0}}), "a", "", "at least 1"},
		{o(protocol.Op_PERMUTE, &node{Ints: []int64{2, 0, 1}}), "h", "[3, T, 2]", keep},
		{o(protocol.Op_PERMUTE, &node{}), "e", "[]", none},
		{o(protocol.Op_PERMUTE, &node{Ints: []int64{0}}), "e", "", "want none"},
		{o(protocol.Op_PERMUTE, &node{Ints: []int64{0, 0}}), "x", "", "each dimension"},
		{o(protocol.Op_PERMUTE, &node{Ints: []int64{0}}), "x", "", "each dimension"},
		{o(protocol.Op_SLICE, &node{Ints: []int64{1, 2, 3}}), "x", "[T, 3]", keep},
		{o(protocol.Op_SLICE, &node{Ints: []int64{1, 4, 3}}), "x", "", "does not lie within"},
		{o(protocol.Op_SLICE, &node{Ints: []int64{1, math.MaxInt64, math.MaxInt64}}), "x", "", "does not lie within"},
		{o(protocol.Op_SLICE, &node{Ints: []int64{0, 0, 1}}), "x", "", "over the tokens"},
		{o(protocol.Op_SLICE, &node{Ints: []int64{0}}), "x", "", "[dim, start, length]"},
		{o(protocol.Op_CONCAT, &node{Ints: []int64{1}}), "xxx", "[T, 18]", keep},
		{o(protocol.Op_CONCAT, &node{Ints: []int64{0}}), "as", "", "input 1 has shape [6, 6], want that of input 0"},
		{o(protocol.Op_CONCAT, &node{Ints: []int64{0}}), "xx", "", "over the tokens"},
		{o(protocol.Op_CONCAT, &node{Ints: []int64{1}}), "", "", "0 inputs, want 1 to 4096"},
		{o(protocol.Op_REPEAT, &node{Ints: []int64{1, 2}}), "x", "[T, 12]", keep},
		{o(protocol.Op_REPEAT, &node{Ints: []int64{2, 1}}), "x", "", "repeats the tokens"},
		{o(protocol.Op_REPEAT, &node{Ints: []int64{2}}), "x", "", "one for each dimension"},
		{o(protocol.Op_REPEAT, &node{Ints: []int64{1 << 28, 1 << 28}}), "s", "", "elements"},
		{o(protocol.Op_SUM, &node{Ints: []int64{1}}), "h", "[T, 3]", keep},
		{o(protocol.Op_SUM, &node{Ints: []int64{1, 2}, Keepdim: true}), "h", "[T, 1, 1]", keep},
		{o(protocol.Op_SUM, &node{Ints: []int64{0}}), "h", "", "over the tokens"},
		{o(protocol.Op_SUM, &node{}), "h", "", "no dimensions"},
		{o(protocol.Op_SUM, &node{Ints: []int64{1, 1}}), "h", "", "comes twice"},
		{o(protocol.Op_SUM, &node{Ints: []int64{-1}}), "h", "", "dimension -1"},
		{o(protocol.Op_NORM, &node{Ints: []int64{1}}), "a", "[6]", none},
		{o(protocol.Op_NORM, &node{Ints: []int64{1}}), "x", "[T]", bent},
		{o(protocol.Op_SQRT, &node{}), "x", "[T, 6]", bent},
		{o(protocol.Op_SQRT, &node{Keepdim: true}), "x", "", "takes no keepdim"},
		{o(protocol.Op_CLAMP, &node{Floats: []float64{0}}), "x", "[T, 6]", bent},
		{o(protocol.Op_CLAMP, &node{Floats: []float64{1, 0}}), "x", "", "min ≤ max"},
		{o(protocol.Op_CLAMP, &node{}), "x", "", "want [min]"},
		{o(protocol.Op_SOLVE, &node{}), "sa", "[6, 4]", none},
		{o(protocol.Op_SOLVE, &node{}), "sz", "[6, T]", keep},
		{o(protocol.Op_SOLVE, &node{}), "cs", "[2, 6, 6]", none},
		{o(protocol.Op_SOLVE, &node{}), "as", "", "want square"},
		{o(protocol.Op_SOLVE, &node{}), "sb", "", "want 6 rows"},
		{o(protocol.Op_SOFTMAX, &node{Ints: []int64{1}}), "x", "[T, 6]", bent},
		{o(protocol.Op_SOFTMAX, &node{Ints: []int64{0}}), "x", "", "over the tokens"},
		{o(protocol.Op_RELU, &node{}), "x", "[T, 6]", bent},
		{o(protocol.Op_GELU, &node{}), "a", "[6, 4]", none},
		{o(protocol.Op_DROPOUT, &node{Number: 0.5}), "x", "[T, 6]", keep},
		{o(protocol.Op_DROPOUT, &node{Number: 1}), "x", "", "0 ≤ p < 1"},
		{o(protocol.Op_DETACH, &node{}), "x", "[T, 6]", keep},
		{o(protocol.Op_GATHER, &node{Ints: []int64{1}}), "xp", "[T, 4]", keep},
		{o(protocol.Op_GATHER, &node{Ints: []int64{1}}), "xq", "[T, 4]", keep},
		{o(protocol.Op_GATHER, &node{Ints: []int64{0}}), "xp", "", "over the tokens"},
		{o(protocol.Op_GATHER, &node{Ints: []int64{1}}), "ap", "", "positions go up to 5, but dimension 1 of [6, 4] ends at 3"},
		{o(protocol.Op_GATHER, &node{Ints: []int64{1}}), "xv", "", "input 1 is float, want int64"},
		{o(protocol.Op_SCATTER, &node{Ints: []int64{3, 2}}), "wp", "[3, 2]", none},
		{o(protocol.Op_SCATTER, &node{Ints: []int64{3, 2}}), "wq", "", "comes twice"},
		{o(protocol.Op_SCATTER, &node{Ints: []int64{5}}), "wp", "", "has 5 elements"},
		{o(protocol.Op_SCATTER, &node{Ints: []int64{6}}), "vp", "", "values have shape [6]"},
		{o(protocol.Op_EXP, &node{}), "x", "[T, 6]", bent},
		{o(protocol.Op_SIN, &node{}), "w", "[4]", none},
		{o(protocol.Op_COS, &node{}), "n", "[T, 6]", bent},
		{o(protocol.Op_TOPK_MASK, &node{Ints: []int64{1, 2}}), "a", "[6, 4]", none},
		{o(protocol.Op_TOPK_MASK, &node{Ints: []int64{1, 5}}), "a", "", "k is 5, want 1 to 4"},
		{o(protocol.Op_IFFT2, &node{}), "a", "[6, 4]", none},
		{o(protocol.Op_IFFT2, &node{}), "h", "[T, 2, 3]", keep},
		{o(protocol.Op_IFFT2, &node{}), "x", "", "over the tokens"},
		{o(protocol.Op_SIGMOID, &node{}), "x", "[T, 6]", bent},
		{o(protocol.Op_SIGMOID, &node{}), "xx", "", "2 inputs, want 1"},
		{o(protocol.Op_TANH, &node{}), "a", "[6, 4]", none},
		{o(protocol.Op_SILU, &node{}), "x", "[T, 6]", bent},
		{o(protocol.Op_LOG, &node{}), "e", "[]", none},
		{o(protocol.Op_ABS, &node{}), "h", "[T, 2, 3]", bent},
		{o(protocol.Op_ABS, &node{}), "p", "", "input 0 is int64"},
		{o(protocol.Op_MAXIMUM, &node{}), "xv", "[T, 6]", bent},
		{o(protocol.Op_MAXIMUM, &node{}), "va", "", "shapes [6] and [6, 4] do not broadcast"},
		{o(protocol.Op_MINIMUM, &node{}), "sv", "[6, 6]", none},
		{o(protocol.Op_WHERE, &node{}), "vxv", "[T, 6]", keep},
		{o(protocol.Op_WHERE, &node{}), "xvv", "[T, 6]", bent},
		{o(protocol.Op_WHERE, &node{}), "vnx", "[T, 6]", bent},
		{o(protocol.Op_WHERE, &node{}), "vev", "[6]", none},
		{o(protocol.Op_WHERE, &node{}), "vxw", "", "shapes [T, 6] and [4] do not broadcast"},
		{o(protocol.Op_WHERE, &node{}), "vx", "", "2 inputs, want 3"},
		{o(protocol.Op_MAX, &node{Ints: []int64{1}}), "x", "[T]", bent},
		{o(protocol.Op_MAX, &node{Ints: []int64{0}}), "x", "", "reduces over the tokens"},
		{o(protocol.Op_MIN, &node{Ints: []int64{0, 1}, Keepdim: true}), "a", "[1, 1]", none},
		{o(protocol.Op_MEAN, &node{Ints: []int64{2}}), "h", "[T, 2]", keep},
		{o(protocol.Op_MEAN, &node{}), "h", "", "no dimensions"},
		{o(protocol.Op_LAYER_NORM, &node{Number: 1e-6}), "x", "[T, 6]", bent},
		{o(protocol.Op_LAYER_NORM, &node{Number: 1e-6}), "a", "[6, 4]", none},
		{o(protocol.Op_LAYER_NORM, &node{}), "x", "", "eps is 0, want a positive number"},
		{o(protocol.Op_LAYER_NORM, &node{Number: 1e-6}), "z", "", "normalizes over the tokens"},
		{o(protocol.Op_LAYER_NORM, &node{Number: 1e-6}), "e", "", "a scalar has no dimension"},
		{o(99, &node{}), "", "", "unknown operation 99"},
	} {
		t.Run(fmt.Sprintf("%s(%s)%v%s", OpName(c.node.Op), c.in, c.node.Ints, c.node.Text), func(t *testing.T) {
			var values []*Value
			for i := range c.in {
				values = append(values, in[c.in[i]])
				c.node.Inputs = append(c.node.Inputs, uint32(i))
			}
			err := attributes(c.node)
			var v *Value
			if err == nil {
				v, err = infer(c.node, values, nil, layer())
			}
			switch {
			case c.shape == "" && err == nil:
				t.Errorf("accepted as %s, want an error with %q", ShapeText(v.Shape), c.lin)
			case c.shape == "" && !strings.Contains(err.Error(), c.lin):
				t.Errorf("error %q, want one with %q", err, c.lin)
			case c.shape != "" && err != nil:
				t.Error(err)
			case c.shape != "" && (ShapeText(v.Shape) != c.shape || v.Linearity.String() != c.lin):
				t.Errorf("%s %s, want %s %s", ShapeText(v.Shape), v.Linearity, c.shape, c.lin)
			}
		})
	}
}

func TestStreamHasNoWeights(t *testing.T) {
	s := &protocol.Site{Name: "attn_in", Kind: protocol.Site_STREAM, In: 6, Out: 6}
	for _, op := range []protocol.Op{protocol.Op_WEIGHT, protocol.Op_BIAS} {
		if _, err := infer(nd(op), nil, nil, s); err == nil {
			t.Errorf("%s was accepted", OpName(op))
		}
	}
}

// What every initialiser accepts for a layer [10, 6], and what it refuses.
func TestInitialisers(t *testing.T) {
	type in = protocol.Init
	k := func(kind protocol.Init_Kind, i *in) *in { i.Kind = kind; return i }
	normal := &in{Kind: protocol.Init_NORMAL, A: f(1)}
	for _, c := range []struct {
		init  *in
		shape []int64
		err   string
	}{
		{k(protocol.Init_ZEROS, &in{}), nil, ""},
		{k(protocol.Init_ZEROS, &in{A: f(1)}), nil, "zeros: takes no a"},
		{k(protocol.Init_ONES, &in{}), []int64{3}, ""},
		{k(protocol.Init_CONSTANT, &in{A: f(0)}), []int64{3}, ""},
		{k(protocol.Init_CONSTANT, &in{}), []int64{3}, "constant: needs a"},
		{k(protocol.Init_CONSTANT, &in{A: f(math.NaN())}), []int64{3}, "finite"},
		{k(protocol.Init_EYE, &in{}), []int64{3, 4}, ""},
		{k(protocol.Init_EYE, &in{}), []int64{3}, "want 2 dimensions"},
		{k(protocol.Init_UNIFORM, &in{A: f(1)}), []int64{3}, ""},
		{k(protocol.Init_UNIFORM, &in{A: f(-1)}), []int64{3}, "at least 0"},
		{k(protocol.Init_NORMAL, &in{A: f(1)}), []int64{3}, ""},
		{k(protocol.Init_KAIMING_UNIFORM, &in{}), []int64{3}, ""},
		{k(protocol.Init_KAIMING_UNIFORM, &in{}), nil, "needs a fan"},
		{k(protocol.Init_KAIMING_UNIFORM, &in{Fan: f(3)}), nil, ""},
		{k(protocol.Init_KAIMING_UNIFORM, &in{Fan: f(0)}), nil, "positive"},
		{k(protocol.Init_XAVIER_UNIFORM, &in{}), []int64{2, 3}, ""},
		{k(protocol.Init_XAVIER_UNIFORM, &in{}), []int64{2}, "two fans"},
		{k(protocol.Init_ORTHOGONAL, &in{A: f(2)}), []int64{2, 3}, ""},
		{k(protocol.Init_ORTHOGONAL, &in{}), []int64{2, 2, 3}, "want 2 dimensions"},
		{k(protocol.Init_SVD_LEFT, &in{Power: 0.5, Last: true, A: f(1)}), []int64{10, 6}, ""},
		{k(protocol.Init_SVD_LEFT, &in{}), []int64{10, 7}, "want [out, r] with in = 6, out = 10, r at most 6"},
		{k(protocol.Init_SVD_RIGHT, &in{}), []int64{2, 6}, ""},
		{k(protocol.Init_SVD_RIGHT, &in{}), []int64{2, 10}, "want [r, in]"},
		{k(protocol.Init_SVD_SINGULAR, &in{}), []int64{6}, ""},
		{k(protocol.Init_SVD_SINGULAR, &in{}), []int64{7}, "want [r]"},
		{k(protocol.Init_ROW_NORM, &in{}), []int64{10}, ""},
		{k(protocol.Init_ROW_NORM, &in{}), []int64{6}, "want [out]"},
		{k(protocol.Init_COL_NORM, &in{}), []int64{6}, ""},
		{k(protocol.Init_COL_NORM, &in{}), []int64{1, 6}, "want [in]"},
		{k(protocol.Init_QR_Q, &in{}), []int64{10, 2}, ""},
		{k(protocol.Init_QR_R, &in{}), []int64{2, 6}, ""},
		{k(protocol.Init_QR_R, &in{}), []int64{7, 6}, "want [r, in]"},
		{k(protocol.Init_SEEDED, &in{MaxShape: []int64{4, 9}, Inner: normal, Key: 3}), []int64{4, 6}, ""},
		{k(protocol.Init_SEEDED, &in{MaxShape: []int64{4, 5}, Inner: normal}), []int64{4, 6}, "does not fit"},
		{k(protocol.Init_SEEDED, &in{MaxShape: []int64{9}, Inner: normal}), []int64{4, 6}, "as many dimensions"},
		{k(protocol.Init_SEEDED, &in{MaxShape: []int64{9}, Inner: zeros()}), []int64{4}, "inner is zeros"},
		{k(protocol.Init_SEEDED, &in{MaxShape: []int64{9}}), []int64{4}, "needs inner"},
		{k(protocol.Init_SEEDED, &in{MaxShape: []int64{0}, Inner: normal}), []int64{4}, "max_shape"},
		{k(protocol.Init_REPEAT, &in{K: 2, Dim: 1, Inner: normal}), []int64{3, 4}, ""},
		{k(protocol.Init_REPEAT, &in{K: 3, Dim: 1, Inner: normal}), []int64{3, 4}, "k = 3 does not divide"},
		{k(protocol.Init_REPEAT, &in{K: 2, Dim: -1, Inner: normal}), []int64{3, 4}, "dim -1"},
		{k(protocol.Init_REPEAT, &in{K: 2, Inner: &in{Kind: protocol.Init_CONSTANT}}), []int64{4}, "repeat: inner constant: needs a"},
		{k(protocol.Init_PERMUTATION, &in{Bound: 9}), []int64{4}, ""},
		{k(protocol.Init_PERMUTATION, &in{Bound: 3}), []int64{4}, "bound is 3"},
		{k(protocol.Init_PERMUTATION, &in{Bound: 9}), []int64{2, 2}, "want 1 dimensions"},
		{k(protocol.Init_TOPK_ABS_W, &in{}), []int64{60}, ""},
		{k(protocol.Init_TOPK_ABS_W, &in{}), []int64{61}, "61 positions of a W with 60"},
		{k(protocol.Init_VALUES, &in{Values: []float64{1, 2}}), []int64{2, 1}, ""},
		{k(protocol.Init_VALUES, &in{Values: []float64{1}}), []int64{2}, "1 values for shape [2]"},
		{k(protocol.Init_VALUES, &in{Values: []float64{1, math.Inf(1)}}), []int64{2}, "value 1 is +Inf"},
		{k(protocol.Init_INDICES, &in{Indices: []int64{5, 5}}), []int64{2}, ""},
		{k(protocol.Init_INDICES, &in{Indices: []int64{5, -5}}), []int64{2}, "index 1 is -5"},
		{k(protocol.Init_INTEGERS, &in{Bound: 2}), []int64{4}, ""},
		{k(protocol.Init_INTEGERS, &in{Bound: 2, Key: 7}), []int64{4}, ""},
		{k(protocol.Init_INTEGERS, &in{}), []int64{4}, "integers: needs bound"},
		{k(protocol.Init_INTEGERS, &in{Bound: -1}), []int64{4}, "bound is -1"},
		{k(protocol.Init_INTEGERS, &in{Bound: 2}), []int64{2, 2}, "want 1 dimensions"},
		{k(99, &in{}), []int64{2}, "unknown initialiser 99"},
		{nil, []int64{2}, "no initialiser"},
	} {
		t.Run(initText(c.init)+ShapeText(c.shape), func(t *testing.T) {
			_, errs := declared(frozen("p", c.init, c.shape...), layer())
			got := strings.Join(errs, "; ")
			if (c.err == "") != (got == "") || !strings.Contains(got, c.err) {
				t.Errorf("error %q, want %q", got, c.err)
			}
		})
	}
}

func TestParameters(t *testing.T) {
	w := &protocol.Init{Kind: protocol.Init_ROW_NORM}
	shared := frozen("p", w, 10)
	shared.Scope = protocol.Param_BLOCK
	stored := par("p", zeros(), 2)
	stored.Derived = true
	negative := par("p", zeros(), 2)
	negative.LrMult = f(-1)
	idle := frozen("p", zeros(), 2)
	idle.DecayMult = f(2)
	scopeless := par("p", zeros(), 2)
	scopeless.Scope = 0
	for _, c := range []struct {
		p   *protocol.Param
		err string
	}{
		{shared, "its scope must be SITE"},
		{stored, "derived, but trainable"},
		{negative, "lr_mult is -1"},
		{idle, "decay_mult without being trainable"},
		{scopeless, "unknown scope 0"},
		{par("p", &protocol.Init{Kind: protocol.Init_PERMUTATION, Bound: 4}, 4), "cannot be trained"},
		{par("p", zeros(), 0), "at least 1"},
		{par("p", zeros(), -1), "shape [-1]"},
		{par("p", zeros(), 1<<14, 1<<15), "more than"},
		{par("p", zeros(), 1, 1, 1, 1, 1, 1, 1, 1, 1), "9 dimensions"},
	} {
		_, errs := declared(c.p, layer())
		if got := strings.Join(errs, "; "); !strings.Contains(got, c.err) {
			t.Errorf("error %q, want %q", got, c.err)
		}
	}
}

// lora is base(x) + x Aᵀ Bᵀ with rank 2.
func lora() *protocol.Program {
	return &protocol.Program{
		Version: 1,
		Params: []*protocol.Param{
			par("lora_A", &protocol.Init{Kind: protocol.Init_KAIMING_UNIFORM, A: f(math.Sqrt(5))}, 2, 6),
			par("lora_B", zeros(), 10, 2),
		},
		Nodes: []*protocol.Node{
			nd(protocol.Op_X),
			nd(protocol.Op_BASE, 0),
			{Op: protocol.Op_PARAM, Param: "lora_A"},
			{Op: protocol.Op_PERMUTE, Inputs: []uint32{2}, Ints: []int64{1, 0}},
			{Op: protocol.Op_PARAM, Param: "lora_B"},
			{Op: protocol.Op_PERMUTE, Inputs: []uint32{4}, Ints: []int64{1, 0}},
			nd(protocol.Op_MATMUL, 0, 3),
			{Op: protocol.Op_MATMUL, Inputs: []uint32{6, 5}, Name: "delta"},
			nd(protocol.Op_ADD, 1, 7),
		},
		Output: 8,
	}
}

func TestTyped(t *testing.T) {
	m := &protocol.Model{Family: "vit", Dim: 6, Depth: 12, Heads: 2, Mlp: 12}
	typed, err := Check(lora(), layer(), m)
	if err != nil {
		t.Fatal(err)
	}
	const want = `param lora_A [2, 6] = kaiming_uniform(a=2.236068)
param lora_B [10, 2] = zeros
%0 = x : [T, 6]
%1 = base %0 : [T, 10]
%2 = param lora_A : [2, 6]
%3 = permute %2 [1, 0] : [6, 2]
%4 = param lora_B : [10, 2]
%5 = permute %4 [1, 0] : [2, 10]
%6 = matmul %0 %3 : [T, 2]
%7 = matmul %6 %5 : [T, 10]  # delta
%8 = add %1 %7 : [T, 10]
y = %8
`
	if got := typed.Text(); got != want {
		t.Errorf("text\n%swant\n%s", got, want)
	}
	if typed.TrainableCount != 2*(6+10) || !typed.Mergeable() || len(typed.Warnings) > 0 {
		t.Errorf("%d trainable, mergeable %v, warnings %q", typed.TrainableCount, typed.Mergeable(), typed.Warnings)
	}
	if got := []Source{typed.From[1], typed.From[3], typed.From[8]}; !slices.Equal(got, []Source{FromX | FromBase, FromTrained, FromX | FromBase | FromTrained}) {
		t.Errorf("computed from %v", got)
	}
}

// All mistakes come at once, each with site, node and what was expected; what
// only follows from another mistake is not reported.
func TestMistakesOfAProgram(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*protocol.Program)
		want   string
	}{
		"several": {func(p *protocol.Program) {
			p.Params[1].Shape = []int64{2, 10}
			p.Params[0].Init = nil
			p.Nodes[1].Inputs = []uint32{1}
		}, `query of block 6: parameter lora_A: no initialiser
query of block 6: node %1 base: input 0 is %1, want a node before %1`},
		"named node": {
			func(p *protocol.Program) { p.Params[1].Shape = []int64{2, 10} },
			`query of block 6: node %7 matmul "delta": inner dimensions of [T, 2] and [10, 2] differ`,
		},
		"output": {
			func(p *protocol.Program) { p.Output = 6 },
			`query of block 6: node %6 matmul: the output has shape [T, 2], want [T, 10]`,
		},
		"no output":  {func(p *protocol.Program) { p.Output = 9 }, `query of block 6: the output is %9, but the last node is %8`},
		"version":    {func(p *protocol.Program) { p.Version = 3 }, `query of block 6: version 3 of the op list, want 1 to 2: a newer loralab may know it; or build the plug-in with the sdk of this one`},
		"no version": {func(p *protocol.Program) { p.Version = 0 }, `query of block 6: version 0 of the op list, want 1 to 2`},
		"a later operation": {
			func(p *protocol.Program) { p.Nodes[3] = nd(protocol.Op_SIGMOID, 2) },
			"query of block 6: node %6 matmul: inner dimensions of [T, 6] and [2, 6] differ\nquery of block 6: version 1 of the op list is declared, but it uses what came with 2",
		},
		"a later initialiser": {
			func(p *protocol.Program) {
				p.Params = append(p.Params, frozen("at", &protocol.Init{Kind: protocol.Init_INTEGERS, Bound: 3}, 2))
			},
			"query of block 6: version 1 of the op list is declared, but it uses what came with 2",
		},
		"empty":      {func(p *protocol.Program) { p.Nodes = nil }, `query of block 6: no nodes: the output has to be computed from x`},
		"undeclared": {func(p *protocol.Program) { p.Nodes[2].Param = "lora_C" }, `query of block 6: node %2 param: no parameter "lora_C" is declared`},
		"twice": {
			func(p *protocol.Program) { p.Params[1].Name, p.Nodes[4].Param = "lora_A", "lora_A" },
			"query of block 6: parameter lora_A: declared twice\nquery of block 6: node %7 matmul \"delta\": inner dimensions of [T, 2] and [6, 2] differ",
		},
		"aux": {
			func(p *protocol.Program) { p.Aux = []*protocol.Aux{{Name: "l", Node: 2, Weight: 1}} },
			`query of block 6: node %2 param: aux "l" has shape [2, 6], want a scalar: sum over all dimensions`,
		},
		"too many nodes": {
			func(p *protocol.Program) { p.Nodes = append(p.Nodes, make([]*protocol.Node, MaxNodes)...) },
			`query of block 6: 4105 nodes, at most 4096 are allowed`,
		},
		"too large": {
			func(p *protocol.Program) {
				p.Nodes = append(p.Nodes, &protocol.Node{Op: protocol.Op_CONST, Ints: []int64{1 << 19}, Floats: make([]float64, 1<<19)})
			},
			`query of block 6: the program takes 4194`,
		},
		"bad names": {
			func(p *protocol.Program) { p.Params[0].Name, p.Nodes[7].Name = "a b", "\x1b[31m" },
			`query of block 6: a parameter has the name "a b", want letters, digits and _ with a letter first, at most 100
query of block 6: node %2 param: no parameter "lora_A" is declared
query of block 6: node %7 matmul: name "\x1b[31m", want printable ASCII, at most 100`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := lora()
			c.change(p)
			_, err := Check(p, layer(), nil)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Count(err.Error(), "\n") != strings.Count(c.want, "\n") {
				t.Errorf("error\n%v\nwant\n%s", err, c.want)
			}
			var one *Error
			if !errors.As(err, &one) || one.Site != "query of block 6" {
				t.Errorf("the error is not typed: %#v", err)
			}
		})
	}
}

// A program has the version that it needs and no later one, so that those written
// before there was another stay what they are.
func TestVersionOfAProgram(t *testing.T) {
	write := func(op protocol.Op, init *protocol.Init) *protocol.Program {
		w := NewWriter(layer())
		if err := w.Param(frozen("at", init, 2)); err != nil {
			t.Fatal(err)
		}
		for _, n := range []*protocol.Node{nd(protocol.Op_X), nd(op, 0), nd(protocol.Op_BASE, 1)} {
			if _, _, err := w.Node(n); err != nil {
				t.Fatal(err)
			}
		}
		p := w.Finish(2)
		if _, err := Check(p, layer(), nil); err != nil {
			t.Error(err)
		}
		return p
	}
	indices := &protocol.Init{Kind: protocol.Init_INDICES, Indices: []int64{0, 1}}
	integers := &protocol.Init{Kind: protocol.Init_INTEGERS, Bound: 3}
	for i, got := range []uint32{
		write(protocol.Op_GELU, indices).GetVersion(), write(protocol.Op_SILU, indices).GetVersion(), write(protocol.Op_GELU, integers).GetVersion(),
	} {
		if want := []uint32{1, 2, 2}[i]; got != want {
			t.Errorf("program %d has version %d, want %d", i, got, want)
		}
	}
}

func TestDeadPartsAreReported(t *testing.T) {
	p := lora()
	p.Output = 1
	typed, err := Check(p, layer(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(typed.Warnings, "\n"); !strings.Contains(all, "%8 add is never used") || !strings.Contains(all, "parameter lora_B is never used") {
		t.Errorf("warnings:\n%s", all)
	}
	if slices.Contains(typed.Live[2:], true) || !typed.Live[0] {
		t.Errorf("live %v", typed.Live)
	}
}

func TestPrograms(t *testing.T) {
	m := &protocol.Model{Depth: 12}
	site := func(name string, block uint32, in uint32) *protocol.Site {
		return &protocol.Site{Name: name, Block: block, Kind: protocol.Site_LINEAR, In: in, Out: 10, Bias: true}
	}
	shared := lora()
	for _, p := range shared.Params {
		p.Scope = protocol.Param_BLOCK
	}
	sites := []*protocol.Site{site("query", 0, 6), site("value", 0, 6), site("query", 1, 6)}
	t.Run("shared parameters count once", func(t *testing.T) {
		placed, err := CheckAll([]*protocol.Program{shared}, sites, []uint32{0, 0, 0}, m)
		if err != nil {
			t.Fatal(err)
		}
		if placed.Trainable != 2*32 || placed.Sites[1].Site != sites[1] {
			t.Errorf("%d trainable", placed.Trainable)
		}
	})
	t.Run("shared parameters have to agree", func(t *testing.T) {
		other := proto.CloneOf(shared)
		other.Params[0].LrMult = f(2)
		_, err := CheckAll([]*protocol.Program{shared, other}, sites, []uint32{0, 1, 1}, m)
		const want = "value of block 0: parameter lora_A: shared with query of block 0, but not the same there"
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want %s", err, want)
		}
		if _, err := CheckAll([]*protocol.Program{shared, other}, sites, []uint32{0, 0, 1}, m); err != nil {
			t.Errorf("in another block they may differ: %v", err)
		}
	})
	t.Run("a mistake many sites have comes once", func(t *testing.T) {
		wrong := lora()
		wrong.Output = 6
		_, err := CheckAll([]*protocol.Program{wrong}, sites, []uint32{0, 0, 0}, m)
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want one line", err)
		}
	})
	t.Run("sites", func(t *testing.T) {
		_, err := CheckAll([]*protocol.Program{shared}, sites, []uint32{0, 0}, m)
		if err == nil || !strings.Contains(err.Error(), "2 sites were given a program, want 3") {
			t.Errorf("error %v", err)
		}
		_, err = CheckAll([]*protocol.Program{shared}, sites, []uint32{0, 0, 1}, m)
		if err == nil || !strings.Contains(err.Error(), "query of block 1: program 1 of 1") {
			t.Errorf("error %v", err)
		}
		_, err = CheckAll([]*protocol.Program{shared}, []*protocol.Site{site("query", 12, 6)}, []uint32{0}, m)
		if err == nil || !strings.Contains(err.Error(), "12 blocks, 0 to 11") {
			t.Errorf("error %v", err)
		}
		_, err = CheckAll([]*protocol.Program{shared}, []*protocol.Site{site("query", 0, 7)}, []uint32{0}, m)
		if err == nil || !strings.Contains(err.Error(), "inner dimensions of [T, 7] and [6, 2] differ") {
			t.Errorf("error %v", err)
		}
	})
}

// random draws programs that are right: operations are applied to values that
// fit them, and the last value is brought to [T, 10].
func random(t *rapid.T) *protocol.Program {
	w := NewWriter(layer())
	var pool []uint32
	var shapes [][]int64
	add := func(n *protocol.Node) uint32 {
		i, v, err := w.Node(n)
		if err != nil {
			t.Fatalf("a right node is refused: %v", err)
		}
		pool, shapes = append(pool, i), append(shapes, v.Shape)
		return i
	}
	add(nd(protocol.Op_X))
	add(nd(protocol.Op_BASE, 0))
	add(nd(protocol.Op_WEIGHT))
	for i := range rapid.IntRange(1, 20).Draw(t, "nodes") {
		at := rapid.IntRange(0, len(pool)-1).Draw(t, "input")
		in, s := pool[at], shapes[at]
		last := int64(len(s) - 1)
		ends := len(s) > 0 && s[last] != T // the last dimension may be worked on
		switch rapid.IntRange(0, 7).Draw(t, "op") {
		case 0:
			name := fmt.Sprintf("p%d", i)
			rows := int64(rapid.IntRange(1, 9).Draw(t, "rows"))
			cols := int64(7)
			if ends {
				cols = s[last]
			}
			if err := w.Param(par(name, zeros(), cols, rows)); err != nil {
				t.Fatalf("a right parameter is refused: %v", err)
			}
			p := add(&protocol.Node{Op: protocol.Op_PARAM, Param: name})
			if ends && len(s) > 1 {
				add(nd(protocol.Op_MATMUL, in, p))
			}
		case 1:
			add(nd(rapid.SampledFrom([]protocol.Op{protocol.Op_RELU, protocol.Op_NEG, protocol.Op_EXP, protocol.Op_DETACH, protocol.Op_TANH}).Draw(t, "bend"), in))
		case 2:
			add(nd(rapid.SampledFrom([]protocol.Op{protocol.Op_ADD, protocol.Op_MUL, protocol.Op_DIV, protocol.Op_MAXIMUM}).Draw(t, "pair"), in, in))
		case 3:
			order := rapid.Permutation([]int64{0, 1, 2, 3, 4, 5, 6, 7}[:len(s)]).Draw(t, "order")
			add(&protocol.Node{Op: protocol.Op_PERMUTE, Inputs: []uint32{in}, Ints: order})
		case 4:
			if ends {
				add(&protocol.Node{Op: rapid.SampledFrom([]protocol.Op{protocol.Op_SUM, protocol.Op_MEAN, protocol.Op_MAX}).Draw(t, "reduce"), Inputs: []uint32{in}, Ints: []int64{last}, Keepdim: rapid.Bool().Draw(t, "keep")})
			}
		case 5:
			if ends && s[last] < 1<<10 {
				add(&protocol.Node{Op: protocol.Op_CONCAT, Inputs: []uint32{in, in}, Ints: []int64{last}})
			}
		case 6:
			if ends {
				add(&protocol.Node{Op: protocol.Op_SLICE, Inputs: []uint32{in}, Ints: []int64{last, s[last] / 2, 1}})
			}
		case 7:
			if len(s) < MaxRank {
				add(&protocol.Node{Op: protocol.Op_RESHAPE, Inputs: []uint32{in}, Ints: append([]int64{1}, s...)})
			}
		}
	}
	// Some value with T, reduced over all else, is added to the base.
	token := slices.IndexFunc(shapes, func(s []int64) bool { return slices.Contains(s, T) })
	for i, s := range shapes {
		if slices.Contains(s, T) {
			token = i
		}
	}
	var rest []int64
	for d, n := range shapes[token] {
		if n != T {
			rest = append(rest, int64(d))
		}
	}
	one := pool[token]
	if len(rest) > 0 {
		one = add(&protocol.Node{Op: protocol.Op_SUM, Inputs: []uint32{one}, Ints: rest})
	}
	one = add(&protocol.Node{Op: protocol.Op_RESHAPE, Inputs: []uint32{one}, Ints: []int64{T, 1}})
	return w.Finish(add(nd(protocol.Op_ADD, 1, one)))
}

func TestRandomProgramsPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := random(t)
		typed, err := Check(p, layer(), nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, Text(p))
		}
		for i := range p.Nodes {
			if (typed.From[i]&FromX == 0) != (typed.Linearity[i] == Constant) {
				t.Fatalf("node %d: from %b, but %s\n%s", i, typed.From[i], typed.Linearity[i], typed.Text())
			}
			if (typed.From[i]&FromX == 0) == slices.Contains(typed.Shapes[i], T) {
				t.Fatalf("node %d: from %b with shape %v\n%s", i, typed.From[i], typed.Shapes[i], typed.Text())
			}
		}
	})
}

// A plug-in may answer anything: Check returns an error or a program that is
// well-typed, but never panics, and nor does the text form.
func TestChangedProgramsNeverPanic(t *testing.T) {
	number := rapid.SampledFrom([]int64{-2, -1, 0, 1, 2, 3, 6, 1 << 28, 1 << 40, math.MaxInt64, math.MinInt64})
	rapid.Check(t, func(t *rapid.T) {
		p := random(t)
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			n := p.Nodes[rapid.IntRange(0, len(p.Nodes)-1).Draw(t, "node")]
			if n == nil {
				continue
			}
			switch rapid.IntRange(0, 8).Draw(t, "change") {
			case 0:
				n.Op = protocol.Op(rapid.IntRange(-1, 80).Draw(t, "op"))
			case 1:
				n.Inputs = rapid.SliceOfN(rapid.Uint32Range(0, 30), 0, 4).Draw(t, "inputs")
			case 2:
				n.Ints = rapid.SliceOfN(number, 0, 10).Draw(t, "ints")
			case 3:
				n.Number = rapid.Float64().Draw(t, "number")
			case 4:
				n.Text = rapid.String().Draw(t, "text")
			case 5:
				p.Output = rapid.Uint32().Draw(t, "output")
			case 6:
				q := par(rapid.String().Draw(t, "name"), &protocol.Init{
					Kind:     protocol.Init_Kind(rapid.IntRange(-1, 24).Draw(t, "kind")),
					MaxShape: rapid.SliceOfN(number, 0, 3).Draw(t, "max_shape"),
					K:        rapid.Uint32().Draw(t, "k"),
					Dim:      rapid.Int32().Draw(t, "dim"),
					Bound:    number.Draw(t, "bound"),
					Inner:    rapid.SampledFrom([]*protocol.Init{nil, zeros(), {Kind: protocol.Init_INDICES}}).Draw(t, "inner"),
				}, rapid.SliceOfN(number, 0, 10).Draw(t, "shape")...)
				q.Trainable = rapid.Bool().Draw(t, "trainable")
				p.Params = append(p.Params, q)
				n.Op, n.Param = protocol.Op_PARAM, q.Name
			case 7:
				p.Aux = append(p.Aux, &protocol.Aux{Node: rapid.Uint32().Draw(t, "aux"), Name: "a"})
			case 8:
				p.Nodes[rapid.IntRange(0, len(p.Nodes)-1).Draw(t, "lost")] = nil
				p.Params = append(p.Params, nil)
			}
		}
		_ = Text(p)
		typed, err := Check(p, layer(), nil)
		if err == nil && !slices.Equal(typed.Shapes[p.Output], []int64{T, 10}) {
			t.Fatalf("accepted with output %v", typed.Shapes[p.Output])
		}
	})
}

// Nor do bytes that were damaged, or made up, on the way.
func TestDamagedProgramsNeverPanic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw, err := proto.Marshal(random(t))
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			raw[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		p := &protocol.Program{}
		if proto.Unmarshal(raw, p) != nil {
			return
		}
		_ = Text(p)
		if typed, err := Check(p, layer(), nil); err == nil && !slices.Equal(typed.Shapes[p.Output], []int64{T, 10}) {
			t.Fatalf("accepted with output %v", typed.Shapes[p.Output])
		}
	})
}
