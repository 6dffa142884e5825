// Package plan says what has to be done: it holds the runs that the
// experiments ask for against what is known to be done, and gives each an
// action with its reason. Making a plan changes nothing.
package plan

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/ensemble"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

// Symbol is what is done about a run; the rune is what people see.
type Symbol rune

const (
	New    Symbol = '+'
	Resume Symbol = '»' // goes on at a checkpoint, or scores what is missing
	Retry  Symbol = '!' // failed before
	Stale  Symbol = '~' // the cell has results, though of another specification
	Done   Symbol = '='
	Orphan Symbol = '-' // has results, though the file asks for it no more
	Broken Symbol = 'x' // cannot be read, and nothing makes it again by itself
)

func (s Symbol) String() string { return string(s) }

// MarshalText writes the symbol itself, not its number.
func (s Symbol) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Symbol) UnmarshalText(text []byte) error {
	r := []rune(string(text))
	if len(r) != 1 {
		return fmt.Errorf("%q is no symbol of a plan", text)
	}
	*s = Symbol(r[0])
	return nil
}

// Action is what is done about one run.
type Action struct {
	Symbol Symbol
	Name   string          // "ablation_rank/rank=8/seed=1"
	Run    *experiment.Run // nil: an orphan
	Stored *store.Run      // nil: not known yet
	Reason string

	// Train is false where weights are there and only evaluations miss.
	Train       bool
	Evaluations []experiment.Evaluation // missing; all where it trains
	Step        uint64                  // the checkpoint to go on at
	Changes     []spec.Change           // what made it stale
	// Shared is the action that does the work of this one: another cell that
	// is the same run.
	Shared *Action
}

// Works reports whether the action has work to do.
func (a *Action) Works() bool {
	return a.Shared == nil && (a.Train || len(a.Evaluations) > 0)
}

// Plan is the actions of some experiments: runs in the order of the files,
// then orphans.
type Plan struct {
	Actions []*Action
	// Ensembles are those with something to score, once their members are trained.
	Ensembles []Ensemble
	// Unselected is how many runs were left out on request, and UnselectedSearches how
	// many searches.
	Unselected, UnselectedSearches int
	// Searches have trials to come.
	Searches []Search
}

// Ensemble is an ensemble with evaluations that miss.
type Ensemble struct {
	*ensemble.Ensemble
	Missing []experiment.Evaluation
}

// addEnsembles adds the ensembles of an experiment whose members are all selected.
func (p *Plan) addEnsembles(e *experiment.Experiment, root string, only Selection) error {
	for _, one := range ensemble.Of(e) {
		if slices.ContainsFunc(one.Members, func(m *experiment.Run) bool { return !only.Has(m.Name()) }) {
			continue
		}
		missing, err := one.Missing(root)
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			p.Ensembles = append(p.Ensembles, Ensemble{one, missing})
		}
	}
	return nil
}

// Domains names what an ensemble is to be scored on.
func (e Ensemble) Domains() string { return domains(e.Missing) }

// Make plans the selected runs of experiments against what is known.
func Make(experiments []*experiment.Experiment, known *store.Snapshot, only Selection) (*Plan, error) {
	if err := only.check(experiments); err != nil {
		return nil, err
	}
	p := &Plan{}
	// The run with results that a cell had last.
	newest := map[cell]*store.Run{}
	for _, l := range known.Labels {
		if run := known.Runs[l.Run]; run != nil && (run.Summary != nil || run.Checkpoint > 0) {
			newest[cell{l.Experiment, l.Cell, l.Repeat()}] = run
		}
	}
	first := map[string]*Action{} // by identity
	asked := map[cell]bool{}
	of := map[string]*experiment.Experiment{}
	for _, e := range experiments {
		of[e.Name] = e
		if err := p.addEnsembles(e, known.Root, only); err != nil {
			return nil, err
		}
		for _, run := range e.Runs {
			at := cell{run.Experiment, run.Cell, run.Repeat()}
			asked[at] = true
			if !only.Has(run.Name()) {
				p.Unselected++
				continue
			}
			a := &Action{Name: run.Name(), Run: run, Stored: known.Run(run.ID)}
			if err := a.decide(newest[at], known); err != nil {
				return nil, err
			}
			if same := first[run.ID]; same == nil {
				first[run.ID] = a
			} else {
				a.share(same)
			}
			p.Actions = append(p.Actions, a)
		}
	}
	for _, l := range known.Labels {
		at := cell{l.Experiment, l.Cell, l.Repeat()}
		run := newest[at]
		if of[l.Experiment] == nil || of[l.Experiment].Searches(l.Cell) || asked[at] || run == nil || run.ID != l.Run || !only.Has(l.Name()) {
			continue
		}
		p.Actions = append(p.Actions, &Action{
			Symbol: Orphan, Name: l.Name(), Stored: run, Reason: "no longer asked for",
		})
	}
	return p, nil
}

