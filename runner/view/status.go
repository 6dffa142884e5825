package view

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/study"
)

// Status is where the runs of an experiment stand.
type Status struct {
	Experiment string
	Metric     string // shown for runs that are done
	Runs       []StatusRun
	Searches   []study.Progress // those that are known
}

// StatusRun is where one run stands.
type StatusRun struct {
	Name    string     // "ablation_rank/rank=8/seed=1"
	ID      string     // identity
	Stored  *store.Run // nil: not started
	Current bool       // someone works on the project
	Over    bool       // its search has ended, so it does not continue where it is paused
}

func (r StatusRun) state() string {
	switch {
	case r.Stored == nil:
		return "not started"
	case r.Stored.Damage != nil:
		return "damaged"
	case r.Stored.State == store.Running && r.Stored.Holder == nil:
		return "interrupted"
	case r.Stored.State == store.Queued && !r.Current:
		return "not started"
	case r.Stored.State == store.Paused && r.Over:
		return string(study.Pruned)
	}
	return string(r.Stored.State)
}

// Cluster is what is known of the workers that were submitted for a project.
type Cluster struct {
	Arrays  []ClusterArray // that may have workers
	Unknown string         // why it is not known what runs; "" if it is
	// Left is how many runs have something to do and no worker, and Command continues them.
	Left    int
	Command string
}

// ClusterArray is an array of workers.
type ClusterArray struct {
	Name    string `json:"name"`
	Running int    `json:"running"`
	Waiting int    `json:"waiting"`
	Reasons string `json:"reasons,omitempty"` // why they wait
}

// Left counts the runs of experiments that have something to do and that nobody works on.
func Left(experiments []Status) int {
	n := 0
	for _, e := range experiments {
		for _, r := range e.Runs {
			switch r.state() {
			case "not started", "interrupted", string(store.Queued), string(store.Stopped):
				n++
			}
		}
	}
	return n
}

// Status shows a table for each experiment, and who works on them.
func (v *View) Status(experiments []Status, holders []store.Holder, on Cluster) {
	for _, a := range on.Arrays {
		text := fmt.Sprintf("array %s: %s running", a.Name, count(a.Running, "worker"))
		if a.Waiting > 0 {
			text += fmt.Sprintf(", %d waiting: %s", a.Waiting, a.Reasons)
		}
		if on.Unknown != "" {
			text = fmt.Sprintf("array %s: it is not known what runs: %s", a.Name, on.Unknown)
		}
		v.Say("%s %s", v.accent.Render("cluster:"), text)
	}
	for _, h := range holders {
		by := ""
		if h.Array == "" { // all workers of an array have one
			by = " (" + h.Command + ")"
		}
		v.Say("%s %s, since %s%s", v.accent.Render("at work:"), h, h.Since.Local().Format(time.DateTime), by)
	}
	if len(holders)+len(on.Arrays) > 0 {
		v.Say("")
	}
	if len(experiments) == 0 {
		v.Say("Nothing was run here yet.")
	}
	for i, e := range experiments {
		if i > 0 {
			v.Say("")
		}
		v.status(e)
	}
	if on.Left > 0 {
		v.Say("")
		v.Say("%s left without a worker. To continue: %s", plural.Form(on.Left, "1 run is", fmt.Sprintf("%d runs are", on.Left)), on.Command)
	}
}

func (v *View) status(e Status) {
	v.Say("%s", v.bold.Render(e.Experiment))
	for _, s := range e.Searches {
		printLine(v.out, clip(v.search(s), v.width))
	}
	if len(e.Runs) == 0 {
		if len(e.Searches) == 0 {
			v.Say("No runs.")
		}
		return
	}
	t := table{columns: slices.Concat(texts("RUN", "STATE"), numbers("STEP", e.Metric), []column{{name: "ENDED", spare: 1}}, texts("ID"))}
	counts := map[string]int{}
	for _, r := range e.Runs {
		state := r.state()
		counts[state]++
		row := []string{strings.TrimPrefix(r.Name, e.Experiment+"/"), v.state(state), "", "", "", r.ID[:min(12, len(r.ID))]}
		if s := r.Stored; s != nil {
			if s.Steps > 0 {
				row[2] = fmt.Sprintf("%d/%d", s.Step, s.Steps)
			} else if s.Step > 0 {
				row[2] = fmt.Sprint(s.Step)
			}
			row[3] = tested(s, e.Metric)
			if !s.Ended.IsZero() {
				row[4] = s.Ended.Local().Format("2006-01-02 15:04")
			}
		}
		t.rows = append(t.rows, row)
	}
	v.table(t)
	for _, r := range e.Runs {
		if r.Stored != nil && r.Stored.State == store.Failed {
			v.Say("%s %s: %s", v.bad.Render("failed:"), r.Name, r.Stored.Reason)
		}
		if r.Stored != nil && r.Stored.Damage != nil {
			v.Say("%s %s: %s; %s", v.bad.Render("damaged:"), r.Name, r.Stored.Damage, r.Stored.Cure())
		}
	}
	var parts []string
	for state, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, state))
	}
	sort.Slice(parts, func(i, j int) bool {
		return parts[i][strings.Index(parts[i], " "):] < parts[j][strings.Index(parts[j], " "):]
	})
	v.Say("%s", v.bold.Render(strings.Join(parts, ", ")+"."))
}

