// Package design says what segmentation heads are made of: which kinds there
// are, what each can be told, which tensors it has, how large they are and what
// they start with. docs/heads.md has the formulas.
//
// It is pure Go and says it once: the engine (core/engine/head) makes these tensors,
// the plan (core/params) counts them, and experiments (runner/experiment)
// are checked by it.
package design

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
)

// kind is one way to turn patches into scores.
type kind struct {
	name string
	// takes are the settings that count for it, by their name in experiments and
	// in spec.Head. kind and taps count for all.
	takes []string
	build func(*list, *spec.Head)
}

var kinds = []kind{
	{"conv", []string{"hidden", "norm", "dropout"}, conv},
	{"linear", []string{"norm"}, linear},
	{"segmenter", []string{"layers", "heads", "width", "dropout"}, segmenter},
	{"setr_pup", []string{"stages", "hidden", "norm", "dropout"}, upsampling},
}

// Kinds are the names of the heads.
func Kinds() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// Settings are all that some heads take and others do not.
func Settings() []string {
	var names []string
	for _, k := range kinds {
		for _, s := range k.takes {
			if !slices.Contains(names, s) {
				names = append(names, s)
			}
		}
	}
	return names
}

// TakenBy are the kinds that a setting counts for.
func TakenBy(setting string) []string {
	var names []string
	for _, k := range kinds {
		if slices.Contains(k.takes, setting) {
			names = append(names, k.name)
		}
	}
	return names
}

func find(name string) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// Tensor is one tensor of a head.
type Tensor struct {
	Name  string // "conv1.weight"
	Shape []int64
	Start Start
	// Token: a learned token, to be spared by weight decay as vectors are.
	Token bool
	// Buffer: moved by training without a gradient. Statistics of BatchNorm.
	Buffer bool
}

// Elements is the number of weights.
func (t *Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Start is what a tensor is drawn from: U(−Uniform, Uniform), N(0, Normal²), or
// else Constant everywhere.
type Start struct{ Uniform, Normal, Constant float64 }

// Error is a setting that a head cannot have.
type Error struct {
	Setting string // "heads"
	Problem string // "3 heads cannot share a width of 64"
	Hint    string
}

func (e *Error) Error() string { return fmt.Sprintf("head.%s: %s", e.Setting, e.Problem) }

// Of lists the tensors of a head in a fixed order, for features of dim
// dimensions from each tap. A head that cannot be is an *Error.
func Of(cfg *spec.Head, dim, classes int) ([]Tensor, error) {
	if err := check(cfg, dim, classes); err != nil {
		return nil, err
	}
	k, _ := find(cfg.GetKind())
	l := &list{in: int64(dim) * int64(max(1, len(cfg.GetTaps()))), classes: int64(classes)}
	k.build(l, Settle(cfg, dim))
	return l.tensors, nil
}

// Count is the number of weights that train in what Of lists.
func Count(tensors []Tensor) (n int64) {
	for i := range tensors {
		if !tensors[i].Buffer {
			n += tensors[i].Elements()
		}
	}
	return n
}

// Prune clears what does not count for the kind of a head.
func Prune(cfg *spec.Head) {
	k, _ := find(cfg.GetKind())
	m := cfg.ProtoReflect()
	for _, name := range Settings() {
		if !slices.Contains(k.takes, name) {
			m.Clear(setting(m, name))
		}
	}
}

// Settle is a copy of cfg with 0 replaced by the width that it stands for, given
// the backbone's.
func Settle(cfg *spec.Head, dim int) *spec.Head {
	s := proto.CloneOf(cfg)
	s.Hidden = cmp.Or(s.GetHidden(), uint32(dim/2))
	s.Width = cmp.Or(s.GetWidth(), uint32(dim))
	if s.Heads == 0 {
		// The most of 64 channels or more that share the width.
		s.Heads = max(1, s.Width/64)
		for s.Width%s.Heads != 0 {
			s.Heads--
		}
	}
	Prune(s)
	return s
}

func setting(m protoreflect.Message, name string) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(protoreflect.Name(name))
}

func check(cfg *spec.Head, dim, classes int) error {
	k, ok := find(cfg.GetKind())
	if !ok {
		return &Error{"kind", fmt.Sprintf("%q is not one of %q", cfg.GetKind(), Kinds()), ""}
	}
	if classes < 2 {
		return fmt.Errorf("a head needs at least 2 classes, got %d", classes)
	}
	m := cfg.ProtoReflect()
	for _, name := range Settings() {
		if m.Has(setting(m, name)) && !slices.Contains(k.takes, name) {
			return &Error{name, fmt.Sprintf("head %q does not take it", k.name), "leave it out"}
		}
	}
	s := Settle(cfg, dim)
	switch takes := func(name string) bool { return slices.Contains(k.takes, name) }; {
	case !(cfg.Dropout >= 0 && cfg.Dropout < 1):
		return &Error{"dropout", fmt.Sprintf("%v is not in [0, 1)", cfg.Dropout), ""}
	case takes("hidden") && s.Hidden < 1:
		return &Error{"hidden", fmt.Sprintf("half of %d dimensions is no channel", dim), "give a number of channels"}
	case takes("layers") && s.Layers < 1:
		return &Error{"layers", "a transformer has at least one", ""}
	case takes("stages") && s.Stages < 1:
		return &Error{"stages", "there is at least one", ""}
	case takes("heads") && s.Width%s.Heads != 0:
		return &Error{"heads", fmt.Sprintf("%d heads cannot share a width of %d", s.Heads, s.Width), "the width must be a multiple of the heads; leave heads out for one of 64 channels or more"}
	}
	return nil
}

