package program

import (
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/protocol"
)

// A program that would take all memory or time is refused before anything runs.
func TestGreedyProgramsAreRefused(t *testing.T) {
	with := func(n *protocol.Node, edit func(*protocol.Node)) *protocol.Node { edit(n); return n }
	param := func(name string) *protocol.Node {
		return with(nd(protocol.Op_PARAM), func(n *protocol.Node) { n.Param = name })
	}
	einsum := func(text string, in ...uint32) *protocol.Node {
		return with(nd(protocol.Op_EINSUM, in...), func(n *protocol.Node) { n.Text = text })
	}
	sum := func(in uint32, dims ...int64) *protocol.Node {
		return with(nd(protocol.Op_SUM, in), func(n *protocol.Node) { n.Ints = dims })
	}
	base := func(rest ...*protocol.Node) []*protocol.Node {
		return append([]*protocol.Node{nd(protocol.Op_X), nd(protocol.Op_BASE, 0)}, rest...)
	}
	var many []*protocol.Param
	for i := range 8 {
		many = append(many, par("p"+string(rune('a'+i)), zeros(), 1<<26))
	}
	chain := base(param("p"))
	for i := range uint32(30) {
		chain = append(chain, nd(protocol.Op_KRON, i+2, 2))
		if i > 10 {
			chain[len(chain)-1] = nd(protocol.Op_ADD, i+2, i+2)
		}
	}
	chain = append(chain, sum(uint32(len(chain)-1), 0), nd(protocol.Op_ADD, 1, uint32(len(chain))))

	for name, c := range map[string]struct {
		params  []*protocol.Param
		nodes   []*protocol.Node
		want    string
		tooMany bool // the parameters alone are too many
	}{
		"many parameters": {
			append(many, par("beta", zeros(), 10)), base(param("beta"), nd(protocol.Op_ADD, 1, 2)), "elements in parameters", true,
		},
		"a large seeded matrix": {
			[]*protocol.Param{frozen("p", &protocol.Init{
				Kind: protocol.Init_SEEDED, MaxShape: []int64{1 << 28}, Inner: &protocol.Init{Kind: protocol.Init_NORMAL, A: f(1)},
			}, 10), par("q", zeros(), 1<<27)},
			base(param("p"), nd(protocol.Op_ADD, 1, 2)), "elements in parameters", true,
		},
		"sums of ever larger products": {
			[]*protocol.Param{par("p", zeros(), 4)}, chain, "what does not depend on x", false,
		},
		"an einsum with a large middle": {
			[]*protocol.Param{par("p", zeros(), 40, 40), par("q", zeros(), 40, 40, 40)},
			base(param("p"), param("q"), einsum("ab,cd,ef,ace,bdf->", 2, 2, 2, 3, 3), nd(protocol.Op_ADD, 1, 4)),
			"elements in parameters and in what", false,
		},
		"an einsum of much work": {
			[]*protocol.Param{par("p", zeros(), 1<<14, 1<<12)},
			base(param("p"), einsum("ab,cb->ac", 2, 2), einsum("ab,cb->", 3, 3), nd(protocol.Op_ADD, 1, 4)),
			"multiplications", false,
		},
		"a token that grows": {
			[]*protocol.Param{par("p", zeros(), 6, 1<<19)},
			base(param("p"), nd(protocol.Op_MATMUL, 0, 2), nd(protocol.Op_EXP, 3), nd(protocol.Op_EXP, 4), sum(5, 1),
				with(nd(protocol.Op_RESHAPE, 6), func(n *protocol.Node) { n.Ints = []int64{T, 1} }), nd(protocol.Op_ADD, 1, 7)),
			"elements for each token", false,
		},
		"a large system of equations": {
			[]*protocol.Param{par("p", zeros(), 1<<13, 1<<13)},
			base(param("p"), nd(protocol.Op_SOLVE, 2, 2), sum(3, 0, 1), nd(protocol.Op_ADD, 1, 4)),
			"multiplications", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &protocol.Program{Version: Version, Params: c.params, Nodes: c.nodes, Output: uint32(len(c.nodes) - 1)}
			_, err := Check(p, layer(), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			// What is not needed is not run; but parameters are made.
			p.Output = 1
			if _, err := Check(p, layer(), nil); (err != nil) != c.tooMany {
				t.Errorf("not needed: %v", err)
			}
		})
	}
}