// tested is a metric of a run on its test images, at the model's size if it was
// scored so.
func tested(run *store.Run, name string) string {
	scored := run.Scored()
	for _, domain := range slices.Sorted(maps.Keys(scored)) {
		if plain, _, _ := strings.Cut(domain, "@"); plain == "test" {
			if value, ok := metric.Value(run.Named(scored[domain].GetMetrics()), name); ok {
				return score(value)
			}
		}
	}
	return ""
}

func (v *View) state(state string) string {
	switch state {
	case string(store.Done):
		return v.good.Render(state)
	case string(store.Running):
		return v.accent.Render(state)
	case string(store.Failed), "damaged":
		return v.bad.Render(state)
	case string(store.Stopped), string(store.Paused), "interrupted":
		return v.warn.Render(state)
	}
	return v.dim.Render(state)
}

// StatusJSON writes the same for programs.
func (v *View) StatusJSON(experiments []Status, holders []store.Holder, on Cluster) error {
	type run struct {
		Name        string                     `json:"name"`
		ID          string                     `json:"id"`
		State       string                     `json:"state"`
		Step        uint64                     `json:"step"`
		Steps       uint64                     `json:"steps"`
		Attempts    int                        `json:"attempts"`
		Reason      string                     `json:"reason,omitempty"`
		Damage      *store.Damage              `json:"damage,omitempty"`
		Process     int                        `json:"process,omitempty"` // that works on it
		Dir         string                     `json:"dir,omitempty"`
		Started     *time.Time                 `json:"started,omitempty"`
		Ended       *time.Time                 `json:"ended,omitempty"`
		Evaluations map[string]json.RawMessage `json:"evaluations,omitempty"`
		Rungs       []rung                     `json:"rungs,omitempty"`
	}
	type experiment struct {
		Name   string `json:"name"`
		Metric string `json:"metric"`
		Runs   []run  `json:"runs"`
	}
	all := []experiment{}
	for _, e := range experiments {
		item := experiment{Name: e.Experiment, Metric: e.Metric, Runs: []run{}}
		for _, r := range e.Runs {
			row := run{Name: r.Name, ID: r.ID, State: r.state()}
			if s := r.Stored; s != nil {
				row.Step, row.Steps, row.Attempts, row.Reason, row.Dir = s.Step, s.Steps, s.Attempts, s.Reason, s.Dir
				row.Damage = s.Damage
				if s.Holder != nil {
					row.Process = s.Holder.PID
				}
				row.Started, row.Ended = moment(s.Started), moment(s.Ended)
				row.Evaluations = map[string]json.RawMessage{}
				for _, evaluated := range s.Scored() {
					text, err := rundir.Marshal(s.Named(evaluated.GetMetrics()))
					if err != nil {
						return fmt.Errorf("writing the metrics of %s: %w", r.Name, err)
					}
					row.Evaluations[evaluated.GetDomain()] = text
				}
				var err error
				if row.Rungs, err = rungs(s); err != nil {
					return err
				}
			}
			item.Runs = append(item.Runs, row)
		}
		all = append(all, item)
	}
	return v.JSON(struct {
		Experiments []experiment   `json:"experiments"`
		Holders     []store.Holder `json:"holders,omitempty"`
		Arrays      []ClusterArray `json:"arrays,omitempty"`
		Unknown     string         `json:"unknown,omitempty"` // of the arrays: why nothing is known
	}{all, holders, on.Arrays, on.Unknown})
}

// rung is the validation of a run at a step where it paused, for programs.
type rung struct {
	Step    uint64          `json:"step"`
	Metrics json.RawMessage `json:"metrics"`
}

func rungs(run *store.Run) ([]rung, error) {
	var all []rung
	for _, r := range run.Rungs {
		text, err := rundir.Marshal(run.Named(r.Metrics))
		if err != nil {
			return nil, fmt.Errorf("writing the metrics of %s after step %d: %w", run.Name(), r.Step, err)
		}
		all = append(all, rung{r.Step, text})
	}
	return all, nil
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
