package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/search/sampler"
	"github.com/loralab/loralab/runner/study"
	"github.com/loralab/loralab/runner/view"
)

// defaultSearchKills is how many processes TestKilledSearch kills, unless
// LORALAB_KILLS asks for another number.
const defaultSearchKills = 6

// searchPhases are the moments of a search.
var searchPhases = []phase{
	{"starting", "", 0, 1500 * time.Millisecond, false},
	{"drawing a trial", `create .*/studies/.*/\.[0-9]+\.json\.tmp`, 12, time.Millisecond, true},
	{"having drawn a trial", `create .*/studies/[^/]+/[0-9]+\.json`, 12, 20 * time.Millisecond, false},
	{"making a run's directory", `create .*/\.request\.json\.tmp`, 12, 20 * time.Millisecond, false},
	{"stepping", `modify .*/metrics\.jsonl`, 90, 5 * time.Millisecond, false},
	{"writing a checkpoint", `create .*/\.last\.safetensors\.tmp`, 40, 3 * time.Millisecond, false},
	{"moving a checkpoint", `moved .*/last\.safetensors`, 40, time.Millisecond, false},
	{"recording", `create .*/\.record\.json\.tmp`, 60, 2 * time.Millisecond, true},
	{"having recorded", `moved .*/record\.json`, 60, 2 * time.Millisecond, false},
	{"writing the results", `create .*/\.(adapter|head)\.safetensors\.tmp|create .*/\.(program|result)\.json\.tmp`, 5, 4 * time.Millisecond, false},
	{"evaluating", `moved .*/result\.json`, 3, 10 * time.Millisecond, false},
	{"reporting", `create (report|plots)/.*`, 3, 20 * time.Millisecond, true},
}

// TestKilledSearch kills runner, engine or both at random moments of a search with a
// sampler and a pruner that learn, and applies again until all is done.
//
// With one slot the search is that of an undisturbed apply, bit for bit: trials, what
// the sampler had seen, weights, logs, rungs. With several slots the order in which
// trials end differs from one apply to the next. There each trial is there once, its
// point is what the sampler gives for the trials and states that its file says it had
// seen, and its weights are those of an undisturbed run of the same values.
func TestKilledSearch(t *testing.T) {
	engine := realEngine(t)
	if engine == "" {
		return
	}
	kills, seed := killing(t, "LORALAB_KILLS", defaultSearchKills)
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(searchPhases), func(i, j int) { searchPhases[i], searchPhases[j] = searchPhases[j], searchPhases[i] })
	moments := drawMoments(random, searchPhases, kills)

	one := newVictim(t, engine, "killed_search", "-j", "1")
	one.apply(nil)
	want := one.left()
	one.replay()
	one.clear()
	one.killed(moments[:kills/2], func() { one.compare(want) })
	if t.Failed() {
		return
	}
	several := newVictim(t, engine, "killed_search", "-j", "3")
	several.killed(moments[kills/2:], func() { several.isSearch(); several.matches(engine) })
}

// isSearch checks what holds for every search that is over.
func (p *victim) isSearch() {
	p.t.Helper()
	p.compare(p.left()) // of itself: nobody lives on, all is whole
	files, _ := filepath.Glob(filepath.Join(p.dir, "runs", p.experiment, "studies", "*", "*"))
	if len(files) != 14 {
		p.t.Errorf("there are %d trials, want 14: %v", len(files), files)
	}
	p.replay()
}

// replay asks the sampler again for all trials.
func (p *victim) replay() {
	p.t.Helper()
	cmd := exec.Command("replay", p.experiment+".cue") // of TestMain
	cmd.Dir, cmd.Env = p.dir, p.env
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "14 trials") {
		p.t.Errorf("asking again: %v\n%s", err, out)
	}
	p.t.Logf("%s", bytes.TrimSpace(out))
}