type cell struct {
	experiment, cell string
	repeat           name.Repeat
}

// decide sets what to do about a run by itself. Had is what its cell had last.
func (a *Action) decide(had *store.Run, known *store.Snapshot) error {
	stored := a.Stored
	if stored != nil && stored.Damage != nil {
		if !stored.Damage.Again {
			a.Symbol, a.Reason = Broken, stored.Damage.String()+"; "+stored.Cure()
			return nil
		}
		defer a.redo(stored)
		if stored.ID != a.Run.ID { // nothing of it is known
			stored, a.Stored = nil, nil
		}
	}
	a.Train = stored == nil || stored.Summary == nil
	for _, e := range a.Run.Evaluations {
		// Scores next to weights that are still to be trained may be of others: the
		// engine removes them where the training begins again.
		if a.Train || stored.Evaluations[e.ID] == nil {
			a.Evaluations = append(a.Evaluations, e)
		}
	}
	switch {
	case stored == nil && had != nil:
		a.Symbol = Stale
		old, err := had.Spec()
		if err != nil {
			a.Reason = "what the cell was before cannot be read"
			return nil
		}
		a.Changes = spec.Diff(old, a.Run.Spec)
		if slices.ContainsFunc(a.Changes, ofProgram) {
			a.Changes = slices.Concat(asked(known.Root, had, a.Run), a.Changes)
		}
		a.Reason = moved(a.Changes)
	case stored == nil:
		a.Symbol = New
	case !a.Train && len(a.Evaluations) == 0:
		a.Symbol = Done
	case stored.State == store.Failed:
		a.Symbol, a.Step = Retry, stored.Checkpoint
		a.Reason = "failed: " + stored.Reason
		if a.Train && a.Step > 0 {
			a.Reason += fmt.Sprintf("; goes on after step %d", a.Step)
		}
	case !a.Train:
		a.Symbol, a.Reason = Resume, "evaluate on "+domains(a.Evaluations)
	case stored.Checkpoint > 0:
		a.Symbol, a.Step = Resume, stored.Checkpoint
		a.Reason = fmt.Sprintf("resume after step %d", stored.Checkpoint)
		if stored.Steps > 0 {
			a.Reason += fmt.Sprintf(" of %d", stored.Steps)
		}
		if stored.State == store.Paused {
			a.Reason += ", where a search has paused it"
		}
	case stored.State == store.Paused: // before the first step
		a.Symbol, a.Reason = New, "a search has paused it"
	case stored.Attempts > 0:
		a.Symbol, a.Reason = New, "ended before its first checkpoint"
	default:
		a.Symbol = New
	}
	if h := holder(stored); h != nil && a.Symbol != Done {
		a.Reason = "at work: " + h.String()
		if a.Step > 0 {
			a.Reason += fmt.Sprintf(", after step %d of %d", a.Step, stored.Steps)
		}
	}
	return nil
}

// holder is the worker of a cluster that has a run; nil if none has.
func holder(run *store.Run) *store.Holder {
	if run == nil || run.Holder == nil || run.Holder.Array == "" {
		return nil
	}
	return run.Holder
}

// redo says of an action what was damaged that it makes again.
func (a *Action) redo(stored *store.Run) {
	if a.Symbol == Done {
		return // it is of something else
	}
	reason := stored.Damage.String()
	if a.Train && a.Step == 0 {
		a.Symbol = Retry
		reason += "; begins again"
	} else if a.Reason != "" {
		reason += "; " + a.Reason
	}
	a.Reason = reason
}

