package report

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/loralab/loralab/runner/experiment"
)

// axisData is what the figure over a numeric axis shows: no color, no place.
type axisData struct {
	xs      []float64 // values on the axis that have scores, ascending
	domains int
	groups  int // places on the other axes
	series  []axisSeries
	levels  []axisLevel
	limits  extent // of all scores, means and deviations
}

// axisSeries is a line of means in one domain, at one place on the other axes.
type axisSeries struct {
	name          string
	domain, group int
	means         bars        // ascending
	seeds         plotter.XYs // scores of cells with more than one seed
}

// axisLevel is a case that has no place on the axis, in one domain.
type axisLevel struct {
	name         string
	domain, nth  int // nth case that has scores
	mean, spread float64
}

// logarithmic reports whether the axis has a logarithmic scale: its values span
// two octaves or more.
func (d *axisData) logarithmic() bool {
	return d.xs[0] > 0 && d.xs[len(d.xs)-1]/d.xs[0] >= 4
}

// axisData collects scores over a numeric axis; false if the axis has values
// that are no numbers, or scores at fewer than two.
func (s *study) axisData(axis string) (*axisData, bool) {
	d := &axisData{domains: len(s.domains())}
	var groups []string
	for _, c := range s.cells {
		x, ok := c.number(axis)
		if !ok {
			if slices.ContainsFunc(c.values, func(v experiment.AxisValue) bool { return v.Path == axis }) {
				return nil, false
			}
			continue
		}
		if !slices.Contains(groups, c.others(axis)) {
			groups = append(groups, c.others(axis))
		}
		scored := slices.ContainsFunc(s.domains(), func(domain string) bool { return len(c.scores(domain, s.exp.Metric)) > 0 })
		if scored && !slices.Contains(d.xs, x) {
			d.xs = append(d.xs, x)
		}
	}
	if len(d.xs) < 2 {
		return nil, false
	}
	slices.Sort(d.xs)
	d.groups = len(groups)
	for k, domain := range s.domains() {
		for g, group := range groups {
			if line := s.axisSeries(axis, domain, group); len(line.means) > 0 {
				line.domain, line.group = k, g
				d.series = append(d.series, line)
			}
		}
	}
	d.levels = s.axisLevels()
	for _, line := range d.series {
		for _, seed := range line.seeds {
			d.limits.add(seed.Y)
		}
		for _, b := range line.means {
			d.limits.around(b.mean, b.std)
		}
	}
	for _, l := range d.levels {
		d.limits.around(l.mean, l.spread)
	}
	return d, true
}

// axisSeries collects the scores in a domain of the cells at one place on the
// other axes.
func (s *study) axisSeries(axis, domain, group string) axisSeries {
	line := axisSeries{name: domain}
	if group != "" {
		line.name += ", " + group
	}
	for _, c := range s.cells {
		x, ok := c.number(axis)
		if !ok || c.others(axis) != group {
			continue
		}
		scores := c.scores(domain, s.exp.Metric)
		st := newStat(scores)
		if st.N == 0 {
			continue
		}
		line.means = append(line.means, bar{x, st.Mean, st.deviation()})
		if st.N > 1 {
			for _, v := range scores {
				line.seeds = append(line.seeds, plotter.XY{X: x, Y: v})
			}
		}
	}
	slices.SortStableFunc(line.means, func(a, b bar) int { return cmp.Compare(a.x, b.x) })
	return line
}

// axisLevels are the named cases, which have no place on any axis.
func (s *study) axisLevels() []axisLevel {
	var levels []axisLevel
	nth := 0
	for _, c := range s.cells {
		if len(c.values) > 0 {
			continue
		}
		before := len(levels)
		for k, domain := range s.domains() {
			if st := newStat(c.scores(domain, s.exp.Metric)); st.N > 0 {
				levels = append(levels, axisLevel{fmt.Sprintf("%s, %s", domain, c.name), k, nth, st.Mean, st.deviation()})
			}
		}
		if len(levels) > before {
			nth++
		}
	}
	return levels
}

// axisFigure shows the metric over a numeric axis: a line for each domain (and
// each place on the other axes), seeds as rings, cases without a place on the
// axis as level bands.
func (s *study) axisFigure(axis string) (figure, bool) {
	data, ok := s.axisData(axis)
	if !ok {
		return figure{}, false
	}
	short := lastElement(axis)
	label := metricLabel(s.exp.Metric)
	caption := fmt.Sprintf("%s over %s (`%s`), %s.", capital(label), short, axis, s.seedsText())
	if s.several() {
		caption += " Lines join the means, bars are the sample standard deviation, rings next to them the seeds."
	}
	if slices.ContainsFunc(s.cells, func(c *cell) bool { return len(c.values) == 0 }) {
		caption += " Dashed lines are cases without a place on the axis; their band is the sample standard deviation."
	}
	return figure{name: fileName(short), title: capital(label) + " over " + short, caption: caption, render: func() ([]file, error) {
		x := short
		if data.logarithmic() {
			x += " (log scale)"
		}
		p := newPlot(s.exp.Name, x, label)
		if err := drawAxis(p, data, bounded(s.exp.Metric)); err != nil {
			return nil, fmt.Errorf("drawing the figure over %s: %w", axis, err)
		}
		return renderPlot(p, figureWidth, figureHeight)
	}}, true
}