// ---- the heads ----

func conv(l *list, s *spec.Head) {
	hidden := int64(s.Hidden)
	l.affine("conv1", uniform, hidden, l.in, 3, 3)
	if s.Norm {
		l.batchNorm("norm", hidden)
	}
	l.affine("conv2", uniform, l.classes, hidden, 1, 1)
}

func linear(l *list, s *spec.Head) {
	if s.Norm {
		l.batchNorm("norm", l.in)
	}
	l.affine("classifier", uniform, l.classes, l.in)
}

// upsampling is SETR's progressive upsampling: Zheng et al., "Rethinking semantic
// segmentation from a sequence-to-sequence perspective with transformers", 2021.
func upsampling(l *list, s *spec.Head) {
	hidden, in := int64(s.Hidden), l.in
	for i := range s.Stages {
		name := fmt.Sprintf("stages.%d.", i)
		l.affine(name+"conv", uniform, hidden, in, 3, 3)
		if s.Norm {
			l.batchNorm(name+"norm", hidden)
		}
		in = hidden
	}
	l.affine("classifier", uniform, l.classes, hidden, 1, 1)
}

// segmenter is the mask transformer of Strudel et al., "Segmenter: Transformer
// for semantic segmentation", 2021, with the starting values of the authors'
// code. Theirs are from a normal distribution cut off at ±2, a hundred standard
// deviations, which is to say not at all.
func segmenter(l *list, s *spec.Head) {
	d := int64(s.Width)
	l.affine("project", normal, d, l.in)
	l.add(Tensor{Name: "class_tokens", Shape: []int64{l.classes, d}, Start: Start{Normal: tokens}, Token: true})
	for i := range s.Layers {
		name := fmt.Sprintf("layers.%d.", i)
		l.norm(name+"norm1", d)
		l.affine(name+"qkv", normal, 3*d, d)
		l.affine(name+"output", normal, d, d)
		l.norm(name+"norm2", d)
		l.affine(name+"fc1", normal, 4*d, d)
		l.affine(name+"fc2", normal, d, 4*d)
	}
	l.norm("norm", d)
	for _, name := range []string{"patches", "classes"} {
		l.add(Tensor{Name: name + ".weight", Shape: []int64{d, d}, Start: Start{Normal: 1 / math.Sqrt(float64(d))}})
	}
	l.norm("scores", l.classes)
}

// tokens is the standard deviation that tokens and layers of a transformer start
// with.
const tokens = 0.02

// list collects the tensors of a head.
type list struct {
	in, classes int64 // what the head sees of a patch, and scores
	tensors     []Tensor
}

func (l *list) add(t ...Tensor) { l.tensors = append(l.tensors, t...) }

// affine is weight [out, in, kernel…] and bias [out].
func (l *list) affine(name string, start func(fan int64) (weight, bias Start), out, in int64, kernel ...int64) {
	fan := in
	for _, k := range kernel {
		fan *= k
	}
	weight, bias := start(fan)
	l.add(Tensor{Name: name + ".weight", Shape: append([]int64{out, in}, kernel...), Start: weight},
		Tensor{Name: name + ".bias", Shape: []int64{out}, Start: bias})
}

// uniform is PyTorch's default for linear and convolution layers, U(±1/√fan).
func uniform(fan int64) (weight, bias Start) {
	s := Start{Uniform: rng.KaimingBound(math.Sqrt(5), float64(fan))}
	return s, s
}

// normal is how transformers start.
func normal(int64) (weight, bias Start) { return Start{Normal: tokens}, Start{} }

// norm is weight and bias of a normalization, 1 and 0.
func (l *list) norm(name string, n int64) {
	l.add(Tensor{Name: name + ".weight", Shape: []int64{n}, Start: Start{Constant: 1}},
		Tensor{Name: name + ".bias", Shape: []int64{n}})
}

func (l *list) batchNorm(name string, n int64) {
	l.norm(name, n)
	l.add(Tensor{Name: name + ".running_mean", Shape: []int64{n}, Buffer: true},
		Tensor{Name: name + ".running_var", Shape: []int64{n}, Start: Start{Constant: 1}, Buffer: true})
}
