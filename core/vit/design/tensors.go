package design

import (
	"slices"

	"github.com/loralab/loralab/core/spec"
)

// Tensor is a tensor of a backbone as a run has it: one of its file, or the rows
// of several.
type Tensor struct {
	Name  string // in checkpoints, plans and rules: "encoder.layer.3.norm1.weight"
	Shape []int64
	Parts []Part // of the file, whose rows are joined in this order
	// Block is where it is: before the blocks (-1), in one, or behind those in use
	// (their number).
	Block int
	Rest  string // its name inside the block; the whole name outside of blocks
	// Layer is the linear layer of a block whose weight or bias it is. The product
	// is computed in the precision of a run, all else in fp32.
	Layer string
}

// Part is a tensor of a file.
type Part struct {
	Name  string
	Shape []int64
}

// Trains reports whether a tensor of a backbone of depth blocks takes a gradient.
// The final norm goes with the last block.
func (t *Tensor) Trains(f *spec.Freeze, depth int) bool {
	switch f.GetKind() {
	case spec.Freeze_NONE:
		return true
	case spec.Freeze_BLOCKS:
		return t.Block >= 0 && slices.Contains(f.GetTrainable(), uint32(min(t.Block, depth-1)))
	}
	return false
}

// Tensors lists the tensors of the first depth blocks of an architecture, of the
// embeddings before and the norm behind them. Query, key and value are one layer;
// the patch embedding is a matrix over the 3·p·p values of a patch.
func Tensors(a *spec.Architecture, depth int) ([]Tensor, error) {
	r, err := Of(a)
	if err != nil {
		return nil, err
	}
	l := &list{block: -1}
	d, p := int64(a.GetDim()), int64(a.GetPatch())
	for _, name := range r.Placed {
		l.add(name, 1, 1, d)
	}
	l.add(r.Positions, r.PositionShape(a)...)
	if n := int64(a.GetRegisters()); n > 0 {
		l.add(r.Registers, 1, n, d)
	}
	l.join(Tensor{Name: r.Patches + ".weight", Shape: []int64{d, 3 * p * p}}, Part{r.Patches + ".weight", []int64{d, 3, p, p}})
	l.add(r.Patches+".bias", d)
	for i := range depth {
		l.block, l.at = i, r.Block(i, "")
		layers := r.layers(a)
		l.linear(r.Attention.Joined, layers[:3]...)
		for _, x := range layers[3:] {
			l.linear(x.name.V4, x)
		}
		l.norm(r.Attention.Norm, d)
		l.norm(r.MLP.Norm, d)
		for _, scale := range []string{r.Attention.Scale, r.MLP.Scale} {
			if scale != "" {
				l.add(scale, d)
			}
		}
	}
	l.block, l.at = depth, ""
	l.norm(r.Norm, d)
	return l.tensors, nil
}

// Shapes are the tensors of the file of an architecture, by name.
func Shapes(a *spec.Architecture) (map[string][]int64, error) {
	all, err := Tensors(a, int(a.GetDepth()))
	if err != nil {
		return nil, err
	}
	out := map[string][]int64{}
	for _, t := range all {
		for _, p := range t.Parts {
			out[p.Name] = p.Shape
		}
	}
	return out, nil
}

// PositionShape is the shape of the table of positions.
func (r *Row) PositionShape(a *spec.Architecture) []int64 {
	return []int64{1, int64(len(r.Placed)) + int64(a.GetGridH())*int64(a.GetGridW()), int64(a.GetDim())}
}

// list collects the tensors of a backbone.
type list struct {
	block   int
	at      string // what names begin with: "encoder.layer.3."
	tensors []Tensor
}

// join adds a tensor; its name and those of its parts are given without at.
func (l *list) join(t Tensor, parts ...Part) {
	t.Rest, t.Block, t.Name = t.Name, l.block, l.at+t.Name
	for _, p := range parts {
		t.Parts = append(t.Parts, Part{l.at + p.Name, p.Shape})
	}
	l.tensors = append(l.tensors, t)
}

// add adds a tensor that is one of the file.
func (l *list) add(name string, shape ...int64) {
	l.join(Tensor{Name: name, Shape: shape}, Part{name, shape})
}

func (l *list) norm(name string, d int64) {
	l.add(name+".weight", d)
	l.add(name+".bias", d)
}

// linear adds weight and bias of layers that read the same input, as one.
func (l *list) linear(name string, of ...layer) {
	var weights, biases []Part
	var rows int64
	for _, x := range of {
		out := int64(x.out)
		rows += out
		weights = append(weights, Part{x.name.V4 + ".weight", []int64{out, int64(x.in)}})
		if x.bias {
			biases = append(biases, Part{x.name.V4 + ".bias", []int64{out}})
		}
	}
	at := l.at + name
	l.join(Tensor{Name: name + ".weight", Shape: []int64{rows, int64(of[0].in)}, Layer: at}, weights...)
	if biases != nil {
		l.join(Tensor{Name: name + ".bias", Shape: []int64{rows}, Layer: at}, biases...)
	}
}
