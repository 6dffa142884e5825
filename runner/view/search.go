package view

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/format"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/study"
)

// SearchBest writes the best points of searches as CUE, and warns of searches without one.
func (v *View) SearchBest(winners []*study.Winner, without []string) error {
	var b strings.Builder
	for i, w := range winners {
		if i > 0 {
			b.WriteByte('\n')
		}
		var seeds []string
		for _, m := range w.Trial.Runs {
			seeds = append(seeds, strconv.FormatUint(m.Seed, 10))
		}
		how := "best so far"
		if w.Over {
			how = "best"
		}
		fmt.Fprintf(&b, "// %s: %s of validation %.4g, trial %d, %s %s; %s of %s\n", comment(w.Name()), comment(w.Objective), w.Trial.Value, w.Trial.Number,
			plural.Form(len(seeds), "seed", "seeds"), strings.Join(seeds, ", "), how, count(len(w.Trials), "trial"))
		if w.Excerpt.Case {
			b.WriteString("// A case, which takes the place of this cell of vary, zip or ablate.\n")
		}
		fmt.Fprintf(&b, "%s: {\n", cueLabels(w.Excerpt.Place))
		for _, f := range w.Excerpt.Fields {
			fmt.Fprintf(&b, "%s: %s", cueLabels(f.Labels), valueText(f.Value))
			if f.In.File != "" {
				fmt.Fprintf(&b, " // in place of %s:%d", comment(f.In.File), f.In.Line)
			}
			b.WriteByte('\n')
		}
		b.WriteString("}\n")
	}
	if len(without) > 0 {
		v.Warn("without a complete trial yet: " + comment(strings.Join(without, ", ")))
	}
	return v.cue(b.String())
}

// cue writes formatted CUE.
func (v *View) cue(text string) error {
	formatted, err := format.Source([]byte(text))
	if err != nil {
		return fmt.Errorf("writing CUE: %w", err)
	}
	return v.Raw(bytes.NewReader(formatted))
}

// cueLabels are names of fields below each other.
func cueLabels(names []string) string {
	labels := make([]string, len(names))
	for i, name := range names {
		labels[i] = string(escapedJSON([]byte(cue.Str(name).String())))
	}
	return strings.Join(labels, ": ")
}

// comment is a text in a comment of one line.
func comment(text string) string { return foreign.Line(text) }

// valueText is a value as CUE and JSON have it.
func valueText(value any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return fmt.Sprint(value)
	}
	return strings.TrimSpace(string(escapedJSON([]byte(b.String()))))
}

// SearchTrials lists the trials of searches, a table for each.
func (v *View) SearchTrials(studies []study.Listing) {
	for i, s := range studies {
		if i > 0 {
			v.Say("")
		}
		v.Say("%s  %s", v.bold.Render(s.Name()), v.dim.Render(s.Objective+" of validation"))
		if len(s.Trials) == 0 {
			v.Say("  no trial yet")
			continue
		}
		var names []string
		for _, p := range s.Paths {
			names = append(names, paramName(p))
		}
		t := table{columns: slices.Concat(numbers("TRIAL"), texts("STATE"), numbers("VALUE", "STEPS"), numbers(names...), texts("RUN", "WHY")), indent: 2}
		t.columns[len(t.columns)-2].spare = 1
		for _, trial := range s.Trials {
			state := string(trial.State)
			if s.Best != nil && *s.Best == trial.Number {
				state = "best"
			}
			row := []string{strconv.Itoa(trial.Number), state, optional(valueOf(trial), score), strconv.FormatUint(trial.Steps, 10)}
			for _, p := range s.Paths {
				row = append(row, settingText(trial, p, true))
			}
			var ids []string
			for _, m := range trial.Runs {
				ids = append(ids, m.ID[:min(12, len(m.ID))])
			}
			why := trial.Reason
			if trial.State == study.Paused || trial.State == study.Pruned {
				why = fmt.Sprintf("after step %d", trial.Step)
			}
			t.add(append(row, strings.Join(ids, " "), why)...)
		}
		if !slices.ContainsFunc(t.rows, func(r []string) bool { return r[len(r)-1] != "" }) {
			t.columns = t.columns[:len(t.columns)-1]
			for i, r := range t.rows {
				t.rows[i] = r[:len(r)-1]
			}
		}
		v.table(t)
		if s.Foreign > 0 {
			v.note(fmt.Sprintf("%s of an earlier form of the file left out", count(s.Foreign, "trial")))
		}
	}
}

// valueOf is the value of a trial that has one.
func valueOf(t *study.Trial) *float64 {
	if t.State == study.Open || t.State == study.Failed || math.IsNaN(t.Value) || math.IsInf(t.Value, 0) {
		return nil
	}
	return &t.Value
}

// pathsOf are all paths that are searched.
func pathsOf(studies []study.Listing) (paths []string) {
	for _, s := range studies {
		for _, p := range s.Paths {
			if !slices.Contains(paths, p) {
				paths = append(paths, p)
			}
		}
	}
	return paths
}

