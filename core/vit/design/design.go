// Package design is the table of backbone families: what each computes, which
// tensors it has, what these are called in files and in Hugging Face's
// transformers, and how its config.json is read.
//
// It is pure Go and says it once. The engine (core/engine/vit) builds a model from a
// row, core/params lists the tensors of a plan from it, runner/backbone checks
// files with it, and core/engine/export writes files by it. Another family that
// computes what one of these does is another row in families.go and nothing else.
package design

import (
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/spec"
)

// Row is one kind of model: an embedding of square patches and learned tokens, a
// stack of blocks, a final LayerNorm. Names of tensors are those of files, which
// are also the names in checkpoints, plans and rules.
type Row struct {
	// Type is the model_type of config.json. Models with a task keep the backbone
	// below this name.
	Type string
	// Family is the word for it in specifications of runs. Rows of one family
	// differ in their registers.
	Family string
	Title  string // for people: "DINOv2"
	Class  string // in transformers: "Dinov2Model"

	// Embeddings is what all names before the blocks begin with. Placed are the
	// tokens that come first and have a position, Registers those that come after
	// them and have none; "" is none. Positions are those of Placed, then of the
	// patches. Patches is the convolution.
	Embeddings string
	Placed     []string
	Registers  string
	Positions  string
	Patches    string
	Resize     Resize

	Blocks    Name // the list of blocks
	Attention Attention
	MLP       MLP
	Norm      string // the final LayerNorm

	// Unused are tensors of published files that segmentation has no use for.
	Unused []string

	Config Config
	Images Images
}

// Name is what a part of the model is called in transformers 4 and 5. Files of
// weights have the names of version 4, also those that version 5 writes.
type Name struct{ V4, V5 string }

// Attention is the first half of a block,
//
//	h ← h + scale · output(attention(query(x), key(x), value(x)))  with  x = norm(h).
//
// Query, key and value have a bias if the architecture says so, output has one.
type Attention struct {
	Norm                      string
	Query, Key, Value, Output Name
	// Joined is what query, key and value are called as the one layer that they
	// are while training, with their rows in this order.
	Joined string
	Scale  string // layer scale; "": none
}

// MLP is the second half of a block,
//
//	h ← h + scale · fc2(activation(fc1(norm(h)))).
type MLP struct {
	Norm       string
	FC1, FC2   Name
	Activation string // by its name in config.json
	Scale      string // layer scale; "": none
}

// Resize is how positions are resized for other grids than the one stored. Both
// are bicubic, with the centers of pixels at halves.
type Resize int

const (
	// Sampled has a = −0.75 and takes 4 × 4 values also where it shrinks.
	Sampled Resize = iota
	// Antialiased has a = −0.5 and widens where it shrinks.
	Antialiased
)

// Config is what config.json says. A value that it leaves out has the default of
// transformers; these are the ones that differ between rows.
type Config struct {
	Patch     uint32
	Eps       float64
	Registers uint32
	// Ratio: the width of the MLP is hidden_size · mlp_ratio, and not
	// intermediate_size.
	Ratio bool
}

// Images is how images are prepared for the published models.
type Images struct {
	Processor string // the class in transformers
	Mean, Std []float64
}

// Of is the row of an architecture, or an error that says which rows there are.
func Of(a *spec.Architecture) (*Row, error) {
	known := false
	for i := range table {
		r := &table[i]
		if r.Family != a.GetFamily() {
			continue
		}
		if known = true; r.Registers != "" || a.GetRegisters() == 0 {
			return r, nil
		}
	}
	if !known {
		return nil, fmt.Errorf("family %q is not one of %s", a.GetFamily(), strings.Join(Families(), ", "))
	}
	var with []string
	for i := range table {
		if f := table[i].Family; table[i].Registers != "" && !slices.Contains(with, f) {
			with = append(with, f)
		}
	}
	return nil, fmt.Errorf("%d register tokens: of the families only %s has any", a.GetRegisters(), strings.Join(with, ", "))
}

// Find is the row of a model_type.
func Find(modelType string) (*Row, bool) {
	i := slices.IndexFunc(table, func(r Row) bool { return r.Type == modelType })
	if i < 0 {
		return nil, false
	}
	return &table[i], true
}

// Types are the model_types of config.json that are read.
func Types() []string { return column(func(r *Row) string { return r.Type }) }

// Families are the words for families in specifications.
func Families() []string {
	return slices.Sorted(slices.Values(column(func(r *Row) string { return r.Family })))
}

// Titles are the families by their names for people: "ViT, DeiT or DINOv2".
func Titles() string { return either(column(func(r *Row) string { return r.Title })) }

// column is the different values of the rows, in the order of the table.
func column(of func(*Row) string) []string {
	var out []string
	for i := range table {
		if v := of(&table[i]); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// either joins words as a sentence does: "a, b or c".
func either(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// Plain is the name of a tensor in a file without what a model with a task puts
// before it.
func (r *Row) Plain(name string) string {
	for i := range table {
		if table[i].Family == r.Family {
			if rest, ok := strings.CutPrefix(name, table[i].Type+"."); ok {
				return rest
			}
		}
	}
	return name
}

// Block is the name of something inside a block.
func (r *Row) Block(i int, rest string) string { return fmt.Sprintf("%s.%d.%s", r.Blocks.V4, i, rest) }
