package view

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/lipgloss"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/plan"
)

// Plan shows what would be done: a line for each run that has something to
// do, and the counts. Runs that are done are listed too if all is true.
func (v *View) Plan(p *plan.Plan, all bool) {
	experiment, shown := "", false
	for _, a := range p.Actions {
		if a.Symbol == plan.Done && !all {
			continue
		}
		name, cell, _ := strings.Cut(a.Name, "/")
		if name != experiment {
			fmt.Fprintf(v.out, "%s\n", v.bold.Render(name))
			experiment = name
		}
		line := fmt.Sprintf("  %s %s", v.symbol(a.Symbol), strings.ReplaceAll(cell, "/", " "))
		if a.Reason != "" {
			line += v.dim.Render("  " + a.Reason)
		}
		fmt.Fprintln(v.out, clip(line, v.width))
		shown = true
	}
	if shown {
		fmt.Fprintln(v.out)
	}
	fmt.Fprintln(v.out, v.bold.Render(p.Counts().String()))
}

func (v *View) symbol(s plan.Symbol) string {
	style := lipgloss.Style{}
	switch s {
	case plan.New:
		style = v.good
	case plan.Resume:
		style = v.accent
	case plan.Retry:
		style = v.bad
	case plan.Stale:
		style = v.warn
	case plan.Done, plan.Orphan:
		style = v.dim
	}
	return style.Render(s.String())
}

// PlanJSON writes the same for programs.
func (v *View) PlanJSON(p *plan.Plan) error {
	type action struct {
		Action      string        `json:"action"`
		Name        string        `json:"name"`
		ID          string        `json:"id"`
		Reason      string        `json:"reason,omitempty"`
		Step        uint64        `json:"step,omitempty"`
		Train       bool          `json:"train"`
		Evaluations []string      `json:"evaluations,omitempty"`
		Changes     []spec.Change `json:"changes,omitempty"`
	}
	words := map[plan.Symbol]string{
		plan.New: "new", plan.Resume: "resume", plan.Retry: "retry",
		plan.Stale: "stale", plan.Done: "done", plan.Orphan: "orphan",
	}
	actions := []action{}
	for _, a := range p.Actions {
		item := action{
			Action: words[a.Symbol], Name: a.Name, Reason: a.Reason, Step: a.Step,
			Train: a.Train, Changes: a.Changes,
		}
		if a.Shared != nil {
			item.Action = "shared"
		}
		if a.Run != nil {
			item.ID = a.Run.ID
		} else {
			item.ID = a.Stored.ID
		}
		for _, e := range a.Evaluations {
			item.Evaluations = append(item.Evaluations, e.Spec.GetDomain())
		}
		actions = append(actions, item)
	}
	return v.JSON(struct {
		Counts  plan.Counts `json:"counts"`
		Actions []action    `json:"actions"`
	}{p.Counts(), actions})
}