// settingText is the value of a trial at a path, "" for none.
func settingText(t *study.Trial, path string, short bool) string {
	for _, g := range t.Point {
		if g.Path != path {
			continue
		}
		switch value := g.Value.(type) {
		case string:
			return value
		case float64:
			if short {
				return fmt.Sprintf("%.4g", value)
			}
		}
		return valueText(g.Value)
	}
	return ""
}

// SearchTrialsJSON writes the same for programs.
func (v *View) SearchTrialsJSON(studies []study.Listing) error {
	type rung struct {
		Step  uint64   `json:"step"`
		Value *float64 `json:"value"`
	}
	type run struct {
		Seed uint64 `json:"seed"`
		ID   string `json:"id"`
	}
	type trial struct {
		Number     int         `json:"number"`
		State      study.State `json:"state"`
		Start      bool        `json:"start"`
		Value      *float64    `json:"value"`
		Step       uint64      `json:"step,omitempty"`
		Steps      uint64      `json:"steps"`
		Parameters study.Point `json:"parameters"`
		Rungs      []rung      `json:"rungs"`
		Reason     string      `json:"reason,omitempty"`
		Runs       []run       `json:"runs"`
	}
	type search struct {
		Experiment string  `json:"experiment"`
		Cell       string  `json:"cell"`
		Objective  string  `json:"objective"`
		Over       bool    `json:"over"`
		Best       *int    `json:"best"` // the number of a trial
		Trials     []trial `json:"trials"`
	}
	all := []search{}
	for _, s := range studies {
		of := search{Experiment: s.Experiment, Cell: s.Cell, Objective: s.Objective, Over: s.Over, Best: s.Best, Trials: []trial{}}
		for _, t := range s.Trials {
			item := trial{
				Number: t.Number, State: t.State, Start: t.Start, Value: valueOf(t), Step: t.Step, Steps: t.Steps,
				Parameters: t.Point, Rungs: []rung{}, Reason: t.Reason, Runs: []run{},
			}
			for _, r := range t.Rungs {
				item.Rungs = append(item.Rungs, rung{r.Step, finite(r.Value)})
			}
			for _, m := range t.Runs {
				item.Runs = append(item.Runs, run{m.Seed, m.ID})
			}
			of.Trials = append(of.Trials, item)
		}
		all = append(all, of)
	}
	return v.JSON(all)
}

// finite is a number that JSON can have.
func finite(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

// SearchTrialsCSV writes the same in full precision, a line for each trial.
func (v *View) SearchTrialsCSV(studies []study.Listing) error {
	w := csv.NewWriter(v.out)
	paths := pathsOf(studies)
	header := []string{"experiment", "cell", "trial", "state", "start", "objective", "value", "step", "steps"}
	for _, p := range paths {
		header = append(header, foreign.CSV(p))
	}
	lines := [][]string{append(header, "reason", "runs")}
	for _, s := range studies {
		for _, t := range s.Trials {
			line := []string{foreign.CSV(s.Experiment), foreign.CSV(s.Cell), strconv.Itoa(t.Number), foreign.CSV(string(t.State)), strconv.FormatBool(t.Start), foreign.CSV(s.Objective)}
			line = append(line, optional(valueOf(t), func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }))
			step := ""
			if t.Step > 0 {
				step = strconv.FormatUint(t.Step, 10)
			}
			line = append(line, step, strconv.FormatUint(t.Steps, 10))
			for _, p := range paths {
				line = append(line, foreign.CSV(settingText(t, p, false)))
			}
			var ids []string
			for _, m := range t.Runs {
				ids = append(ids, m.ID)
			}
			lines = append(lines, append(line, foreign.CSV(t.Reason), foreign.CSV(strings.Join(ids, " "))))
		}
	}
	return w.WriteAll(lines)
}

// SearchExported says what was written.
func (v *View) SearchExported(file string, studies []study.Listing) {
	for _, s := range studies {
		v.Say("%s  %s", s.Name(), count(len(s.Trials), "trial"))
	}
	v.Say("")
	v.Say("written to %s; to see them: optuna-dashboard %s", file, file)
}

// SearchImported writes the points that a search may start with as CUE.
func (v *View) SearchImported(experiment, file string, all []study.Imported) error {
	var b strings.Builder
	fmt.Fprintf(&b, "// From %s, in place of search.start where the file has it.\n%s: search: start: [\n", comment(file), cueLabels([]string{experiment}))
	for _, in := range all {
		if len(in.Points) > 0 {
			fmt.Fprintf(&b, "// Study %s, the best first.\n", comment(in.Study))
		}
		for _, p := range in.Points {
			fmt.Fprintf(&b, "%s, // trial %d, %.4g\n", valueText(p.Point), p.Trial, p.Value)
		}
	}
	b.WriteString("]\n")
	return v.cue(b.String())
}
