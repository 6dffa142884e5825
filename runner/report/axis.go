package report

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/figure"
)

// axis is what tells cells apart: a path of vary, or the paths of zip, which
// move together.
type axis struct{ paths []string }

// axes are those of vary and zip, in the order of the file.
func (s *study) axes() (axes []axis) {
	zipped := false
	for _, path := range s.exp.Axes {
		switch {
		case slices.Contains(s.exp.Ablated, path):
		case !slices.Contains(s.exp.Zipped, path):
			axes = append(axes, axis{[]string{path}})
		case !zipped:
			zipped = true
			axes = append(axes, axis{s.exp.Zipped})
		}
	}
	return axes
}

// name is that of the figure's file: the last elements of the paths.
func (a axis) name() string {
	var list []string
	for _, path := range a.paths {
		list = append(list, path[strings.LastIndexByte(path, '.')+1:])
	}
	return strings.Join(list, "_")
}

// on is where a cell is on an axis: its values, joined; false if it is not on it.
func (c *cell) on(a axis) (string, bool) {
	var list []string
	for _, path := range a.paths {
		i := slices.IndexFunc(c.values, func(v experiment.AxisValue) bool { return v.Path == path })
		if i < 0 {
			return "", false
		}
		list = append(list, valueText(c.values[i].Value))
	}
	return strings.Join(list, " / "), true
}

// places numbers the places on an axis: by the first of its paths that has
// different numbers in all of them, or, where zip has numbers but none such, in
// their order, equally far apart. False if the axis has no numbers.
func (s *study) places(a axis) (at map[string]float64, ticks []figure.Tick, equal, ok bool) {
	var order []string
	columns := make([]map[string]float64, len(a.paths))
	for _, c := range s.cells {
		label, on := c.on(a)
		if !on || slices.Contains(order, label) {
			continue
		}
		order = append(order, label)
		for i, path := range a.paths {
			if columns[i] == nil {
				columns[i] = map[string]float64{}
			}
			for _, v := range c.values {
				if x, number := v.Value.(float64); number && v.Path == path {
					columns[i][label] = x
				}
			}
		}
	}
	for _, column := range columns {
		if len(column) < len(order) || len(order) == 0 {
			continue
		}
		distinct := map[float64]bool{}
		for _, x := range column {
			distinct[x] = true
		}
		ok = true
		if at == nil && len(distinct) == len(order) {
			at = column
		}
	}
	if !ok {
		return nil, nil, false, false
	}
	if equal = at == nil; equal {
		at = map[string]float64{}
		for i, label := range order {
			at[label] = float64(i)
		}
	}
	for _, label := range order {
		ticks = append(ticks, figure.Tick{At: at[label], Label: label})
	}
	return at, ticks, equal, true
}

// logarithmic reports whether an axis has a logarithmic scale: its values span two
// octaves or more.
func logarithmic(ticks []figure.Tick) bool {
	low, high := math.Inf(1), math.Inf(-1)
	for _, t := range ticks {
		low, high = min(low, t.At), max(high, t.At)
	}
	return low > 0 && high/low >= 4
}

// Bounds of what one figure shows.
const (
	mostLines  = 4  // in a panel
	mostPanels = 24 // in a figure
	mostRows   = 60 // in a figure
)

