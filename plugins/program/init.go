package program

import (
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/plugins/protocol"
)

// initRow says what one initialiser takes and needs. Fields other than takes
// are zero when they do not apply.
type initRow struct {
	name   string
	takes  string // fields of Init that mean something, space separated
	needs  string // of those, the ones that must be given
	dtype  DType
	random bool // draws from a stream
	weight bool // reads W
	since  uint32
	// shape checks the parameter's shape, in and out being those of the site.
	shape func(i *protocol.Init, shape []int64, in, out int64) error
}

// inits has a row for every kind of the protocol.
var inits = map[protocol.Init_Kind]initRow{
	protocol.Init_ZEROS:    {name: "zeros"},
	protocol.Init_ONES:     {name: "ones"},
	protocol.Init_CONSTANT: {name: "constant", takes: "a", needs: "a"},
	protocol.Init_EYE:      {name: "eye", takes: "a", shape: dims(2)},
	protocol.Init_UNIFORM:  {name: "uniform", takes: "a", needs: "a", random: true},
	protocol.Init_NORMAL:   {name: "normal", takes: "a", needs: "a", random: true},
	protocol.Init_KAIMING_UNIFORM: {
		name: "kaiming_uniform", takes: "a fan", random: true,
		shape: func(i *protocol.Init, shape []int64, _, _ int64) error {
			if i.Fan == nil && len(shape) == 0 {
				return fmt.Errorf("needs a fan: the shape has no last dimension to take it from")
			}
			if i.Fan != nil && i.GetFan() <= 0 {
				return fmt.Errorf("fan is %v, want a positive number", i.GetFan())
			}
			return nil
		},
	},
	protocol.Init_XAVIER_UNIFORM: {
		name: "xavier_uniform", random: true,
		shape: func(_ *protocol.Init, shape []int64, _, _ int64) error {
			if len(shape) < 2 {
				return fmt.Errorf("shape %s, want at least 2 dimensions for its two fans", ShapeText(shape))
			}
			return nil
		},
	},
	protocol.Init_ORTHOGONAL: {name: "orthogonal", takes: "a", random: true, shape: dims(2)},
	protocol.Init_SVD_LEFT:   {name: "svd_left", takes: "a power last", weight: true, shape: triples("out", "r")},
	protocol.Init_SVD_RIGHT:  {name: "svd_right", takes: "a power last", weight: true, shape: triples("r", "in")},
	protocol.Init_SVD_SINGULAR: {
		name: "svd_singular", takes: "a power last", weight: true, shape: triples("r"),
	},
	protocol.Init_ROW_NORM: {name: "row_norm", weight: true, shape: triples("out")},
	protocol.Init_COL_NORM: {name: "col_norm", weight: true, shape: triples("in")},
	protocol.Init_QR_Q:     {name: "qr_q", takes: "a", weight: true, shape: triples("out", "r")},
	protocol.Init_QR_R:     {name: "qr_r", takes: "a", weight: true, shape: triples("r", "in")},
	protocol.Init_SEEDED: {
		name: "seeded", takes: "key max_shape inner", needs: "max_shape inner",
		shape: func(i *protocol.Init, shape []int64, _, _ int64) error {
			if err := fixedShape(i.GetMaxShape()); err != nil {
				return fmt.Errorf("max_shape: %w", err)
			}
			if len(i.GetMaxShape()) != len(shape) {
				return fmt.Errorf("max_shape %s, want as many dimensions as shape %s", ShapeText(i.GetMaxShape()), ShapeText(shape))
			}
			for d := range shape {
				if shape[d] > i.GetMaxShape()[d] {
					return fmt.Errorf("shape %s does not fit into max_shape %s", ShapeText(shape), ShapeText(i.GetMaxShape()))
				}
			}
			return nil
		},
	},
	protocol.Init_REPEAT: {
		name: "repeat", takes: "inner k dim", needs: "inner k",
		shape: func(i *protocol.Init, shape []int64, _, _ int64) error {
			d := int(i.GetDim())
			if d < 0 || d >= len(shape) {
				return fmt.Errorf("dim %d of a shape with %d dimensions", d, len(shape))
			}
			if shape[d]%int64(i.GetK()) != 0 {
				return fmt.Errorf("k = %d does not divide dimension %d of %s", i.GetK(), d, ShapeText(shape))
			}
			return nil
		},
	},
	protocol.Init_PERMUTATION: {
		name: "permutation", takes: "key bound", needs: "bound", dtype: Int64,
		shape: func(i *protocol.Init, shape []int64, _, _ int64) error {
			if err := dims(1)(i, shape, 0, 0); err != nil {
				return err
			}
			if i.GetBound() < shape[0] || i.GetBound() > MaxElements {
				return fmt.Errorf("bound is %d, want %d (the number of positions) to %d", i.GetBound(), shape[0], MaxElements)
			}
			return nil
		},
	},
	protocol.Init_TOPK_ABS_W: {
		name: "topk_abs_w", dtype: Int64, weight: true,
		shape: func(i *protocol.Init, shape []int64, in, out int64) error {
			if err := dims(1)(i, shape, 0, 0); err != nil {
				return err
			}
			if shape[0] > in*out {
				return fmt.Errorf("%d positions of a W with %d elements", shape[0], in*out)
			}
			return nil
		},
	},
	protocol.Init_VALUES: {
		name: "values", takes: "values", needs: "values",
		shape: func(i *protocol.Init, shape []int64, _, _ int64) error {
			if int64(len(i.GetValues())) != elements(shape) {
				return fmt.Errorf("%d values for shape %s, want %d", len(i.GetValues()), ShapeText(shape), elements(shape))
			}
			return nil
		},
	},
	protocol.Init_INDICES: {
		name: "indices", takes: "indices", needs: "indices", dtype: Int64,
		shape: func(i *protocol.Init, shape []int64, _, _ int64) error {
			if err := dims(1)(i, shape, 0, 0); err != nil {
				return err
			}
			if int64(len(i.GetIndices())) != shape[0] {
				return fmt.Errorf("%d indices for shape %s", len(i.GetIndices()), ShapeText(shape))
			}
			for at, v := range i.GetIndices() {
				if v < 0 || v >= MaxElements {
					return fmt.Errorf("index %d is %d, want 0 to %d", at, v, MaxElements-1)
				}
			}
			return nil
		},
	},
	protocol.Init_INTEGERS: {
		name: "integers", takes: "key bound", needs: "bound", dtype: Int64, since: 2,
		shape: func(i *protocol.Init, shape []int64, _, _ int64) error {
			if err := dims(1)(i, shape, 0, 0); err != nil {
				return err
			}
			if i.GetBound() < 1 || i.GetBound() > MaxElements {
				return fmt.Errorf("bound is %d, want 1 to %d", i.GetBound(), MaxElements)
			}
			return nil
		},
	},
}

