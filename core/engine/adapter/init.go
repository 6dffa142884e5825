package adapter

import (
	"fmt"
	"math"
	"slices"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/plugins/protocol"
)

// initialiser makes the first values of parameters. Random ones draw from a
// stream named by seed, place and parameter; those of W are computed in fp64.
type initialiser struct {
	dev    *torch.Device
	frozen Frozen
	dtype  torch.DType
	seed   uint64
	// One decomposition serves all parameters of a site.
	svds map[string][3]*torch.Tensor
}

func newInitialiser(dev *torch.Device, frozen Frozen, dt torch.DType, seed uint64) *initialiser {
	return &initialiser{dev: dev, frozen: frozen, dtype: dt, seed: seed, svds: map[string][3]*torch.Tensor{}}
}

func (in *initialiser) free() {
	for _, usv := range in.svds {
		for _, t := range usv {
			t.Free()
		}
	}
}

// value is the starting value of parameter q at a site, in the set's type or
// int64, in the current scope.
func (in *initialiser) value(site *protocol.Site, q *protocol.Param) (*torch.Tensor, error) {
	stream := q.Stream
	if stream == "" {
		stream = q.Name
	}
	place := ""
	switch {
	case q.Scope == protocol.Param_MODEL:
	case q.Scope == protocol.Param_BLOCK && site.Kind != protocol.Site_PATCH: // which is in none
		place = fmt.Sprintf("blocks.%d", site.Block)
	default:
		place = fmt.Sprintf("blocks.%d.%s", site.Block, site.Name)
	}
	var out *torch.Tensor
	var err error
	in.dev.NoGrad(func() {
		out = in.dev.Yield(func() *torch.Tensor {
			var t *torch.Tensor
			if t, err = in.init(q.Init, q.Shape, site, stream, rng.New(in.seed, "adapter", place, stream)); err != nil {
				return nil
			}
			if t.DType() != torch.Int64 {
				t = t.To(in.dtype)
			}
			// Memory of its own: an optimiser writes into it.
			return t.Contiguous().Clone()
		})
	})
	return out, err
}

func (in *initialiser) init(i *protocol.Init, shape []int64, site *protocol.Site, stream string, r rng.Stream) (*torch.Tensor, error) {
	d := in.dev
	a := func(absent float64) float64 {
		if i.A == nil {
			return absent
		}
		return *i.A
	}
	uniform := func(bound float64) *torch.Tensor {
		v := make([]float32, numel(shape))
		r.Uniform(v, -bound, bound)
		return torch.Of(d, v, shape...)
	}
	last := func(n int) float64 { return float64(shape[len(shape)-n]) }

	switch i.Kind {
	case protocol.Init_ZEROS:
		return d.Zeros(torch.Float32, shape...), nil
	case protocol.Init_ONES:
		return d.Full(1, torch.Float32, shape...), nil
	case protocol.Init_CONSTANT:
		return d.Full(a(0), torch.Float32, shape...), nil
	case protocol.Init_EYE:
		n := max(shape[0], shape[1])
		return d.Eye(torch.Float32, n).Narrow(0, 0, shape[0]).Narrow(1, 0, shape[1]).Scale(a(1)), nil
	case protocol.Init_UNIFORM:
		return uniform(a(0)), nil
	case protocol.Init_NORMAL:
		v := make([]float32, numel(shape))
		r.Normal(v, a(0))
		return torch.Of(d, v, shape...), nil
	case protocol.Init_KAIMING_UNIFORM:
		fan := i.GetFan()
		if i.Fan == nil {
			fan = last(1)
		}
		return uniform(rng.KaimingBound(a(0), fan)), nil
	case protocol.Init_XAVIER_UNIFORM:
		return uniform(math.Sqrt(6 / (last(1) + last(2)))), nil
	case protocol.Init_ORTHOGONAL:
		return in.orthogonal(shape, r).Scale(a(1)), nil
	case protocol.Init_SVD_LEFT, protocol.Init_SVD_RIGHT, protocol.Init_SVD_SINGULAR:
		return in.svd(i, shape, site).Scale(a(1)), nil
	case protocol.Init_ROW_NORM:
		return in.weight(site).Norm(false, 1), nil
	case protocol.Init_COL_NORM:
		return in.weight(site).Norm(false, 0), nil
	case protocol.Init_QR_Q:
		q, _ := in.weight(site).QR()
		return q.Narrow(1, 0, shape[1]).Scale(a(1)), nil
	case protocol.Init_QR_R:
		_, rr := in.weight(site).QR()
		return rr.Narrow(0, 0, shape[0]).Scale(a(1)), nil
	case protocol.Init_SEEDED:
		t, err := in.init(i.Inner, i.MaxShape, site, stream, rng.New(i.Key, "seeded", stream))
		if err != nil {
			return nil, err
		}
		for dim, n := range shape {
			t = t.Narrow(int64(dim), 0, n)
		}
		return t, nil
	case protocol.Init_REPEAT:
		inner, k := slices.Clone(shape), int64(i.K)
		inner[i.Dim] /= k
		t, err := in.init(i.Inner, inner, site, stream, r)
		if err != nil {
			return nil, err
		}
		at := make([]int64, shape[i.Dim])
		for j := range at {
			at[j] = int64(j) / k
		}
		return t.Rows(int64(i.Dim), torch.Of(d, at, int64(len(at)))), nil
	case protocol.Init_PERMUTATION:
		if i.Key != 0 {
			r = rng.New(i.Key, "permutation", stream)
		}
		at := make([]int64, shape[0])
		for j, v := range r.Permutation(int(i.Bound))[:shape[0]] {
			at[j] = int64(v)
		}
		return torch.Of(d, at, shape...), nil
	case protocol.Init_INTEGERS:
		if i.Key != 0 {
			r = rng.New(i.Key, "integers", stream)
		}
		at := make([]int64, shape[0])
		for j := range at {
			at[j] = int64(r.Uint64N(uint64(i.Bound)))
		}
		return torch.Of(d, at, shape...), nil
	case protocol.Init_TOPK_ABS_W:
		w := in.weight(site).Reshape(-1).Floats()
		at := make([]int64, len(w))
		for j := range at {
			at[j] = int64(j)
		}
		// Stable: among equals the first position wins, everywhere.
		slices.SortStableFunc(at, func(p, q int64) int {
			switch wp, wq := math.Abs(float64(w[p])), math.Abs(float64(w[q])); {
			case wp > wq:
				return -1
			case wp < wq:
				return 1
			}
			return 0
		})
		return torch.Of(d, at[:shape[0]], shape...), nil
	case protocol.Init_VALUES:
		return torch.Of(d, i.Values, shape...), nil
	case protocol.Init_INDICES:
		return torch.Of(d, i.Indices, shape...), nil
	}
	return nil, fmt.Errorf("unknown initialiser %v", i.Kind)
}

