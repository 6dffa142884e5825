package train

import (
	"fmt"
	"math"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/safetensors"
)

// nonFinite is the first image of logits [N, C, H, W] of which not every one is
// finite, -1 if all are. It is called on the device's thread.
func nonFinite(logits *torch.Tensor) int {
	first := -1
	logits.Device().Scope(func() {
		for i, sum := range logits.Detach().SumDims(false, 1, 2, 3).Floats() {
			if !math.IsNaN(float64(sum)) && !math.IsInf(float64(sum), 0) {
				continue
			}
			// The sum of finite numbers may overflow.
			for _, v := range logits.Detach().Select(0, int64(i)).Floats() {
				if v-v != 0 { // NaN or infinite
					first = i
					return
				}
			}
		}
	})
	return first
}

// finite reports whether every element of a float32 tensor is.
func finite(t *torch.Tensor) bool {
	return safetensors.Tensor{DType: safetensors.F32, Data: t.Bytes()}.Finite()
}

// nonFiniteError tells of outputs that mean nothing.
type nonFiniteError struct {
	image string
	step  int
}

func (e *nonFiniteError) Error() string {
	return fmt.Sprintf("the outputs are NaN or infinite on image %s, with the weights after step %d", e.image, e.step)
}
