package store

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// readOld reads a database of format 1 or 2, in which names and states of runs
// were kept that directories did not have. Rows whose directory is not one of
// a run are left out: a database that came with a project must not lead out of
// it.
func (x *index) readOld(ctx context.Context, root string) (all map[string]*found, notes []string, err error) {
	all = map[string]*found{}
	byID := map[string]*found{}
	rows, err := x.db.QueryContext(ctx, `SELECT id, experiment, cell, seed, state, step, steps, attempts,
		reason, dir, spec, created, started, ended FROM runs`)
	if err != nil {
		return nil, nil, err
	}
	err = scanRows(rows, func() error {
		run := &Run{Evaluations: map[string]*spec.Evaluated{}, root: root}
		var seed, step, steps, created, started, ended int64
		if err := rows.Scan(&run.ID, &run.Experiment, &run.Cell, &seed, &run.State, &step, &steps, &run.Attempts,
			&run.Reason, &run.Dir, &run.specJSON, &created, &started, &ended); err != nil {
			return err
		}
		run.about = aboutSpec(run.specJSON)
		run.Seed, run.Step, run.Steps = uint64(seed), uint64(step), uint64(steps)
		run.Created, run.Started, run.Ended = fromMillis(created), fromMillis(started), fromMillis(ended)
		if !isID(run.ID) || !isRunDir(run.Dir, run.ID) {
			notes = append(notes, fmt.Sprintf("the database says that run %.12q lies in %q, where no run can lie; it is left out", run.ID, run.Dir))
			return nil
		}
		f := &found{dir: strings.TrimPrefix(run.Dir, "runs/"), run: run}
		all[f.dir], byID[run.ID] = f, f
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	rows, err = x.db.QueryContext(ctx, "SELECT experiment, cell, seed, run FROM labels ORDER BY number")
	if err != nil {
		return nil, nil, err
	}
	var last time.Time
	number := 0
	err = scanRows(rows, func() error {
		var l Label
		var seed int64
		if err := rows.Scan(&l.Experiment, &l.Cell, &seed, &l.Run); err != nil {
			return err
		}
		f := byID[l.Run]
		if f == nil {
			return nil
		}
		// Only their order was known.
		if f.run.Created.After(last) {
			last = f.run.Created
		}
		l.Seed, l.Since, l.Position = uint64(seed), last, number
		number++
		f.names = append(f.names, l)
		return nil
	})
	for _, f := range all {
		if len(f.names) == 0 {
			f.names = []Label{{Experiment: f.run.Experiment, Cell: f.run.Cell, Seed: f.run.Seed, Run: f.run.ID, Since: f.run.Created}}
		}
	}
	return all, notes, err
}

// merge adds what an old database knows of runs to what their directories say.
// Runs that were asked for and not begun have none.
func merge(all []*found, old map[string]*found) []*found {
	seen := map[string]bool{}
	for i, f := range all {
		seen[f.run.ID] = true
		known := old[f.dir]
		if known == nil || f.record != nil || known.run.ID != f.run.ID && rundir.Short(known.run.ID) != f.run.ID {
			continue
		}
		run := known.run
		run.Summary, run.Evaluations, run.Checkpoint = f.run.Summary, f.run.Evaluations, f.run.Checkpoint
		run.Damage = f.run.Damage
		switch {
		case run.Summary != nil:
			run.Step, run.Steps = run.Summary.GetSteps(), run.Summary.GetSteps()
		case run.State != Running:
			run.Step = run.Checkpoint
		}
		if run.Damage != nil && path.Base(run.Damage.File) == rundir.Request {
			run.Damage = nil // the database has what the request was read for
		}
		known.stamp = f.stamp
		all[i] = known
		seen[run.ID] = true
	}
	for _, f := range old {
		// Without its result a run that was done has to be run again.
		if !seen[f.run.ID] && f.run.State != Done {
			f.run.Checkpoint, f.run.Step = 0, 0
			all = append(all, f)
		}
	}
	return all
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