// drawAxis draws the data into a plot; unit says that scores are within 0…1.
func drawAxis(p *plot.Plot, d *axisData, unit bool) error {
	p.Y.Tick.Marker = niceTicks{}
	var ticks plot.ConstantTicks
	for _, x := range d.xs {
		ticks = append(ticks, plot.Tick{Value: x, Label: strconv.FormatFloat(x, 'g', -1, 64)})
	}
	p.X.Tick.Marker = ticks
	p.Add(horizontal{})

	low, high := d.xs[0], d.xs[len(d.xs)-1]
	// shift moves x by a part of the axis, whatever its scale.
	shift := func(x, part float64) float64 { return x + part*(high-low) }
	if d.logarithmic() {
		p.X.Scale = plot.LogScale{}
		shift = func(x, part float64) float64 { return x * math.Pow(high/low, part) }
	}

	// Baselines are behind everything, and last in the legend.
	levels := make([]*level, len(d.levels))
	for i, l := range d.levels {
		tint := categorical[l.domain%len(categorical)]
		pattern := dashes[1+l.nth%(len(dashes)-1)] // the first is no dash
		levels[i] = &level{l.mean, l.spread, draw.LineStyle{Color: tint, Width: vg.Points(1.2), Dashes: pattern}, faded(tint, 0x1c)}
		p.Add(levels[i])
	}
	for _, line := range d.series {
		tint, pattern := d.look(line)
		// Neighboring series are set apart a little, so that their bars do not
		// hide each other.
		index, total := line.domain*d.groups+line.group, d.domains*d.groups
		offset := 0.012 * (float64(index) - float64(total-1)/2)
		means, seeds := make(bars, len(line.means)), make(plotter.XYs, len(line.seeds))
		for i, b := range line.means {
			means[i] = bar{shift(b.x, offset), b.mean, b.std}
		}
		for i, seed := range line.seeds {
			seeds[i] = plotter.XY{X: shift(seed.X, offset+0.018), Y: seed.Y}
		}
		thumbs, err := addSeries(p, means, seeds, tint, pattern, glyphs[line.domain%len(glyphs)])
		if err != nil {
			return err
		}
		p.Legend.Add(line.name, thumbs...)
	}
	for i, l := range d.levels {
		p.Legend.Add(l.name, levels[i])
	}
	d.limits.apply(&p.Y, unit)
	p.X.Min, p.X.Max = shift(low, -0.08), shift(high, 0.08)
	return nil
}

// look is a color for each domain, and dashes for places on the other axes; the
// other way round with one domain or more places than dashes.
func (d *axisData) look(line axisSeries) (color.NRGBA, []vg.Length) {
	if d.domains == 1 || d.groups > len(dashes) {
		return categorical[line.group%len(categorical)], dashes[line.domain%len(dashes)]
	}
	return categorical[line.domain%len(categorical)], dashes[line.group%len(dashes)]
}

// bar is a mean with its deviation.
type bar struct {
	x, mean, std float64
}

// bars implements what plotter.NewYErrorBars asks for.
type bars []bar

func (b bars) Len() int                        { return len(b) }
func (b bars) XY(i int) (float64, float64)     { return b[i].x, b[i].mean }
func (b bars) YError(i int) (float64, float64) { return b[i].std, b[i].std }

func addSeries(p *plot.Plot, data bars, seeds plotter.XYs, colour color.NRGBA, pattern []vg.Length, glyph draw.GlyphDrawer) ([]plot.Thumbnailer, error) {
	line, points, err := plotter.NewLinePoints(plotter.XYs(xys(data)))
	if err != nil {
		return nil, err
	}
	line.LineStyle = draw.LineStyle{Color: colour, Width: vg.Points(1.6), Dashes: pattern}
	points.GlyphStyle = draw.GlyphStyle{Color: colour, Radius: vg.Points(3.6), Shape: glyph}
	errorBars, err := plotter.NewYErrorBars(data)
	if err != nil {
		return nil, err
	}
	errorBars.LineStyle = draw.LineStyle{Color: colour, Width: vg.Points(1.2)}
	errorBars.CapWidth = vg.Points(7)
	p.Add(line)
	if len(seeds) > 0 {
		p.Add(errorBars)
		rings, err := plotter.NewScatter(seeds)
		if err != nil {
			return nil, err
		}
		rings.GlyphStyle = draw.GlyphStyle{Color: faded(colour, 0xd0), Radius: vg.Points(2.4), Shape: draw.RingGlyph{}}
		p.Add(rings)
	}
	p.Add(points)
	return []plot.Thumbnailer{line, points}, nil
}

func xys(data bars) []plotter.XY {
	out := make([]plotter.XY, len(data))
	for i, b := range data {
		out[i] = plotter.XY{X: b.x, Y: b.mean}
	}
	return out
}

// level is a mean and its spread across the whole plot.
type level struct {
	mean, spread float64
	line         draw.LineStyle
	fill         color.Color
}

func (l *level) Plot(c draw.Canvas, p *plot.Plot) {
	_, y := p.Transforms(&c)
	if l.spread > 0 {
		low, high := max(y(l.mean-l.spread), c.Min.Y), min(y(l.mean+l.spread), c.Max.Y)
		c.FillPolygon(l.fill, []vg.Point{{X: c.Min.X, Y: low}, {X: c.Max.X, Y: low}, {X: c.Max.X, Y: high}, {X: c.Min.X, Y: high}})
	}
	c.StrokeLine2(l.line, c.Min.X, y(l.mean), c.Max.X, y(l.mean))
}

func (l *level) Thumbnail(c *draw.Canvas) {
	if l.spread > 0 {
		c.FillPolygon(l.fill, []vg.Point{c.Min, {X: c.Max.X, Y: c.Min.Y}, c.Max, {X: c.Min.X, Y: c.Max.Y}})
	}
	y := c.Center().Y
	c.StrokeLine2(l.line, c.Min.X, y, c.Max.X, y)
}
