package train

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
)

var cpu *torch.Device

func TestMain(m *testing.M) {
	var err error
	if cpu, err = torch.CPU(2); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const backbone = "../vit/testdata/vit/model.safetensors"

// lora with dropout, so that the generator's state matters.
type lora struct{ dropout float64 }

func (v lora) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a := g.Param("A", sdk.Dims(4, s.In), sdk.KaimingUniform(math.Sqrt(5)))
	b := g.Param("B", sdk.Dims(s.Out, 4), sdk.Zeros, sdk.LR(2))
	x := g.Dropout(g.X(), v.dropout)
	return g.Add(g.Base(g.X()), g.Scale(2, g.MatMul(g.MatMul(x, g.T(a)), g.T(b))))
}

// request is a small complete run: a five-block ViT on drawn animals.
func request(t *testing.T, edit ...func(*spec.RunRequest)) *spec.RunRequest {
	t.Helper()
	split := func(seed uint64, n uint32, style string) *spec.Split {
		p := &spec.Procedural{Seed: seed, Count: n, Size: 64, Style: style}
		return &spec.Split{Count: n, Procedural: p}
	}
	data := func(splits map[string]*spec.Split) *spec.Data {
		return &spec.Data{
			Classes: []string{"background", "animal", "boundary"}, Values: map[uint32]int32{0: 0, 1: 1, 2: 2},
			Height: 48, Width: 32, Mean: []float64{0.5, 0.5, 0.5}, Std: []float64{0.5, 0.5, 0.5}, Splits: splits,
		}
	}
	sum, err := os.ReadFile(backbone)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(sum)
	req := &spec.RunRequest{
		Spec: &spec.RunSpec{
			Revision: spec.Revision, Seed: 3,
			Backbone: &spec.Backbone{Digest: hex.EncodeToString(digest[:]), Depth: 5, Freeze: &spec.Freeze{Kind: spec.Freeze_ALL}, Arch: &spec.Architecture{
				Family: "vit", Dim: 24, Depth: 5, Heads: 3, Mlp: 64, Patch: 8, GridH: 6, GridW: 4, Eps: 1e-12, QkvBias: true,
			}},
			Adapter: adapted(t, lora{}, 3, 4),
			Head:    &spec.Head{Kind: "conv", Dropout: 0.1},
			Data:    data(map[string]*spec.Split{"train": split(1, 13, ""), "val": split(2, 5, "")}),
			Loss:    []*spec.Loss{{Kind: "cross_entropy", Weight: 1}, {Kind: "dice", Weight: 0.5}},
			Optim: &spec.Optim{
				Kind: "adamw", LrBackbone: 1e-4, LrAdapter: 1e-3, LrHead: 1e-2, WeightDecay: 1e-2,
				Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, ClipNorm: 1, Schedule: &spec.Schedule{Kind: "cosine", Warmup: 0.1},
			},
			Train: &spec.Train{Epochs: 3, Batch: 4, Precision: "fp32", Monitor: "dice/mean", EvalEvery: 1},
		},
		Evaluations: []*spec.Evaluation{
			{Domain: "test", Data: data(map[string]*spec.Split{"test": split(3, 6, "")})},
			{Domain: "inverted", Data: data(map[string]*spec.Split{"test": split(3, 6, "inverted")})},
		},
		Places:       &spec.Places{RunDir: t.TempDir(), Backbone: backbone},
		SampleImages: 2,
	}
	for _, e := range edit {
		e(req)
	}
	req.Id = spec.Identity(req.Spec)
	return req
}

func adapted(t *testing.T, v sdk.Builder, blocks ...uint32) *spec.Adapter {
	t.Helper()
	return placed(t, v, blocks, []string{"query", "value"})
}

// placed puts an adapter at these sites of some blocks.
func placed(t *testing.T, v sdk.Builder, blocks []uint32, names []string) *spec.Adapter {
	t.Helper()
	var sites []*protocol.Site
	for _, b := range blocks {
		for _, name := range names {
			sites = append(sites, &protocol.Site{Name: name, Block: b, Kind: protocol.Site_LINEAR, In: 24, Out: 24, Bias: true})
		}
	}
	reply, err := sdk.Programs(t.Context(), v, &protocol.Model{Family: "vit", Dim: 24, Depth: 5, Heads: 3, Mlp: 64}, sites)
	if err != nil {
		t.Fatal(err)
	}
	a := &spec.Adapter{Programs: reply.Programs}
	for i, s := range sites {
		a.Placements = append(a.Placements, &spec.Placement{Site: s, Program: reply.ProgramOfSite[i]})
	}
	return a
}

