package report

import (
	"strings"

	"github.com/loralab/loralab/runner/figure"
)

// sweep is a score over a number that evaluations differ in: the strength of the
// adapter on a domain, the severity of a corruption.
type sweep struct {
	title  string // of its panel
	scale  string // panels of one scale have the same values on the axis
	at     []sweepPoint
	levels []figure.Level
}

type sweepPoint struct {
	x     float64
	score func(*outcome) (float64, bool)
}

// sweep adds the panels of sweeps: one for each, with a line for each cell, or one for
// each of both where there are many cells. It returns what the caption says of them.
func (s *study) sweep(l *figure.Lines, cells []*cell, sweeps []sweep) (caption string) {
	looks := s.looks()
	many, most := len(cells) > mostLines, len(cells)
	if many {
		most = min(most, max(1, mostPanels/len(sweeps)))
		caption = " A panel for each cell; pale lines are the other panels."
	}
	var left, leftPanels []string
	for _, c := range cells[most:] {
		left = append(left, c.name)
	}
	for _, w := range sweeps {
		var lines []figure.Series
		for _, c := range cells[:most] {
			line := figure.Series{Name: c.name, Look: looks[c], Marked: true}
			for _, at := range w.at {
				st, scores := s.sampleOf(c, at.score)
				if st.N == 0 {
					continue
				}
				pt := figure.Point{X: at.x, Y: st.Mean, Low: st.Mean - st.deviation(), High: st.Mean + st.deviation()}
				if st.N > 1 {
					pt.Seeds = scores
				}
				line.Points = append(line.Points, pt)
			}
			lines = append(lines, line)
		}
		if len(l.Panels) == mostPanels {
			leftPanels = append(leftPanels, w.title)
			continue
		}
		if !many {
			l.Panels = append(l.Panels, figure.Panel{Title: w.title, Scale: w.scale, Series: lines, Levels: w.levels})
			continue
		}
		for i, own := range lines {
			panel := figure.Panel{Title: strings.TrimPrefix(w.title+", "+own.Name, ", "), Scale: w.scale, Levels: w.levels}
			for j, line := range lines {
				line.Name, line.Behind = "", i != j
				panel.Series = append(panel.Series, line)
			}
			l.Panels = append(l.Panels, panel)
		}
	}
	return caption + leftOut(append(left, leftPanels...))
}

// barsText says what bars are, "" where cells have one run.
func (s *study) barsText() string {
	if !s.several() {
		return ""
	}
	bars, _ := s.spreads()
	return " Bars are " + bars + "."
}

// spreadText says what bars and rings are, "" where cells have one run.
func (s *study) spreadText() string {
	if !s.several() {
		return ""
	}
	bars, rings := s.spreads()
	return " Lines join the means, bars are " + bars + ", rings " + rings + "."
}