// dims wants n dimensions.
func dims(n int) func(*protocol.Init, []int64, int64, int64) error {
	return func(_ *protocol.Init, shape []int64, _, _ int64) error {
		if len(shape) != n {
			return fmt.Errorf("shape %s, want %d dimensions", ShapeText(shape), n)
		}
		return nil
	}
}

// triples wants dimensions of W or, as "r", at most as many as W has rank.
func triples(want ...string) func(*protocol.Init, []int64, int64, int64) error {
	return func(_ *protocol.Init, shape []int64, in, out int64) error {
		size := map[string]int64{"in": in, "out": out}
		ok := len(shape) == len(want)
		for d := 0; ok && d < len(want); d++ {
			if want[d] == "r" {
				ok = shape[d] <= min(in, out)
			} else {
				ok = shape[d] == size[want[d]]
			}
		}
		if ok {
			return nil
		}
		return fmt.Errorf("shape %s, want [%s] with in = %d, out = %d, r at most %d",
			ShapeText(shape), strings.Join(want, ", "), in, out, min(in, out))
	}
}

// given lists the fields of i that are set.
func given(i *protocol.Init) []string {
	var f []string
	add := func(set bool, name string) {
		if set {
			f = append(f, name)
		}
	}
	add(i.A != nil, "a")
	add(i.Fan != nil, "fan")
	add(i.GetPower() != 0, "power")
	add(i.GetLast(), "last")
	add(i.GetKey() != 0, "key")
	add(len(i.GetMaxShape()) > 0, "max_shape")
	add(i.GetInner() != nil, "inner")
	add(i.GetK() != 0, "k")
	add(i.GetDim() != 0, "dim")
	add(i.GetBound() != 0, "bound")
	add(len(i.GetValues()) > 0, "values")
	add(len(i.GetIndices()) > 0, "indices")
	return f
}

// checkInit returns the element type an initialiser gives, and what is wrong.
func checkInit(i *protocol.Init, shape []int64, s *protocol.Site, scope protocol.Param_Scope) (DType, []string) {
	return checkInitAt(i, shape, s, scope, 0)
}

