package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/filename"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/figure"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/importance"
	"github.com/loralab/loralab/runner/search/space"
	tuned "github.com/loralab/loralab/runner/study"
)

// A Search is what is known of the search of one cell.
type Search struct {
	Progress tuned.Progress
	Space    *space.Space
	Minimize bool
	Trials   []*tuned.Trial
	Seeds    []uint64 // of the trials
	// Retest is the cell that its best is trained again as.
	Retest string
	// Untuned are results of the cell as the file has it.
	Untuned []Result
}

// SearchOf is a search with results of the cell as the file has it.
func SearchOf(s *tuned.Study, untuned []Result) Search {
	return Search{
		Progress: s.Progress(), Space: s.Space, Minimize: s.Minimize, Trials: s.Trials, Seeds: s.Seeds, Retest: s.RetestCell(0), Untuned: untuned,
	}
}

// Found is what a search has found.
type Found struct {
	tuned.Progress
	Seeds []uint64 `json:"seeds"`
	// Edges are parameters whose best value lies at the edge of what is searched.
	Edges []Edge `json:"edges"`
	// Retest is the best on the seeds of the experiment, by domain, and Untuned the cell
	// as the file has it.
	Retest  []OnDomain `json:"retest"`
	Untuned []OnDomain `json:"untuned"`
	// Importance is that of parameters, the largest first; null, with a reason, where it
	// cannot be said.
	Importance   []Importance `json:"importance"`
	NoImportance string       `json:"no_importance,omitempty"`
}

// An Edge is a value at the edge of what is searched.
type Edge struct {
	Path  string `json:"path"`
	Value any    `json:"value"`
	Side  string `json:"side"` // low | high
	Bound any    `json:"bound"`
}

// OnDomain is a cell on a domain.
type OnDomain struct {
	Domain string `json:"domain"`
	Metric Stat   `json:"metric"`
}

// Importance is the share of a parameter in what decides how good trials are.
type Importance struct {
	Path  string  `json:"path"`
	Value float64 `json:"value"`
}

// found is a search with what the report says of it.
type found struct {
	Found
	Search
	name     string // of its figures
	retest   *cell  // nil: there is none yet
	untuned  *cell
	best     *tuned.Trial
	complete []*tuned.Trial // with a value
	early    []*tuned.Trial // that paused or were pruned
	failed   []*tuned.Trial
}

// find works out what there is to say of a search.
func (s *study) find(in Search) *found {
	f := &found{Search: in, Found: Found{Progress: in.Progress, Seeds: in.Seeds, Edges: []Edge{}, Retest: []OnDomain{}, Untuned: []OnDomain{}}}
	f.name = "search_" + filename.Fit(fileName(f.Cell), 60)
	for n := 2; slices.ContainsFunc(s.searches, func(other *found) bool { return other.name == f.name }); n++ {
		f.name = "search_" + filename.Fit(fileName(f.Cell), 60) + "_" + strconv.Itoa(n)
	}
	for _, t := range in.Trials {
		switch t.State {
		case tuned.Complete:
			f.complete = append(f.complete, t)
		case tuned.Paused, tuned.Pruned:
			if !math.IsNaN(t.Value) && !math.IsInf(t.Value, 0) {
				f.early = append(f.early, t)
			}
		case tuned.Failed:
			f.failed = append(f.failed, t)
		}
		if b := in.Progress.Best; b != nil && b.Trial == t.Number {
			f.best = t
		}
	}
	if f.best != nil {
		f.Edges = append(f.Edges, edges(in.Space, f.best.Point)...)
	}
	for _, c := range s.cells {
		if c.name == in.Retest && in.Progress.Over {
			f.retest = c
		}
	}
	if len(in.Untuned) > 0 {
		f.untuned = &cell{name: f.Cell}
		for _, r := range in.Untuned {
			f.untuned.runs = append(f.untuned.runs, &outcome{Result: r})
		}
	}
	on := func(c *cell) (list []OnDomain) {
		if c == nil {
			return []OnDomain{}
		}
		for _, d := range s.domains() {
			list = append(list, OnDomain{d, newStat(c.scores(d, s.exp.Metric))})
		}
		return list
	}
	f.Found.Retest, f.Found.Untuned = on(f.retest), on(f.untuned)
	shares, err := importance.Of(in.Space, f.direction(), f.known())
	var few *importance.FewError
	switch {
	case errors.As(err, &few):
		f.NoImportance = few.Error()
	case err != nil:
		f.NoImportance = err.Error()
	}
	for _, share := range shares {
		f.Importance = append(f.Importance, Importance{share.Param, share.Value})
	}
	return f
}

