package statistics_test

import (
	"fmt"

	"github.com/loralab/loralab/runner/statistics"
)

func Example() {
	of := statistics.Of([]float64{0.71, 0.69, 0.74, 0.70})
	fmt.Printf("%.3f ± %.3f, %.3f to %.3f by %s\n", of.Mean, of.Std, *of.Interval.Low, *of.Interval.High, of.Interval.Kind)

	// Of four seeds that both groups have.
	d := statistics.Paired([]float64{0.03, 0.02, 0.05, 0.01})
	statistics.Holm([]*statistics.Difference{d})
	fmt.Printf("%.4f, %.3f to %.3f, %s = %.2f, p = %.3f\n", d.Mean, *d.Low, *d.High, d.EffectKind, *d.Effect, *d.Adjusted)
	// Output:
	// 0.710 ± 0.022, 0.676 to 0.744 by t
	// 0.0275, 0.000 to 0.055, d_z = 1.61, p = 0.049
}