// matches trains the complete trials as runs of an experiment without a search, and
// compares the weights.
func (p *victim) matches(engine string) {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, p.experiment+".cue"))
	if err != nil {
		p.t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(text), "\tevaluate:")
	if !ok {
		p.t.Fatal("the experiment has no evaluate")
	}
	var b strings.Builder
	b.WriteString(head)
	b.WriteString("\tseeds: [101]\n")
	axes := map[string][]string{}
	files, _ := filepath.Glob(filepath.Join(p.dir, "runs", p.experiment, "studies", "*", "*.json"))
	runs := map[string]string{} // identities, by directory
	for _, file := range files {
		var trial struct {
			Point map[string]json.RawMessage
			Runs  []struct{ Run string }
		}
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &trial)
		}
		if err != nil {
			p.t.Fatal(err)
		}
		id := trial.Runs[0].Run[:12]
		if _, err := os.Stat(filepath.Join(p.dir, "runs", p.experiment, id, "result.json")); err != nil || runs[id] != "" {
			continue // paused, or of two trials
		}
		runs[id] = id
		for path, value := range trial.Point {
			axes[path] = append(axes[path], string(value))
		}
	}
	if len(runs) == 0 {
		p.t.Error("no trial is complete")
	}
	b.WriteString("\tzip: {\n")
	for path, values := range axes {
		fmt.Fprintf(&b, "\t\t%q: [%s]\n", path, strings.Join(values, ", "))
	}
	b.WriteString("\t}\n}\n")
	plain := newVictim(p.t, engine, p.experiment, "-j", "1")
	if err := os.WriteFile(filepath.Join(plain.dir, p.experiment+".cue"), []byte(b.String()), 0o666); err != nil {
		p.t.Fatal(err)
	}
	plain.apply(nil)
	want, have, compared := plain.left(), p.left(), 0
	for name, content := range want {
		if id := filepath.Base(filepath.Dir(name)); runs[id] == "" || !strings.HasSuffix(name, ".safetensors") {
			continue
		}
		compared++
		if have[name] != content {
			p.t.Errorf("%s is not that of an undisturbed run: %s", name, firstDifference(content, have[name]))
		}
	}
	p.t.Logf("%d files of weights of %d complete trials compared", compared, len(runs))
	if compared < 2*len(runs) {
		p.t.Errorf("%d files of weights of %d runs: identities differ", compared, len(runs))
	}
}

// replayed is the command replay FILE of TestMain: it asks the samplers of the
// searches of a file again for each trial, and fails where one gives another point.
func replayed() {
	if err := replay(context.Background(), os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func replay(ctx context.Context, file string) error {
	a := &app{view: view.New(os.Stdout, os.Stderr, true)}
	a.index = data.NewIndex(data.Look{Read: a.view.Reading()})
	p, err := a.sound(ctx, []string{file}, experiment.Env{})
	if err != nil {
		return err
	}
	defer p.close()
	known, err := a.snapshot(ctx, p.root)
	if err != nil {
		return err
	}
	studies, err := study.Read(ctx, known, p.experiments)
	if err != nil {
		return err
	}
	for _, s := range studies {
		drawn := 0
		runs := map[string]int{}
		for i, t := range s.Trials {
			if t.Number != i {
				return fmt.Errorf("%s: trial %d is missing", s.Cell, i)
			}
			if t.State == study.Open {
				return fmt.Errorf("%s: trial %d is not over", s.Cell, i)
			}
			for _, r := range t.Runs {
				runs[r.ID]++
			}
			if t.Start {
				continue
			}
			drawn++
			ask, err := s.Ask(ctx, p.root, t.Number)
			if err != nil {
				return err
			}
			of, err := sampler.New(s.Sampler)
			if err != nil {
				return err
			}
			again, err := of.Ask(ask)
			if err != nil {
				return err
			}
			if was, err := s.Encode(t.Point); err != nil || !was.Equal(again) {
				return fmt.Errorf("%s: trial %d is %v, and was asked again %v, %v", s.Cell, i, was, again, err)
			}
		}
		fmt.Printf("%s: %d trials, %d drawn, %d runs, over %v\n", s.Cell, len(s.Trials), drawn, len(runs), s.Over())
		if !s.Over() {
			return fmt.Errorf("%s is not over", s.Cell)
		}
	}
	return nil
}
