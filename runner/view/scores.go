package view

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/foreign"
)

// Scores are those of one run on some domains.
type Scores struct {
	Run        string // name
	Checkpoint string // best | last
	Classes    []string
	Domains    []Domain
}

// Domain is what a run scored on one.
type Domain struct {
	Name    string
	ID      string // identity of the evaluation
	Metrics *spec.Metrics
}

// Scores shows a line for each domain: means over the classes, then Dice of
// each.
func (v *View) Scores(s *Scores) {
	columns := []string{"dice/mean", "iou/mean", "boundary/mean", "accuracy"}
	for _, c := range s.Classes {
		columns = append(columns, "dice/"+c)
	}
	t := table{columns: slices.Concat(texts("DOMAIN"), numbers("IMAGES"), numbers(columns...)), stack: true}
	var names []string
	for _, d := range s.Domains {
		names = append(names, d.Name)
	}
	seen := ""
	if len(names) > 1 {
		names, seen = spec.Unseen(names)
	}
	for i, d := range s.Domains {
		row := []string{names[i], strconv.FormatUint(d.Metrics.GetImages(), 10)}
		for _, name := range columns {
			cell := "–"
			if x, ok := metric.Value(d.Metrics, name); ok {
				cell = fmt.Sprintf("%.4f", x)
			}
			row = append(row, cell)
		}
		t.add(row...)
	}
	v.Say("%s, %s weights\n", v.bold.Render(s.Run), s.Checkpoint)
	v.table(t)
	v.seen(seen)
}

// seen says below a table what the names of its domains leave out.
func (v *View) seen(as string) {
	if as != "" {
		v.Say("%s", v.dim.Render("  All domains are seen as "+as+"."))
	}
}

// ScoresJSON is all metrics for programs.
func (v *View) ScoresJSON(s *Scores) error {
	type domain struct {
		Domain  string             `json:"domain"`
		ID      string             `json:"id"`
		Images  uint64             `json:"images"`
		Metrics map[string]float64 `json:"metrics"` // those that have a value
	}
	all := make([]domain, len(s.Domains))
	for i, d := range s.Domains {
		all[i] = domain{d.Name, d.ID, d.Metrics.GetImages(), map[string]float64{}}
		for _, name := range metric.Names(s.Classes) {
			if x, ok := metric.Value(d.Metrics, name); ok {
				all[i].Metrics[name] = x
			}
		}
	}
	return v.JSON(map[string]any{"run": s.Run, "checkpoint": s.Checkpoint, "domains": all})
}

// ScoresCSV is the same, a line for each domain and a column for each metric,
// empty where it has no value.
func (v *View) ScoresCSV(s *Scores) error {
	names := metric.Names(s.Classes)
	lines := [][]string{{"run", "checkpoint", "domain", "images"}}
	for _, name := range names { // they end with the names of classes
		lines[0] = append(lines[0], foreign.CSV(name))
	}
	for _, d := range s.Domains {
		line := []string{foreign.CSV(s.Run), foreign.CSV(s.Checkpoint), foreign.CSV(d.Name), strconv.FormatUint(d.Metrics.GetImages(), 10)}
		for _, name := range names {
			cell := ""
			if x, ok := metric.Value(d.Metrics, name); ok {
				cell = strconv.FormatFloat(x, 'g', -1, 64)
			}
			line = append(line, cell)
		}
		lines = append(lines, line)
	}
	return csv.NewWriter(v.out).WriteAll(lines)
}