// run runs a request and gathers what it says; stopAfter > 0 stops it after
// that many steps.
func run(t *testing.T, tr *Trainer, req *spec.RunRequest, stopAfter int) ([]*spec.Event, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var events []*spec.Event
	steps := 0
	err := tr.Run(ctx, req, func(e *spec.Event) {
		events = append(events, proto.Clone(e).(*spec.Event))
		if e.GetStep() != nil {
			if steps++; steps == stopAfter {
				cancel()
			}
		}
	})
	return events, err
}

func trainer(t *testing.T) *Trainer {
	tr := New(cpu, t.TempDir())
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

func finished(t *testing.T, events []*spec.Event, err error) *spec.Summary {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	f := events[len(events)-1].GetFinished()
	if f == nil {
		t.Fatalf("the last event is %v", events[len(events)-1])
	}
	return f.Summary
}

// journal is metrics.jsonl without the speed, which is not the same twice, and
// without notes.
func journal(t *testing.T, req *spec.RunRequest) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(req.Places.RunDir, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	b = regexp.MustCompile(`(?m)^{"type":"note".*\n`).ReplaceAll(b, nil)
	return regexp.MustCompile(`,"images_per_second":[^,}]*`).ReplaceAllString(string(b), "")
}

func TestRunLeavesWhatItPromises(t *testing.T) {
	tr := trainer(t)
	req := request(t)
	events, err := run(t, tr, req, 0)
	sum := finished(t, events, err)

	if sum.AdapterParams != 2*2*(4*24+24*4) {
		t.Errorf("%d adapter parameters", sum.AdapterParams)
	}
	if sum.BackboneParams != 0 || sum.HeadParams == 0 || sum.Steps != 12 {
		t.Errorf("summary %v", sum)
	}
	started := events[0].GetStarted()
	if started.GetCachedBlocks() != 3 || started.GetSteps() != 12 || started.GetEpochs() != 3 {
		t.Errorf("started %v", started)
	}
	var first, last float64
	for _, e := range events {
		if s := e.GetStep(); s != nil {
			if s.Step == 1 {
				first = s.Loss
			}
			last = s.Loss
		}
	}
	if !(last < first) {
		t.Errorf("the loss went from %g to %g", first, last)
	}
	if n := strings.Count(journal(t, req), `{"type":"step","step":"`); n != 12 {
		t.Errorf("%d steps in the journal", n)
	}
	for _, e := range req.Evaluations {
		readPNG(t, rundir.Of(req).Path(rundir.Sample(e.Domain, spec.EvaluationIdentity(req.Id, e))))
	}
	for n := range 2 {
		files := []string{rundir.ValidationTruth(n + 1)}
		for _, step := range []uint64{4, 8, 12} {
			files = append(files, rundir.ValidationPrediction(n+1, step))
		}
		for _, name := range files {
			if m, ok := readPNG(t, rundir.Of(req).Path(name)).(*image.Paletted); !ok || m.Rect != image.Rect(0, 0, 32, 48) || slices.Max(m.Pix) > 2 {
				t.Errorf("%s is no mask of 3 classes", name)
			}
		}
		if m := readPNG(t, rundir.Of(req).Path(rundir.ValidationImage(n+1))); m.Bounds() != image.Rect(0, 0, 32, 48) {
			t.Errorf("image %d is %v", n+1, m.Bounds())
		}
	}
	for _, name := range []string{"request.json", "result.json", "program.json", "adapter.safetensors", "head.safetensors"} {
		if _, err := os.Stat(filepath.Join(req.Places.RunDir, name)); err != nil {
			t.Error(err)
		}
	}

	// Once more: nothing is trained or scored again, the same is reported.
	events, err = run(t, tr, req, 0)
	again := finished(t, events, err)
	for _, e := range events {
		if e.GetStep() != nil || e.GetStarted() != nil {
			t.Fatalf("trained again: %v", e)
		}
	}
	if again.WeightsDigest != sum.WeightsDigest || len(again.Evaluations) != 2 || !proto.Equal(again.Evaluations[0], sum.Evaluations[0]) {
		t.Errorf("second time %v, first time %v", again, sum)
	}

	// Another domain is scored without training.
	more := proto.Clone(req.Evaluations[1]).(*spec.Evaluation)
	more.Domain, more.Data.Splits["test"].Procedural.Style = "noisy", "noisy"
	req.Evaluations = append(req.Evaluations, more)
	events, err = run(t, tr, req, 0)
	if sum := finished(t, events, err); len(sum.Evaluations) != 3 || sum.Evaluations[2].Metrics.Images != 6 {
		t.Errorf("evaluations %v", sum.Evaluations)
	}
}

func ptr[T any](v T) *T { return &v }

// TestResumeIsExact stops runs of every kind at every sort of moment and
// resumes them, in the same trainer and in another: same weights, same journal,
// same scores.
func TestResumeIsExact(t *testing.T) {
	kinds := map[string]func(*spec.RunRequest){
		"adapter": func(*spec.RunRequest) {},
		"dropout": func(r *spec.RunRequest) { r.Spec.Adapter = adapted(t, lora{dropout: 0.3}, 0, 4) },
		"head only": func(r *spec.RunRequest) {
			r.Spec.Adapter = nil
			r.Spec.Head.Norm = true
		},
		"segmenter": func(r *spec.RunRequest) {
			r.Spec.Head = &spec.Head{Kind: "segmenter", Layers: 2, Heads: 2, Dropout: 0.2}
		},
		"setr_pup": func(r *spec.RunRequest) {
			r.Spec.Head = &spec.Head{Kind: "setr_pup", Stages: 1, Norm: true, Dropout: 0.2}
		},
		"unfrozen": func(r *spec.RunRequest) { r.Spec.Backbone.Freeze = &spec.Freeze{Kind: spec.Freeze_NONE} },
		"augmented": func(r *spec.RunRequest) {
			r.Spec.Data.Augment = []*spec.Augment{
				{Kind: "flip", P: 0.5}, {Kind: "crop", P: 0.5, Low: 0.6, High: 1}, {Kind: "noise", P: 0.5, Low: 0.01, High: 0.1},
			}
		},
		"windows of native images": func(r *spec.RunRequest) {
			r.Spec.Data.Augment = []*spec.Augment{
				{Kind: "resize", P: 1, ShortSide: true, Low: 24, High: 96},
				{Kind: "window", P: 1, MaxClass: 0.75},
				{Kind: "flip", P: 0.5},
				{Kind: "photometric", P: 1},
				{Kind: "invert", P: 0.3},
			}
		},
		"views": func(r *spec.RunRequest) {
			r.Spec.Data.Augment = []*spec.Augment{
				{Kind: "resize", P: 1, Low: 0.5, High: 1.5}, {Kind: "window", P: 1}, {Kind: "flip", P: 0.5}, {Kind: "photometric", P: 1},
			}
			r.Spec.Data.Views = &spec.Views{Count: 2, Seed: 5}
		},
		"validated by windows": func(r *spec.RunRequest) {
			r.Spec.Train.Resolution, r.Spec.Train.Window = spec.Original, &spec.Window{StrideH: 20, StrideW: 32}
		},
		"blocks and bf16": func(r *spec.RunRequest) {
			r.Spec.Backbone.Freeze = &spec.Freeze{Kind: spec.Freeze_BLOCKS, Trainable: []uint32{2}}
			r.Spec.Train.Precision = "bf16"
		},
		"all at once": func(r *spec.RunRequest) {
			r.Spec.Adapter = adapted(t, lora{dropout: 0.3}, 0, 4)
			r.Spec.Data.Augment = []*spec.Augment{{Kind: "flip", P: 0.5}, {Kind: "colour", P: 0.7, Brightness: 0.3, Hue: 0.1}}
			r.Spec.Loss = []*spec.Loss{
				{Kind: "cross_entropy", Weight: 0.5, Weighting: "sqrt_inverse", Smoothing: 0.1},
				{Kind: "focal", Weight: 1, Gamma: 2, Weighting: "median"},
				{Kind: "lovasz", Weight: 0.5},
			}
			r.Spec.Optim.Rules = []*spec.Rule{
				{Pattern: "backbone.*layernorm*", Lr: 1e-4, Frozen: true, UntilEpoch: 1},
				{Pattern: "backbone.*", Frozen: true},
				{Pattern: "adapter.*", Lr: 1e-3},
				{Pattern: "head.*", Lr: 1e-2, WeightDecay: ptr(0.1)},
			}
			r.Spec.Optim.Schedule = &spec.Schedule{Kind: "trapezoid", Warmup: 0.1, Decay: 0.3}
			r.Spec.Head.Norm = true
			r.Spec.Train.Batch, r.Spec.Train.Accumulate, r.Spec.Train.Epochs = 2, 2, 4
			r.Spec.Train.Ema = 0.9
		},
		"in steps, with drop path": func(r *spec.RunRequest) {
			r.Spec.Train.Epochs, r.Spec.Train.Steps = 0, 14
			r.Spec.Train.EvalEvery, r.Spec.Train.EvalSteps = 0, 3
			r.Spec.Optim.Schedule.Warmup, r.Spec.Optim.Schedule.WarmupSteps = 0, 5
			r.Spec.Backbone.DropPath = 0.4
			r.Spec.Adapter = adapted(t, lora{dropout: 0.3}, 3, 4)
			r.Spec.Head = &spec.Head{Kind: "linear", Norm: true}
		},
		"forgetting": func(r *spec.RunRequest) {
			r.Spec.Optim.Rules = []*spec.Rule{
				{Pattern: "backbone.encoder.layer.4.*", Lr: 1e-4, Frozen: true, UntilEpoch: 2},
				{Pattern: "backbone.*", Frozen: true},
				{Pattern: "adapter.*", Lr: 1e-3, Frozen: true, UntilEpoch: 1},
				{Pattern: "head.*", Lr: 1e-2},
			}
			r.Spec.Optim.WeightDecay, r.Spec.Optim.ForgetAtUnfreezing = 0.5, true
		},
		"sgd and patience": func(r *spec.RunRequest) {
			r.Spec.Optim.Kind, r.Spec.Optim.Momentum, r.Spec.Optim.Nesterov = "sgd", 0.9, true
			r.Spec.Optim.Schedule = &spec.Schedule{Kind: "step", Milestones: []float64{0.3, 0.6}, Gamma: 0.3}
			r.Spec.Train.Epochs, r.Spec.Train.Patience, r.Spec.Train.MinDelta = 12, 2, 0.5
		},
	}
	for name, edit := range kinds {
		t.Run(name, func(t *testing.T) {
			tr := trainer(t)
			whole := request(t, edit)
			events, err := run(t, tr, whole, 0)
			want := finished(t, events, err)
			for _, stops := range [][]int{{5}, {4, 1, 1}, {12}} {
				req := request(t, edit)
				other := tr
				for i, after := range stops {
					if events, err = run(t, other, req, after); !errors.Is(err, ErrStopped) {
						t.Fatalf("stop %d: %v", i, err)
					}
					if events[len(events)-1].GetStopped() == nil {
						t.Fatalf("last event %v", events[len(events)-1])
					}
					other = New(cpu, filepath.Dir(tr.probeFile))
					defer other.Close()
				}
				events, err = run(t, other, req, 0)
				got := finished(t, events, err)
				if got.WeightsDigest != want.WeightsDigest {
					t.Errorf("stopped after %v steps: other weights", stops)
				}
				if a, b := journal(t, whole), journal(t, req); a != b {
					t.Errorf("stopped after %v steps: other journal\n%s\nwant\n%s", stops, b, a)
				}
				if !proto.Equal(got.Evaluations[1], want.Evaluations[1]) {
					t.Errorf("stopped after %v steps: other scores", stops)
				}
			}
		})
	}
}

// A crash between a checkpoint and the next leaves lines in the journal of
// steps that are taken again.
func TestJournalIsCutAtTheCheckpoint(t *testing.T) {
	tr := trainer(t)
	whole := request(t)
	events, err := run(t, tr, whole, 0)
	finished(t, events, err)
	req := request(t)
	if _, err := run(t, tr, req, 5); !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(req.Places.RunDir, "metrics.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("{\"type\":\"step\",\"step\":\"6\"}\n{\"type\":\"st"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	events, err = run(t, tr, req, 0)
	finished(t, events, err)
	if journal(t, whole) != journal(t, req) {
		t.Error("the journal has repeats or gaps")
	}
}

// The cache must not change results beyond rounding: its batches have another
// size than those of the training.
func TestCachedTokensAreTheTokens(t *testing.T) {
	req := request(t)
	cached, uncached := trainer(t), trainer(t)
	uncached.cache.limit = 0
	e1, err := run(t, cached, req, 0)
	a := finished(t, e1, err)
	req2 := request(t)
	e2, err := run(t, uncached, req2, 0)
	b := finished(t, e2, err)
	if d := math.Abs(a.Validation.Loss - b.Validation.Loss); d > 1e-5 {
		t.Errorf("the validation loss differs by %g with and without the cache", d)
	}
}

// views has a run draw from a bank of two views.
func views(r *spec.RunRequest) {
	r.Spec.Data.Augment = []*spec.Augment{{Kind: "resize", P: 1, Low: 0.5, High: 1.5}, {Kind: "window", P: 1}, {Kind: "flip", P: 0.5}}
	r.Spec.Data.Views = &spec.Views{Count: 2, Seed: 5}
	r.Spec.Data.Height, r.Spec.Data.Width = 16, 16
	r.Evaluations = nil
}

// startedOf is the event of a run's start.
func startedOf(t *testing.T, events []*spec.Event) *spec.Started {
	t.Helper()
	for _, e := range events {
		if s := e.GetStarted(); s != nil {
			return s
		}
	}
	t.Fatal("no run started")
	return nil
}

// The tokens of views are cached: with them, a run is what it is without, but for
// rounding, and other runs share them, of other seeds and other cells.
func TestViewsAreCached(t *testing.T) {
	cached, uncached := trainer(t), trainer(t)
	uncached.cache.limit = 1000
	first, err := run(t, cached, request(t, views), 0)
	a := finished(t, first, err)
	plain, err := run(t, uncached, request(t, views), 0)
	b := finished(t, plain, err)
	if d := math.Abs(a.Validation.Loss - b.Validation.Loss); d > 1e-5 {
		t.Errorf("the validation loss differs by %g with and without the cache", d)
	}
	if s := startedOf(t, first); s.CachedBlocks != 3 || s.CachedViews != 2 || s.Uncached != "" {
		t.Errorf("cached: %v", s)
	}
	if s := startedOf(t, plain); s.CachedBlocks != 0 || !strings.Contains(s.Uncached, "it would take") {
		t.Errorf("without room: %v", s)
	}
	if n := len(uncached.cache.entries); n != 0 {
		t.Errorf("%d entries without room", n)
	}

	// Two views and validation; then what other runs add.
	entries := 3
	if n := len(cached.cache.entries); n != entries {
		t.Errorf("%d entries in the cache, want %d", n, entries)
	}
	seed := func(r *spec.RunRequest) { r.Spec.Seed = 8 }
	for _, c := range []struct {
		name string
		edit func(r *spec.RunRequest)
		more int
	}{
		{"a seed", seed, 0},
		{"a cell", func(r *spec.RunRequest) { r.Spec.Adapter, r.Spec.Backbone.Depth = nil, 3 }, 0},
		{"more views than epochs", func(r *spec.RunRequest) { r.Spec.Data.Views.Count = 100 }, 1},
		{"a larger bank", func(r *spec.RunRequest) { r.Spec.Data.Views.Count = 3 }, 0},
		{"views of a seed", func(r *spec.RunRequest) { r.Spec.Data.Views.Seed = 6 }, 2},
		{"other augmentation", func(r *spec.RunRequest) { r.Spec.Data.Augment[0].High = 2 }, 2},
	} {
		events, err := run(t, cached, request(t, views, c.edit), 0)
		finished(t, events, err)
		if entries += c.more; len(cached.cache.entries) != entries {
			t.Errorf("%s: %d entries in the cache, want %d", c.name, len(cached.cache.entries), entries)
			entries = len(cached.cache.entries)
		}
	}
	events, err := run(t, cached, request(t, views, seed), 0)
	got := finished(t, events, err)
	events, err = run(t, trainer(t), request(t, views, seed), 0)
	if want := finished(t, events, err); got.WeightsDigest != want.WeightsDigest {
		t.Error("other weights with what earlier runs left in the cache")
	}
}

// Epochs of a bank repeat its views; those of other runs differ.
func TestEpochsTakeViewsInTurn(t *testing.T) {
	req := request(t, views)
	tr := trainer(t)
	set, err := tr.openSplit(t.Context(), req, req.Spec.Data, "train")
	if err != nil {
		t.Fatal(err)
	}
	images := func(seed uint64, epoch int) string {
		t.Helper()
		b, err := (&source{d: req.Spec.Data, set: set}).batch(t.Context(), []int{0, 1, 2}, seed, epoch)
		if err != nil {
			t.Fatal(err)
		}
		return string(b.Images)
	}
	if images(1, 0) != images(2, 4) || images(1, 3) != images(2, 5) {
		t.Error("a view is not that of the bank")
	}
	if images(1, 0) == images(1, 1) {
		t.Error("two views are the same")
	}
	req.Spec.Data.Views = nil
	if images(1, 0) == images(2, 0) || images(1, 0) == images(1, 2) {
		t.Error("without a bank, two epochs are the same")
	}
}

// The tokens of windows are cached for later validations and for other runs, and
// scores are the same bits with them and without, also where only some would fit.
func TestWindowsAreCached(t *testing.T) {
	edit := func(r *spec.RunRequest) {
		r.Spec.Data.Height, r.Spec.Data.Width, r.Spec.Train.Epochs = 16, 16, 2
		r.Spec.Train.Resolution, r.Spec.Train.Window = spec.Original, &spec.Window{StrideH: 8, StrideW: 16, Scale: 0.5}
		r.Evaluations = r.Evaluations[:1]
		e := r.Evaluations[0]
		e.Data.Height, e.Data.Width = 16, 16
		e.Resolution, e.Window = spec.Original, &spec.Window{StrideH: 16, StrideW: 16, Scale: 0.5}
	}
	fresh, warm := trainer(t), trainer(t)
	events, err := run(t, fresh, request(t, edit), 0)
	want := finished(t, events, err)
	if n := len(fresh.cache.entries); n != 3 { // train, validation, test
		t.Errorf("%d entries in the cache, want 3", n)
	}
	events, err = run(t, warm, request(t, edit, func(r *spec.RunRequest) { r.Spec.Seed = 9 }), 0)
	finished(t, events, err)
	const image = (2*2 + 1) * 24 * 4 // bytes of the tokens of one window
	const windows = 5 * 6            // of validation; the test has 6·4
	for _, limit := range []int64{params.CacheBytes, 13 * image, (13 + windows) * image, 2 * windows * image} {
		if warm.cache.limit = limit; limit < params.CacheBytes {
			if err := cpu.Do(func() error { warm.cache.drop(); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		events, err = run(t, warm, request(t, edit), 0)
		got := finished(t, events, err)
		if got.WeightsDigest != want.WeightsDigest || !proto.Equal(got.Validation, want.Validation) || !proto.Equal(got.Evaluations[0].Metrics, want.Evaluations[0].Metrics) {
			t.Errorf("with room for %d windows: other scores", limit/image)
		}
		var held int64
		for _, e := range warm.cache.entries {
			held += e.bytes
		}
		if n := len(warm.cache.entries); limit == params.CacheBytes && n != 3 || held > limit {
			t.Errorf("with room for %d windows: %d entries of %d windows", limit/image, n, held/image)
		}
	}
}

// A run whose images are others in each epoch says that nothing is cached.
func TestUncachedIsTold(t *testing.T) {
	for want, edit := range map[string]func(r *spec.RunRequest){
		"data.views":         func(r *spec.RunRequest) { views(r); r.Spec.Data.Views = nil },
		"no block is frozen": func(r *spec.RunRequest) { r.Spec.Backbone.Freeze = &spec.Freeze{Kind: spec.Freeze_NONE} },
	} {
		events, err := run(t, trainer(t), request(t, edit), 1)
		if !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
		if s := startedOf(t, events); s.CachedBlocks != 0 || !strings.Contains(s.Uncached, want) {
			t.Errorf("%v, want %q", s, want)
		}
	}
}

func TestMemoryIsConstantOverRuns(t *testing.T) {
	tr := trainer(t)
	var live []int
	var held []int64
	for i := range 4 {
		req := request(t, func(r *spec.RunRequest) { r.Spec.Seed = uint64(10 + i) })
		events, err := run(t, tr, req, 0)
		finished(t, events, err)
		if err := cpu.Do(func() error {
			live, held = append(live, cpu.Live()), append(held, cpu.LiveBytes())
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if live[1] != live[3] || held[1] != held[3] {
		t.Errorf("after each run %v handles, %v bytes", live, held)
	}
}

func TestFailuresAreTold(t *testing.T) {
	tr := trainer(t)
	for name, c := range map[string]struct {
		edit func(*spec.RunRequest)
		want string
	}{
		"diverging": {func(r *spec.RunRequest) {
			r.Spec.Optim.LrHead, r.Spec.Optim.ClipNorm, r.Spec.Loss = 1e38, 0, r.Spec.Loss[:1]
			r.Spec.Head.Norm = false
		}, "head.conv1.weight is not finite"},
		"other backbone": {func(r *spec.RunRequest) { r.Spec.Backbone.Digest = "00" }, "is not the one of the plan"},
		"no files":       {func(r *spec.RunRequest) { r.Spec.Data.Splits["val"] = &spec.Split{Digest: "aa", Count: 2} }, "split val"},
		"precision":      {func(r *spec.RunRequest) { r.Spec.Train.Precision = "fp8" }, `unknown precision "fp8"`},
		"tf32 on a CPU":  {func(r *spec.RunRequest) { r.Spec.Train.Precision = "tf32" }, "tf32 needs a CUDA device: this engine computes on cpu; use fp32 or bf16"},
		"metric":         {func(r *spec.RunRequest) { r.Spec.Train.Monitor = "dice/cat" }, `unknown metric "dice/cat"`},
		"loss":           {func(r *spec.RunRequest) { r.Spec.Loss[0].Kind = "hinge" }, `unknown loss "hinge"`},
		"schedule":       {func(r *spec.RunRequest) { r.Spec.Optim.Schedule.Kind = "sawtooth" }, `unknown schedule "sawtooth"`},
		"optimiser":      {func(r *spec.RunRequest) { r.Spec.Optim.Kind = "lion" }, `unknown optimiser "lion"`},
		"classes":        {func(r *spec.RunRequest) { r.Evaluations[0].Data.Classes = []string{"a", "b"} }, "domain test has classes"},
		"patch":          {func(r *spec.RunRequest) { r.Spec.Data.Height = 50 }, "50"},
		"revision":       {func(r *spec.RunRequest) { r.Spec.Revision = 999 }, "revision 999"},
	} {
		t.Run(name, func(t *testing.T) {
			events, err := run(t, tr, request(t, c.edit), 0)
			if err == nil {
				t.Fatal("no error")
			}
			failed := events[len(events)-1].GetFailed()
			if failed == nil || !strings.Contains(failed.Detail, c.want) {
				t.Errorf("told %v, want %q", failed, c.want)
			}
		})
	}
	events, err := run(t, tr, request(t), 0)
	finished(t, events, err) // and the trainer goes on
}

func TestOneEngineForARun(t *testing.T) {
	req := request(t)
	dir, err := openDir(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := openDir(ctx, req); err == nil || !strings.Contains(err.Error(), "another engine") {
		t.Errorf("got %v", err)
	}
}

func TestBestIsKept(t *testing.T) {
	tr := trainer(t)
	req := request(t, func(r *spec.RunRequest) { r.Spec.Train.Epochs = 5 })
	events, err := run(t, tr, req, 0)
	sum := finished(t, events, err)
	best, at := math.Inf(-1), uint64(0)
	for _, e := range events {
		if v := e.GetValidation(); v != nil {
			if x, ok := metric.Value(v.Metrics, "dice/mean"); ok && x > best {
				best, at = x, v.Step
			}
		}
	}
	if got, _ := metric.Value(sum.Validation, "dice/mean"); got != best || sum.BestStep != at {
		t.Errorf("kept %g of step %d, the best was %g of step %d", got, sum.BestStep, best, at)
	}
}

func TestJSONIsStable(t *testing.T) {
	a, err := rundir.Marshal(&spec.Step{Step: 1, Loss: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, []byte(`{"step":"1","loss":0.5}`)) {
		t.Errorf("%s", a)
	}
}

// Tokens after more blocks are computed from those after fewer, and are the
// same bits as if computed from the images.
func TestCacheGoesOnFromFewerBlocks(t *testing.T) {
	later := func(r *spec.RunRequest) { r.Spec.Adapter = adapted(t, lora{}, 4) }
	fresh, warm := trainer(t), trainer(t)
	events, err := run(t, fresh, request(t, later), 0)
	want := finished(t, events, err)
	events, err = run(t, warm, request(t), 0)
	finished(t, events, err)
	events, err = run(t, warm, request(t, later), 0)
	if got := finished(t, events, err); got.WeightsDigest != want.WeightsDigest {
		t.Error("other weights")
	}
	if n := len(warm.cache.entries); n != 8 {
		t.Errorf("%d entries in the cache, want 4 splits after 3 and after 4 blocks", n)
	}
}

// A run whose splits do not all fit keeps what it trains on: making room for
// one split must not take another out of use.
func TestCacheKeepsWhatIsInUse(t *testing.T) {
	const picture = (6*4 + 1) * 24 * 4 // bytes of the tokens of one
	for _, pictures := range []int64{13, 14, 18, 19} {
		tr := trainer(t)
		tr.cache.limit = pictures * picture
		for seed := range uint64(2) {
			events, err := run(t, tr, request(t, func(r *spec.RunRequest) { r.Spec.Seed = seed }), 0)
			finished(t, events, err)
			var held int64
			for _, e := range tr.cache.entries {
				held += e.bytes
				if e.inUse {
					t.Errorf("room for %d pictures: still in use after the run: %v", pictures, e.key)
				}
			}
			if held > tr.cache.limit {
				t.Errorf("room for %d pictures: %d bytes held, limit %d", pictures, held, tr.cache.limit)
			}
		}
	}
}

// Two batches of two in one update are a batch of four.
func TestAccumulate(t *testing.T) {
	var losses [2][]float64
	for i, accumulate := range []uint32{1, 2} {
		req := request(t, func(r *spec.RunRequest) {
			r.Spec.Head.Dropout, r.Spec.Loss = 0, []*spec.Loss{{Kind: "cross_entropy", Weight: 1}}
			r.Spec.Train.Batch, r.Spec.Train.Accumulate = 4/accumulate, accumulate
		})
		events, err := run(t, trainer(t), req, 0)
		finished(t, events, err)
		for _, e := range events {
			if s := e.GetStep(); s != nil {
				losses[i] = append(losses[i], s.Loss)
			}
		}
	}
	if len(losses[0]) != 12 || len(losses[1]) != 12 { // 13 images: 4 updates in each of 3 epochs
		t.Fatalf("%d and %d updates", len(losses[0]), len(losses[1]))
	}
	for i, v := range losses[0] {
		if math.Abs(v-losses[1][i]) > 2e-4 {
			t.Errorf("update %d: loss %g, accumulated %g", i+1, v, losses[1][i])
		}
	}
}

// Patience ends a run that does not get better, and says so.
func TestPatience(t *testing.T) {
	req := request(t, func(r *spec.RunRequest) {
		r.Spec.Train.Epochs, r.Spec.Train.Patience, r.Spec.Train.MinDelta = 30, 2, 0.9
	})
	events, err := run(t, trainer(t), req, 0)
	sum := finished(t, events, err)
	if !sum.Early || sum.Steps != 3*4 { // the first is better than none; two more are not by 0.9
		t.Errorf("early %v after %d steps", sum.Early, sum.Steps)
	}
}

// The mean of the weights is what is validated, kept and scored.
func TestAverageIsScored(t *testing.T) {
	scores := map[float64]*spec.Summary{}
	for _, decay := range []float64{0, 0.5} {
		req := request(t, func(r *spec.RunRequest) {
			r.Spec.Train.Ema = decay
			for _, e := range r.Evaluations {
				e.Checkpoint = "last"
			}
		})
		events, err := run(t, trainer(t), req, 0)
		scores[decay] = finished(t, events, err)
	}
	a, b := scores[0], scores[0.5]
	if a.WeightsDigest != b.WeightsDigest {
		t.Error("taking the mean moves the weights themselves")
	}
	if a.Evaluations[0].Metrics.Loss == b.Evaluations[0].Metrics.Loss || a.Validation.Loss == b.Validation.Loss {
		t.Error("the mean is not what is scored")
	}
	if math.Abs(a.Evaluations[0].Metrics.Loss-b.Evaluations[0].Metrics.Loss) > 0.3 {
		t.Errorf("the mean scores a loss of %g, the weights %g", b.Evaluations[0].Metrics.Loss, a.Evaluations[0].Metrics.Loss)
	}
}

// Numbers that make no sense end the run and say where they came from; what was
// good stays in the checkpoint.
func TestDivergence(t *testing.T) {
	req := request(t, func(r *spec.RunRequest) {
		r.Spec.Optim.Kind, r.Spec.Optim.ClipNorm, r.Spec.Optim.LrHead = "sgd", 0, 1e9
	})
	_, err := run(t, trainer(t), req, 0)
	if err == nil || !strings.Contains(err.Error(), "there is no checkpoint yet; the outputs are NaN or infinite on every image") {
		t.Errorf("got %v", err)
	}
}

// A run is scored in its own precision unless an evaluation names another, and
// the next evaluation is in that of the run again.
func TestEvaluationHasItsPrecision(t *testing.T) {
	tr := trainer(t)
	req := request(t, func(r *spec.RunRequest) {
		r.Spec.Train.Epochs = 1
		for i, p := range []string{"fp32", "bf16", ""} {
			e := proto.CloneOf(r.Evaluations[0])
			e.Domain, e.Precision = fmt.Sprint(i), p
			r.Evaluations = append(r.Evaluations, e)
		}
		r.Evaluations = r.Evaluations[2:]
		r.Evaluations[2].Checkpoint = "last" // another identity
	})
	events, err := run(t, tr, req, 0)
	var nll []float64
	for _, e := range finished(t, events, err).Evaluations {
		nll = append(nll, e.Metrics.GetNll())
	}
	if len(nll) != 3 || nll[0] != nll[2] || nll[1] == nll[0] || math.Abs(nll[1]-nll[0]) > 0.05*nll[0] {
		t.Errorf("negative log-likelihoods in fp32, bf16 and the run's precision: %v", nll)
	}
}
