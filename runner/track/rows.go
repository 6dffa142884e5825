package track

import (
	"fmt"
	"maps"
	"time"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// rows makes rows of the lines of a journal.
type rows struct {
	take    func(*Row) error
	when    func(step int64) time.Time
	pending *Row // all of its step is not known yet
}

// forget leaves out the row that waits.
func (r *rows) forget() { r.pending = nil }

// line reads a line. One that is none is left out: of it, the process that continues
// the run writes the whole.
func (r *rows) line(line []byte) error {
	event, err := rundir.UnmarshalEvent(line)
	if err != nil {
		return nil
	}
	switch e := event.GetEvent().(type) {
	case *spec.Event_Step:
		row, err := r.at(int64(e.Step.GetStep()))
		if err != nil {
			return err
		}
		step(row.Values, e.Step)
	case *spec.Event_Validation:
		row, err := r.at(int64(e.Validation.GetStep()))
		if err != nil {
			return err
		}
		scores(row.Values, "val/", e.Validation.GetMetrics())
		row.Values["epoch"], row.validated = float64(e.Validation.GetEpoch()), true
	case *spec.Event_Note:
		row := r.pending
		if row == nil {
			if row, err = r.at(0); err != nil {
				return err
			}
		}
		row.Lines = append(row.Lines, Line{e.Note.GetText(), e.Note.GetWarning()})
	}
	return nil
}

// at is the row of a step; those of earlier steps are handed over before.
func (r *rows) at(step int64) (*Row, error) {
	if r.pending != nil && r.pending.Step == step {
		return r.pending, nil
	}
	if err := r.flush(); err != nil {
		return nil, err
	}
	r.pending = &Row{Step: step, Time: r.when(step), Values: map[string]float64{}}
	return r.pending, nil
}

// flush hands over the row that waits.
func (r *rows) flush() error {
	row := r.pending
	r.pending = nil
	if row == nil || len(row.Values)+len(row.Lines) == 0 {
		return nil
	}
	return r.take(row)
}

// History is what was logged at each step of the run in a directory, in order. Rows have
// no times.
func History(dir string) ([]*Row, error) {
	var all []*Row
	r := rows{
		take: func(row *Row) error {
			if len(row.Values) > 0 {
				all = append(all, row)
			}
			return nil
		},
		when: func(int64) time.Time { return time.Time{} },
	}
	j := journal{path: rundir.Dir(dir).Path(rundir.Journal)}
	again := func() { all, r.pending = nil, nil }
	if err := j.read(again, r.line); err != nil {
		return nil, fmt.Errorf("reading the history: %w", err)
	}
	return all, r.flush()
}

// step puts what the engine says of a step under tags.
func step(to map[string]float64, s *spec.Step) {
	to["epoch"] = float64(s.GetEpoch())
	to["train/lr"] = s.GetLr()
	to["train/images_per_second"] = s.GetImagesPerSecond()
	if !s.GetUncounted() { // its loss is 0 whatever the weights are
		to["train/loss"] = s.GetLoss()
		to["train/grad_norm"] = s.GetGradNorm()
	}
}

// scores puts metrics under tags.
func scores(to map[string]float64, prefix string, m *spec.Metrics) {
	maps.Insert(to, tagged(prefix, m))
}

// tagged are metrics by tag.
func tagged(prefix string, m *spec.Metrics) func(yield func(string, float64) bool) {
	var classes []string
	for _, c := range m.GetClasses() {
		classes = append(classes, c.GetName())
	}
	return func(yield func(string, float64) bool) {
		for _, name := range metric.Names(classes) {
			if v, ok := metric.Value(m, name); ok && !yield(prefix+name, v) {
				return
			}
		}
	}
}
