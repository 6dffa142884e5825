package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/runner/compare"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/figure"
)

// baseCell is what ablate calls the cell that the others differ from.
const baseCell = "base"

// forestFigure shows what each value of ablate does: the difference from the base
// with its interval, a section for each path. It adds the cells that it shows to
// shown; false without a base that has scores.
func (s *study) forestFigure(shown map[*cell]bool) (drawing, bool) {
	if len(s.exp.Ablated) == 0 {
		return drawing{}, false
	}
	at := slices.IndexFunc(s.cells, func(c *cell) bool { return c.name == baseCell && s.scored(c) })
	if at < 0 {
		return drawing{}, false
	}
	base := s.cells[at]
	domains := s.domains()

	// The cells by what they differ in from the base: a path, or "" for cases where
	// no other figure shows them.
	differs := func(c *cell) (value string, path string, ok bool) {
		for _, v := range c.values {
			if !slices.Contains(s.exp.Ablated, v.Path) {
				return "", "", false
			}
			if text := valueText(v.Value); text != base.value(v.Path) {
				value, path = text, v.Path
			}
		}
		return value, path, path != ""
	}
	groups := []compare.Group{s.group(base, domains)}
	type placed struct {
		section int
		name    string
	}
	var rows []placed
	var titles []string
	var left, without []string
	for i, path := range append(slices.Clone(s.exp.Ablated), "") {
		title := ""
		switch was := base.value(path); {
		case path == "":
			title = "cases"
		case was == "":
			title = wordsOf(path)
		default:
			title = fmt.Sprintf("%s (base: %s)", wordsOf(path), was)
		}
		titles = append(titles, title)
		for _, c := range s.cells {
			value, of, ok := differs(c)
			if path == "" && len(c.values) == 0 && !shown[c] && c != base {
				value, of, ok = c.name, "", true
			}
			if !ok || of != path {
				continue
			}
			shown[c] = true
			switch {
			case !s.scored(c):
				without = append(without, c.name)
			case len(rows) == mostRows:
				left = append(left, c.name)
			default:
				rows = append(rows, placed{i, value})
				groups = append(groups, s.group(c, domains))
			}
		}
	}
	if len(rows) == 0 {
		return drawing{}, false
	}
	shown[base] = true

	made := compare.Make(s.exp.Metric, domains, groups, 0)
	label := metric.Label(s.exp.Metric)
	r := &figure.Rows{Title: s.exp.Name, X: figure.Axis{Title: "difference from the base in " + label}, Zero: true}
	widths := make([]figure.Extent, len(domains))
	for i, title := range titles {
		section := figure.Section{Title: title}
		for k, row := range rows {
			if row.section != i {
				continue
			}
			dots := make([][]figure.Dot, len(domains))
			for d, domain := range made.Domains {
				diff := domain.Rows[k+1].Difference
				if diff == nil {
					continue
				}
				dot := figure.Dot{Look: figure.Look{Color: figure.Category(0)}, X: diff.Mean, Low: diff.Mean, High: diff.Mean}
				if diff.Low != nil && diff.High != nil {
					dot.Low, dot.High = *diff.Low, *diff.High
				}
				widths[d].Add(0, dot.Low, dot.High)
				dots[d] = append(dots[d], dot)
			}
			section.Rows = append(section.Rows, figure.Row{Name: row.name, Dots: dots})
		}
		if len(section.Rows) > 0 {
			r.Sections = append(r.Sections, section)
		}
	}
	// A common range, unless effects on one domain would not be seen on it.
	narrow, wide := figure.Extent{}, figure.Extent{}
	for _, w := range widths {
		if w.Filled {
			narrow.Add(w.High - w.Low)
			wide.Add(w.High - w.Low)
		}
	}
	own := wide.High > 3*narrow.Low
	var levels []string
	for _, d := range domains {
		panel := figure.Columned{Title: s.short[d]}
		if own {
			panel.Scale = d
		}
		r.Panels = append(r.Panels, panel)
		level, _ := s.sample(base, d, s.exp.Metric)
		levels = append(levels, fmt.Sprintf("%s %s", s.short[d], level))
	}
	if len(domains) == 1 {
		r.Panels[0].Title = ""
	}
	caption := fmt.Sprintf("What each value changes in %s, %s: the difference from the base, which is the line at 0 (%s). Bars are the 95 %% interval of the difference, as `runner compare` has it", label, s.seedsText(), strings.Join(levels, ", "))
	if !s.several() {
		caption += "; with one seed there is none"
	}
	caption += "."
	if own && len(domains) > 1 {
		caption += " Each domain has a scale of its own."
	}
	caption += leftOut(left)
	if len(without) > 0 {
		caption += " Without a score: " + strings.Join(without, "; ") + "."
	}
	return s.drawn(drawing{name: ablationName, title: "Effects on " + label, caption: caption}, r), true
}

// value is where a cell is on a path, "" for nowhere.
func (c *cell) value(path string) string {
	i := slices.IndexFunc(c.values, func(v experiment.AxisValue) bool { return v.Path == path })
	if i < 0 {
		return ""
	}
	return valueText(c.values[i].Value)
}

// byRun is the scores of a cell by domain and run.
func (s *study) byRun(c *cell, domains []string) map[string]map[name.Repeat]float64 {
	all := map[string]map[name.Repeat]float64{}
	for _, d := range domains {
		all[d] = map[name.Repeat]float64{}
		for _, o := range c.runs {
			if v, ok := o.score(d, s.exp.Metric); ok {
				all[d][o.Run.Repeat()] = v
			}
		}
	}
	return all
}
