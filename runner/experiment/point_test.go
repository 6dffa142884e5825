package experiment

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	names "github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/variant"
)

// failer is a test, of package testing or rapid.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// seeded is a run without folds.
func seeded(seed uint64) names.Repeat { return names.Repeat{Seed: seed} }

// settingsOf are the values that a cell has in place of the base's.
func settingsOf(t failer, c *cell) (point []Setting) {
	t.Helper()
	for _, o := range c.overlay {
		text, err := o.value.MarshalJSON()
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		point = append(point, Setting{strings.Join(o.path, "."), json.RawMessage(text)})
	}
	return point
}

// resolvesToItsCells resolves the settings of every cell and compares the run with
// that of the matrix, in all that it has.
func resolvesToItsCells(t failer, e *Experiment) {
	t.Helper()
	points := map[string][]Setting{}
	known := map[string]bool{}
	for _, c := range e.cells {
		if key := pointKey(c.overlay); !known[key] { // cells may have the same values; the first gives the name
			known[key] = true
			points[c.name] = settingsOf(t, c)
		}
	}
	seen := map[string]bool{}
	for _, want := range e.Runs {
		if _, first := points[want.Cell]; !first || seen[want.Cell] && want.Seed != 2 { // one seed of a cell, or two
			continue
		}
		seen[want.Cell] = true
		got, found := e.Resolve(context.Background(), points[want.Cell], names.Repeat{Fold: want.Fold, Seed: want.Seed})
		if got == nil {
			t.Errorf("%s of %v is not resolved: %s", want.Name(), points[want.Cell], texts(found))
			continue
		}
		same(t, got, want)
	}
}

// same reports in what two runs differ.
func same(t failer, got, want *Run) {
	t.Helper()
	fail := func(what string, got, want any) {
		t.Helper()
		t.Errorf("%s: %s %v, want %v", want, what, got, want)
	}
	if got.ID != want.ID || got.Name() != want.Name() {
		t.Errorf("resolved %s %s, want %s %s", got.Name(), got.ID, want.Name(), want.ID)
	}
	if !reflect.DeepEqual(got.Values, want.Values) || got.Fraction != want.Fraction {
		fail("values", got.Values, want.Values)
	}
	for _, pair := range [][2]proto.Message{{got.Spec, want.Spec}, {got.Label, want.Label}, {got.Places, want.Places}, {got.PEFT, want.PEFT}} {
		if !proto.Equal(pair[0], pair[1]) {
			fail("messages", pair[0], pair[1])
		}
	}
	if len(got.Evaluations) != len(want.Evaluations) {
		fail("evaluations", len(got.Evaluations), len(want.Evaluations))
		return
	}
	for i, e := range got.Evaluations {
		if e.ID != want.Evaluations[i].ID || !proto.Equal(e.Spec, want.Evaluations[i].Spec) {
			fail("evaluation", e.Spec, want.Evaluations[i].Spec)
		}
	}
}

// texts are diagnostics as lines.
func texts(found diagnostic.List) string {
	var b strings.Builder
	for _, d := range found {
		b.WriteString(d.Text() + "\n")
	}
	return b.String()
}

// first is the place and the message of the first diagnostic.
func first(found diagnostic.List) string { return found[0].At.String() + ": " + found[0].Message }

