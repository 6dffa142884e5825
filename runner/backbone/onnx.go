package backbone

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/loralab/loralab/core/safetensors"
)

// graph is as much of an ONNX model as holds its weights: the constant tensors
// and which node takes them in.
type graph struct {
	nodes   []node
	tensors map[string]safetensors.Tensor // initialisers, F32 only
	order   []string                      // their names, as in the file
}

type node struct {
	op              string
	inputs, outputs []string
}

// Numbers of the fields in onnx.proto.
const (
	modelGraph       = 7
	graphNode        = 1
	graphInitializer = 5
	nodeInput        = 1
	nodeOutput       = 2
	nodeOpType       = 4
	tensorDims       = 1
	tensorDataType   = 2
	tensorName       = 8
	tensorRawData    = 9
	typeFloat        = 1
)

// parseONNX reads a model. Tensors alias it.
func parseONNX(model []byte) (*graph, error) {
	g := &graph{tensors: map[string]safetensors.Tensor{}}
	found := false
	err := fields(model, func(n protowire.Number, v value) error {
		if n != modelGraph {
			return nil
		}
		found = true
		return fields(v.bytes, func(n protowire.Number, v value) error {
			switch n {
			case graphNode:
				node, err := parseNode(v.bytes)
				g.nodes = append(g.nodes, node)
				return err
			case graphInitializer:
				t, float, err := parseTensor(v.bytes)
				if err != nil || !float {
					return err
				}
				if _, twice := g.tensors[t.Name]; twice {
					return fmt.Errorf("initialiser %q occurs twice", t.Name)
				}
				g.tensors[t.Name] = t
				g.order = append(g.order, t.Name)
			}
			return nil
		})
	})
	if err == nil && !found {
		err = errors.New("it has no graph")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the ONNX model: %w", err)
	}
	return g, nil
}

func parseNode(b []byte) (n node, err error) {
	err = fields(b, func(f protowire.Number, v value) error {
		switch f {
		case nodeInput:
			n.inputs = append(n.inputs, string(v.bytes))
		case nodeOutput:
			n.outputs = append(n.outputs, string(v.bytes))
		case nodeOpType:
			n.op = string(v.bytes)
		}
		return nil
	})
	return n, err
}

// parseTensor reports false for a tensor that is not of 32 bit floats.
func parseTensor(b []byte) (t safetensors.Tensor, float bool, err error) {
	t.DType = safetensors.F32
	err = fields(b, func(f protowire.Number, v value) error {
		switch f {
		case tensorDims: // one by one or packed
			if v.bytes == nil {
				t.Shape = append(t.Shape, int64(v.number))
			}
			for rest := v.bytes; len(rest) > 0; {
				d, n := protowire.ConsumeVarint(rest)
				if n < 0 {
					return protowire.ParseError(n)
				}
				t.Shape, rest = append(t.Shape, int64(d)), rest[n:]
			}
		case tensorDataType:
			float = v.number == typeFloat
		case tensorName:
			t.Name = string(v.bytes)
		case tensorRawData:
			t.Data = v.bytes
		}
		return nil
	})
	if err != nil || !float {
		return t, float, err
	}
	for _, d := range t.Shape {
		if d < 0 || d > 1<<32 {
			return t, true, fmt.Errorf("initialiser %q has the shape %v", t.Name, t.Shape)
		}
	}
	if int64(len(t.Data)) != 4*t.Len() {
		return t, true, fmt.Errorf("initialiser %q of shape %v has %d bytes of raw data, not %d", t.Name, t.Shape, len(t.Data), 4*t.Len())
	}
	return t, true, nil
}

// value of one field: a varint, or bytes (never nil then).
type value struct {
	number uint64
	bytes  []byte
}

// fields calls f for each field of a message, in order.
func fields(message []byte, f func(protowire.Number, value) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		var v value
		switch kind {
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(message)
			if n >= 0 && v.bytes == nil {
				v.bytes = []byte{}
			}
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if err := f(number, v); err != nil {
			return err
		}
	}
	return nil
}

