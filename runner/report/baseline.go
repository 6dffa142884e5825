package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/compare"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/statistics"
)

// compared is every cell next to the baseline of the experiment; nil without one, and as
// long as it has no score.
func (s *study) compared() *compare.Comparison {
	if base := s.baseline(); base != nil {
		return s.comparedWith(base, s.domains())
	}
	return nil
}

// baseline is the cell that the experiment names as such, nil as long as it has no score.
func (s *study) baseline() *cell {
	for _, c := range s.cells {
		if c.name == s.exp.Baseline && s.scored(c) {
			return c
		}
	}
	return nil
}

// comparedWith is every cell next to a cell, on domains.
func (s *study) comparedWith(base *cell, domains []string) *compare.Comparison {
	groups := make([]compare.Group, len(s.cells))
	for i, c := range s.cells {
		groups[i] = s.group(c, domains)
	}
	return compare.Make(s.exp.Metric, domains, groups, slices.Index(s.cells, base))
}

// comparisonHeader names the columns of comparisonLines.
var comparisonHeader = []string{"cell", "n", "mean", "95 % interval", "difference", "its 95 % interval", "effect", "p"}

// comparisonLines are the rows of a domain next to the baseline, as text.
func (t Table) comparisonLines(d compare.Domain) (lines [][]string) {
	some := func(v *float64, format string) string {
		if v == nil {
			return "–"
		}
		return minus(fmt.Sprintf(format, *v))
	}
	bounds := func(i statistics.Interval, format string) string {
		if !i.Known() {
			return "–"
		}
		return minus(fmt.Sprintf(format+" to "+format, *i.Low, *i.High))
	}
	for _, r := range d.Rows {
		line := []string{r.Group, strconv.Itoa(r.N), some(r.Mean, "%.3f"), bounds(r.Interval, "%.3f")}
		switch diff := r.Difference; {
		case r.Group == t.Comparison.Baseline:
			line = append(line, "baseline", "", "", "")
		case diff == nil:
			line = append(line, "–", "–", "–", "–")
		default:
			p := some(diff.Adjusted, "%.3f")
			if diff.Adjusted != nil && *diff.Adjusted < 0.001 {
				p = "<0.001"
			}
			digits, interval := compare.Digits(diff), "–"
			if diff.Known() {
				interval = compare.Signed(*diff.Low, digits) + " to " + compare.Signed(*diff.High, digits)
			}
			line = append(line, compare.Signed(diff.Mean, digits), interval, some(diff.Effect, "%.1f"), p)
		}
		lines = append(lines, line)
	}
	return lines
}

// minus is numbers with true minus signs.
func minus(text string) string { return strings.ReplaceAll(text, "-", "\u2212") }

// comparisonMarkdown is the part of the page about the baseline, "" without one.
func (t Table) comparisonMarkdown() string {
	c := t.Comparison
	if c == nil {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## Differences from %s\n\n", foreign.Markdown(foreign.Line(c.Baseline)))
	fmt.Fprintf(&b, "%s. %s\n", foreign.Markdown(capital(metric.Label(c.Metric))), foreign.Markdown(t.comparisonNote()))
	short, _ := spec.Unseen(t.Domains)
	for i, d := range c.Domains {
		fmt.Fprintf(&b, "\n### On %s\n\n", foreign.Markdown(foreign.Line(short[i])))
		wholeTable(&b, append([][]string{comparisonHeader}, t.comparisonLines(d)...))
		b.WriteByte('\n')
		for _, r := range d.Rows {
			if r.Sentence != "" {
				fmt.Fprintf(&b, "- %s\n", foreign.Markdown(foreign.Line(r.Sentence)))
			}
		}
	}
	return b.String()
}

// comparisonNote says what the columns of a comparison are.
func (t Table) comparisonNote() string {
	c := t.Comparison
	text := "Intervals are at 95 %: Student's t"
	drawn, without, folds := false, false, false
	for _, d := range c.Domains {
		for _, r := range d.Rows {
			drawn = drawn || r.Kind == statistics.BCa
			folds = folds || r.Folds != nil
			if diff := r.Difference; diff != nil {
				drawn = drawn || diff.Kind == statistics.BCa
				without = without || diff.EffectKind == statistics.HedgesG
			}
		}
	}
	if drawn {
		text += fmt.Sprintf(", from %d seeds on the bootstrap (BCa)", statistics.Resampled)
	}
	if folds {
		text += "; of a cross-validation the mean has none, and that of a difference allows for training images that folds share"
	}
	text += ". The effect is the mean difference of pairs in their standard deviations (Cohen's d_z)"
	if without {
		text += "; without pairs Hedges' g"
	}
	text += fmt.Sprintf(". p is two-sided, of Student's t, adjusted after Holm for %d comparisons.", c.Tests)
	if c.Tests < 2 {
		text = strings.Replace(text, fmt.Sprintf(", adjusted after Holm for %d comparisons", c.Tests), "", 1)
	}
	return text
}
