package track

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/wandb/wandblog"
)

// A run that is killed and continues, and one that is pushed twice, has each step once
// in the logs of W&B, over all of them.
func TestWandBLogs(t *testing.T) {
	s := script(t, 3)
	none := func(string) string { return "" }
	sink, err := NewWandB(s.root, experiment.TrackWandB{Project: "p", Mode: "offline"}, none, false, func(text string) { t.Log(text) })
	if err != nil {
		t.Fatal(err)
	}
	attempt := func(steps int) {
		t.Helper()
		f := newFollower(s.root, s.run, sink, false)
		s.begin()
		for range steps {
			s.update()
		}
		s.kill()
		if err := errors.Join(f.look(t.Context()), f.close(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	attempt(25)
	attempt(17)
	s.begin()
	for s.step < steps {
		s.update()
	}
	s.finish()
	for range 2 {
		err := Push(t.Context(), s.root, []Shown{{s.run, sink}}, func(_ Shown, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	logs, err := filepath.Glob(filepath.Join(s.root, "wandb", "offline-run-*", "*.wandb"))
	if err != nil || len(logs) != 3 { // two attempts and one push
		t.Fatal(logs, err)
	}
	slices.SortFunc(logs, func(a, b string) int {
		x, errX := os.Stat(a)
		y, errY := os.Stat(b)
		if err := errors.Join(errX, errY); err != nil {
			t.Fatal(err)
		}
		return x.ModTime().Compare(y.ModTime())
	})
	var got []int64
	exits := 0
	for _, log := range logs {
		records, err := wandblog.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if r.History != nil {
				got = append(got, r.History.Step.Num)
			}
			if r.Exit != nil {
				exits++
			}
		}
	}
	var want []int64
	for i := range int64(steps) {
		want = append(want, i+1)
	}
	if !slices.Equal(got, want) || exits != 3 {
		t.Errorf("steps %v, %d exits", got, exits)
	}
}

// A loss that is no number sends one alert.
func TestAlertOfTheLoss(t *testing.T) {
	s := script(t, 1)
	sink, err := NewWandB(s.root, experiment.TrackWandB{Project: "p", Mode: "offline"}, func(string) string { return "" }, false, func(text string) { t.Log(text) })
	if err != nil {
		t.Fatal(err)
	}
	s.begin()
	s.update()
	for range 3 {
		s.step++
		s.write(&spec.Event{Event: &spec.Event_Step{Step: &spec.Step{Step: s.step, Epoch: 1, Loss: math.NaN()}}})
	}
	f := newFollower(s.root, s.run, sink, false)
	if err := errors.Join(f.look(t.Context()), f.close(t.Context())); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(s.root, "wandb", "offline-run-*", "*.wandb"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	records, err := wandblog.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, r := range records {
		if r.Alert != nil {
			texts = append(texts, r.Alert.Text)
		}
	}
	if !slices.Equal(texts, []string{"The training loss at step 2 is NaN."}) {
		t.Errorf("the alerts are %q", texts)
	}
}

// What the environment says of names, groups and tags is what a run has; of the id of a
// run, where there is one run alone.
func TestNamesOfTheEnvironment(t *testing.T) {
	given := map[string]string{
		"WANDB_PROJECT": "theirs", "WANDB_ENTITY": "lab", "WANDB_NAME": "night", "WANDB_RUN_GROUP": "g", "WANDB_JOB_TYPE": "probe",
		"WANDB_TAGS": "a,b", "WANDB_NOTES": "by hand", "WANDB_RUN_ID": "mine", "WANDB_SWEEP_ID": "s1",
	}
	for _, c := range []struct {
		getenv func(string) string
		single bool
		want   wandblog.Run
		lines  int
	}{
		{func(string) string { return "" }, false, wandblog.Run{Project: "p", Entity: "e", DisplayName: "rank=4/seed=1", Group: "e", JobType: "search", Tags: []string{"e"}}, 0},
		{func(name string) string { return given[name] }, false, wandblog.Run{Project: "theirs", Entity: "lab", DisplayName: "night rank=4/seed=1", Group: "g", JobType: "probe", Tags: []string{"a", "b", "e"}, Notes: "by hand"}, 1},
		{func(name string) string { return given[name] }, true, wandblog.Run{ID: "mine", Project: "theirs", Entity: "lab", DisplayName: "night rank=4/seed=1", Group: "g", JobType: "probe", Tags: []string{"a", "b", "e"}, Notes: "by hand", SweepID: "s1"}, 0},
	} {
		s := script(t, 1)
		s.run.Search = true
		if c.want.ID == "" {
			c.want.ID = s.run.ID[:16]
		}
		lines := 0
		sink, err := NewWandB(s.root, experiment.TrackWandB{Project: "p", Entity: "e", Mode: "offline"}, func(name string) string {
			if name == "WANDB_DIR" {
				return s.root
			}
			return c.getenv(name)
		}, c.single, func(string) { lines++ })
		if err != nil {
			t.Fatal(err)
		}
		s.begin()
		s.update()
		f := newFollower(s.root, s.run, sink, false)
		if err := errors.Join(f.look(t.Context()), f.close(t.Context())); err != nil {
			t.Fatal(err)
		}
		logs, err := filepath.Glob(filepath.Join(s.root, "wandb", "offline-run-*", "*.wandb"))
		if err != nil || len(logs) != 1 {
			t.Fatal(logs, err)
		}
		records, err := wandblog.ReadFile(logs[0])
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(records, func(r *wandblog.Record) bool { return r.Run != nil })
		r := records[i].Run
		got := wandblog.Run{ID: r.ID, Project: r.Project, Entity: r.Entity, DisplayName: r.DisplayName, Group: r.Group, JobType: r.JobType, Tags: r.Tags, Notes: r.Notes, SweepID: r.SweepID}
		if !reflect.DeepEqual(got, c.want) || lines != c.lines {
			t.Errorf("single %v, %d lines: %+v\nwant %+v", c.single, lines, got, c.want)
		}
	}
}