// share leaves the work of a to the action of another cell with the same run,
// which then scores what either asks for.
func (a *Action) share(with *Action) {
	with.Run = reaching(with.Run, a.Run)
	has := map[string]bool{}
	for _, e := range with.Evaluations {
		has[e.ID] = true
	}
	for _, e := range a.Evaluations {
		if !has[e.ID] {
			with.Evaluations = append(with.Evaluations, e)
		}
	}
	if with.Symbol == Done && len(with.Evaluations) > 0 {
		with.Symbol, with.Reason = Resume, "evaluate on "+domains(with.Evaluations)
	}
	if a.Symbol == Done {
		return
	}
	if a.Symbol == Broken {
		return // no work is done for either
	}
	a.Shared, a.Symbol, a.Reason, a.Changes = with, with.Symbol, "the same run as "+with.Name, nil
}

// reaching is a run that finds the files of another cell too: the images that only
// the other is scored on.
func reaching(run, other *experiment.Run) *experiment.Run {
	with := *run
	with.Places = proto.CloneOf(run.Places)
	if with.Places == nil {
		with.Places = &spec.Places{}
	}
	for digest, files := range other.Places.GetFiles() {
		if with.Places.Files == nil {
			with.Places.Files = map[string]*spec.Files{}
		}
		if with.Places.Files[digest] == nil {
			with.Places.Files[digest] = files
		}
	}
	for digest, file := range other.Places.GetNetworks() {
		if with.Places.Networks == nil {
			with.Places.Networks = map[string]string{}
		}
		if with.Places.Networks[digest] == "" {
			with.Places.Networks[digest] = file
		}
	}
	return &with
}

func domains(evaluations []experiment.Evaluation) string {
	var names []string
	for _, e := range evaluations {
		names = append(names, e.Spec.GetDomain())
	}
	return strings.Join(names, ", ")
}

// Work lists the actions that have work to do, in order.
func (p *Plan) Work() []*Action {
	var work []*Action
	for _, a := range p.Actions {
		if a.Works() {
			work = append(work, a)
		}
	}
	return work
}

// Counts is how many runs there are of each kind. Runs shared by several cells
// count once.
type Counts struct {
	New    int `json:"new"`
	Resume int `json:"resume"`
	Retry  int `json:"retry"`
	Stale  int `json:"stale"`
	Done   int `json:"done"`
	Orphan int `json:"orphan"`
	Shared int `json:"shared"` // cells that another cell's run serves
	Broken int `json:"broken"`
	// Ensembles counts those that are to be scored.
	Ensembles int `json:"ensembles,omitempty"`
	// Searches counts those that have trials to come, NewSearches those of them that
	// have none yet.
	Searches    int `json:"searches,omitempty"`
	NewSearches int `json:"new_searches,omitempty"`
}

// Counts counts the actions.
func (p *Plan) Counts() Counts {
	c := Counts{Ensembles: len(p.Ensembles), Searches: len(p.Searches)}
	for _, s := range p.Searches {
		if s.Made == 0 {
			c.NewSearches++
		}
	}
	for _, a := range p.Actions {
		switch {
		case a.Shared != nil:
			c.Shared++
		case a.Symbol == New:
			c.New++
		case a.Symbol == Resume:
			c.Resume++
		case a.Symbol == Retry:
			c.Retry++
		case a.Symbol == Stale:
			c.Stale++
		case a.Symbol == Done:
			c.Done++
		case a.Symbol == Orphan:
			c.Orphan++
		case a.Symbol == Broken:
			c.Broken++
		}
	}
	return c
}

// String is the line below a plan: "Plan: 12 new, 3 to resume, 15 done."
// Scripts read it: kinds keep their order and words, and those that do not
// occur are left out.
func (c Counts) String() string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(c.New, "new")
	add(c.Resume, "to resume")
	add(c.Retry, "to retry")
	add(c.Stale, "stale")
	add(c.Shared, "shared")
	add(c.Done, "done")
	add(c.Orphan, "orphaned")
	add(c.Broken, "damaged")
	if n := c.Ensembles; n == 1 {
		add(n, "ensemble to score")
	} else {
		add(n, "ensembles to score")
	}
	if n := c.NewSearches; n == 1 {
		add(n, "new search")
	} else {
		add(n, "new searches")
	}
	if n := c.Searches - c.NewSearches; n == 1 {
		add(n, "search to continue")
	} else {
		add(n, "searches to continue")
	}
	if len(parts) == 0 {
		return "Plan: no runs."
	}
	return "Plan: " + strings.Join(parts, ", ") + "."
}
