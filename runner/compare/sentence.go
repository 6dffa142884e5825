package compare

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/statistics"
)

// sentence says what a row shows next to the baseline, so that a reader can quote it:
// the difference with its interval, how many seeds it is of, and the test.
func (c *Comparison) sentence(domain string, row, base Row) string {
	d := row.Difference
	digits := Digits(d)
	size := func(v float64) string {
		text := strconv.FormatFloat(v, 'f', digits, 64)
		if strings.Trim(text, "-0.") == "" { // no negative zero
			text = strings.TrimPrefix(text, "-")
		}
		return strings.Replace(text, "-", "\u2212", 1)
	}
	how := "the same as"
	switch {
	case d.Mean > 0:
		how = size(d.Mean) + " higher than"
	case d.Mean < 0:
		how = size(-d.Mean) + " lower than"
	}
	in := metric.Label(c.Metric) + " on " + domain
	if metric.Better(c.Metric, 0, 1) {
		in += ", where lower is better"
	}
	var parts []string
	if d.Known() {
		of := "95 % interval"
		if d.Kind == statistics.BCa {
			of = "95 % bootstrap interval"
		}
		parts = append(parts, fmt.Sprintf("%s %s to %s", of, size(*d.Low), size(*d.High)))
	}
	test := "Welch's t-test"
	switch {
	case d.Corrected:
		test = "paired t-test corrected for training images that folds share"
		if row.Folds != nil && row.Folds.Repeated {
			parts = append(parts, plural.Of(d.N, "pair")+" of runs")
		} else {
			parts = append(parts, plural.Of(d.N, "fold"))
		}
	case row.Folds != nil || base.Folds != nil:
		parts = append(parts, "without an interval, since the runs do not have the same folds")
	case d.Paired:
		test = "paired t-test"
		parts = append(parts, plural.Of(d.N, "seed"))
	case row.common > 0:
		parts = append(parts, fmt.Sprintf("%d and %s, %d in common", row.N, plural.Of(base.N, "seed"), row.common))
	default:
		parts = append(parts, fmt.Sprintf("%d and %s", row.N, plural.Of(base.N, "other seed")))
	}
	switch {
	case d.P != nil:
		p := "p = " + strconv.FormatFloat(*d.Adjusted, 'g', 2, 64)
		if *d.Adjusted < 0.001 {
			p = "p < 0.001"
		}
		if c.Tests > 1 {
			p += fmt.Sprintf(" after Holm's correction for %d comparisons", c.Tests)
		}
		parts = append(parts, test, p)
	case d.Known():
		parts = append(parts, "too few for a test")
	case row.Folds == nil && base.Folds == nil:
		parts = append(parts, "too few for an interval")
	}
	return fmt.Sprintf("%s scores %s %s in %s (%s).", row.Group, how, base.Group, in, strings.Join(parts, ", "))
}

// Digits are how many a difference and its interval need behind the point: an interval
// without 0 is to be seen as one.
func Digits(d *statistics.Difference) int {
	least := d.Mean
	if d.Known() && *d.Low**d.High > 0 {
		least = min(math.Abs(*d.Low), math.Abs(*d.High), math.Abs(d.Mean))
	}
	return digits(least)
}

// Signed is a number with its sign; one that rounds to 0 has none.
func Signed(x float64, digits int) string {
	text := fmt.Sprintf("%+.*f", digits, x)
	if strings.Trim(text, "+-0.") == "" {
		return text[1:]
	}
	return strings.Replace(text, "-", "\u2212", 1)
}

// digits are those behind the point: three as in tables, and more for a difference that
// would vanish.
func digits(difference float64) int {
	const usual, most = 3, 6
	if size := math.Abs(difference); size > 0 && size < 0.001 {
		return min(most, max(usual, 1+int(math.Ceil(-math.Log10(size)))))
	}
	return usual
}