// axisFigure shows the metric over an axis with numbers: a line for each domain and
// each place on the other axes, every seed, and cases, which have no place on it, as
// level lines. It adds the cells that it shows to shown; false if there are fewer
// than two places with scores.
func (s *study) axisFigure(a axis, shown map[*cell]bool) (drawing, bool) {
	at, ticks, equal, ok := s.places(a)
	if !ok {
		return drawing{}, false
	}
	var others axis
	for _, b := range s.axes() {
		if b.paths[0] != a.paths[0] {
			others.paths = append(others.paths, b.paths...)
		}
	}
	var groups []string
	members := map[string][]*cell{} // of groups
	var cases []*cell
	scored := map[float64]bool{}
	for _, c := range s.cells {
		label, on := c.on(a)
		switch {
		case len(c.values) == 0 && s.scored(c):
			cases = append(cases, c)
		case on && s.scored(c):
			scored[at[label]] = true
			group, _ := c.on(others)
			if members[group] == nil {
				groups = append(groups, group)
			}
			members[group] = append(members[group], c)
		}
	}
	if len(scored) < 2 {
		return drawing{}, false
	}
	ticks = slices.DeleteFunc(ticks, func(t figure.Tick) bool { return !scored[t.At] })

	domains := s.domains()
	var left []string
	if most := max(1, mostPanels/len(domains)); len(groups) > max(most, mostLines) {
		groups, left = groups[:most], groups[most:]
	}
	l := &figure.Lines{
		Title: s.exp.Name,
		X:     figure.Axis{Title: inWords(a.paths), Ticks: ticks, Log: !equal && logarithmic(ticks)},
		Y:     figure.Axis{Title: metric.Label(s.exp.Metric), Unit: bounded(s.exp.Metric)},
	}
	if l.X.Log {
		l.X.Title += " (log scale)"
	}
	lines := map[string][]figure.Series{} // by domain, a line for each group
	levels := map[string][]figure.Level{}
	ranges := make([]figure.Extent, len(domains))
	for k, d := range domains {
		for g, group := range groups {
			line := s.line(a, at, d, members[group])
			line.Marked = true
			line.Look = figure.Look{Color: s.groupColor(others, groups, g), Dash: g % figure.Dashes, Mark: g % figure.Marks}
			for _, pt := range line.Points {
				ranges[k].Add(pt.Low, pt.High, pt.Y)
			}
			lines[d] = append(lines[d], line)
		}
		if len(cases) <= mostLines {
			for i, c := range cases {
				if st, _ := s.sample(c, d, s.exp.Metric); st.N > 0 {
					levels[d] = append(levels[d], figure.Level{
						Name: c.name, Y: st.Mean, Low: st.Mean - st.deviation(), High: st.Mean + st.deviation(),
						Look: figure.Look{Color: figure.Gray, Dash: 1 + i%(figure.Dashes-1)},
					})
					ranges[k].Add(st.Mean-st.deviation(), st.Mean+st.deviation())
				}
			}
		}
	}

	label := capital(metric.Label(s.exp.Metric))
	caption := fmt.Sprintf("%s over %s (%s), %s.", label, inWords(a.paths), code(a.paths), s.seedsText())
	if s.several() {
		bars, rings := s.spreads()
		caption += fmt.Sprintf(" Lines join the means, bars are %s, rings %s.", bars, rings)
	}
	if equal {
		caption += " Places on the axis are in the order of the file and equally far apart."
	}
	switch {
	case len(groups) > mostLines || len(left) > 0: // small multiples
		l.Key = "panels: " + inWords(others.paths)
		caption += fmt.Sprintf(" A panel for each value of %s; pale lines are the other panels.", inWords(others.paths))
		for _, d := range domains {
			for g, group := range groups {
				if len(lines[d][g].Points) == 0 {
					continue
				}
				title := group
				if len(domains) > 1 {
					title = s.short[d] + ", " + group
				}
				panel := figure.Panel{Title: title, Scale: d, Levels: levels[d]}
				for h, other := range lines[d] {
					other.Behind = h != g
					other.Look.Dash = 0
					panel.Series = append(panel.Series, other)
				}
				l.Panels = append(l.Panels, panel)
			}
		}
	case len(domains) > 1 && (apart(ranges) || len(domains)*max(len(groups), levelsOf(cases)) > mostLines):
		for _, d := range domains {
			panel := figure.Panel{Title: s.short[d], Scale: d, Levels: levels[d]}
			for g := range groups {
				line := lines[d][g]
				if line.Name = groups[g]; line.Name != "" {
					l.Key = inWords(others.paths)
				}
				panel.Series = append(panel.Series, line)
			}
			if len(l.Panels) == mostPanels {
				left = append(left, s.short[d])
				continue
			}
			l.Panels = append(l.Panels, panel)
		}
		if len(l.Panels) > 1 {
			caption += " Each domain has a panel with a scale of its own."
		}
	default:
		var panel figure.Panel
		for k, d := range domains {
			in := func(name string) string {
				if len(domains) == 1 {
					return name
				}
				return strings.TrimSuffix(s.short[d]+", "+name, ", ")
			}
			for g, group := range groups {
				line := lines[d][g]
				line.Name = in(group)
				if len(domains) > 1 {
					line.Look.Color, line.Look.Mark = figure.Category(k), k%figure.Marks
				} else if group != "" {
					l.Key = inWords(others.paths)
				}
				panel.Series = append(panel.Series, line)
			}
			for _, level := range levels[d] {
				level.Name = in(level.Name)
				if len(domains) > 1 {
					level.Look.Color = figure.Category(k)
				}
				panel.Levels = append(panel.Levels, level)
			}
		}
		l.Panels = []figure.Panel{panel}
	}
	for _, c := range s.cells {
		if _, on := c.on(a); on || len(cases) <= mostLines && slices.Contains(cases, c) {
			shown[c] = true
		}
	}
	switch {
	case len(cases) > mostLines:
		caption += " Cases without a place on the axis are in the figure of cells."
	case len(cases) > 0:
		bars, _ := s.spreads()
		caption += fmt.Sprintf(" Dashed level lines are cases without a place on the axis; their band is %s.", bars)
	}
	caption += leftOut(left) + s.unscored(func(c *cell) bool { _, on := c.on(a); return on || len(c.values) == 0 })
	return s.drawn(drawing{name: fileName(a.name()), title: label + " over " + inWords(a.paths), caption: caption}, l), true
}

