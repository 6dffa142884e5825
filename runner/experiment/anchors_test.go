package experiment

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/internal/published"
	"github.com/loralab/loralab/runner/backbone"
)

// anchor is a published figure's settings, under the names of this test.
type anchor struct {
	File, Experiment string
	Source           string
	// Published are the settings of the source, Here those that are others with loralab,
	// and Why.
	Published, Here map[string]any
	Why             string
}

// settingsOfRun are what a run trains with and is scored by.
func settingsOfRun(r *Run) map[string]any {
	s, e := r.Spec, r.Evaluations[0].Spec
	d := s.GetData()
	got := map[string]any{
		"classes": len(d.GetClasses()), "steps": params.Steps(s), "batch": s.GetTrain().GetBatch() * max(1, s.GetTrain().GetAccumulate()),
		"validated_every": s.GetTrain().GetEvalSteps(), "precision": s.GetTrain().GetPrecision(),
		"freeze": strings.ToLower(s.GetBackbone().GetFreeze().GetKind().String()), "drop_path": s.GetBackbone().GetDropPath(),
		"final_norm": !s.GetBackbone().GetWithoutNorm(),
		"head":       s.GetHead().GetKind(), "norm": s.GetHead().GetNorm(), "layers": s.GetHead().GetLayers(), "dropout": s.GetHead().GetDropout(),
		"optimizer": s.GetOptim().GetKind(), "lr": s.GetOptim().GetLrHead(), "lr_backbone": s.GetOptim().GetLrBackbone(),
		"weight_decay": s.GetOptim().GetWeightDecay(), "decays_vectors": s.GetOptim().GetDecayVectors(), "clip": s.GetOptim().GetClipNorm(),
		"betas": []float64{s.GetOptim().GetBeta1(), s.GetOptim().GetBeta2()}, "momentum": s.GetOptim().GetMomentum(), "nesterov": s.GetOptim().GetNesterov(),
		"schedule": s.GetOptim().GetSchedule().GetKind(), "power": s.GetOptim().GetSchedule().GetPower(), "floor": s.GetOptim().GetSchedule().GetFloor(),
		"warmup_steps": s.GetOptim().GetSchedule().GetWarmupSteps(), "stride": e.GetWindow().GetStrideH(), "window": e.GetData().GetHeight(),
		"crop": d.GetHeight(), "checkpoint": e.GetCheckpoint(), "scoring": e.GetResolution() + " size", "photometric": false,
	}
	if e.GetWindow().GetScale() == 0 {
		got["resolution_scale"] = "short side to the window"
	}
	loss := map[string]any{}
	for _, term := range s.GetLoss() {
		loss[term.GetKind()] = term.GetWeight()
	}
	got["loss"] = loss
	ignored := []uint32{}
	for value, class := range d.GetValues() {
		if class < 0 {
			ignored = append(ignored, value)
		}
	}
	slices.Sort(ignored)
	got["ignored"] = ignored
	for _, a := range d.GetAugment() {
		switch a.GetKind() {
		case "resize":
			if a.GetShortSide() {
				got["short_side"] = []float64{a.GetLow(), a.GetHigh()}
			}
		case "window":
			got["max_class"] = a.GetMaxClass()
		case "flip":
			got["flip"] = a.GetP()
		case "photometric":
			got["photometric"] = a.GetP() == 1
		}
	}
	return got
}

// The files of docs/anchors.md resolve, on data that is laid out as published, to the
// settings that were published, but for those that are noted with a reason.
func TestAnchorsAreThePublishedSettings(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	sets := t.TempDir()
	t.Setenv("LORALAB_DATA", sets)
	for layout, folder := range map[string]string{"voc": "VOC2012", "ade20k": "ADEChallengeData2016", "cityscapes": "cityscapes"} {
		if err := published.Write(layout, filepath.Join(sets, folder), ""); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("testdata/anchors.json")
	if err != nil {
		t.Fatal(err)
	}
	var anchors []anchor
	if err := json.Unmarshal(text, &anchors); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/anchors.md")
	if err != nil {
		t.Fatal(err)
	}
	loaded := map[string][]*Experiment{}
	covered := map[string]bool{}
	for _, a := range anchors {
		covered[a.Experiment] = true
		if !strings.Contains(string(page), "`"+a.Experiment+"`") {
			t.Errorf("docs/anchors.md does not name %s", a.Experiment)
		}
		if (len(a.Here) > 0) != (a.Why != "") {
			t.Errorf("%s: settings that are others have a reason, and no others do", a.Experiment)
		}
		for _, size := range []string{"small", "base"} {
			at := a.File + " " + size
			if loaded[at] == nil {
				experiments, found := loadWith([]string{filepath.Join("../../experiments/anchors", a.File)}, Env{Tags: []string{"size=" + size}}, anchorWorld())
				if found.HasErrors() {
					t.Fatalf("%s: %s", at, texts(found))
				}
				loaded[at] = experiments
			}
			i := slices.IndexFunc(loaded[at], func(e *Experiment) bool { return e.Name == a.Experiment })
			if i < 0 {
				t.Fatalf("%s has no experiment %s", a.File, a.Experiment)
			}
			for _, run := range loaded[at][i].Runs {
				a.compare(t, run)
			}
		}
	}
	for file, experiments := range loaded {
		for _, e := range experiments {
			if !covered[e.Name] {
				t.Errorf("%s has %s, of which testdata/anchors.json has no settings", file, e.Name)
			}
		}
	}
}

// compare compares a run with what was published.
func (a *anchor) compare(t *testing.T, run *Run) {
	want, got := maps.Clone(a.Published), settingsOfRun(run)
	maps.Copy(want, a.Here)
	for name, value := range want {
		// Both as JSON has them.
		text, err := json.Marshal(got[name])
		if err != nil {
			t.Fatal(err)
		}
		var is any
		if err := json.Unmarshal(text, &is); err != nil || !reflect.DeepEqual(is, value) {
			t.Errorf("%s: %s is %s, published is %v (%s)", run.Name(), name, text, value, a.Source)
		}
	}
	mean := []float64{0.485, 0.456, 0.406}
	if strings.HasPrefix(a.Experiment, "segmenter") {
		mean = []float64{0.5, 0.5, 0.5}
	}
	splits := run.Spec.Data.Splits
	if !slices.Equal(run.Spec.Data.Mean, mean) || run.Spec.Adapter != nil || splits["train"].Count != 3 ||
		splits["val"].Digest != run.Evaluations[0].Spec.Data.Splits["test"].Digest || run.Spec.Train.Resolution != "original" {
		t.Errorf("%s: normalization by %v, adapter %v, splits %v", run.Name(), run.Spec.Data.Mean, run.Spec.Adapter, splits)
	}
}

// anchorWorld answers for the backbones of the anchors by their names.
func anchorWorld() *resolver {
	r := world()
	r.backbone = remembered(context.Background(), func(name string) (*backbone.Backbone, error) {
		arch := &spec.Architecture{Family: "dinov2", Dim: 64, Depth: 12, Heads: 4, Mlp: 256, Patch: 16, QkvBias: true}
		mean := []float64{0.485, 0.456, 0.406}
		if strings.Contains(name, "dinov2") {
			arch.Patch = 14
		} else if strings.Contains(name, "patch16-384") {
			mean = []float64{0.5, 0.5, 0.5}
		}
		return &backbone.Backbone{Name: name, Path: "/weights/" + name, Digest: "digest of " + name, Arch: arch, Mean: mean, Std: mean}, nil
	})
	return r
}
