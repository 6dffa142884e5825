package sdk

import (
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/plugins/protocol"
)

// Option changes how a parameter is declared.
type Option func(*protocol.Param)

// Frozen parameters are not trained.
func Frozen(p *protocol.Param) { p.Trainable = false }

// Derived parameters are frozen and not stored either, because their
// initialiser gives them again.
func Derived(p *protocol.Param) { p.Trainable, p.Derived = false, true }

// PerBlock shares the parameter among the adapted sites of a block.
func PerBlock(p *protocol.Param) { p.Scope = protocol.Param_BLOCK }

// PerModel shares the parameter among all adapted sites.
func PerModel(p *protocol.Param) { p.Scope = protocol.Param_MODEL }

// LR multiplies the adapter's learning rate; 1 changes nothing.
func LR(times float64) Option {
	return func(p *protocol.Param) {
		if times != 1 {
			p.LrMult = &times
		}
	}
}

// Decay multiplies the weight decay; 1 changes nothing.
func Decay(times float64) Option {
	return func(p *protocol.Param) {
		if times != 1 {
			p.DecayMult = &times
		}
	}
}

// RandomStream names the random stream the initialiser draws from. Parameters with
// one stream and one initialiser start equal.
func RandomStream(name string) Option {
	return func(p *protocol.Param) { p.Stream = name }
}

// Init is how a parameter starts. Random ones draw from a stream of their own
// for each seed, site and parameter, so that order never matters.
type Init struct{ p *protocol.Init }

func (i Init) proto() *protocol.Init { return proto.CloneOf(i.p) }

// with is a changed copy.
func (i Init) with(change func(*protocol.Init)) Init {
	c := i.proto()
	change(c)
	return Init{c}
}

func kind(k protocol.Init_Kind) Init { return Init{&protocol.Init{Kind: k}} }

func withA(k protocol.Init_Kind, a float64) Init {
	return Init{&protocol.Init{Kind: k, A: &a}}
}

// Initialisers without arguments. Those of W need a linear layer or the patch
// embedding and the site's own scope.
var (
	Zeros         = kind(protocol.Init_ZEROS)
	Ones          = kind(protocol.Init_ONES)
	Identity      = kind(protocol.Init_EYE)            // 2-D
	XavierUniform = kind(protocol.Init_XAVIER_UNIFORM) // U(±√(6/(fan_in+fan_out))), fans are the last two dimensions
	Orthogonal    = kind(protocol.Init_ORTHOGONAL)     // 2-D, rows or columns orthonormal
	// Of W = U S Vᵀ, the first r singular triples, r from the shape; see
	// Power, Last and Times.
	SVDLeft     = kind(protocol.Init_SVD_LEFT)     // [out, r] = U_r · S_r^power
	SVDRight    = kind(protocol.Init_SVD_RIGHT)    // [r, in] = S_r^power · V_rᵀ
	SVDSingular = kind(protocol.Init_SVD_SINGULAR) // [r] = S_r^power
	QRQ         = kind(protocol.Init_QR_Q)         // [out, r], first columns of Q of W = QR
	QRR         = kind(protocol.Init_QR_R)         // [r, in], first rows of R
	RowNorm     = kind(protocol.Init_ROW_NORM)     // [out], 2-norms of the rows of W
	ColNorm     = kind(protocol.Init_COL_NORM)     // [in], 2-norms of the columns of W
	TopKAbsW    = kind(protocol.Init_TOPK_ABS_W)   // int64 [n]: flat positions of the largest |W|; frozen
)

// Constant fills with a.
func Constant(a float64) Init { return withA(protocol.Init_CONSTANT, a) }

// Uniform draws from U(-a, a).
func Uniform(a float64) Init { return withA(protocol.Init_UNIFORM, a) }

// Normal draws from N(0, std²).
func Normal(std float64) Init { return withA(protocol.Init_NORMAL, std) }

// KaimingUniform draws from U(±√(6/((1+a²)·fan))), fan being the last
// dimension; see Fan. PyTorch's linear layers and LoRA's A have a = √5.
func KaimingUniform(a float64) Init {
	if a == 0 {
		return kind(protocol.Init_KAIMING_UNIFORM)
	}
	return withA(protocol.Init_KAIMING_UNIFORM, a)
}

// Seeded cuts the parameter out of one matrix for the whole model, drawn from
// inner at max by key alone: the same for every seed and site.
func Seeded(key uint64, max []int, inner Init) Init {
	return Init{&protocol.Init{Kind: protocol.Init_SEEDED, Key: key, MaxShape: wide(max), Inner: inner.proto()}}
}

// Repeated draws inner with dimension d divided by k and repeats each entry k
// times along it.
func Repeated(inner Init, d, k int) Init {
	return Init{&protocol.Init{Kind: protocol.Init_REPEAT, Inner: inner.proto(), Dim: int32(d), K: uint32(k)}}
}

// Permutation is int64 [n]: a permutation of 0 to bound-1 seeded by key, cut
// to n. The parameter has to be frozen.
func Permutation(key uint64, bound int) Init {
	return Init{&protocol.Init{Kind: protocol.Init_PERMUTATION, Key: key, Bound: int64(bound)}}
}

// Integers is int64 [n]: each position drawn from 0 to bound-1 for itself, so that
// some come more than once and others not at all. With a key they depend on it
// alone; without one, 0, on the seed, the site and the parameter. The parameter has
// to be frozen, and Gather takes it, Scatter not.
func Integers(key uint64, bound int) Init {
	return Init{&protocol.Init{Kind: protocol.Init_INTEGERS, Key: key, Bound: int64(bound)}}
}

// Values gives the entries row by row.
func Values(v ...float64) Init {
	return Init{&protocol.Init{Kind: protocol.Init_VALUES, Values: v}}
}

// Indices is int64 [n]: these positions. The parameter has to be frozen.
func Indices(v ...int64) Init {
	return Init{&protocol.Init{Kind: protocol.Init_INDICES, Indices: v}}
}

// Times multiplies by a, for Identity, Orthogonal, SVD and QR.
func (i Init) Times(a float64) Init { return i.with(func(p *protocol.Init) { p.A = &a }) }

// Power raises the singular values, for SVD: ½ splits them between both sides.
func (i Init) Power(p float64) Init { return i.with(func(q *protocol.Init) { q.Power = p }) }

// Last takes the last singular triples, for SVD.
func (i Init) Last() Init { return i.with(func(p *protocol.Init) { p.Last = true }) }

// Fan replaces the last dimension, for KaimingUniform.
func (i Init) Fan(n float64) Init { return i.with(func(p *protocol.Init) { p.Fan = &n }) }
