// Package loss holds what training minimises: cross entropy and soft Dice over
// pixels, alone or as a weighted sum.
package loss

import (
	"fmt"
	"slices"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/torch"
)

// Ignored is the target of pixels that do not count.
const Ignored = 255

// Smoothing of the soft Dice, so that 0/0 is 1.
const epsilon = 1e-6

var kinds = map[string]func(logits, target *torch.Tensor) *torch.Tensor{
	"cross_entropy": func(logits, target *torch.Tensor) *torch.Tensor {
		return torch.CrossEntropy(logits, target, Ignored)
	},
	"dice": SoftDice,
}

// Check reports what is wrong with a list of losses.
func Check(terms []*spec.Loss) error {
	if len(terms) == 0 {
		return fmt.Errorf("no loss given")
	}
	for _, t := range terms {
		if kinds[t.Kind] == nil {
			names := []string{}
			for k := range kinds {
				names = append(names, k)
			}
			slices.Sort(names)
			return fmt.Errorf("unknown loss %q, want one of %v", t.Kind, names)
		}
		if !(t.Weight > 0) {
			return fmt.Errorf("weight of %s is %v, want a positive number", t.Kind, t.Weight)
		}
	}
	return nil
}

// Compute is the weighted sum of the terms for logits [N, C, H, W] (fp32) and
// targets [N, H, W] (int64 class, or Ignored): a scalar.
func Compute(terms []*spec.Loss, logits, target *torch.Tensor) *torch.Tensor {
	return logits.Device().Yield(func() *torch.Tensor {
		var total *torch.Tensor
		for _, t := range terms {
			l := kinds[t.Kind](logits, target)
			if t.Weight != 1 {
				l = l.Scale(t.Weight)
			}
			if total != nil {
				l = total.Add(l)
			}
			total = l
		}
		return total
	})
}

// SoftDice is 1 − the mean over the classes that occur in target of
//
//	dice_c = (2 Σ p_c y_c + ε) / (Σ p_c + Σ y_c + ε)
//
// with p the softmax of the logits, y the target as 0 and 1, and sums over all
// pixels of the batch that are not Ignored (Milletari et al., arXiv:1606.04797,
// with plain instead of squared sums). A class that does not occur is left out
// of the mean: its dice would be near 0 whatever the model does.
func SoftDice(logits, target *torch.Tensor) *torch.Tensor {
	dev := logits.Device()
	return dev.Yield(func() *torch.Tensor {
		p := logits.Softmax(1)
		valid := target.NotEqual(Ignored).To(torch.Float32)
		var dice, present []*torch.Tensor
		for c := range logits.Dim(1) {
			y := target.Equal(float64(c)).To(torch.Float32)
			pc := p.Select(1, c).Mul(valid)
			count := y.Sum()
			top := pc.Mul(y).Sum().Scale(2).AddScalar(epsilon)
			dice = append(dice, top.Div(pc.Sum().Add(count).AddScalar(epsilon)))
			present = append(present, count.Clamp(0, 1))
		}
		on := torch.Stack(0, present...)
		mean := torch.Stack(0, dice...).Mul(on).Sum().Div(on.Sum().ClampMin(1))
		return mean.Neg().AddScalar(1)
	})
}