func checkInitAt(i *protocol.Init, shape []int64, s *protocol.Site, scope protocol.Param_Scope, depth int) (DType, []string) {
	if i == nil {
		return Float, []string{"no initialiser"}
	}
	row, ok := inits[i.GetKind()]
	if !ok {
		return Float, []string{fmt.Sprintf("unknown initialiser %d", i.GetKind())}
	}
	var errs []string
	e := func(format string, args ...any) {
		errs = append(errs, row.name+": "+fmt.Sprintf(format, args...))
	}
	has, takes := given(i), strings.Fields(row.takes)
	for _, f := range has {
		if !slices.Contains(takes, f) {
			e("takes no %s", f)
		}
	}
	for _, f := range strings.Fields(row.needs) {
		if !slices.Contains(has, f) {
			e("needs %s", f)
		}
	}
	for _, f := range []struct {
		name string
		v    float64
	}{{"a", i.GetA()}, {"fan", i.GetFan()}, {"power", i.GetPower()}} {
		if !finite(f.v) {
			e("%s is %v, want a finite number", f.name, f.v)
		}
	}
	for at, v := range i.GetValues() {
		if !finite(v) {
			e("value %d is %v, want a finite number", at, v)
			break
		}
	}
	if (i.GetKind() == protocol.Init_UNIFORM || i.GetKind() == protocol.Init_NORMAL) && i.GetA() < 0 {
		e("a is %v, want at least 0", i.GetA())
	}
	if row.weight {
		if s.GetKind() == protocol.Site_STREAM {
			e("reads W, but a stream has none")
		} else if scope != protocol.Param_SITE {
			e("reads W of one site, so its scope must be SITE")
		}
	}
	if len(errs) > 0 {
		return row.dtype, errs
	}
	if row.shape != nil {
		if err := row.shape(i, shape, int64(s.GetIn()), int64(s.GetOut())); err != nil {
			e("%s", err)
			return row.dtype, errs
		}
	}
	inner := shape
	switch i.GetKind() {
	case protocol.Init_SEEDED:
		inner = i.GetMaxShape()
		if !inits[i.GetInner().GetKind()].random {
			e("inner is %s, want one that draws: uniform, normal, kaiming_uniform, xavier_uniform or orthogonal", initName(i.GetInner()))
			return row.dtype, errs
		}
	case protocol.Init_REPEAT:
		inner = slices.Clone(shape)
		inner[i.GetDim()] /= int64(i.GetK())
	default:
		return row.dtype, errs
	}
	if depth >= 2 {
		e("nested too deep")
		return row.dtype, errs
	}
	dtype, more := checkInitAt(i.GetInner(), inner, s, scope, depth+1)
	for _, m := range more {
		e("inner %s", m)
	}
	if dtype != Float {
		e("inner gives positions, want numbers")
	}
	return row.dtype, errs
}

// positions is the exclusive bound of the positions a checked int64
// initialiser gives, and whether all differ.
func positions(i *protocol.Init, s *protocol.Site) (bound int64, distinct bool) {
	switch i.GetKind() {
	case protocol.Init_PERMUTATION:
		return i.GetBound(), true
	case protocol.Init_INTEGERS:
		return i.GetBound(), false
	case protocol.Init_TOPK_ABS_W:
		return int64(s.GetIn()) * int64(s.GetOut()), true
	}
	sorted := slices.Sorted(slices.Values(i.GetIndices()))
	return sorted[len(sorted)-1] + 1, len(slices.Compact(sorted)) == len(i.GetIndices())
}

// Draws reports whether the values of an initialiser depend on the seed of the
// run.
func Draws(i *protocol.Init) bool {
	switch i.GetKind() {
	case protocol.Init_SEEDED:
		return false // its key is its seed
	case protocol.Init_REPEAT:
		return Draws(i.GetInner())
	case protocol.Init_PERMUTATION, protocol.Init_INTEGERS:
		return i.GetKey() == 0 && i.GetBound() > 1
	case protocol.Init_UNIFORM, protocol.Init_NORMAL:
		return i.GetA() != 0
	}
	return inits[i.GetKind()].random
}

func initName(i *protocol.Init) string {
	if row, ok := inits[i.GetKind()]; ok {
		return row.name
	}
	return fmt.Sprintf("initialiser %d", i.GetKind())
}

// initText is an initialiser as the text form shows it: "kaiming_uniform(a=2.236)".
func initText(i *protocol.Init) string {
	if i == nil {
		return "nothing"
	}
	var args []string
	for _, f := range given(i) {
		switch f {
		case "a":
			args = append(args, "a="+number(i.GetA()))
		case "fan":
			args = append(args, "fan="+number(i.GetFan()))
		case "power":
			args = append(args, "power="+number(i.GetPower()))
		case "last":
			args = append(args, "last")
		case "key":
			args = append(args, fmt.Sprintf("key=%d", i.GetKey()))
		case "max_shape":
			args = append(args, "max_shape="+ShapeText(i.GetMaxShape()))
		case "inner":
			args = append(args, initText(i.GetInner()))
		case "k":
			args = append(args, fmt.Sprintf("k=%d", i.GetK()))
		case "dim":
			args = append(args, fmt.Sprintf("dim=%d", i.GetDim()))
		case "bound":
			args = append(args, fmt.Sprintf("bound=%d", i.GetBound()))
		case "values":
			args = append(args, numbers(i.GetValues()))
		case "indices":
			args = append(args, integers(i.GetIndices()))
		}
	}
	if len(args) == 0 {
		return initName(i)
	}
	return initName(i) + "(" + strings.Join(args, ", ") + ")"
}