// levelsOf is how many level lines cases have in a panel.
func levelsOf(cases []*cell) int {
	if len(cases) > mostLines {
		return 0
	}
	return len(cases)
}

// line is the scores of cells on a domain, over an axis.
func (s *study) line(a axis, at map[string]float64, domain string, cells []*cell) (line figure.Series) {
	for _, c := range cells {
		label, _ := c.on(a)
		st, scores := s.sample(c, domain, s.exp.Metric)
		if st.N == 0 {
			continue
		}
		pt := figure.Point{X: at[label], Y: st.Mean, Low: st.Mean - st.deviation(), High: st.Mean + st.deviation()}
		if st.N > 1 {
			pt.Seeds = scores
		}
		line.Points = append(line.Points, pt)
	}
	slices.SortStableFunc(line.Points, func(a, b figure.Point) int { return cmp.Compare(a.X, b.X) })
	return line
}

// groupColor is in the order of the groups where one other axis has numbers.
func (s *study) groupColor(others axis, groups []string, g int) color.NRGBA {
	if len(groups) > 1 {
		if _, _, _, numbers := s.places(others); numbers {
			return figure.Ordered(g, len(groups))
		}
	}
	return figure.Category(g)
}

// apart reports whether differences within one of the ranges could hardly be seen on
// a common scale: the ranges are far from each other, or one is much narrower.
func apart(ranges []figure.Extent) bool {
	var all figure.Extent
	widest, narrowest := 0.0, math.Inf(1)
	for _, r := range ranges {
		if r.Filled {
			all.Add(r.Low, r.High)
			widest, narrowest = max(widest, r.High-r.Low), min(narrowest, r.High-r.Low)
		}
	}
	span := all.High - all.Low
	return span > 2*widest || span > 4*narrowest
}

// code is paths in Markdown's marks of code.
func code(paths []string) string {
	return "`" + strings.Join(paths, "`, `") + "`"
}
