package peft

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// undo goes back from a stored tensor, whose shape is right, to the parameter
// that it is a rearrangement of.
func undo(s *program.Stored, node uint32, t safetensors.Tensor) (param string, value safetensors.Tensor, err error) {
	values, err := t.Float32()
	if err != nil {
		return "", value, err
	}
	if slices.ContainsFunc(values, func(v float32) bool { return v != v || math.IsInf(float64(v), 0) }) {
		return "", value, errors.New("it holds values that are infinite or no numbers (NaN)")
	}
	shape := t.Shape
	nodes := s.Tensors.GetNodes()
	for {
		n := nodes[node]
		switch n.GetOp() {
		case protocol.Op_PARAM:
			return n.GetParam(), safetensors.FromFloat32("", values, shape...), nil
		case protocol.Op_RESHAPE:
			shape = s.Shapes[n.GetInputs()[0]]
		case protocol.Op_PERMUTE:
			if len(n.GetInts()) > 0 {
				back := make([]int, len(shape))
				for i, d := range n.GetInts() {
					back[d] = i
				}
				values, shape = permute(values, shape, back)
			}
		default:
			return "", value, fmt.Errorf("it holds a result of %s, not a parameter", n.GetOp())
		}
		node = n.GetInputs()[0]
	}
}

// permute reorders dimensions: dimension i of the result is order[i] of v.
func permute(v []float32, shape []int64, order []int) ([]float32, []int64) {
	strides := make([]int64, len(shape)) // of v
	step := int64(1)
	for i, n := range slices.Backward(shape) {
		strides[i] = step
		step *= n
	}
	to := make([]int64, len(shape))
	by := make([]int64, len(shape))
	for i, d := range order {
		to[i], by[i] = shape[d], strides[d]
	}
	out := make([]float32, len(v))
	at := make([]int64, len(shape))
	from := int64(0)
	for i := range out {
		out[i] = v[from]
		for d := len(to) - 1; d >= 0; d-- {
			at[d]++
			from += by[d]
			if at[d] < to[d] {
				break
			}
			from -= by[d] * to[d]
			at[d] = 0
		}
	}
	return out, to
}
