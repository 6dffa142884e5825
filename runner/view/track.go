package view

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/track"
	"github.com/loralab/loralab/runner/wandb"
)

// Pushed says how many runs each tracker shows.
func (v *View) Pushed(runs map[string]int) {
	for _, sink := range slices.Sorted(maps.Keys(runs)) {
		v.Say("%s shows %s", sink, plural.Of(runs[sink], "run"))
	}
}

// Tracked says how people see the runs in trackers, a line each.
func (v *View) Tracked(lines []string) {
	for _, line := range lines {
		v.Say("%s", line)
	}
}

// Behind says that trackers lack a part of some runs, and what sends it.
func (v *View) Behind(runs int, files []string) {
	v.Warn(fmt.Sprintf("trackers lack a part of %s; what is missing is sent by: runner track push %s", plural.Of(runs, "run"), strings.Join(files, " ")))
}

// Synced says what became of the logs of W&B in a directory. What all of several failed
// with is said once.
func (v *View) Synced(root string, results []wandb.Result) {
	if len(results) == 0 {
		v.Say("there is nothing to send in %s", filepath.Join(root, "wandb"))
	}
	failed := map[string]int{}
	for _, r := range results {
		if r.Err != nil {
			failed[r.Err.Error()]++
		}
	}
	for _, r := range results {
		if rel, err := filepath.Rel(root, r.Dir); err == nil && filepath.IsLocal(rel) {
			r.Dir = rel
		}
		switch {
		case errors.Is(r.Err, context.Canceled):
			if n := failed[r.Err.Error()]; n > 0 {
				v.Warn(fmt.Sprintf("stopped: %s %s not sent completely; \"runner track sync\" sends the rest", plural.Of(n, "log"), plural.Form(n, "was", "were")))
				failed[r.Err.Error()] = 0
			}
			continue
		case r.Err != nil && failed[r.Err.Error()] == 0:
			continue
		case r.Err != nil:
			if more := failed[r.Err.Error()] - 1; more > 0 {
				r.Dir += fmt.Sprintf(" and %d more", more)
			}
			failed[r.Err.Error()] = 0
			v.Warn(fmt.Sprintf("%s: %v", r.Dir, r.Err))
		case r.Already:
			v.Say("%s was sent before", r.Dir)
		default:
			v.Say("%s  %s, %s  %s", r.Dir, plural.Of(r.Rows, "row"), plural.Of(r.Files, "file"), r.URL)
		}
		for _, refused := range r.Refused[min(1, len(r.Refused)):] { // the first is the error's
			v.Warn(refused)
		}
	}
}

// History is what was logged at each step of a run.
type History struct {
	Run  string
	Rows []*track.Row
}

// tagsOf are the tags of histories, those of epoch and training first.
func tagsOf(all []History) []string {
	seen := map[string]bool{}
	for _, h := range all {
		for _, row := range h.Rows {
			for tag := range row.Values {
				seen[tag] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// HistoryCSV writes a line for each run and step, with a column for each tag; what a step
// does not have is empty.
func (v *View) HistoryCSV(all []History) error {
	w := csv.NewWriter(v.out)
	tags := tagsOf(all)
	head := []string{"run", "step"}
	for _, tag := range tags {
		head = append(head, foreign.CSV(tag))
	}
	err := w.Write(head)
	for _, h := range all {
		for _, row := range h.Rows {
			line := []string{foreign.CSV(h.Run), strconv.FormatInt(row.Step, 10)}
			for _, tag := range tags {
				text := ""
				if value, ok := row.Values[tag]; ok {
					text = strconv.FormatFloat(value, 'g', -1, 64)
				}
				line = append(line, text)
			}
			if err == nil {
				err = w.Write(line)
			}
		}
	}
	w.Flush()
	if err == nil {
		err = w.Error()
	}
	return err
}

// HistoryJSON writes histories as JSON. A number that JSON does not have is "NaN",
// "Infinity" or "-Infinity".
func (v *View) HistoryJSON(all []History) error {
	type row struct {
		Step   int64          `json:"step"`
		Values map[string]any `json:"values"`
	}
	type run struct {
		Run  string `json:"run"`
		Rows []row  `json:"rows"`
	}
	runs := make([]run, 0, len(all))
	for _, h := range all {
		r := run{Run: h.Run, Rows: []row{}}
		for _, from := range h.Rows {
			values := map[string]any{}
			for tag, value := range from.Values {
				switch {
				case math.IsNaN(value):
					values[tag] = "NaN"
				case math.IsInf(value, 1):
					values[tag] = "Infinity"
				case math.IsInf(value, -1):
					values[tag] = "-Infinity"
				default:
					values[tag] = value
				}
			}
			r.Rows = append(r.Rows, row{from.Step, values})
		}
		runs = append(runs, r)
	}
	return v.JSON(runs)
}

// Histories shows the validations of runs, or all steps of those that have none.
func (v *View) Histories(all []History) {
	tags := []string{"epoch", "train/loss", "val/loss", "val/dice/mean", "val/iou/mean", "val/accuracy"}
	t := table{columns: append(texts("run"), numbers(append([]string{"step"}, tags...)...)...), stack: true}
	for _, h := range all {
		validated := slices.ContainsFunc(h.Rows, isValidation)
		for _, row := range h.Rows {
			if validated && !isValidation(row) {
				continue
			}
			cells := []string{h.Run, strconv.FormatInt(row.Step, 10)}
			for _, tag := range tags {
				switch value, ok := row.Values[tag]; {
				case !ok:
					cells = append(cells, "")
				case tag == "epoch":
					cells = append(cells, strconv.FormatFloat(value, 'g', -1, 64))
				default:
					cells = append(cells, score(value))
				}
			}
			t.add(cells...)
		}
	}
	if len(t.rows) == 0 {
		v.Say("nothing was logged yet")
		return
	}
	v.table(t)
}

func isValidation(row *track.Row) bool {
	_, ok := row.Values["val/loss"]
	return ok
}
