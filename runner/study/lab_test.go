package study

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/variant"
)

// A lab is a project whose runs are trained by a function.
type lab struct {
	*testing.T
	root  string
	slots int // 0 is one
	// score is the objective of a run at a step. An error is a crash.
	score func(s *spec.RunSpec, step uint64) (float64, error)
	// trained are the runs that were begun, with the steps from and to.
	trained []string
}

// best is the highest at a learning rate of 1e-2, and grows with the step.
func best(s *spec.RunSpec, step uint64) (float64, error) {
	return 0.9 - math.Abs(math.Log10(s.Optim.LrHead)+2)/10 + float64(step)/10000, nil
}

// one is an experiment that searches the rate of a head. Its training has 18 steps.
const one = `package e

import "github.com/loralab/loralab/schema"

x: schema.#Experiment & {
	backbone: model: "./vit"
	adapter: variant: "none"
	head: {kind: "conv", hidden: 8}
	data: {
		source: "procedural"
		size:   32
		classes: ["background", "shape", "boundary"]
		procedural: {train: 8, val: 2, test: 2, size: 32}
	}
	optim: lr: head: 1e-3
	train: {epochs: 9, batch: 4}
	seeds: [1, 2]
	search: {
		space: "optim.lr.head": {low: 1e-5, high: 1, log: true}
		trials: 8
		// more
	}
}
`

// with is one with other fields of its search.
func with(fields string) string { return strings.Replace(one, "// more", fields, 1) }

// trials sets the budget.
func trials(n int, text string) string {
	return strings.Replace(text, "trials: 8", fmt.Sprintf("trials: %d", n), 1)
}

