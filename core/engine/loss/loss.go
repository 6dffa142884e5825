// Package loss holds what training minimises: cross entropy, focal loss, soft
// Dice, its log-cosh and the Lovász-Softmax over pixels, alone or as a weighted
// sum.
package loss

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

// Smoothing of the soft Dice, so that 0/0 is 1.
const epsilon = 1e-6

// outputs are what a term is computed from: logits [N, C, H, W], their softmax p
// over the classes, if it asks for it, and targets [N, H, W].
type outputs struct{ logits, p, target *torch.Tensor }

// kinds computes each term. Those of pixels are sums over the pixels that count,
// of which the loss is the mean, weighed by class; of the others, which look at p,
// a batch has one value.
var kinds = map[string]struct {
	compute  func(t *spec.Loss, o outputs) *torch.Tensor
	ofPixels bool
}{
	"cross_entropy": {func(t *spec.Loss, o outputs) *torch.Tensor {
		return torch.CrossEntropySum(o.logits, o.target, classWeights(t, o.logits), raster.Ignored, t.Smoothing)
	}, true},
	"focal": {func(t *spec.Loss, o outputs) *torch.Tensor {
		return focal(o.logits, o.target, classWeights(t, o.logits), t.Gamma)
	}, true},
	"dice":          {compute: func(_ *spec.Loss, o outputs) *torch.Tensor { return softDice(o.p, o.target) }},
	"log_cosh_dice": {compute: func(_ *spec.Loss, o outputs) *torch.Tensor { return logCoshDice(o.p, o.target) }},
	"lovasz":        {compute: func(_ *spec.Loss, o outputs) *torch.Tensor { return lovasz(o.p, o.target) }},
}

// Kinds lists the losses by name.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// OfPixels reports whether a loss is a mean over pixels, the same however images are
// cut into batches. Others have one value of the images of a batch together.
func OfPixels(kind string) bool { return kinds[kind].ofPixels }

func classWeights(t *spec.Loss, like *torch.Tensor) *torch.Tensor {
	if len(t.ClassWeights) == 0 {
		return nil
	}
	return torch.Of(like.Device(), t.ClassWeights, int64(len(t.ClassWeights))).To(like.DType())
}

// weightings turn the frequency of each class, a fraction of all pixels that
// count, into weights; those of classes that do not occur are set to 0.
var weightings = map[string]func(f []float64) func(x float64) float64{
	"inverse":      func([]float64) func(float64) float64 { return func(x float64) float64 { return 1 / x } },
	"sqrt_inverse": func([]float64) func(float64) float64 { return func(x float64) float64 { return 1 / math.Sqrt(x) } },
	// Eigen and Fergus, arXiv:1411.4734, over pixels instead of images.
	"median": func(f []float64) func(float64) float64 {
		occurring := slices.Sorted(func(yield func(float64) bool) {
			for _, x := range f {
				if x > 0 && !yield(x) {
					return
				}
			}
		})
		median := occurring[len(occurring)/2]
		return func(x float64) float64 { return median / x }
	},
}

// Weightings lists the ways to weigh classes by their frequency.
func Weightings() []string { return slices.Sorted(maps.Keys(weightings)) }

// capped is how often the lightest class goes into the heaviest at most: a class
// of a handful of pixels must not be all there is.
const capped = 100

// Weights are the weights of classes by their numbers of pixels, with mean 1
// over the classes that occur; those that do not have weight 0.
func Weights(weighting string, pixels []uint64) ([]float64, error) {
	make := weightings[weighting]
	if make == nil {
		return nil, fmt.Errorf("unknown weighting %q, want one of %s", weighting, strings.Join(Weightings(), ", "))
	}
	var total float64
	for _, n := range pixels {
		total += float64(n)
	}
	if total == 0 {
		return nil, errors.New("weighing classes: no pixel has a class")
	}
	f := fractions(pixels, total)
	weigh := make(f)
	w, lightest, occurring := slices.Clone(f), math.Inf(1), 0.0
	for i, x := range f {
		if x > 0 {
			w[i] = weigh(x)
			lightest = min(lightest, w[i])
			occurring++
		}
	}
	var sum float64
	for i := range w {
		w[i] = min(w[i], capped*lightest)
		sum += w[i]
	}
	for i := range w {
		w[i] *= occurring / sum
	}
	return w, nil
}

func fractions(pixels []uint64, total float64) []float64 {
	f := make([]float64, len(pixels))
	for i, n := range pixels {
		f[i] = float64(n) / total
	}
	return f
}