// convertDinov2 finds the weights of a DINOv2 encoder in a model that PyTorch
// exported under the name "backbone", and gives them their names in Hugging
// Face's Dinov2Model. What is not the encoder's is left out.
//
// The exporter keeps the names of parameters it leaves alone. It transposes
// the weights of linear layers and takes their names, and it splits the
// positions into the class token's and the patches':
//   - the weight of a linear layer is known by the bias that is added to its
//     product, never by its place: key, value, query come in that order;
//   - the two parts of the positions are the only constants that come first in
//     a Concat and in a Reshape.
//
// The mask token is used in pre-training only and was not exported; it is zero
// here.
func convertDinov2(model []byte) ([]safetensors.Tensor, error) {
	const prefix = "backbone."
	g, err := parseONNX(model)
	if err != nil {
		return nil, err
	}
	var out []safetensors.Tensor
	add := func(name string, t safetensors.Tensor) {
		t.Name = name
		out = append(out, t)
	}
	for _, name := range g.order {
		if hf, ok := strings.CutPrefix(name, prefix); ok {
			add(hf, g.tensors[name])
		}
	}

	weights, err := g.linearWeights(prefix)
	if err != nil {
		return nil, err
	}
	for _, layer := range weights {
		w, err := transpose(g.tensors[layer.weight])
		if err != nil {
			return nil, err
		}
		add(layer.name+".weight", w)
	}

	class, err := g.onlyFirstInput("Concat")
	if err != nil {
		return nil, err
	}
	patches, err := g.onlyFirstInput("Reshape")
	if err != nil {
		return nil, err
	}
	if len(class.Shape) != 3 || len(patches.Shape) != 3 || class.Shape[0] != 1 || class.Shape[1] != 1 ||
		patches.Shape[0] != 1 || patches.Shape[2] != class.Shape[2] {
		return nil, fmt.Errorf("the positions have the shapes %v and %v", class.Shape, patches.Shape)
	}
	dim := class.Shape[2]
	add("embeddings.position_embeddings", safetensors.Tensor{
		DType: safetensors.F32, Shape: []int64{1, 1 + patches.Shape[1], dim},
		Data: slices.Concat(class.Data, patches.Data),
	})
	add("embeddings.mask_token", safetensors.Tensor{
		DType: safetensors.F32, Shape: []int64{1, dim}, Data: make([]byte, 4*dim),
	})
	return out, nil
}

type linear struct {
	name   string // without ".weight"
	weight string // initialiser
}

// linearWeights finds each MatMul with a constant whose product goes to an Add
// with a bias below prefix.
func (g *graph) linearWeights(prefix string) ([]linear, error) {
	products := map[string]string{} // output of a MatMul -> its constant
	for _, n := range g.nodes {
		if n.op != "MatMul" || len(n.inputs) != 2 || len(n.outputs) != 1 {
			continue
		}
		if _, constant := g.tensors[n.inputs[1]]; constant {
			products[n.outputs[0]] = n.inputs[1]
		}
	}
	var found []linear
	usedBy := map[string]string{}
	for _, n := range g.nodes {
		if n.op != "Add" || len(n.inputs) != 2 {
			continue
		}
		for i := range 2 {
			weight, ok := products[n.inputs[i]]
			bias := n.inputs[1-i]
			name, isBias := strings.CutSuffix(bias, ".bias")
			name, ours := strings.CutPrefix(name, prefix)
			if !ok || !isBias || !ours {
				continue
			}
			if _, constant := g.tensors[bias]; !constant {
				return nil, fmt.Errorf("the bias %s has no values", bias)
			}
			if other, twice := usedBy[weight]; twice {
				return nil, fmt.Errorf("%s is the weight of both %s and %s", weight, other, name)
			}
			usedBy[weight] = name
			if slices.ContainsFunc(found, func(l linear) bool { return l.name == name }) {
				return nil, fmt.Errorf("%s has two weights", name)
			}
			found = append(found, linear{name, weight})
		}
	}
	// Whatever has a bias has a weight: by its own name, or found above.
	for _, bias := range g.order {
		name, isBias := strings.CutSuffix(bias, ".bias")
		name, ours := strings.CutPrefix(name, prefix)
		if !isBias || !ours {
			continue
		}
		_, named := g.tensors[prefix+name+".weight"]
		anonymous := slices.ContainsFunc(found, func(l linear) bool { return l.name == name })
		if named == anonymous {
			return nil, fmt.Errorf("%s has a bias and not exactly one weight", name)
		}
	}
	return found, nil
}

// onlyFirstInput is the one constant that is the first input of such a node.
func (g *graph) onlyFirstInput(op string) (safetensors.Tensor, error) {
	var found []safetensors.Tensor
	for _, n := range g.nodes {
		if n.op != op || len(n.inputs) == 0 {
			continue
		}
		if t, ok := g.tensors[n.inputs[0]]; ok {
			found = append(found, t)
		}
	}
	if len(found) != 1 {
		return safetensors.Tensor{}, fmt.Errorf("%d constants come first in a %s, one was expected", len(found), op)
	}
	return found[0], nil
}

// transpose of a matrix of 4-byte elements.
func transpose(t safetensors.Tensor) (safetensors.Tensor, error) {
	if len(t.Shape) != 2 {
		return t, fmt.Errorf("%s is not a matrix: %v", t.Name, t.Shape)
	}
	rows, cols := int(t.Shape[0]), int(t.Shape[1])
	data := make([]byte, len(t.Data))
	for r := range rows {
		for c := range cols {
			copy(data[4*(c*rows+r):][:4], t.Data[4*(r*cols+c):])
		}
	}
	return safetensors.Tensor{Name: t.Name, DType: t.DType, Shape: []int64{int64(cols), int64(rows)}, Data: data}, nil
}
