package view

import (
	"encoding/csv"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/runner/compare"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/inspect"
	"github.com/loralab/loralab/runner/reproduce"
	"github.com/loralab/loralab/runner/statistics"
)

// Compare shows groups of runs side by side, a table for each domain.
func (v *View) Compare(c *compare.Comparison) {
	several := false
	for i, d := range c.Domains {
		if i > 0 {
			v.Say("")
		}
		v.Say("%s  %s", v.bold.Render(d.Name), v.dim.Render(c.Metric))
		folds := slices.ContainsFunc(d.Rows, func(r compare.Row) bool { return r.Folds != nil })
		spreads := []string{"± STD"}
		if folds {
			spreads = []string{"± FOLDS", "± SEEDS"}
		}
		t := table{columns: slices.Concat(texts(""), numbers("N", "MEAN"), numbers(spreads...), numbers("DIFFERENCE", "95 % INTERVAL", "EFFECT", "P"), texts("TEST"))}
		for _, r := range d.Rows {
			start := []string{r.Group, fmt.Sprint(r.N), optional(r.Mean, score), optional(r.Std, spread)}
			if f := r.Folds; f != nil {
				start = []string{r.Group, fmt.Sprintf("%d×%d", f.N, f.Seeds), optional(r.Mean, score), optional(f.Std, spread), optional(f.SeedStd, spread)}
				if r.N != f.N*f.Seeds {
					start[1] = fmt.Sprint(r.N)
				}
			} else if folds {
				start = slices.Insert(start, 3, "")
			}
			row := make([]string, 5)
			if diff := r.Difference; diff != nil {
				several = true
				digits := compare.Digits(diff)
				row[0] = compare.Signed(diff.Mean, digits)
				if diff.Low != nil && diff.High != nil {
					row[1] = fmt.Sprintf("%s … %s", compare.Signed(*diff.Low, digits), compare.Signed(*diff.High, digits))
				}
				row[2] = optional(diff.Effect, effect)
				row[3] = optional(diff.Adjusted, pValue)
				switch {
				case diff.Corrected:
					row[4] = v.dim.Render(fmt.Sprintf("paired, %s", count(diff.N, "fold")))
				case diff.Paired:
					row[4] = v.dim.Render(fmt.Sprintf("paired, %d", diff.N))
				case folds: // of other folds, or of none
					row[4] = v.dim.Render("none")
				case diff.P == nil:
					row[4] = v.dim.Render("none")
				default:
					row[4] = v.dim.Render("Welch")
				}
			} else if r.Group == c.Baseline {
				row[4] = v.dim.Render("baseline")
			}
			t.add(append(start, row...)...)
		}
		v.table(t)
	}
	notes := c.Notes
	if several {
		notes = slices.Concat(compareNotes(c), notes)
	}
	if len(notes) > 0 {
		v.Say("")
		for _, note := range notes {
			for _, line := range wrapped(note, v.width-2) {
				v.Say("%s", v.dim.Render("  "+line))
			}
		}
	}
}

func compareNotes(c *compare.Comparison) []string {
	folds := slices.ContainsFunc(c.Domains, func(d compare.Domain) bool {
		return slices.ContainsFunc(d.Rows, func(r compare.Row) bool { return r.Folds != nil })
	})
	notes := []string{fmt.Sprintf("Differences are from %s. ± is the sample standard deviation (n−1) over seeds; P is two-sided, of the t test that the row names, adjusted after Holm.", c.Baseline)}
	if folds {
		notes = []string{
			fmt.Sprintf("Differences are from %s, paired by fold and seed. ± is the sample standard deviation (n−1) over folds, and over the seeds of a fold, pooled; P is two-sided, of Student's t over folds, adjusted after Holm.", c.Baseline),
			"Folds share training images, so their spread is no standard error of independent runs: intervals are wider than theirs (Nadeau and Bengio 2003). Groups without the same folds are not tested.",
		}
	}
	notes = append(notes, "EFFECT is the difference in standard deviations: d_z of pairs, else Hedges' g.")
	least, drawn := math.MaxInt, false
	for _, d := range c.Domains {
		for _, r := range d.Rows {
			if r.Difference != nil {
				least = min(least, r.Difference.N)
				drawn = drawn || r.Difference.Kind == statistics.BCa
			}
		}
	}
	if drawn {
		notes = append(notes, fmt.Sprintf("From %d seeds on the interval is a bootstrap interval (BCa).", statistics.Resampled))
	}
	switch {
	case least < statistics.Testable:
		notes = append(notes, "Cells with fewer than three runs are not tested.")
	case least < 6 && !folds:
		notes = append(notes, "With so few seeds the interval says more than P, and neither can show that differences are normal, as both assume.")
	}
	return notes
}