// Check reports what is wrong with a list of losses for so many classes.
func Check(terms []*spec.Loss, classes int) error {
	if len(terms) == 0 {
		return errors.New("no loss given")
	}
	for _, t := range terms {
		switch {
		case kinds[t.Kind].compute == nil:
			return fmt.Errorf("unknown loss %q, want one of %s", t.Kind, strings.Join(Kinds(), ", "))
		case !(t.Weight > 0):
			return fmt.Errorf("weight of %s is %v, want a positive number", t.Kind, t.Weight)
		case !(t.Smoothing >= 0 && t.Smoothing < 1):
			return fmt.Errorf("label smoothing of %s is %v, want 0 to below 1", t.Kind, t.Smoothing)
		case !(t.Gamma >= 0):
			return fmt.Errorf("gamma of %s is %v, want at least 0", t.Kind, t.Gamma)
		case len(t.ClassWeights) > 0 && len(t.ClassWeights) != classes:
			return fmt.Errorf("%s has %d class weights for %d classes", t.Kind, len(t.ClassWeights), classes)
		case t.Weighting != "" && weightings[t.Weighting] == nil:
			return fmt.Errorf("unknown weighting %q of %s, want one of %s", t.Weighting, t.Kind, strings.Join(Weightings(), ", "))
		}
	}
	return nil
}

// Masses are what each term of a batch weighs in a mean over batches, by the
// number of its images and its pixels of each class: of terms that are means over
// pixels these pixels, weighed by class, so that the mean is that over all pixels,
// however they are cut into batches; of the others the images, if any pixel
// counts. A weighting must have been turned into class weights before.
func Masses(terms []*spec.Loss, images int, pixels []uint64) []float64 {
	masses := make([]float64, len(terms))
	for i, t := range terms {
		var all float64
		for c, n := range pixels {
			weight := 1.0
			if kinds[t.Kind].ofPixels && len(t.ClassWeights) > 0 {
				weight = t.ClassWeights[c]
			}
			all += weight * float64(n)
		}
		if !kinds[t.Kind].ofPixels && all > 0 {
			all = float64(images)
		}
		masses[i] = all
	}
	return masses
}

// Compute is the part that a batch has of the weighted sum of the terms over
// several batches, with its own masses and those of all of them together, for
// logits [N, C, H, W] (fp32) and targets [N, H, W] (int64 class, or raster.Ignored): a
// scalar. A term of mass 0 has no value; where all have none, Compute is nil.
func Compute(terms []*spec.Loss, own, all []float64, logits, target *torch.Tensor) *torch.Tensor {
	dev := logits.Device()
	if !slices.ContainsFunc(all, func(x float64) bool { return x > 0 }) {
		return nil
	}
	return dev.Yield(func() *torch.Tensor {
		var total *torch.Tensor
		for i, t := range terms {
			by := t.Weight
			if kinds[t.Kind].ofPixels {
				by /= all[i]
			} else {
				by *= own[i] / all[i]
			}
			if all[i] == 0 || by == 0 {
				continue
			}
			l := term(t, outputs{logits: logits, target: target})
			if by != 1 {
				l = l.Scale(by)
			}
			if total != nil {
				l = total.Add(l)
			}
			total = l
		}
		return total
	})
}

// Mean is the loss of a split, of which it takes batch after batch.
type Mean struct{ sums, masses []float64 }

// Add takes a batch and its masses. p is the softmax of the logits.
func (m *Mean) Add(terms []*spec.Loss, masses []float64, logits, p, target *torch.Tensor) {
	if m.sums == nil {
		m.sums, m.masses = make([]float64, len(terms)), make([]float64, len(terms))
	}
	for i, t := range terms {
		m.masses[i] += masses[i]
		logits.Device().Scope(func() {
			v := 1.0
			if !kinds[t.Kind].ofPixels {
				v = masses[i]
			}
			if v > 0 {
				m.sums[i] += v * term(t, outputs{logits, p, target}).Item()
			}
		})
	}
}

// Of is the sum of the terms by their weights, each the mean over all that Add
// took; NaN if no term has a value.
func (m *Mean) Of(terms []*spec.Loss) float64 {
	total, counted := 0.0, false
	for i, mass := range m.masses {
		if mass > 0 {
			total += terms[i].Weight * m.sums[i] / mass
			counted = true
		}
	}
	if !counted {
		return math.NaN()
	}
	return total
}

func term(t *spec.Loss, o outputs) *torch.Tensor {
	kind := kinds[t.Kind]
	return o.logits.Device().Yield(func() *torch.Tensor {
		if o.p == nil && !kind.ofPixels {
			o.p = o.logits.Softmax(1)
		}
		return kind.compute(t, o)
	})
}