func numel(shape []int64) int64 {
	n := int64(1)
	for _, s := range shape {
		n *= s
	}
	return n
}

func (in *initialiser) weight(site *protocol.Site) *torch.Tensor {
	return in.frozen(site).W.To(torch.Float64)
}

// orthogonal has orthonormal rows or columns, whichever are fewer, uniformly
// distributed: Q of a normal matrix, its signs those of R's diagonal (Mezzadri,
// arXiv:math-ph/0609050).
func (in *initialiser) orthogonal(shape []int64, r rng.Stream) *torch.Tensor {
	rows, cols := shape[0], shape[1]
	v := make([]float32, rows*cols)
	r.Normal(v, 1)
	m := torch.Of(in.dev, v, max(rows, cols), min(rows, cols)).To(torch.Float64)
	q, rr := m.QR()
	n := min(rows, cols)
	diag := rr.Mul(in.dev.Eye(torch.Float64, n)).SumDims(false, 0)
	q = q.Mul(diag.Div(diag.Mul(diag).Sqrt()))
	if rows < cols {
		q = q.T()
	}
	return q
}

// svd is U, Vᵀ or S of W cut to the first or last r triples, times S^power.
func (in *initialiser) svd(i *protocol.Init, shape []int64, site *protocol.Site) *torch.Tensor {
	key := fmt.Sprintf("%d.%s", site.Block, site.Name)
	usv, ok := in.svds[key]
	if !ok {
		u, s, vt := in.weight(site).SVD()
		usv = [3]*torch.Tensor{u.Keep(), s.Keep(), vt.Keep()}
		in.svds[key] = usv
	}
	u, s, vt := usv[0], usv[1], usv[2]
	r := shape[0]
	if i.Kind == protocol.Init_SVD_LEFT {
		r = shape[1]
	}
	start := int64(0)
	if i.Last {
		start = s.Dim(0) - r
	}
	values := s.Narrow(0, start, r).Doubles()
	for j := range values {
		values[j] = math.Pow(values[j], i.Power)
	}
	scale := torch.Of(in.dev, values, r)
	switch i.Kind {
	case protocol.Init_SVD_LEFT:
		return u.Narrow(1, start, r).Mul(scale)
	case protocol.Init_SVD_RIGHT:
		return vt.Narrow(0, start, r).Mul(scale.Unsqueeze(1))
	default:
		return scale
	}
}