// CompareCSV writes the same in full precision, a line for each group and
// domain.
func (v *View) CompareCSV(c *compare.Comparison) error {
	w := csv.NewWriter(v.out)
	number := func(x *float64) string {
		return optional(x, func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) })
	}
	lines := [][]string{{"metric", "domain", "group", "n", "mean", "sample_std", "baseline", "difference", "low95", "high95", "p", "p_holm", "paired", "n_difference", "mean_low95", "mean_high95", "interval", "effect", "effect_kind"}}
	folds := slices.ContainsFunc(c.Domains, func(d compare.Domain) bool {
		return slices.ContainsFunc(d.Rows, func(r compare.Row) bool { return r.Folds != nil })
	})
	if folds {
		lines[0] = append(lines[0], "folds", "fold_sample_std", "seeds", "seed_std")
	}
	for _, d := range c.Domains {
		for _, r := range d.Rows {
			line := []string{
				foreign.CSV(c.Metric), foreign.CSV(d.Name), foreign.CSV(r.Group),
				strconv.Itoa(r.N), number(r.Mean), number(r.Std), foreign.CSV(c.Baseline),
			}
			if diff := r.Difference; diff != nil {
				line = append(line, number(&diff.Mean), number(diff.Low), number(diff.High), number(diff.P), number(diff.Adjusted),
					strconv.FormatBool(diff.Paired), strconv.Itoa(diff.N),
					number(r.Low), number(r.High), foreign.CSV(string(diff.Kind)), number(diff.Effect), foreign.CSV(string(diff.EffectKind)))
			} else {
				line = append(line, "", "", "", "", "", "", "", number(r.Low), number(r.High), foreign.CSV(string(r.Kind)), "", "")
			}
			if f := r.Folds; f != nil {
				line = append(line, strconv.Itoa(f.N), number(f.Std), strconv.Itoa(f.Seeds), number(f.SeedStd))
			} else if folds {
				line = append(line, "", "", "", "")
			}
			lines = append(lines, line)
		}
	}
	return w.WriteAll(lines)
}

func optional(x *float64, format func(float64) string) string {
	if x == nil {
		return ""
	}
	return format(*x)
}

func spread(x float64) string { return fmt.Sprintf("%.3f", x) }

func effect(x float64) string { return strings.Replace(fmt.Sprintf("%.1f", x), "-", "−", 1) }

func pValue(p float64) string {
	if p < 0.001 {
		return "<0.001"
	}
	return fmt.Sprintf("%.3f", p)
}

// Diff shows what tells two runs apart.
func (v *View) Diff(a, b *inspect.Report, d *inspect.Difference) {
	v.pairs([][2]string{{"A", a.Run.Name() + "  " + rundir.Short(a.Run.ID)}, {"B", b.Run.Name() + "  " + rundir.Short(b.Run.ID)}})
	show := func(title string, changes []inspect.Change) {
		if len(changes) == 0 {
			return
		}
		v.section(title)
		t := table{columns: texts("", "A", "B"), indent: 2}
		for _, c := range changes {
			t.add(c.Path, brief(c.A), brief(c.B))
		}
		v.table(t)
	}
	if a.Run.ID == b.Run.ID {
		v.Say("")
		v.Say("They are the same run.")
	}
	show("Configuration", d.Settings)
	show("Specification", d.Spec)
	show("Made with", d.Made)
	if len(d.Scores) == 0 {
		return
	}
	v.section("Scores")
	t := table{columns: slices.Concat(texts("DOMAIN", "METRIC"), numbers("A", "B", "B − A")), indent: 2}
	last := ""
	for _, s := range d.Scores {
		if s.A == nil && s.B == nil || perClass(s.Metric) {
			continue
		}
		row := []string{s.Domain, s.Metric, optional(s.A, score), optional(s.B, score), ""}
		if s.Domain == last {
			row[0] = ""
		}
		last = s.Domain
		if s.A != nil && s.B != nil {
			row[4] = compare.Signed(*s.B-*s.A, 3)
		}
		t.add(row...)
	}
	v.table(t)
}

