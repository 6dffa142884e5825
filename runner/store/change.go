package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// writers is how many records are written at once where there are many: a disk
// makes many of them safe in the time of one.
const writers = 16

// Enqueue records that runs are asked for, which cells they serve, and all that
// their experiments ask for. What is known of a run stays; known is what was
// known before, nil for nothing.
func (s *Store) Enqueue(ctx context.Context, known *Snapshot, runs []*Run, labels []Label, asked ...*Asked) error {
	// A label is written where it is new, or where its cell had another run.
	current := map[string]string{}
	positions := map[string]int{}
	if known != nil {
		for _, l := range known.Labels {
			current[l.Name()] = l.Run
		}
	}
	for _, a := range asked {
		for i, l := range a.Runs {
			positions[l.Name()] = i
		}
	}
	since := now()
	names := map[string][]Label{}
	for i, l := range labels {
		if current[l.Name()] == l.Run {
			continue
		}
		l.Since, l.Position = since, i
		if p, there := positions[l.Name()]; there {
			l.Position = p
		}
		if !slices.ContainsFunc(names[l.Run], func(o Label) bool { return o.Name() == l.Name() }) {
			names[l.Run] = append(names[l.Run], l)
		}
	}
	var jobs []*queued
	for _, run := range runs {
		j := &queued{run: run, names: names[run.ID]}
		if known != nil {
			if was := known.Runs[run.ID]; was != nil && was.Unrecorded() {
				j.names = append(known.Names(run.ID), j.names...)
			}
		}
		if len(j.names) == 0 {
			j.names = []Label{{run.Experiment, run.Cell, run.Fold, run.Seed, run.ID, since, 0}}
		}
		delete(names, run.ID)
		jobs = append(jobs, j)
	}
	for id, more := range names {
		jobs = append(jobs, &queued{run: &Run{ID: id}, names: more, there: true})
	}
	var written []*found
	err := s.locked(ctx, func() error {
		var dirs []string
		for _, j := range jobs {
			dir, err := s.place(j)
			if err != nil {
				return err
			}
			dirs = append(dirs, dir)
		}
		var err error
		if written, err = s.writeAll(ctx, jobs, dirs); err != nil {
			return err
		}
		for _, a := range asked {
			if err := s.writeAsked(a, since); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("recording what is to be run: %w", err)
	}
	s.remember(ctx, written, nil)
	return nil
}

// queued is a run that is asked for, under new names.
type queued struct {
	run   *Run
	names []Label
	there bool // it was known before
}

// place is where the directory of a run is, or is to be.
func (s *Store) place(j *queued) (string, error) {
	if at, err := s.at(j.run.ID); err == nil {
		return s.dirs[j.run.ID], at.Close()
	} else if !errors.Is(err, ErrRemoved) || j.there {
		return "", fmt.Errorf("run %s: %w", rundir.Short(j.run.ID), err)
	}
	if !isRunDir(j.run.Dir, j.run.ID) {
		return "", fmt.Errorf("run %s cannot lie in %q", rundir.Short(j.run.ID), j.run.Dir)
	}
	dir := strings.TrimPrefix(j.run.Dir, "runs/")
	s.dirs[j.run.ID] = dir
	return dir, nil
}

func (s *Store) writeAll(ctx context.Context, jobs []*queued, dirs []string) ([]*found, error) {
	written := make([]*found, len(jobs))
	errs := make([]error, min(writers, len(jobs)))
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := w; i < len(jobs) && errs[w] == nil; i += len(errs) {
				if errs[w] = ctx.Err(); errs[w] == nil {
					written[i], errs[w] = s.enqueue(jobs[i], dirs[i])
				}
			}
		})
	}
	wg.Wait()
	return slices.DeleteFunc(written, func(f *found) bool { return f == nil }), errors.Join(errs...)
}

// enqueue writes the record of one run and returns the run as it is then.
func (s *Store) enqueue(j *queued, dir string) (*found, error) {
	at, err := s.make(dir)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	r, err := readRecord(at)
	begun := err == nil
	if err != nil {
		if !absent(err) && j.there {
			return nil, nil // it is damaged, as the plan says
		}
		r = &record{ID: j.run.ID, State: Queued, Created: now(), Spec: json.RawMessage(j.run.specJSON)}
	}
	for _, l := range j.names {
		if i := r.index(l); i >= 0 {
			r.Names[i].Since, r.Names[i].Position = l.Since, l.Position
			continue
		}
		r.Names = append(r.Names, l.recorded())
	}
	if begun {
		if err := writeRecord(at, r); err != nil {
			return nil, err
		}
		return s.read(dir, nil), nil
	}
	// Ten thousand of them are written in seconds, and lost they are written again
	// by the next apply.
	if err := r.write(at, replacefile.Many); err != nil {
		return nil, err
	}
	return s.read(dir, nil), nil
}

func (s *Store) writeAsked(a *Asked, when time.Time) error {
	if !isElement(a.Experiment) {
		return fmt.Errorf("%q is no name of an experiment", a.Experiment)
	}
	a.When = when
	text, err := a.encode()
	if err != nil {
		return err
	}
	return replacefile.WriteIn(s.runs, path.Join(a.Experiment, askedFile), text)
}

// Rename records the names that classes have now, where they have others than run
// was recorded with. They are no part of its identity.
func (s *Store) Rename(ctx context.Context, run *Run, now *spec.RunSpec) error {
	if slices.Equal(run.about.Classes, now.GetData().GetClasses()) || spec.Identity(now) != run.ID {
		return nil
	}
	if err := run.SetSpec(now); err != nil {
		return err
	}
	run.names = nil
	err := s.amend(ctx, run.ID, "recording names of classes of", func(r *record) error {
		r.Spec = json.RawMessage(run.specJSON)
		return nil
	})
	if err == nil {
		s.reindex(ctx, run.ID)
	}
	return err
}

// Unname takes names off a run that has others.
func (s *Store) Unname(ctx context.Context, id string, names []Label) error {
	err := s.amend(ctx, id, "taking names off", func(r *record) error {
		left := slices.DeleteFunc(slices.Clone(r.Names), func(n recordName) bool {
			return slices.ContainsFunc(names, func(l Label) bool { return l.Name() == n.label("").Name() })
		})
		if len(left) == 0 {
			return errors.New("it would have no name")
		}
		r.Names = left
		return nil
	})
	if err != nil {
		return err
	}
	s.reindex(ctx, id)
	return unlinkLogs(s.root, id, names)
}
