package backbone

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/loralab/loralab/core/safetensors"
)

// onnx writes just enough of the format for the tests.
type onnx struct{ graph []byte }

func message(b []byte, field protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), content)
}

func number(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func floats(values ...float32) (b []byte) {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func (o *onnx) constant(name string, packed bool, shape []uint64, values ...float32) {
	var t []byte
	if packed {
		var dims []byte
		for _, d := range shape {
			dims = protowire.AppendVarint(dims, d)
		}
		t = message(t, tensorDims, dims)
	} else {
		for _, d := range shape {
			t = number(t, tensorDims, d)
		}
	}
	t = number(t, tensorDataType, typeFloat)
	t = message(t, tensorName, []byte(name))
	t = message(t, tensorRawData, floats(values...))
	o.graph = message(o.graph, graphInitializer, t)
}

func (o *onnx) node(op string, output string, inputs ...string) {
	var n []byte
	for _, i := range inputs {
		n = message(n, nodeInput, []byte(i))
	}
	n = message(n, nodeOutput, []byte(output))
	n = message(n, nodeOpType, []byte(op))
	o.graph = message(o.graph, graphNode, n)
}

func (o *onnx) model() []byte {
	b := number(nil, 1, 8) // ir_version, to be passed over
	return message(b, modelGraph, o.graph)
}

// encoder is a model with all that makes the conversion hard: two anonymous
// weights of one shape in an order other than that of their biases, the Add
// in both input orders, an attention product without a constant, a decoder
// that is not ours, and positions in two parts.
func encoder() *onnx {
	o := &onnx{}
	o.constant("backbone.embeddings.cls_token", true, []uint64{1, 1, 2}, 1, 2)
	o.constant("backbone.layer.key.bias", false, []uint64{2}, 10, 11)
	o.constant("backbone.layer.query.bias", true, []uint64{2}, 20, 21)
	o.constant("backbone.layer.fc1.bias", true, []uint64{3}, 1, 2, 3)
	o.constant("backbone.norm.weight", true, []uint64{2}, 5, 6)
	o.constant("backbone.norm.bias", true, []uint64{2}, 7, 8)
	o.constant("decoder.fc.bias", true, []uint64{2}, 0, 0)
	o.constant("onnx::Concat_1", true, []uint64{1, 1, 2}, 30, 31)
	o.constant("onnx::Reshape_2", true, []uint64{1, 2, 2}, 32, 33, 34, 35)
	o.constant("onnx::MatMul_3", true, []uint64{2, 2}, 1, 2, 3, 4)        // key's
	o.constant("onnx::MatMul_4", true, []uint64{2, 2}, 5, 6, 7, 8)        // query's
	o.constant("onnx::MatMul_5", false, []uint64{2, 3}, 1, 2, 3, 4, 5, 6) // fc1's
	o.constant("onnx::MatMul_6", true, []uint64{2, 2}, -1, -2, -3, -4)    // the decoder's
	o.node("MatMul", "k", "x", "onnx::MatMul_3")
	o.node("MatMul", "q", "x", "onnx::MatMul_4")
	o.node("Add", "q1", "backbone.layer.query.bias", "q")
	o.node("Add", "k1", "k", "backbone.layer.key.bias")
	o.node("MatMul", "scores", "q1", "k1")
	o.node("Add", "scores1", "scores", "x")
	o.node("MatMul", "f", "scores", "onnx::MatMul_5")
	o.node("Add", "f1", "backbone.layer.fc1.bias", "f")
	o.node("MatMul", "d", "f1", "onnx::MatMul_6")
	o.node("Add", "d1", "d", "decoder.fc.bias")
	o.node("Reshape", "p", "onnx::Reshape_2", "shape")
	o.node("Reshape", "r", "x", "shape")
	o.node("Concat", "positions", "onnx::Concat_1", "p")
	return o
}

func TestConvert(t *testing.T) {
	got, err := convertDinov2(encoder().model())
	if err != nil {
		t.Fatal(err)
	}
	want := []safetensors.Tensor{
		safetensors.FromFloat32("embeddings.cls_token", []float32{1, 2}, 1, 1, 2),
		safetensors.FromFloat32("embeddings.mask_token", []float32{0, 0}, 1, 2),
		safetensors.FromFloat32("embeddings.position_embeddings", []float32{30, 31, 32, 33, 34, 35}, 1, 3, 2),
		safetensors.FromFloat32("layer.fc1.bias", []float32{1, 2, 3}, 3),
		safetensors.FromFloat32("layer.fc1.weight", []float32{1, 4, 2, 5, 3, 6}, 3, 2),
		safetensors.FromFloat32("layer.key.bias", []float32{10, 11}, 2),
		safetensors.FromFloat32("layer.key.weight", []float32{1, 3, 2, 4}, 2, 2),
		safetensors.FromFloat32("layer.query.bias", []float32{20, 21}, 2),
		safetensors.FromFloat32("layer.query.weight", []float32{5, 7, 6, 8}, 2, 2),
		safetensors.FromFloat32("norm.bias", []float32{7, 8}, 2),
		safetensors.FromFloat32("norm.weight", []float32{5, 6}, 2),
	}
	slices.SortFunc(got, func(a, b safetensors.Tensor) int { return strings.Compare(a.Name, b.Name) })
	if len(got) != len(want) {
		t.Fatalf("%d tensors, want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Name != w.Name || !slices.Equal(g.Shape, w.Shape) || !slices.Equal(g.Data, w.Data) {
			t.Errorf("got  %v\nwant %v", g, w)
		}
	}
}

// A model of another make is refused, not converted wrongly.
func TestConvertRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*onnx)
		want   string
	}{
		"weight used twice": {func(o *onnx) {
			o.constant("backbone.more.bias", true, []uint64{2}, 0, 0)
			o.node("Add", "m", "k", "backbone.more.bias")
		}, "weight of both layer.key and more"},
		"two weights": {func(o *onnx) {
			o.constant("onnx::MatMul_9", true, []uint64{2, 2}, 1, 2, 3, 4)
			o.node("MatMul", "k9", "x", "onnx::MatMul_9")
			o.node("Add", "k10", "k9", "backbone.layer.key.bias")
		}, "layer.key has two weights"},
		"bias alone": {func(o *onnx) {
			o.constant("backbone.lonely.bias", true, []uint64{2}, 0, 0)
		}, "lonely has a bias"},
		"bias unknown": {func(o *onnx) {
			o.constant("onnx::MatMul_9", true, []uint64{2, 2}, 1, 2, 3, 4)
			o.node("MatMul", "u", "x", "onnx::MatMul_9")
			o.node("Add", "u1", "u", "backbone.unknown.bias")
		}, "has no values"},
		"no matrix": {func(o *onnx) {
			o.constant("onnx::MatMul_9", true, []uint64{4}, 1, 2, 3, 4)
			o.constant("backbone.flat.bias", true, []uint64{2}, 0, 0)
			o.node("MatMul", "u", "x", "onnx::MatMul_9")
			o.node("Add", "u1", "u", "backbone.flat.bias")
		}, "not a matrix"},
		"positions not clear": {func(o *onnx) { o.node("Concat", "c", "onnx::MatMul_3") }, "2 constants come first in a Concat"},
		"initialiser twice":   {func(o *onnx) { o.constant("onnx::MatMul_3", true, []uint64{1}, 1) }, "occurs twice"},
		"data elsewhere":      {func(o *onnx) { o.constant("onnx::X", true, []uint64{3}, 1, 2) }, "8 bytes of raw data, not 12"},
		"shape too large":     {func(o *onnx) { o.constant("onnx::X", true, []uint64{1 << 63, 2}) }, "has the shape"},
	} {
		o := encoder()
		c.change(o)
		if _, err := convertDinov2(o.model()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
	whole := encoder().model()
	for _, cut := range [][]byte{nil, whole[:len(whole)/2], []byte("PK\x03\x04 something else")} {
		if _, err := convertDinov2(cut); err == nil {
			t.Errorf("took %d bytes of something", len(cut))
		}
	}
}