// brief shortens digests.
func brief(s string) string {
	if len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" {
		return s[:12]
	}
	if s == "" {
		return "–"
	}
	return s
}

// DiffJSON writes the same for programs.
func (v *View) DiffJSON(a, b *inspect.Report, d *inspect.Difference) error {
	list := func(c []inspect.Change) []inspect.Change {
		if c == nil {
			return []inspect.Change{}
		}
		return c
	}
	type run struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	return v.JSON(struct {
		A             run              `json:"a"`
		B             run              `json:"b"`
		Configuration []inspect.Change `json:"configuration"`
		Specification []inspect.Change `json:"specification"`
		Made          []inspect.Change `json:"made"`
		Scores        []inspect.Score  `json:"scores"`
	}{run{a.Run.ID, a.Run.Name()}, run{b.Run.ID, b.Run.Name()}, list(d.Settings), list(d.Spec), list(d.Made), d.Scores})
}

// Reproducing says what begins.
func (v *View) Reproducing(r *inspect.Report, dir string) {
	printf(v.progress, "Running %s again in %s\n", v.bold.Render(r.Run.Name()), dir)
}

// Verdict says whether a run was reproduced.
func (v *View) Verdict(r *inspect.Report, d *reproduce.Verdict, kept string) {
	v.Say("")
	if !d.Bits {
		v.repeated(d)
	}
	for _, one := range d.Domains {
		switch {
		case one.Missing != "":
			v.Say("%s %s was not scored again: %s", v.warn.Render("–"), one.Domain, one.Missing)
		case one.Same:
			v.Say("%s %s: the same scores", v.good.Render("✓"), one.Domain)
		case one.Agrees:
			v.Say("%s %s: scores within the tolerance", v.good.Render("✓"), one.Domain)
		default:
			v.Say("%s %s: other scores", v.bad.Render("✗"), one.Domain)
		}
	}
	switch {
	case d.Bits && d.Agrees:
		v.Say("%s %s: the weights are the same, bit for bit.", v.good.Render("reproduced"), r.Run.Name())
	case d.Agrees:
		v.Say("%s %s within the tolerance; the same bits were not to be expected: %s.", v.good.Render("reproduced"), r.Run.Name(), d.Why)
	case d.Expected && !d.Bits:
		v.Say("%s %s: the weights differ, though engine, processor and threads are the same.", v.bad.Render("not reproduced"), r.Run.Name())
	default:
		v.Say("%s %s: scores differ by more than the tolerance.", v.bad.Render("not reproduced"), r.Run.Name())
	}
	if kept != "" {
		v.Say("The repetition is in %s", kept)
	}
}

// repeated shows scores before and now.
func (v *View) repeated(d *reproduce.Verdict) {
	t := table{columns: slices.Concat(texts("DOMAIN", "METRIC"), numbers("WAS", "IS", "DIFFERENCE", "TOLERANCE"), texts(""))}
	last := ""
	for _, s := range d.Scores {
		if perClass(s.Metric) && s.Agrees {
			continue
		}
		mark := v.good.Render("✓")
		if !s.Agrees {
			mark = v.bad.Render("✗")
		}
		row := []string{s.Domain, s.Metric, fmt.Sprintf("%.4f", s.Was), fmt.Sprintf("%.4f", s.Now), fmt.Sprintf("%.2g", s.Now-s.Was), fmt.Sprintf("%.2g", s.Tolerance), mark}
		if s.Domain == last {
			row[0] = ""
		}
		last = s.Domain
		t.add(row...)
	}
	v.table(t)
	v.Say("")
}