// section is that of the page.
func (f *found) section() string { return f.name }

func (f *found) direction() search.Direction {
	if f.Minimize {
		return search.Minimize
	}
	return search.Maximize
}

// better reports whether a value is better than another.
func (f *found) better(a, b float64) bool { return f.direction().Loss(a) < f.direction().Loss(b) }

// known are the complete trials as importance knows them.
func (f *found) known() (all []search.Trial) {
	for _, t := range f.complete {
		if at, ok := pointIn(f.Space, t.Point); ok {
			all = append(all, search.Trial{Number: t.Number, Point: at, State: search.Complete, Value: t.Value})
		}
	}
	return all
}

// pointIn is a point of a space.
func pointIn(in *space.Space, point []experiment.Setting) (space.Point, bool) {
	values := map[string]any{}
	for _, g := range point {
		values[g.Path] = g.Value
	}
	at, err := in.Encode(values)
	return at, err == nil
}

// nearEdge is how near to an end, as a part of the range, a value is at the edge.
const nearEdge = 0.05

// edges are the values of a point at the edge of what is searched: at an end of steps
// or numbers to choose from, or within a twentieth of the range from it. A range that
// begins at 0 has no edge there: few fields take less.
func edges(in *space.Space, point []experiment.Setting) (found []Edge) {
	at, ok := pointIn(in, point)
	if !ok {
		return nil
	}
	for i, x := range at {
		p := in.Param(i)
		if !space.Active(x) {
			continue
		}
		var low, high any
		var atLow, atHigh bool
		switch {
		case p.Kind == space.Choice:
			var values []float64
			for _, c := range p.Choices {
				if v, ok := asNumber(c); ok {
					values = append(values, v)
				}
			}
			if len(values) < 3 || len(values) < len(p.Choices) {
				continue
			}
			v := values[int(x)]
			low, high = slices.Min(values), slices.Max(values)
			atLow, atHigh = v == low && v != 0, v == high
		case p.Step > 0 && p.Steps() < 3:
			continue
		case p.Step > 0 && p.Steps() <= 1/nearEdge:
			low, high = p.Decode(p.Low), p.Decode(p.High)
			atLow, atHigh = x == p.Low && x != 0, x == p.High
		default:
			u := p.ToUnit(x)
			low, high = p.Decode(p.Low), p.Decode(p.High)
			atLow, atHigh = u < nearEdge && p.Low != 0, u > 1-nearEdge
		}
		switch {
		case atLow:
			found = append(found, Edge{p.Name, p.Decode(x), "low", low})
		case atHigh:
			found = append(found, Edge{p.Name, p.Decode(x), "high", high})
		}
	}
	return found
}

func asNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	}
	return 0, false
}

