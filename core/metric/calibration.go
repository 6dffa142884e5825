package metric

import (
	"math"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

// calibrationBins are those of the expected calibration error.
const calibrationBins = 15

// Calibration accumulates how sure a model is and how often it is right.
type Calibration struct {
	pixels, right [calibrationBins]uint64
	confidence    [calibrationBins]float64
	nll, brier    float64
	broken        bool // a probability was no number
}

// Add takes pixels: the highest probability and whether its class is right; the
// probability of the true class; and the sum of the squares of all
// probabilities. Pixels whose truth is raster.Ignored are left out.
func (c *Calibration) Add(pred, truth []byte, highest, ofTruth, squares []float32) {
	for i, t := range truth {
		if t == raster.Ignored {
			continue
		}
		if !(highest[i] >= 0 && highest[i] <= 2) { // no number; rounding goes a little beyond 1
			c.broken = true
			continue
		}
		b := min(int(float64(highest[i])*calibrationBins), calibrationBins-1)
		c.pixels[b]++
		c.confidence[b] += float64(highest[i])
		if pred[i] == t {
			c.right[b]++
		}
		p := float64(ofTruth[i])
		c.nll -= math.Log(max(p, 1e-12))
		c.brier += 1 - 2*p + float64(squares[i])
	}
}

// Report writes the errors into m, unless there were no pixels or their
// probabilities were no numbers:
//
//	ECE   = Σ_b n_b/n |right_b/n_b − mean confidence_b|, 15 bins of equal width
//	        (Guo et al., arXiv:1706.04599)
//	NLL   = −mean log p(true class)
//	Brier = mean Σ_k (p_k − y_k)²
func (c *Calibration) Report(m *spec.Metrics) {
	var n uint64
	for _, p := range c.pixels {
		n += p
	}
	if n == 0 || c.broken {
		return
	}
	var ece float64
	for b, p := range c.pixels {
		if p > 0 {
			ece += math.Abs(float64(c.right[b])-c.confidence[b]) / float64(n)
		}
	}
	nll, brier := c.nll/float64(n), c.brier/float64(n)
	m.Ece, m.Nll, m.Brier = &ece, &nll, &brier
}
