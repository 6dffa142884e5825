package train

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/sdk"
)

// tensorsIn reads all of a file of a run's directory.
func tensorsIn(t *testing.T, req *spec.RunRequest, name string) []safetensors.Tensor {
	t.Helper()
	return tensorsOfFile(t, filepath.Join(req.Places.RunDir, name))
}

func tensorsOfFile(t *testing.T, path string) []safetensors.Tensor {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []safetensors.Tensor
	for _, name := range f.Names() {
		v, _ := f.Get(name)
		v.Data = slices.Clone(v.Data)
		out = append(out, v)
	}
	return out
}

// startWith makes a request start from these values.
func startWith(t *testing.T, values []safetensors.Tensor, edit ...func(*spec.RunRequest)) *spec.RunRequest {
	t.Helper()
	path := filepath.Join(t.TempDir(), "start.safetensors")
	if err := safetensors.Write(path, values, nil); err != nil {
		t.Fatal(err)
	}
	sum, err := filehash.Of(path)
	if err != nil {
		t.Fatal(err)
	}
	return request(t, append([]func(*spec.RunRequest){func(r *spec.RunRequest) {
		r.Spec.Adapter.Start, r.Places.Start = sum, path
	}}, edit...)...)
}

func noEpochs(r *spec.RunRequest) { r.Spec.Train.Epochs = 0 }

// A run that trains nothing and starts from another's weights, head and all, is
// that other one.
func TestNoEpochsFromAnotherRun(t *testing.T) {
	tr := trainer(t)
	first := request(t)
	events, err := run(t, tr, first, 0)
	want := finished(t, events, err)
	values := slices.Concat(tensorsIn(t, first, "adapter.safetensors"), tensorsIn(t, first, "head.safetensors"))

	// Also where the mean of the weights is what is scored.
	mean := startWith(t, values, noEpochs, func(r *spec.RunRequest) { r.Spec.Train.Ema = 0.9 })
	events, err = run(t, tr, mean, 0)
	if got := finished(t, events, err); !proto.Equal(got.Validation, want.Validation) {
		t.Errorf("the mean scores %v, want %v", got.Validation, want.Validation)
	}

	req := startWith(t, values, noEpochs)
	events, err = run(t, tr, req, 0)
	got := finished(t, events, err)
	if got.Steps != 0 || got.BestStep != 0 {
		t.Errorf("summary %v", got)
	}
	for i, e := range got.Evaluations {
		w := proto.Clone(want.Evaluations[i]).(*spec.Evaluated)
		if w.Id, w.Digest, w.Run = e.Id, e.Digest, e.Run; !proto.Equal(e, w) {
			t.Errorf("scores %v, want %v", e, w)
		}
	}
	for _, name := range []string{"adapter.safetensors", "head.safetensors"} {
		a, b := tensorsIn(t, first, name), tensorsIn(t, req, name)
		for i := range a {
			if a[i].Name != b[i].Name || !slices.Equal(a[i].Data, b[i].Data) {
				t.Errorf("%s: %s differs", name, a[i].Name)
			}
		}
	}
	// Once more: nothing is scored again.
	events, err = run(t, tr, req, 0)
	if again := finished(t, events, err); again.WeightsDigest != got.WeightsDigest || len(events) != 3 {
		t.Errorf("events %v", events)
	}
}

// Starting values are read once: a resumed run goes on from its checkpoint.
func TestStartAndResume(t *testing.T) {
	tr := trainer(t)
	first := request(t)
	events, err := run(t, tr, first, 0)
	finished(t, events, err)
	values := tensorsIn(t, first, "adapter.safetensors")

	whole := startWith(t, values)
	events, err = run(t, tr, whole, 0)
	want := finished(t, events, err)
	if plain := request(t); func() bool {
		events, err := run(t, tr, plain, 0)
		return finished(t, events, err).WeightsDigest == want.WeightsDigest
	}() {
		t.Error("the starting values changed nothing")
	}
	req := startWith(t, values)
	if _, err := run(t, tr, req, 5); err == nil {
		t.Fatal("not stopped")
	}
	events, err = run(t, tr, req, 0)
	if got := finished(t, events, err); got.WeightsDigest != want.WeightsDigest {
		t.Error("resumed to other weights")
	}
}

// masked has a frozen parameter that the rest reads through a constant.
type masked struct{}

func (masked) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	k := g.Exp(g.Param("k", sdk.Dims(s.Out), sdk.Zeros, sdk.Frozen))
	return g.Add(g.Base(g.X()), g.Mul(k, g.Param("beta", sdk.Dims(s.Out), sdk.Ones)))
}

