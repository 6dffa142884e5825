// Package optunalog writes and reads studies as Optuna's journal files, one JSON
// object a line, which Optuna 5 and its dashboard open:
//
//	storage = JournalStorage(JournalFileBackend("out.log"))
//	study = optuna.load_study(study_name=name, storage=storage)
package optunalog

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/space"
)

// Study is a study to be written.
type Study struct {
	Name      string
	Direction search.Direction
	Space     *space.Space
	// Metric is the name of the objective. It may be empty.
	Metric string
	// Attrs are what else is known of the study, as JSON values.
	Attrs  map[string]any
	Trials []Trial
}

// Trial is a trial to be written.
type Trial struct {
	search.Trial
	// Values are those of the objective by step.
	Values     map[int]float64
	Start, End time.Time
	// Attrs are what else is known of the trial, as JSON values.
	Attrs map[string]any
}

// The numbers of Optuna's operations, states and directions.
const (
	createStudy        = 0
	deleteStudy        = 1
	studyAttr          = 2
	studySystemAttr    = 3
	createTrial        = 4
	setParam           = 5
	setState           = 6
	setValue           = 7
	setTrialAttr       = 8
	setTrialSystemAttr = 9
	discardTrials      = 10

	running, complete, pruned, failed, waiting = 0, 1, 2, 3, 4

	minimize, maximize = 1, 2

	metricNames = "study:metric_names"
	worker      = "loralab"
	timeFormat  = "2006-01-02T15:04:05.000000-07:00"
)

// Write writes studies. Optuna numbers trials by their order: they are written
// by number, and a study without gaps keeps its numbers.
//
// Optuna knows no paused trials: they are pruned. A complete trial whose value is
// not finite is written as failed, since Optuna would take NaN for the best
// value, and values of steps that are not finite are left out. A choice that is
// no string, number, boolean or null is written as its JSON text.
func Write(w io.Writer, studies ...Study) error {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	for i, s := range studies {
		lines, err := s.lines(i)
		if err != nil {
			return fmt.Errorf("study %q: %w", s.Name, err)
		}
		for _, line := range lines {
			if err := e.Encode(line); err != nil {
				return err
			}
		}
	}
	return b.Flush()
}

// lines are the operations that make a study, id counting those of the file.
func (s Study) lines(id int) ([]any, error) {
	direction := minimize
	if s.Direction == search.Maximize {
		direction = maximize
	}
	lines := []any{map[string]any{"op_code": createStudy, "worker_id": worker, "study_name": s.Name, "directions": []int{direction}}}
	for _, key := range keys(s.Attrs) {
		lines = append(lines, map[string]any{"op_code": studyAttr, "worker_id": worker, "study_id": id, "user_attr": map[string]any{key: s.Attrs[key]}})
	}
	if s.Metric != "" {
		lines = append(lines, map[string]any{
			"op_code": studySystemAttr, "worker_id": worker, "study_id": id, "system_attr": map[string]any{metricNames: []string{s.Metric}},
		})
	}
	distributions := make([]string, s.Space.Len())
	for i := range distributions {
		text, err := json.Marshal(distributionOf(s.Space.Param(i)))
		if err != nil {
			return nil, fmt.Errorf("parameter %q: %w", s.Space.Param(i).Name, err)
		}
		distributions[i] = string(text)
	}
	trials := slices.Clone(s.Trials)
	slices.SortFunc(trials, func(a, b Trial) int { return cmp.Compare(a.Number, b.Number) })
	for _, t := range trials {
		if len(t.Point) != s.Space.Len() {
			return nil, fmt.Errorf("trial %d has %d parameters, and the space has %d", t.Number, len(t.Point), s.Space.Len())
		}
		lines = append(lines, newTrialLine(s, id, t, distributions))
	}
	return lines, nil
}

// trialLine is a whole trial as one operation.
type trialLine struct {
	Op            int                `json:"op_code"`
	Worker        string             `json:"worker_id"`
	Study         int                `json:"study_id"`
	Start         string             `json:"datetime_start"`
	End           string             `json:"datetime_complete,omitempty"`
	State         int                `json:"state"`
	Value         *float64           `json:"value"`
	Values        *[]float64         `json:"values"`
	Distributions map[string]string  `json:"distributions"`
	Params        map[string]float64 `json:"params"`
	Attrs         map[string]any     `json:"user_attrs"`
	SystemAttrs   struct{}           `json:"system_attrs"`
	Steps         map[string]float64 `json:"intermediate_values"`
}

func newTrialLine(s Study, id int, t Trial, distributions []string) trialLine {
	line := trialLine{
		Op: createTrial, Worker: worker, Study: id,
		Distributions: map[string]string{}, Params: map[string]float64{}, Steps: map[string]float64{}, Attrs: t.Attrs,
	}
	if line.Attrs == nil {
		line.Attrs = map[string]any{}
	}
	for i, x := range t.Point {
		if space.Active(x) {
			name := s.Space.Param(i).Name
			line.Params[name], line.Distributions[name] = x, distributions[i]
		}
	}
	for step, value := range t.Values {
		if finite(value) {
			line.Steps[strconv.Itoa(step)] = value
		}
	}
	switch t.State {
	case search.Running:
		line.State = running
	case search.Complete:
		line.State, line.Value = complete, &t.Value
		if !finite(t.Value) {
			line.State, line.Value = failed, nil
		}
	case search.Paused, search.Pruned:
		// The value is that of the last step.
		line.State = pruned
		if finite(t.Value) {
			line.Value = &t.Value
			line.Steps[strconv.Itoa(t.Step)] = t.Value
		}
	default:
		line.State = failed
	}
	start, end := t.Start, t.End
	if start.IsZero() {
		start = time.Unix(0, 0)
	}
	line.Start = start.UTC().Format(timeFormat)
	if line.State != running {
		if end.IsZero() {
			end = start
		}
		line.End = end.UTC().Format(timeFormat)
	}
	return line
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// distribution is the form of all of Optuna's distributions.
type distribution struct {
	Name       string         `json:"name"`
	Attributes map[string]any `json:"attributes"`
}

func distributionOf(p space.Param) distribution {
	switch p.Kind {
	case space.Choice:
		choices := make([]any, len(p.Choices))
		for i := range choices {
			choices[i] = plain(p.Choices[i])
		}
		return distribution{"CategoricalDistribution", map[string]any{"choices": choices}}
	case space.Int:
		return distribution{"IntDistribution", map[string]any{"low": p.Low, "high": p.High, "step": p.Step, "log": p.Log}}
	}
	attributes := map[string]any{"low": p.Low, "high": p.High, "step": nil, "log": p.Log}
	if p.Step > 0 {
		attributes["step"] = p.Step
	}
	return distribution{"FloatDistribution", attributes}
}

// plain is a choice that Optuna can have.
func plain(choice any) any {
	switch choice.(type) {
	case nil, bool, string, int, int64, float64:
		return choice
	}
	text, err := json.Marshal(choice)
	if err != nil {
		return fmt.Sprint(choice)
	}
	return string(text)
}

func keys(m map[string]any) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
