package compare

import (
	"strings"
	"testing"

	"github.com/loralab/loralab/runner/statistics"
)

// Sentences can be quoted: what, how much, of how many seeds, by which test.
func TestSentences(t *testing.T) {
	base := group("head_only", map[uint64]float64{1: 0.68, 2: 0.67, 3: 0.69, 4: 0.70})
	better := group("rank=16", map[uint64]float64{1: 0.71, 2: 0.69, 3: 0.74, 4: 0.72})
	others := group("rank=8", map[uint64]float64{5: 0.68, 6: 0.61, 7: 0.66})
	few := group("rank=4", map[uint64]float64{1: 0.68, 2: 0.66})
	one := group("rank=2", map[uint64]float64{1: 0.6801})
	same := group("rank=1", map[uint64]float64{1: 0.68})
	ten := map[uint64]float64{}
	for i := range uint64(12) {
		ten[i] = 0.6 + 0.01*float64(i%5)
	}
	less := map[uint64]float64{}
	for i := range uint64(12) {
		less[i] = 0.6 + 0.01*float64(i%3)
	}
	folds := crossValidated("b", 3, []float64{0.61, 0.59}, []float64{0.68, 0.72}, []float64{0.79, 0.81})
	otherFolds := crossValidated("a", 3, []float64{0.62, 0.62}, []float64{0.72, 0.76}, []float64{0.88, 0.84})
	for _, c := range []struct {
		metric string
		groups []Group
		want   []string
	}{
		{"dice/nucleus", []Group{base, better, others, few, one, same}, []string{
			"rank=16 scores 0.030 higher than head_only in Dice (nucleus) on test (95 % interval 0.007 to 0.053, 4 seeds, paired t-test, p = 0.048 after Holm's correction for 2 comparisons).",
			"rank=8 scores 0.035 lower than head_only in Dice (nucleus) on test (95 % interval −0.116 to 0.046, 3 and 4 other seeds, Welch's t-test, p = 0.23 after Holm's correction for 2 comparisons).",
			"rank=4 scores 0.005 lower than head_only in Dice (nucleus) on test (95 % interval −0.069 to 0.059, 2 seeds, too few for a test).",
			"rank=2 scores 0.005 lower than head_only in Dice (nucleus) on test (1 and 4 seeds, 1 in common, too few for an interval).",
			"rank=1 scores 0.005 lower than head_only in Dice (nucleus) on test (1 and 4 seeds, 1 in common, too few for an interval).",
		}},
		{"loss", []Group{same, one, group("rank=1", map[uint64]float64{1: 0.68})}, []string{
			"rank=2 scores 0.000100 higher than rank=1 in loss on test, where lower is better (1 seed, too few for an interval).",
			"rank=1 scores the same as rank=1 in loss on test, where lower is better (1 seed, too few for an interval).",
		}},
		{"dice/mean", []Group{base, group("c", map[uint64]float64{3: 0.74, 9: 0.76}), group("d", map[uint64]float64{1: 0.6804, 2: 0.6705, 3: 0.6903, 4: 0.7004})}, []string{
			"c scores 0.065 higher than head_only in mean Dice on test (95 % interval 0.011 to 0.119, 2 and 4 seeds, 1 in common, too few for a test).",
			"d scores 0.00040 higher than head_only in mean Dice on test (95 % interval 0.00027 to 0.00053, 4 seeds, paired t-test, p = 0.0023).",
		}},
		{"dice/mean", []Group{group("b", less), group("a", ten)}, []string{
			"a scores 0.008 higher than b in mean Dice on test (95 % bootstrap interval \u22120.002 to 0.018, 12 seeds, paired t-test, p = 0.18).",
		}},
		{"dice/mean", []Group{folds, otherFolds, base}, []string{
			"a scores 0.040 higher than b in mean Dice on test (95 % interval −0.039 to 0.119, 3 folds, paired t-test corrected for training images that folds share, p = 0.16).",
			"head_only scores 0.015 lower than b in mean Dice on test (without an interval, since the runs do not have the same folds).",
		}},
	} {
		made := Make(c.metric, []string{"test"}, c.groups, 0)
		if first := made.Domains[0].Rows[0]; first.Sentence != "" {
			t.Errorf("the baseline has the sentence %q", first.Sentence)
		}
		for i, want := range c.want {
			if got := made.Domains[0].Rows[i+1].Sentence; !strings.HasPrefix(got, want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
	}
}

// An interval without 0 is seen as one, and nothing is a negative zero.
func TestDigits(t *testing.T) {
	low, high := 0.0002, 0.0009
	d := &statistics.Difference{Mean: 0.0005, Interval: statistics.Interval{Low: &low, High: &high}}
	if got := Signed(low, Digits(d)); got != "+0.00020" {
		t.Errorf("the interval begins with %s", got)
	}
	if got := Signed(-0.0002, 3); got != "0.000" {
		t.Errorf("a small difference is %s", got)
	}
}