// softDice is 1 − the mean over the classes that occur in target of
//
//	dice_c = (2 Σ p_c y_c + ε) / (Σ p_c + Σ y_c + ε)
//
// with p the probabilities, y the target as 0 and 1, and sums over all pixels
// of the batch that are not raster.Ignored (Milletari et al., arXiv:1606.04797,
// with plain instead of squared sums). A class that does not occur is left out
// of the mean: its dice would be near 0 whatever the model does.
func softDice(p, target *torch.Tensor) *torch.Tensor {
	valid := target.NotEqual(raster.Ignored).To(torch.Float32)
	var dice, present []*torch.Tensor
	for c := range p.Dim(1) {
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
}

// Original are the Dice and IoU that the project which this one grew out of
// trains on and reports, of probabilities p [N, C, H, W] and targets [N, H, W]:
// soft, of the whole batch, the mean over classes weighted by the inverse of
// their pixels in this batch,
//
//	w_c = 1/(n_c+ε) / Σ_k 1/(n_k+ε)
//
// Thin classes weigh most, and a class that the batch lacks takes nearly all the
// weight: use them for comparison, and with few classes that are always there.
func Original(p, target *torch.Tensor) (dice, iou *torch.Tensor) {
	valid := target.NotEqual(raster.Ignored).To(p.DType())
	var dices, ious, weights []*torch.Tensor
	for c := range p.Dim(1) {
		y := target.Equal(float64(c)).To(p.DType())
		pc := p.Select(1, c).Mul(valid)
		count, inter := y.Sum(), pc.Mul(y).Sum()
		sum := pc.Sum().Add(count)
		dices = append(dices, inter.Scale(2).AddScalar(epsilon).Div(sum.AddScalar(epsilon)))
		ious = append(ious, inter.AddScalar(epsilon).Div(sum.Sub(inter).AddScalar(epsilon)))
		weights = append(weights, count.AddScalar(epsilon).Pow(-1))
	}
	w := torch.Stack(0, weights...)
	w = w.Div(w.Sum())
	return torch.Stack(0, dices...).Mul(w).Sum(), torch.Stack(0, ious...).Mul(w).Sum()
}

// logCoshDice is log cosh(1 − dice) of the Original dice (Jadon,
// arXiv:2006.14822, with weights).
func logCoshDice(p, target *torch.Tensor) *torch.Tensor {
	dice, _ := Original(p, target)
	return dice.Neg().AddScalar(1).Cosh().Log()
}

// focal is the sum over pixels of −(1−p)^γ log p, p the softmax at the target's
// class (Lin et al., arXiv:1708.02002); weights [C] or nil multiply pixels by
// class. At γ = 0 it is cross entropy.
func focal(logits, target, weights *torch.Tensor, gamma float64) *torch.Tensor {
	valid := target.NotEqual(raster.Ignored)
	// Ignored pixels look up class 0 and count 0.
	index := target.Mul(valid.To(torch.Int64))
	weight := valid.To(logits.DType())
	if weights != nil {
		weight = weight.Mul(weights.Rows(0, index.Reshape(-1)).Reshape(index.Shape()...))
	}
	logp := logits.LogSoftmax(1).Gather(1, index.Unsqueeze(1)).Select(1, 0)
	l := logp.Neg()
	if gamma != 0 {
		// At p = 1 a power below 1 has no gradient; a hair above it does.
		l = l.Mul(logp.Exp().Neg().AddScalar(1).ClampMin(1e-7).Pow(gamma))
	}
	return l.Mul(weight).Sum()
}

// lovasz is the Lovász-Softmax loss (Berman et al., arXiv:1705.08790): a convex
// stand-in for 1 − IoU, mean over the classes that occur in the batch, all of
// its pixels together.
func lovasz(p, target *torch.Tensor) *torch.Tensor {
	valid := target.NotEqual(raster.Ignored).To(p.DType()).Reshape(-1)
	var losses, present []*torch.Tensor
	for c := range p.Dim(1) {
		y := target.Equal(float64(c)).To(p.DType()).Reshape(-1)
		pc := p.Select(1, c).Reshape(-1)
		// |y − p|, 0 for ignored pixels, which then come last and add nothing.
		miss := y.Add(pc).Sub(y.Mul(pc).Scale(2)).Mul(valid)
		order := miss.Detach().ArgSort(0)
		losses = append(losses, miss.Rows(0, order).Mul(jaccardGradient(y.Rows(0, order), valid.Rows(0, order))).Sum())
		present = append(present, y.Sum().Clamp(0, 1))
	}
	on := torch.Stack(0, present...)
	return torch.Stack(0, losses...).Mul(on).Sum().Div(on.Sum().ClampMin(1))
}

// running are the sums of the first 1, 2, … elements of t, which are whole numbers. As
// such they are added: a GPU refuses running sums of floating-point numbers where it has
// to be deterministic.
func running(t *torch.Tensor) *torch.Tensor { return t.To(torch.Int64).CumSum(0).To(t.DType()) }

// jaccardGradient is the gradient of the Lovász extension of the Jaccard loss
// for labels in order of falling error: differences of
//
//	1 − (Y − Σ y) / (Y + Σ (1−y))
func jaccardGradient(y, valid *torch.Tensor) *torch.Tensor {
	all := y.Sum()
	inter := all.Sub(running(y))
	union := all.Add(running(valid.Sub(y)))
	jaccard := inter.Div(union.ClampMin(1)).Neg().AddScalar(1)
	n := jaccard.Dim(0)
	first := jaccard.Narrow(0, 0, 1)
	if n == 1 {
		return first
	}
	return torch.Cat(0, first, jaccard.Narrow(0, 1, n-1).Sub(jaccard.Narrow(0, 0, n-1)))
}
