package view

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/study"
)

// search is a search in one line: how it searches, how far it is, and its best.
func (v *View) search(s study.Progress) string {
	budget := count(s.Trials, "trial")
	if s.Trials == 0 {
		budget = fmt.Sprintf("trials for %s steps", amount(s.Steps))
	}
	how := s.Sampler
	if s.Pruner != "none" {
		how += " + " + s.Pruner
	}
	line := fmt.Sprintf("%s %s  %s of %s, %s", v.accent.Render("?"), s.Cell, budget, count(s.Parameters, "parameter"), how)
	var parts []string
	for _, c := range []struct {
		state study.State
		word  string
	}{
		{study.Complete, "done"}, {study.Paused, "paused"}, {study.Pruned, "pruned"}, {study.Failed, "failed"}, {study.Open, "to continue"},
	} {
		if n := s.Counts[c.state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, c.word))
		}
	}
	if len(parts) > 0 {
		line += "; " + strings.Join(parts, ", ")
	}
	if s.Over {
		line += "; over"
	}
	if s.Best != nil {
		line += fmt.Sprintf("; best %s at %s", score(s.Best.Value), pointText(s.Best.Point))
	}
	if s.Foreign > 0 {
		line += fmt.Sprintf("; %d of an earlier form of the file", s.Foreign)
	}
	if s.Share.Valid < s.Share.Points {
		about := ""
		if !s.Share.Whole {
			about = "about "
		}
		line += v.dim.Render(fmt.Sprintf("  %s%.0f %% of the space can be trained", about, 100*s.Share.Fraction()))
	}
	return line
}

// pointText is a point in words: "rank 8, lr.adapter 0.001".
func pointText(point []experiment.Setting) string {
	var parts []string
	for _, g := range point {
		var text string
		switch value := g.Value.(type) {
		case float64:
			text = fmt.Sprintf("%.4g", value)
		default:
			b, _ := json.Marshal(value)
			text = string(b)
		}
		parts = append(parts, paramName(g.Path)+" "+text)
	}
	return strings.Join(parts, ", ")
}

// paramName is a path where there is little room: "rank", "lr.adapter".
func paramName(path string) string {
	names := strings.Split(path, ".")
	name := names[len(names)-1]
	if len(names) > 2 && names[len(names)-2] == "lr" {
		name = "lr." + name
	}
	return name
}
