package track

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/runner/provenance"
	"github.com/loralab/loralab/runner/store"
)

// follower hands the directory of one run to one sink.
type follower struct {
	run     Run
	project string // root
	sink    Sink
	// late says that the run is over already: its rows have no time of their own.
	late bool
	// preempted says that the run ended because its machine is taken from it.
	preempted bool

	session Session
	journal journal
	asked   bool  // the session has been asked for its last step
	next    int64 // the lowest step that the session lacks
	rows    rows
	over    *store.Run // set if late
}

func newFollower(project string, run Run, sink Sink, late bool) *follower {
	run.Late = late
	f := &follower{run: run, project: project, sink: sink, late: late, journal: journal{path: rundir.Dir(run.Dir).Path(rundir.Journal)}}
	f.rows = rows{take: f.row, when: f.when}
	return f
}

// look hands over the steps that are known by now.
func (f *follower) look(ctx context.Context) error {
	if f.session == nil {
		// The record of what made the run is there when the journal is.
		if _, err := os.Stat(f.journal.path); err != nil {
			return nil
		}
		if err := f.open(ctx); err != nil {
			return err
		}
	}
	if !f.asked {
		last, err := f.session.Last()
		if err != nil {
			return err
		}
		f.next, f.asked = last+1, true
	}
	return f.journal.read(f.rows.forget, f.rows.line)
}

// row hands over a row that the session lacks.
func (f *follower) row(row *Row) error {
	if row.Step < f.next {
		return nil
	}
	if row.validated {
		row.Samples = ofValidation(rundir.Dir(f.run.Dir), row.Step)
	}
	if err := f.session.Row(row); err != nil {
		return err
	}
	f.next = row.Step + 1
	return nil
}

// when is the time of a step: now, while a run trains. The journal has no times, so
// steps of a run that is over are spread evenly over its last attempt.
func (f *follower) when(step int64) time.Time {
	r := f.over
	if !f.late || r == nil || r.Started.IsZero() || !r.Ended.After(r.Started) {
		return time.Now()
	}
	steps := max(r.Steps, r.Summary.GetSteps(), 1)
	return r.Started.Add(time.Duration(float64(r.Ended.Sub(r.Started)) * min(1, float64(step)/float64(steps))))
}

// open opens the session of the run.
func (f *follower) open(ctx context.Context) error {
	info := &Info{Run: f.run, Project: f.project}
	run, err := f.read()
	if err != nil {
		return err
	}
	if f.late {
		f.over = run
	}
	if info.Spec, err = run.Spec(); err != nil {
		return err
	}
	info.Started = cmp.Or(run.Started, time.Now())
	record, err := provenance.Read(f.run.Dir)
	if err != nil {
		return err
	}
	if made := record.Last(); made != nil {
		info.Command = made.Command
		if made.Git != nil {
			info.Commit = made.Git.Commit
		}
		if made.Source != nil {
			info.Source = made.Source.Text
			for _, v := range made.Source.Values {
				if !v.Remark {
					info.Config = append(info.Config, Value{v.Path, v.Value})
				}
			}
		}
	}
	f.session, err = f.sink.Open(ctx, info)
	return err
}

// read reads the directory of the run.
func (f *follower) read() (*store.Run, error) {
	at, err := os.OpenRoot(f.run.Dir)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	run, _, err := store.ReadDir(at)
	return run, err
}

// finish hands over the rest of a run that has ended, or that nobody works on for now.
func (f *follower) finish(ctx context.Context) error {
	run, err := f.read()
	if err != nil {
		return err
	}
	if f.session == nil {
		if err := f.open(ctx); err != nil {
			return err
		}
	}
	if f.complete(run) {
		return nil
	}
	if f.late { // a part of the history would stay a part of it in the tracker
		if fault := rundir.JournalFault(f.journal.path, run.Summary); fault != "" {
			return errors.New(fault)
		}
	}
	if err := f.look(ctx); err != nil {
		return err
	}
	if run.State == store.Paused && f.rows.pending != nil {
		// The validation of a pause is of these weights, and the journal will have it
		// when the run continues.
		for _, rung := range run.Rungs {
			if int64(rung.Step) == f.rows.pending.Step {
				scores(f.rows.pending.Values, "val/", rung.Metrics)
				if err := f.rows.flush(); err != nil {
					return err
				}
				break
			}
		}
	}
	if run.Summary != nil {
		if err := f.rows.flush(); err != nil {
			return err
		}
	}
	for _, s := range f.scores(run) {
		if f.session.Has(s.Key) {
			continue
		}
		if err := f.session.Scores(s); err != nil {
			return err
		}
	}
	if end := endOf(run); end != nil && !f.session.Has(end.Key) {
		end.Preempted = f.preempted && end.State == store.Stopped
		return f.session.End(ctx, end)
	}
	return nil
}

// complete reports whether the sink has all of a run that is trained.
func (f *follower) complete(run *store.Run) bool {
	end := endOf(run)
	if run.Summary == nil || end == nil || !f.session.Has(end.Key) {
		return false
	}
	return !slices.ContainsFunc(f.scores(run), func(s *Scores) bool { return !f.session.Has(s.Key) })
}

// scores are the evaluations of a run that the experiment asks for and that are there,
// in its order.
func (f *follower) scores(run *store.Run) (all []*Scores) {
	if run.Summary == nil {
		return nil
	}
	for _, asked := range f.run.Evaluations {
		e := run.Evaluations[asked.ID]
		if e == nil {
			continue
		}
		s := &Scores{
			Key: "evaluation " + rundir.Short(asked.ID), Domain: e.GetDomain(), Step: int64(run.Summary.GetSteps()),
			Time: cmp.Or(run.Ended, time.Now()), Metrics: run.Named(e.GetMetrics()),
			Sample: rundir.Dir(f.run.Dir).FindSample(e.GetDomain(), asked.ID), Drawn: e.GetMetrics(), Size: asked.Size, Severities: asked.Severities,
		}
		if rs, err := run.Spec(); err == nil && s.Size.Area() == 0 {
			s.Size = data.SizeOf(rs.GetData())
		}
		all = append(all, s)
	}
	return all
}

// endOf is how a run ended, nil where it has not.
func endOf(run *store.Run) *End {
	end := &End{State: run.State, Reason: run.Reason, Summary: run.Summary, Step: int64(run.Checkpoint), Time: cmp.Or(run.Ended, time.Now())}
	switch {
	case run.Summary != nil && run.State != store.Failed:
		// A run that is trained and lacks an evaluation is not done, and ended.
		end.State, end.Step = store.Done, int64(run.Summary.GetSteps())
		end.Key = "trained " + rundir.Short(run.Summary.GetDigest())
	case run.State == store.Failed, run.State == store.Stopped, run.State == store.Paused:
		end.Key = fmt.Sprintf("%s in attempt %d", run.State, run.Attempts)
	default:
		return nil
	}
	return end
}

// close gives the session back.
func (f *follower) close(ctx context.Context) error {
	if f.session == nil {
		return nil
	}
	s := f.session
	f.session = nil
	return s.Close(ctx)
}