// markdown is what the page says of a search.
func (f *found) markdown(s *study) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "- "+format+"\n", args...) }
	budget := plural.Of(f.Found.Progress.Trials, "trial")
	if f.Found.Progress.Trials == 0 {
		budget = thousands(f.Found.Progress.Steps) + " steps of training"
	} else if f.Found.Progress.Steps > 0 {
		budget += ", at most " + thousands(f.Found.Progress.Steps) + " steps of training"
	}
	how := f.Sampler
	if f.Pruner != "none" {
		how += " and " + f.Pruner
	}
	var parts []string
	for _, c := range []struct {
		n    int
		word string
	}{{len(f.complete), "complete"}, {f.Counts[tuned.Paused] + f.Counts[tuned.Pruned], "ended early"}, {len(f.failed), "failed"}, {f.Counts[tuned.Open], "to continue"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.word))
		}
	}
	made := strings.Join(parts, ", ")
	if made == "" {
		made = "none yet"
	}
	steps := uint64(0)
	for _, t := range f.Trials {
		steps += t.Steps
	}
	if steps > 0 {
		made += fmt.Sprintf("; %s steps in all", thousands(steps))
	}
	line("Budget: %s of %s, by %s. Trials: %s.", budget, plural.Of(f.Parameters, "parameter"), how, made)
	var seeds []string
	for _, seed := range f.Found.Seeds {
		seeds = append(seeds, strconv.FormatUint(seed, 10))
	}
	if f.best != nil {
		var point []string
		for _, g := range f.best.Point {
			point = append(point, fmt.Sprintf("`%s` %s", g.Path, foreign.Markdown(shortValue(g.Value))))
		}
		line("Best: %s %.3f on validation, %s %s, in trial %d: %s.", metric.Label(f.Objective), f.best.Value,
			plural.Form(len(seeds), "seed", "seeds"), strings.Join(seeds, ", "), f.best.Number, strings.Join(point, ", "))
	} else {
		line("Best: none yet, no trial is complete.")
	}
	switch {
	case f.best == nil:
	case f.retest == nil || f.retest.trained() == 0:
		line("Trained again on the seeds of the experiment: not yet.")
	default:
		line("Trained again on the seeds of the experiment, n = %d: %s.", f.retest.trained(), s.onDomains(f.Found.Retest))
	}
	for _, e := range f.Edges {
		side, word := "upper", "above"
		if e.Side == "low" {
			side, word = "lower", "below"
		}
		line("**At the edge**: the best value of `%s`, %s, lies at the %s end of what is searched. Better values may lie %s %s: widen the space there.",
			e.Path, shortValue(e.Value), side, word, shortValue(e.Bound))
	}
	for _, t := range f.failed {
		line("Failed: trial %d: %s", t.Number, foreign.Markdown(foreign.Line(t.Reason)))
	}
	if f.Foreign > 0 {
		line("Not counted: %s of an earlier form of the file.", plural.Of(f.Foreign, "trial"))
	}
	if f.Share.Valid < f.Share.Points {
		line("Of the space, %.0f %% can be trained.", 100*f.Share.Fraction())
	}
	if f.NoImportance != "" && f.Parameters > 1 {
		line("Which parameters matter is not said: %s.", f.NoImportance)
	}
	return b.String()
}

// onDomains is "test 0.812 ± 0.004, histology 0.622 ± 0.010".
func (s *study) onDomains(list []OnDomain) string {
	var parts []string
	for _, d := range list {
		parts = append(parts, s.short[d.Domain]+" "+d.Metric.String())
	}
	return strings.Join(parts, ", ")
}

// shortValue is a value with four digits.
func shortValue(v any) string {
	if x, ok := v.(float64); ok {
		return strconv.FormatFloat(x, 'g', 4, 64)
	}
	if text, ok := v.(string); ok {
		return text
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// searchFigures are those of all searches.
func (s *study) searchFigures() (list []drawing) {
	add := func(section string, d drawing, ok bool) {
		if ok {
			d.section = section
			list = append(list, d)
		}
	}
	d, ok := s.tunedFigure()
	add(tunedSection, d, ok)
	for _, f := range s.searches {
		for _, draw := range []func(s *study) (drawing, bool){f.historyFigure, f.parallelFigure, f.slicesFigure, f.rungsFigure, f.importanceFigure} {
			d, ok := draw(s)
			add(f.section(), d, ok)
		}
	}
	return list
}

// drawnSearch is a drawing of a search.
func (f *found) drawnSearch(s *study, what, title, caption string, fig figure.Figure) (drawing, bool) {
	d := s.drawn(drawing{name: f.name + "_" + what, title: title}, fig)
	d.caption = caption // it shows no domain
	return d, true
}
