package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/foreign"
)

// What those need who compare with the original project: what a preset does
// otherwise, and its two tables, every run and the mean over seeds.

// Differences says in which settings cells with a preset differ from the
// defaults, a line each below one for the preset; none without presets.
func (t Table) Differences() (lines []string) {
	for _, d := range t.Presets {
		if len(lines) == 0 || d.first {
			lines = append(lines, d.heading()+":")
		}
		lines = append(lines, fmt.Sprintf("%s is %s, by default %s. %s", d.Path, d.Value, d.standard(), d.Why))
	}
	return lines
}

// A PresetSetting is a difference that a table notes.
type PresetSetting struct {
	experiment.Difference
	first   bool     // of its preset
	without []string // cells of the table that have not the preset
}

func (s *study) presets() (list []PresetSetting) {
	for i, d := range s.exp.Differences {
		p := PresetSetting{Difference: d, first: i == 0 || s.exp.Differences[i-1].Preset != d.Preset}
		for _, c := range s.cells {
			if !slices.Contains(d.Cells, c.name) {
				p.without = append(p.without, c.name)
			}
		}
		list = append(list, p)
	}
	return list
}

func (d PresetSetting) heading() string {
	switch {
	case len(d.without) == 0:
		return fmt.Sprintf("Preset %q", d.Preset)
	case len(d.without) < len(d.Cells):
		return fmt.Sprintf("Preset %q (all cells but %s)", d.Preset, strings.Join(d.without, ", "))
	}
	return fmt.Sprintf("Preset %q (%s)", d.Preset, strings.Join(d.Cells, ", "))
}

func (d PresetSetting) standard() string {
	if d.Default == "" {
		return "not set"
	}
	return d.Default
}

// differencesMarkdown is Differences as tables under headings.
func (t Table) differencesMarkdown() string {
	var b strings.Builder
	for _, d := range t.Presets {
		if d.first {
			fmt.Fprintf(&b, "\n## %s\n\nIts settings that differ from the defaults.\n\n| setting | preset | default | why |\n|---|---|---|---|\n", foreign.Markdown(d.heading()))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", escape(d.Path), escape(d.Value), escape(d.standard()), escape(d.Why))
	}
	return b.String()
}

// likeOriginal reports whether the experiment is one to compare with the
// original project.
func (s *study) likeOriginal() bool {
	return strings.HasPrefix(s.exp.Metric, "original/") || slices.ContainsFunc(s.exp.Differences, func(d experiment.Difference) bool {
		return slices.Contains(experiment.PresetsOfOriginal, d.Preset)
	})
}

// originalCSV holds every scored run as the original project tabulates them.
func (s *study) originalCSV() string {
	header := []string{"variant", "cell", "data_percentage", "seed", "domain", "images", "dice", "iou"}
	if s.exp.Folds > 0 {
		header = append(header, "fold")
	}
	lines := [][]string{header}
	for _, c := range s.cells {
		for _, o := range c.runs {
			for _, d := range s.exp.Domains {
				m := o.Evaluations[d]
				dice, ok := metric.Value(m, "original/dice")
				iou, _ := metric.Value(m, "original/iou")
				if !ok {
					continue
				}
				line := []string{
					o.Run.Label.GetVariant(), c.name, percentage(o.Run), strconv.FormatUint(o.Run.Seed, 10), d,
					strconv.FormatUint(m.Images, 10), number(dice), number(iou),
				}
				if s.exp.Folds > 0 {
					line = append(line, o.Run.Fold.String())
				}
				lines = append(lines, line)
			}
		}
	}
	return toCSV(lines)
}

// originalMeanCSV is its mean over the seeds with the standard deviation of the
// population (n in the denominator), as the original project has it.
func (s *study) originalMeanCSV() string {
	lines := [][]string{{"variant", "cell", "data_percentage", "domain", "n", "dice_mean", "dice_population_std", "iou_mean", "iou_population_std"}}
	for _, c := range s.cells {
		for _, d := range s.exp.Domains {
			dice, iou := newStat(c.scores(d, "original/dice")), newStat(c.scores(d, "original/iou"))
			if dice.N == 0 {
				continue
			}
			run := c.runs[0].Run
			lines = append(lines, []string{
				run.Label.GetVariant(), c.name, percentage(run), d, strconv.Itoa(dice.N),
				number(dice.Mean), number(dice.population()), number(iou.Mean), number(iou.population()),
			})
		}
	}
	return toCSV(lines)
}

// percentage of the data.
func percentage(r *experiment.Run) string {
	return strconv.FormatFloat(100*r.Fraction, 'g', 6, 64)
}

// population is the standard deviation with n in the denominator; 0 for one
// value, NaN without any.
func (s Stat) population() float64 {
	switch s.N {
	case 0:
		return math.NaN()
	case 1:
		return 0
	}
	return s.Std * math.Sqrt(float64(s.N-1)/float64(s.N))
}
