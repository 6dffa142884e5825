package train

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// ensembleOf trains members that differ in their seed.
func ensembleOf(t *testing.T, tr *Trainer, n int, edit func(*spec.RunRequest)) *spec.EnsembleRequest {
	t.Helper()
	e := &spec.EnsembleRequest{Dir: t.TempDir(), SampleImages: 1}
	var ids []string
	for seed := range n {
		req := request(t, edit, func(r *spec.RunRequest) { r.Spec.Seed, r.Evaluations = uint64(seed), nil })
		events, err := run(t, tr, req, 0)
		finished(t, events, err)
		e.Members, ids = append(e.Members, req), append(ids, req.Id)
	}
	e.Id = spec.EnsembleIdentity(ids)
	return e
}

func scoredTogether(t *testing.T, tr *Trainer, req *spec.EnsembleRequest) (all []*spec.Evaluated) {
	t.Helper()
	err := tr.Ensemble(t.Context(), req, func(e *spec.Event) {
		if done := e.GetEvaluated(); done != nil {
			all = append(all, proto.CloneOf(done))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// An ensemble is scored as the mean of what its members predict, each by itself, of
// every picture: members share a frozen backbone, blocks that train, or nothing.
func TestEnsembleIsTheMeanOfItsMembers(t *testing.T) {
	for name, edit := range map[string]func(*spec.RunRequest){
		"frozen": func(r *spec.RunRequest) { r.Spec.Optim.LrAdapter = 3e-2 },
		"blocks": func(r *spec.RunRequest) {
			r.Spec.Backbone.Freeze = &spec.Freeze{Kind: spec.Freeze_BLOCKS, Trainable: []uint32{4}}
		},
		"all": func(r *spec.RunRequest) { r.Spec.Backbone.Freeze = &spec.Freeze{Kind: spec.Freeze_NONE} },
	} {
		t.Run(name, func(t *testing.T) {
			tr := trainer(t)
			req := ensembleOf(t, tr, 3, func(r *spec.RunRequest) { r.Spec.Train.Epochs = 1; edit(r) })
			plain := request(t).Evaluations[0]
			plain.Data.Splits["test"].Procedural.Count = 3
			window := &spec.Window{StrideH: 20, StrideW: 16}
			own := func(w *spec.Window) *spec.Evaluation {
				e := proto.CloneOf(plain)
				e.Data.Splits["test"].Procedural.Size = 57
				e.Resolution, e.Window, e.TestTime = spec.Original, w, spec.NewTestTime(true, nil)
				e.Domain = e.ColumnName("test")
				return e
			}
			req.Evaluations = []*spec.Evaluation{plain, own(nil), own(window)}
			got := scoredTogether(t, tr, req)
			for i, e := range req.Evaluations {
				d := proto.CloneOf(e.Data)
				if e.Resolution == spec.Original {
					d.Height, d.Width = 57, 57
				}
				nll, brier, hits := meanOfPredictions(t, tr, req.Members, e, d)
				m := got[i].Metrics
				if math.Abs(*m.Nll-nll) > 1e-5 || math.Abs(*m.Brier-brier) > 1e-5 {
					t.Errorf("%s: NLL %v, Brier %v, want %v, %v", e.Domain, *m.Nll, *m.Brier, nll, brier)
				}
				for c := range hits {
					if math.Abs(float64(hits[c])-float64(m.Classes[c].Intersection)) > 1 {
						t.Errorf("%s: class %d is right at %d pixels, want %d", e.Domain, c, m.Classes[c].Intersection, hits[c])
					}
				}
				if got[i].Run != req.Id || got[i].Id != spec.EvaluationIdentity(req.Id, e) {
					t.Errorf("%s is of %s", e.Domain, got[i].Run)
				}
				if _, err := os.Stat(filepath.Join(req.Dir, rundir.Sample(e.Domain, got[i].Id))); err != nil {
					t.Error(err)
				}
			}

			// What is there is not scored again, whatever the order of the members.
			slices.Reverse(req.Members)
			before, err := os.Stat(filepath.Join(req.Dir, rundir.Evaluation(got[0].Id)))
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range scoredTogether(t, tr, req) {
				if !proto.Equal(e, got[i]) {
					t.Errorf("again: %v, before %v", e, got[i])
				}
			}
			if after, err := os.Stat(filepath.Join(req.Dir, rundir.Evaluation(got[0].Id))); err != nil || !os.SameFile(before, after) {
				t.Errorf("it was written again: %v", err)
			}
			other := proto.CloneOf(req)
			other.Dir = t.TempDir()
			for i, e := range scoredTogether(t, tr, other) {
				if !proto.Equal(e, got[i]) {
					t.Errorf("in another order of members: %v, before %v", e, got[i])
				}
			}
		})
	}
}

// meanOfPredictions scores the mean of the probabilities that members write, of the
// images of d as they are in their files.
func meanOfPredictions(t *testing.T, tr *Trainer, members []*spec.RunRequest, e *spec.Evaluation, d *spec.Data) (nll, brier float64, hits []int) {
	t.Helper()
	set, err := data.OpenProcedural(d.Splits["test"].Procedural, d, data.Contents{})
	if err != nil {
		t.Fatal(err)
	}
	paths := drawn(t, d)
	sums := make([][]float64, len(paths))
	for _, m := range members {
		ask := &spec.PredictRequest{Run: m, Checkpoint: "best", Window: e.Window, TestTime: e.TestTime}
		out := t.TempDir()
		for _, path := range paths {
			ask.Pictures = append(ask.Pictures, &spec.Picture{Image: path, Probabilities: filepath.Join(out, filepath.Base(path))})
		}
		predictions(t, tr, ask)
		for k, picture := range ask.Pictures {
			f, err := safetensors.Open(picture.Probabilities)
			if err != nil {
				t.Fatal(err)
			}
			tensor, _ := f.Get("probabilities")
			p, err := tensor.Float32()
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
			if sums[k] == nil {
				sums[k] = make([]float64, len(p))
			}
			for i, v := range p {
				sums[k][i] += float64(v) / float64(len(members))
			}
		}
	}
	hits = make([]int, 3)
	n := 0.0
	for k, p := range sums {
		b, err := set.Batch(t.Context(), []int{k})
		if err != nil {
			t.Fatal(err)
		}
		for at, label := range b.Labels {
			best := 0
			for c := range 3 {
				v, want := p[c*b.Area()+at], 0.0
				if v > p[best*b.Area()+at] {
					best = c
				}
				if c == int(label) {
					want = 1
				}
				brier += (v - want) * (v - want)
			}
			nll -= math.Log(p[int(label)*b.Area()+at])
			if n++; best == int(label) {
				hits[label]++
			}
		}
	}
	return nll / n, brier / n, hits
}

func TestEnsemblesThatAreRefused(t *testing.T) {
	tr := trainer(t)
	good := ensembleOf(t, tr, 2, func(r *spec.RunRequest) { r.Spec.Train.Epochs = 1 })
	good.Evaluations = request(t).Evaluations
	for want, edit := range map[string]func(*spec.EnsembleRequest){
		"two members or more":         func(e *spec.EnsembleRequest) { e.Members = e.Members[:1] },
		"is a member twice":           func(e *spec.EnsembleRequest) { e.Members[1] = e.Members[0] },
		"not that of the members":     func(e *spec.EnsembleRequest) { e.Id = e.Members[0].Id },
		"a place is missing":          func(e *spec.EnsembleRequest) { e.Dir = "" },
		"cannot be merged":            func(e *spec.EnsembleRequest) { e.Evaluations[0].Merged = true },
		"they differ in the head":     func(e *spec.EnsembleRequest) { e.Members[1].Spec.Head.Kind = "linear" },
		"is not trained":              func(e *spec.EnsembleRequest) { e.Members[1].Places.RunDir = t.TempDir() },
		"cannot have a strength of 3": func(e *spec.EnsembleRequest) { e.Evaluations[0].SetStrength(3) },
	} {
		bad := proto.CloneOf(good)
		edit(bad)
		bad.Members[len(bad.Members)-1].Id = spec.Identity(bad.Members[len(bad.Members)-1].Spec)
		if err := tr.Ensemble(t.Context(), bad, func(*spec.Event) {}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
