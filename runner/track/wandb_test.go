package track

import (
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/internal/wandbserver"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/wandb"
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

// onlyLog are the records of the only log of W&B of a project.
func onlyLog(t *testing.T, root string) []*wandblog.Record {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(root, "wandb", "offline-run-*", "*.wandb"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	records, err := wandblog.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	return records
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
	var texts []string
	for _, r := range onlyLog(t, s.root) {
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
		records := onlyLog(t, s.root)
		i := slices.IndexFunc(records, func(r *wandblog.Record) bool { return r.Run != nil })
		r := records[i].Run
		got := wandblog.Run{ID: r.ID, Project: r.Project, Entity: r.Entity, DisplayName: r.DisplayName, Group: r.Group, JobType: r.JobType, Tags: r.Tags, Notes: r.Notes, SweepID: r.SweepID}
		if !reflect.DeepEqual(got, c.want) || lines != c.lines {
			t.Errorf("single %v, %d lines: %+v\nwant %+v", c.single, lines, got, c.want)
		}
	}
}

// Push sends what the server lacks, of logs of before too, and fails while the server does
// not have it. The same run of another experiment stays in its group.
func TestPushSends(t *testing.T) {
	server := wandbserver.New(strings.Repeat("k", 40))
	defer server.Close()
	server.Down.Store(true)
	s := script(t, 3)
	given := map[string]string{
		"WANDB_BASE_URL": server.URL, "WANDB_API_KEY": server.Key, "WANDB_X_FILE_STREAM_RETRY_WAIT_MIN_SECONDS": "0.001", "WANDB_X_FILE_STREAM_RETRY_WAIT_MAX_SECONDS": "0.01",
	}
	getenv := func(name string) string { return given[name] }
	var said []string
	sinkOf := func() *WandB {
		sink, err := NewWandB(s.root, experiment.TrackWandB{Project: "p"}, getenv, false, func(text string) { said = append(said, text) })
		if err != nil {
			t.Fatal(err)
		}
		sink.settings.Wait = 100 * time.Millisecond
		return sink
	}
	s.begin()
	for s.step < steps {
		s.update()
	}
	s.finish()
	push := func(sink *WandB, run Run) (failed error) {
		t.Helper()
		err := Push(t.Context(), s.root, []Shown{{run, sink}}, func(_ Shown, err error) { failed = err })
		if err != nil {
			t.Fatal(err)
		}
		return failed
	}
	away := new(wandb.AwayError)
	for range 2 { // the second time all is logged
		said = nil
		if err := push(sinkOf(), s.run); !errors.As(err, &away) || len(said) != 1 || !strings.Contains(said[0], "waiting for "+server.URL) {
			t.Fatalf("without a server: %v, %q", err, said)
		}
	}
	server.Down.Store(false)
	sink := sinkOf()
	if err := push(sink, s.run); err != nil {
		t.Fatal(err)
	}
	if got := server.Run("p", s.run.ID[:16]); got == nil || len(got.Lines["wandb-history.jsonl"]) != steps || !slices.Equal(got.Exits, []int{0}) {
		t.Errorf("the server has %+v", got)
	}
	if where := sink.Where(nil); len(where) != 1 || !strings.HasSuffix(where[0], "/runs/"+s.run.ID[:16]+" (e/rank=4/seed=3)") {
		t.Errorf("it is at %q", where)
	}
	before := maps.Clone(server.Requests)
	other := s.run
	other.Experiment = "f"
	sink = sinkOf()
	if err := push(sink, other); err != nil || !maps.Equal(server.Requests, before) {
		t.Errorf("pushing again: %v, %v", err, server.Requests)
	}
	if where := sink.Where(nil); !slices.Equal(where, []string{"1 run of f is in the group e, whose experiment has the same run"}) {
		t.Errorf("of another experiment, %q", where)
	}
	// A file of ours that is damaged is named.
	name := filepath.Join("wandb", "loralab", "p-"+s.run.ID[:16]+".json")
	if err := os.WriteFile(filepath.Join(s.root, name), []byte("[\"\n\"]"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := push(sinkOf(), s.run); err == nil || !strings.HasPrefix(err.Error(), name+", which says") || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("with a damaged file: %v", err)
	}
	if err := os.Remove(filepath.Join(s.root, name)); err != nil {
		t.Fatal(err)
	}
	if err := push(sinkOf(), s.run); err != nil {
		t.Error(err)
	}
	if got := server.Run("p", s.run.ID[:16]); got.Doubled() != 0 {
		t.Errorf("%d rows are there twice", got.Doubled())
	}
}

// What no server takes is refused before anything trains.
func TestSettingsThatNoServerTakes(t *testing.T) {
	for _, c := range []struct {
		name, value string
		w           experiment.TrackWandB
		single      bool
		want        string
	}{
		{"WANDB_API_KEY", "short", experiment.TrackWandB{}, false, "too short"},
		{"WANDB_RUN_ID", "a/b", experiment.TrackWandB{Mode: "offline"}, true, `the id of a run "a/b"`},
		{"WANDB_BASE_URL", "here", experiment.TrackWandB{}, false, `is "here", not the URL`},
		{"", "", experiment.TrackWandB{Mode: "offline", Project: "a/b"}, false, `project of W&B is "a/b"`},
		{"", "", experiment.TrackWandB{Mode: "offline", Entity: "a b"}, false, `entity of W&B is "a b"`},
	} {
		_, err := NewWandB(t.TempDir(), c.w, func(name string) string {
			if name == c.name && name != "" {
				return c.value
			}
			return ""
		}, c.single, func(string) {})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