// Frozen parameters start with the file's values too, and keep them when a run
// is resumed or scored later.
func TestFrozenParametersStart(t *testing.T) {
	tr := trainer(t)
	edit := func(r *spec.RunRequest) {
		start := r.Spec.Adapter.Start
		r.Spec.Adapter = adapted(t, masked{}, 4)
		r.Spec.Adapter.Start = start
	}
	first := request(t, edit, noEpochs)
	events, err := run(t, tr, first, 0)
	finished(t, events, err)
	values := tensorsIn(t, first, "adapter.safetensors")
	for i, v := range values {
		if strings.HasSuffix(v.Name, ".k") {
			k := make([]float32, 24)
			for j := range k {
				k[j] = float32(j) / 24
			}
			values[i] = safetensors.FromFloat32(v.Name, k, 24)
		}
	}
	whole, req := startWith(t, values, edit), startWith(t, values, edit)
	events, err = run(t, tr, whole, 0)
	want := finished(t, events, err)
	if _, err := run(t, tr, req, 5); err == nil {
		t.Fatal("not stopped")
	}
	evaluations := req.Evaluations
	req.Evaluations = nil
	events, err = run(t, tr, req, 0)
	if got := finished(t, events, err); got.WeightsDigest != want.WeightsDigest {
		t.Error("resumed to other weights")
	}
	req.Evaluations = evaluations
	events, err = run(t, tr, req, 0)
	if got := finished(t, events, err); !proto.Equal(got.Evaluations[0], want.Evaluations[0]) {
		t.Error("scored later, other scores")
	}
}

func TestStartIsStrict(t *testing.T) {
	tr := trainer(t)
	first := request(t, noEpochs)
	events, err := run(t, tr, first, 0)
	finished(t, events, err)
	good := tensorsIn(t, first, "adapter.safetensors")
	head := tensorsIn(t, first, "head.safetensors")

	for name, c := range map[string]struct {
		values []safetensors.Tensor
		edit   func(*spec.RunRequest)
		want   []string
	}{
		"other tensors": {
			append([]safetensors.Tensor{
				safetensors.FromFloat32("blocks.9.query.A", make([]float32, 3), 3),
				safetensors.FromFloat32(good[1].Name, make([]float32, 6), 2, 3),
			}, good[2:]...),
			noEpochs,
			[]string{"1 missing:\n  " + good[0].Name, "1 not wanted:\n  blocks.9.query.A [3]", "1 of another shape:\n  " + good[1].Name + " is [2 3], want ["},
		},
		"half a head":       {append(slices.Clone(good), head[0]), noEpochs, []string{"missing", head[1].Name}},
		"changed meanwhile": {good, func(r *spec.RunRequest) { r.Spec.Adapter.Start = strings.Repeat("0", 64) }, []string{"are not those of the plan"}},
		"nowhere":           {good, func(r *spec.RunRequest) { r.Train, r.Places.Start = true, "" }, []string{"place of the starting values"}},
		"no file":           {good, func(r *spec.RunRequest) { _ = os.Remove(r.Places.Start) }, []string{"reading starting values", "no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			events, err := run(t, tr, startWith(t, c.values, c.edit), 0)
			if err == nil {
				t.Fatal("accepted")
			}
			detail := events[len(events)-1].GetFailed().GetDetail()
			for _, w := range c.want {
				if !strings.Contains(detail, w) {
					t.Errorf("%q is not in: %s", w, detail)
				}
			}
		})
	}
}

// Merged evaluations score the same weights; a program that bends is refused by
// name.
func TestMergedEvaluation(t *testing.T) {
	tr := trainer(t)
	req := request(t)
	merged := proto.Clone(req.Evaluations[0]).(*spec.Evaluation)
	merged.Merged = true
	req.Evaluations = append(req.Evaluations, merged)
	events, err := run(t, tr, req, 0)
	sum := finished(t, events, err)
	a, b := sum.Evaluations[0], sum.Evaluations[2]
	if a.Id == b.Id {
		t.Error("one identity for both")
	}
	if d := math.Abs(a.Metrics.Loss - b.Metrics.Loss); !(d < 1e-5) {
		t.Errorf("the loss differs by %g", d)
	}

	req = request(t, noEpochs, func(r *spec.RunRequest) {
		r.Spec.Adapter = adapted(t, bent{}, 4)
		r.Evaluations[0].Merged = true
	})
	events, err = run(t, tr, req, 0)
	if err == nil || !strings.Contains(err.Error(), "query of block 4, value of block 4: not affine in x") {
		t.Errorf("%v: %v", err, events[len(events)-1])
	}
}

// bent is an adapter that is no affine map.
type bent struct{}

func (bent) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	l := g.Param("l", sdk.Dims(s.In), sdk.Zeros)
	return g.Base(g.Add(g.X(), g.Mul(l, g.ReLU(g.X()))))
}