// A point with the values of a cell is the run of the cell, by whatever means the
// matrix makes it.
func TestPointsAreCells(t *testing.T) {
	for name, text := range map[string]string{
		"the base": sound,
		"vary": insert(sound, `	vary: {"adapter.params.rank": [2, 4, 8], "optim.lr.head": [1e-3, 0.5], "adapter.variant": ["lora"], "adapter.targets": [["query"], ["query", "value"]]}
	evaluate: domains: noisy: {source: "procedural", style: "noisy"}`),
		"zip, include, ablate": insert(sound, `	zip: {"adapter.params.rank": [2, 4], "adapter.params.alpha": [4, 8]}
	include: [{"adapter.params.rank": 32, "adapter.params.alpha": 1}]
	ablate: {"train.batch": [2, 4], "head.kind": ["linear", "conv"], "backbone.depth": [10, 12]}`),
		"cases": insert(sound, `	cases: {
		head_only: adapter: variant: "none"
		other: {adapter: {variant: "scale", params: init: 3}, train: batch: 2, data: remap: boundary: "ignore"}
		free: backbone: freeze: blocks: "0..3"
		plain: {}
		"of the original": {preset: "original", optim: lr: head: 1e-4}
	}`),
		"computed": strings.Replace(insert(sound, `	vary: "adapter.params.rank": [2, 4]
	cases: {small: data: size: 56, computed: adapter: {variant: "lora", params: rank: 3}}`), "alpha: 8", "alpha: 2 * rank", 1),
		"a preset": insert(sound, `	preset: "original"
	vary: "optim.lr.head": [1e-3, 1e-4]`),
		"structs": insert(sound, `	vary: {"adapter.params": [{rank: 3}, {rank: 4, alpha: 2}], "optim.schedule": [{kind: "linear"}, {kind: "constant"}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			e := loadText(t, text)[0]
			resolvesToItsCells(t, e)
			got, found := e.Resolve(t.Context(), []Setting{{"train.batch", 3}, {"loss.dice", 0.25}}, seeded(5))
			if name == "a preset" {
				return
			}
			if got == nil {
				t.Fatalf("a point of no cell: %s", texts(found))
			}
			if got.Spec.Train.Batch != 3 || got.Name() != "x/train.batch=3,loss.dice=0.25/seed=5" || fmt.Sprint(got.Values) != "[{train.batch 3} {loss.dice 0.25}]" {
				t.Errorf("%s is %v with %v", got.Name(), got.Spec.Train, got.Values)
			}
			file := write(t, strings.NewReplacer("seeds: [1, 2]", "seeds: [5]", "train: {epochs: 2, batch: 4}", "train: {epochs: 2, batch: 3}\n\tloss: dice: 0.25").Replace(sound))
			alone, _ := loadWith([]string{file}, Env{}, world())
			if name != "vary" && got.ID != alone[0].Runs[0].ID { // there the targets are in another order
				t.Errorf("the point is another run than the same values in a file")
			}
		})
	}
}

// The points of a search cut down are cut down too.
func TestPointsOfSmokeRuns(t *testing.T) {
	all, err := Smoke(t.Context(), nil, loadText(t, insert(sound, `	vary: "adapter.params.rank": [2, 4]`)))
	if err != nil {
		t.Fatal(err)
	}
	e := all[0]
	got, found := e.Resolve(t.Context(), settingsOf(t, e.cells[1]), seeded(1))
	if got == nil {
		t.Fatal(texts(found))
	}
	same(t, got, e.Runs[1])
}

// A value that is too long for a name, or that does not show, is there by its digest:
// two points have two names.
func TestNamesOfPoints(t *testing.T) {
	e := loadText(t, sound)[0]
	names := map[string]bool{}
	for _, p := range []float64{0.1, 0.2} {
		run, found := e.Resolve(t.Context(), []Setting{{"data.augment", []map[string]any{{"kind": "flip", "p": p}, {"kind": "rotate", "p": 0.5, "range": []int{-5, 5}}}}}, seeded(1))
		if run == nil {
			t.Fatal(texts(found))
		}
		names[run.Cell] = true
		if !strings.HasPrefix(run.Cell, "data.augment#") || len(run.Cell) != len("data.augment#")+8 {
			t.Errorf("the point is called %s", run.Cell)
		}
	}
	if len(names) != 2 {
		t.Errorf("two points are called %v", names)
	}
}

// A mistake in a point is one at its setting.
func TestBrokenPoints(t *testing.T) {
	e := loadText(t, insert(sound, `	vary: "adapter.params.rank": [2, 4]`))[0]
	for _, c := range []struct {
		point []Setting
		want  string
	}{
		{[]Setting{{"optim.lr.hed", 1}}, `point:1:1: an experiment has no field "optim.lr.hed"`},
		{[]Setting{{"evaluate.checkpoint", "last"}}, `point:1:1: "evaluate.checkpoint" cannot vary`},
		{[]Setting{{"optim.lr.head", 1e-3}, {"train.batch", -1}}, `point:2:13: train.batch is -1`},
		{[]Setting{{"optim.lr.head", "fast"}}, `point:1:15: optim.lr.head is "fast"`},
		{[]Setting{{"optim.lr.head", func() {}}}, `point:1:15: the value of optim.lr.head cannot be read`},
		{[]Setting{{"optim.lr.head", 1e-3}, {"optim.lr.head", 1e-2}}, `point:2:1: optim.lr.head is set twice`},
		{[]Setting{{"adapter.params.rank", 99}}, `point:1:21: adapter.params.rank is 99`},
		{[]Setting{{"adapter.params.rnak", 4}}, `point:1:1: variant "lora" has no parameter "rnak"`},
		{[]Setting{{"adapter.params.rank", 7}}, `point:1:21: rank: 7 does not divide 64`},
		{[]Setting{{"adapter.variant", "lroa"}}, `point:1:17: unknown variant "lroa"`},
		{[]Setting{{"data.size", 100}}, `point:1:11: 100 pixels are not a multiple`},
		{[]Setting{{"backbone.model", "tyo"}}, `point:1:16: backbone "tyo" is not on this machine`},
		{[]Setting{{"train.epochs", 0}}, `point:1:14: with no epochs nothing is trained`},
	} {
		run, found := e.Resolve(t.Context(), c.point, seeded(1))
		if run != nil || len(found) == 0 || !strings.HasPrefix(first(found), c.want) || len(found[0].Cells) > 0 || found[0].Source == "" {
			t.Errorf("%v: %v, %q, want %q", c.point, run, texts(found), c.want)
		}
	}
	// What a mistake leaves behind hits no other point.
	resolvesToItsCells(t, e)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if run, found := e.Resolve(ctx, nil, seeded(1)); run != nil || !found.HasErrors() {
		t.Errorf("after its end, the context gives %v, %v", run, found)
	}
	resolvesToItsCells(t, e)
}

// What the command line sets, a point cannot set.
func TestPointsDoNotOverrideTheCommandLine(t *testing.T) {
	all, _ := loadWith([]string{write(t, sound)}, Env{Set: []string{"optim.lr.head=0.5"}}, world())
	if run, found := all[0].Resolve(t.Context(), []Setting{{"optim.lr.head", 1}}, seeded(1)); run != nil || !strings.HasPrefix(first(found), "point:1:1: optim.lr.head is set on the command line") {
		t.Errorf("%v, %s", run, texts(found))
	}
	run, found := all[0].Resolve(t.Context(), []Setting{{"train.batch", 2}}, seeded(1))
	if run == nil || run.Spec.Optim.LrHead != 0.5 {
		t.Errorf("%v, %s", run, texts(found))
	}
}

// A plug-in that fails only for a point is an error of the point, also where Load
// leaves cells out.
func TestPointsOfBrokenPlugins(t *testing.T) {
	r := world()
	r.keepGoing = true
	sane := r.build
	r.build = func(ctx context.Context, name, params string, m *protocol.Model, s []*protocol.Site) (*protocol.BuildReply, error) {
		if name == "scale" {
			return nil, &variant.Error{Variant: name, Message: "it crashed"}
		}
		return sane(ctx, name, params, m, s)
	}
	all, _ := loadWith([]string{write(t, insert(sound, `	cases: {good: train: batch: 2, bad: adapter: variant: "scale"}`))}, Env{}, r)
	e := all[0]
	if len(e.LeftOut) != 1 {
		t.Fatalf("left out: %v", e.LeftOut)
	}
	resolvesToItsCells(t, e)
	if run, found := e.Resolve(t.Context(), []Setting{{"adapter", json.RawMessage(`{"variant": "scale", "params": {}}`)}}, seeded(1)); run != nil || !found.HasErrors() {
		t.Errorf("%v, %v", run, found)
	}
}

// Points are resolved from several goroutines, next to whatever else reads the
// experiment.
func TestPointsInParallel(t *testing.T) {
	e := loadText(t, insert(sound, `	vary: {"adapter.params.rank": [2, 4, 8], "adapter.params.alpha": [1, 2]}
	cases: computed: adapter: params: {rank: 5, alpha: 3}`))[0]
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			for range 3 {
				resolvesToItsCells(t, e)
				if _, err := e.Values(e.cells[i].name); err != nil {
					t.Error(err)
				}
				if _, err := e.Parts(); err != nil {
					t.Error(err)
				}
				e.Resolve(t.Context(), []Setting{{"adapter.params.rank", 99 + i}}, seeded(1))
			}
		})
	}
	wait.Wait()
}

// Resolve as a search calls it: other values each time.
func BenchmarkResolve(b *testing.B) {
	for name, text := range map[string]string{
		"free":     sound,
		"computed": strings.Replace(sound, "alpha: 8", "alpha: 2 * rank", 1),
	} {
		b.Run(name, func(b *testing.B) {
			e := loadText(b, text)[0]
			i := 0
			for b.Loop() {
				i++
				if run, found := e.Resolve(b.Context(), []Setting{{"optim.lr.head", 1e-3 / float64(i)}, {"adapter.params.rank", 8 + i%4}, {"optim.weightDecay", 0.1}}, seeded(1)); run == nil {
					b.Fatal(texts(found))
				}
			}
		})
	}
	b.Run("shipped", func(b *testing.B) {
		plugins, _ := filepath.Abs("../../bin/plugins")
		registry := variant.Open(variant.Options{Dirs: []string{plugins}})
		defer registry.Close()
		r := world()
		toy := r.backbone
		r.backbone = func(string) (*backbone.Backbone, error) { return toy("toy") }
		r.describe, r.build = registry.Describe, registry.Build
		all, found := loadWith([]string{"../../experiments/ablation_rank.cue"}, Env{}, r)
		if len(all) != 1 {
			b.Skip(texts(found))
		}
		i := 0
		for b.Loop() {
			i++
			if run, found := all[0].Resolve(b.Context(), []Setting{{"optim.lr.head", 1e-3 / float64(i)}, {"adapter.params.rank", 1 + i%16}}, seeded(1)); run == nil {
				b.Fatal(texts(found))
			}
		}
	})
}