func newLab(t *testing.T, text string) *lab {
	t.Helper()
	l := &lab{T: t, root: t.TempDir(), score: best}
	l.must(tiny(filepath.Join(l.root, "vit")))
	l.write(text)
	return l
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// write replaces the experiment's file.
func (l *lab) write(text string) {
	l.Helper()
	l.must(os.WriteFile(filepath.Join(l.root, "e.cue"), []byte(text), 0o666))
}

func (l *lab) load() []*experiment.Experiment {
	l.Helper()
	env := experiment.Env{
		Root: l.root, Hub: &backbone.Finder{Root: l.root, Cache: filepath.Join(l.root, ".cache")},
		Variants: variant.Open(variant.Options{Root: l.root, CacheDir: filepath.Join(l.root, ".cache")}),
	}
	l.Cleanup(func() { env.Variants.Close() })
	loaded, found := experiment.Load(l.Context(), []string{filepath.Join(l.root, "e.cue")}, env)
	if found.HasErrors() {
		l.Fatal(found[0].Text())
	}
	return loaded
}

// read is the searches as others see them.
func (l *lab) read() []*Study {
	l.Helper()
	known, err := store.Read(l.Context(), l.root)
	l.must(err)
	all, err := Read(l.Context(), known, l.load())
	l.must(err)
	return all
}

// apply trains until nothing is left, or as many jobs as are given.
func (l *lab) apply(most int) {
	l.Helper()
	l.must(l.try(most))
}

func (l *lab) try(most int) error {
	l.Helper()
	a := l.begin(nil)
	defer a.close()
	return a.work(most)
}

// An applier is a process that applies.
type applier struct {
	*lab
	src      *Source
	runs     *store.Store
	progress []*launch.Job
}

func (l *lab) begin(lock *store.Lock) *applier {
	l.Helper()
	ctx := l.Context()
	runs, err := store.Open(ctx, l.root)
	l.must(err)
	if lock != nil {
		runs.As(lock)
	}
	known, err := runs.Reconcile(ctx)
	l.must(err)
	a := &applier{lab: l, runs: runs}
	var studies []*experiment.Study
	for _, e := range l.load() {
		studies = append(studies, e.Studies...)
	}
	a.src, err = NewSource(ctx, runs, Here, known, studies, func(run *experiment.Run, cell string) (*launch.Job, error) {
		return &launch.Job{Run: run, Dir: filepath.Join(l.root, filepath.FromSlash(store.DirOf(run.Experiment, run.ID)))}, nil
	})
	l.must(err)
	return a
}

func (a *applier) close() { a.must(errors.Join(a.src.Close(), a.runs.Close())) }

// work keeps all slots busy. Jobs end in the order in which they began.
func (a *applier) work(most int) error {
	for n := 0; ; {
		for len(a.progress) < max(a.slots, 1) && n < most {
			job, done, err := a.src.Next(a.Context())
			if err != nil {
				return err
			}
			if job == nil {
				if done && len(a.progress) == 0 {
					return nil
				}
				break
			}
			if _, err := a.runs.Claim(a.Context(), job.Run.ID); err != nil {
				return err
			}
			a.must(a.runs.Start(a.Context(), job.Run.ID))
			a.progress = append(a.progress, job)
			if n++; n > 300 {
				return fmt.Errorf("it does not end: %q", a.trained[280:])
			}
		}
		if len(a.progress) == 0 {
			return nil
		}
		if err := a.end(); err != nil {
			return err
		}
	}
}

// end ends the oldest job.
func (a *applier) end() error {
	job := a.progress[0]
	a.progress = a.progress[1:]
	return a.src.Ended(job, a.train(a.runs, job))
}

// train does what an engine and its launcher do.
func (l *lab) train(runs *store.Store, job *launch.Job) *launch.End {
	l.Helper()
	ctx, id := l.Context(), job.Run.ID
	stored, err := runs.Get(ctx, id)
	l.must(err)
	step := uint64(18)
	if job.Pause != nil {
		step = job.Pause.Step
	}
	l.trained = append(l.trained, fmt.Sprintf("%s %d-%d", job.Run.Name(), stored.Checkpoint, step))
	value, err := l.score(job.Run.Spec, step)
	metrics := &spec.Metrics{Dice: value, Pixels: 1}
	at := rundir.Dir(job.Dir)
	switch {
	case err != nil:
		l.must(runs.Fail(ctx, id, stored.Checkpoint, err.Error()))
		return &launch.End{Outcome: launch.Failed, Reason: err.Error()}
	case job.Pause != nil:
		last := at.Path(rundir.Last)
		l.must(os.MkdirAll(filepath.Dir(last), 0o777))
		weights := []safetensors.Tensor{safetensors.FromFloat32("w", []float32{1}, 1)}
		l.must(safetensors.Write(last, weights, map[string]string{"step": strconv.FormatUint(step, 10)}))
		l.must(runs.Pause(ctx, id, step, metrics))
		return &launch.End{Outcome: launch.Paused, Step: step, Validation: metrics}
	}
	summary := &spec.Summary{Id: id, Steps: step, Validation: metrics}
	summary.Digest = spec.SealedDigest(summary)
	text, err := rundir.MarshalFile(summary)
	l.must(err)
	l.must(os.WriteFile(at.Path(rundir.Result), text, 0o666))
	for _, e := range job.Evaluations {
		done := &spec.Evaluated{Id: e.ID, Run: id, Domain: e.Spec.Domain, Metrics: metrics}
		done.Digest = spec.SealedDigest(done)
		text, err := rundir.MarshalFile(done)
		l.must(err)
		l.must(os.MkdirAll(at.Path(rundir.Evaluations), 0o777))
		l.must(os.WriteFile(at.Path(rundir.Evaluation(e.ID)), text, 0o666))
	}
	l.must(runs.Finish(ctx, id, summary))
	if stored, err = runs.Get(ctx, id); err != nil || stored.Damage != nil {
		l.Fatalf("%v, %v", stored.Damage, err)
	}
	return &launch.End{Outcome: launch.Finished, Summary: summary}
}

// files is the content of the files of all studies.
func (l *lab) files() map[string]string {
	l.Helper()
	all := map[string]string{}
	names, err := filepath.Glob(filepath.Join(l.root, "runs", "*", "studies", "*", "*"))
	l.must(err)
	for _, name := range names {
		text, err := os.ReadFile(name)
		l.must(err)
		rel, err := filepath.Rel(l.root, name)
		l.must(err)
		all[rel] = string(text)
	}
	return all
}

// once reports steps that were done twice.
func (l *lab) once() {
	l.Helper()
	seen := map[string]bool{}
	for _, line := range l.trained {
		if seen[line] {
			l.Errorf("twice: %s", line)
		}
		seen[line] = true
	}
}

// statesOf are the states of the trials, in order.
func statesOf(s *Study) (all []State) {
	for _, t := range s.Trials {
		all = append(all, t.State)
	}
	return all
}

// tiny writes a backbone, of which no values are needed.
func tiny(dir string) error {
	const dim, mlp, patch, grid = 16, 32, 8, 4
	var tensors []safetensors.Tensor
	add := func(name string, shape ...int64) {
		n := int64(1)
		for _, d := range shape {
			n *= d
		}
		tensors = append(tensors, safetensors.FromFloat32(name, make([]float32, n), shape...))
	}
	layer := func(name string, out, in int64) {
		add(name+".bias", out)
		add(name+".weight", out, in)
	}
	norm := func(name string) {
		add(name+".bias", dim)
		add(name+".weight", dim)
	}
	add("embeddings.cls_token", 1, 1, dim)
	add("embeddings.patch_embeddings.projection.bias", dim)
	add("embeddings.patch_embeddings.projection.weight", dim, 3, patch, patch)
	add("embeddings.position_embeddings", 1, 1+grid*grid, dim)
	for _, name := range []string{"attention.attention.key", "attention.attention.query", "attention.attention.value", "attention.output.dense"} {
		layer("encoder.layer.0."+name, dim, dim)
	}
	layer("encoder.layer.0.intermediate.dense", mlp, dim)
	norm("encoder.layer.0.layernorm_after")
	norm("encoder.layer.0.layernorm_before")
	layer("encoder.layer.0.output.dense", dim, mlp)
	norm("layernorm")
	config, err := json.Marshal(map[string]any{
		"model_type": "vit", "hidden_size": dim, "num_hidden_layers": 1, "num_attention_heads": 2,
		"intermediate_size": mlp, "patch_size": patch, "image_size": grid * patch,
	})
	return errors.Join(err, os.MkdirAll(dir, 0o777), os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666),
		safetensors.Write(filepath.Join(dir, "model.safetensors"), tensors, nil))
}
