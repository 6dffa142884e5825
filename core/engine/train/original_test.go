package train

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/sdk"
)

// The three adapters as the original has them, and as the variants lora,
// serial_lora (share: "site") and localized_lora build them.
type (
	plainLoRA struct{}
	serial    struct{}
	localized struct{}
)

func (plainLoRA) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a := g.Param("lora_A", sdk.Dims(4, s.In), sdk.KaimingUniform(math.Sqrt(5)))
	b := g.Param("lora_B", sdk.Dims(s.Out, 4), sdk.Zeros)
	return g.Add(g.Base(g.X()), g.Scale(0.5, g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))))
}

func (serial) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a := g.Param("serial_A", sdk.Dims(4, s.In), sdk.KaimingUniform(math.Sqrt(5)))
	b := g.Param("serial_B", sdk.Dims(s.In, 4), sdk.Zeros)
	return g.Base(g.Add(g.X(), g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))))
}

func (localized) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	const k, r = 4, 2
	a := g.Param("localized_A", sdk.Dims(k, k, r, s.In/k), sdk.KaimingUniform(math.Sqrt(5)))
	b := g.Param("localized_B", sdk.Dims(k, k, s.Out/k, r), sdk.Zeros)
	h := g.Einsum("tin,ijrn->tijr", g.Reshape(g.X(), sdk.Tokens, k, s.In/k), a)
	y := g.Reshape(g.Einsum("tijr,ijor->tjo", h, b), sdk.Tokens, s.Out)
	return g.Add(g.Base(g.X()), g.Scale(4, y))
}

// original is the run of the fixtures: settings of the original project in one
// of its ways to train, on drawn animals, 20 updates. That preset "original"
// comes to these settings is tested in runner/experiment.
func original(t *testing.T, way string, v sdk.Builder, sites []string, edit ...func(*spec.RunRequest)) *spec.RunRequest {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "original", "settings.json"))
	if err != nil {
		t.Fatal(err)
	}
	ways, settings := map[string]json.RawMessage{}, &spec.RunSpec{}
	if err := json.Unmarshal(text, &ways); err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(ways[way], settings); err != nil {
		t.Fatalf("settings of %q: %v", way, err)
	}
	return request(t, append([]func(*spec.RunRequest){func(r *spec.RunRequest) {
		s := r.Spec
		s.Adapter = everywhere(t, v, sites)
		s.Data.Mean, s.Data.Std = settings.Data.Mean, settings.Data.Std
		train := &spec.Procedural{Seed: 1, Count: 11, Size: 64}
		s.Data.Splits["train"] = &spec.Split{Count: train.Count, Procedural: train}
		s.Head, s.Loss, s.Optim, s.Train = settings.Head, settings.Loss, settings.Optim, settings.Train
		if freeze := settings.GetBackbone().GetFreeze(); freeze != nil {
			s.Backbone.Freeze = freeze
		}
		r.Evaluations = nil
	}}, edit...)...)
}

// everywhere puts an adapter at these sites of all blocks.
func everywhere(t *testing.T, v sdk.Builder, names []string) *spec.Adapter {
	t.Helper()
	return placed(t, v, []uint32{0, 1, 2, 3, 4}, names)
}

// The data that the fixtures were made of are still those that a run sees, in
// its order.
func TestOriginalData(t *testing.T) {
	req := original(t, "frozen", plainLoRA{}, []string{"query"})
	set, err := trainer(t).openSplit(t.Context(), req, req.Spec.Data, "train")
	if err != nil {
		t.Fatal(err)
	}
	all := make([]int, set.Len())
	var order []byte // int64, little-endian
	for i := range all {
		all[i] = i
	}
	for epoch := range int(req.Spec.Train.Epochs) {
		for _, i := range rng.New(req.Spec.Seed, "order", strconv.Itoa(epoch)).Permutation(len(all)) {
			order = append(order, byte(i), 0, 0, 0, 0, 0, 0, 0)
		}
	}
	b, err := set.Batch(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(b.N)
	now := []safetensors.Tensor{
		{Name: "images", DType: safetensors.U8, Shape: []int64{n, 3, 48, 32}, Data: b.Images},
		{Name: "labels", DType: safetensors.U8, Shape: []int64{n, 48, 32}, Data: b.Labels},
		{Name: "order", DType: safetensors.I64, Shape: []int64{int64(req.Spec.Train.Epochs), n}, Data: order},
	}
	path := filepath.Join("testdata", "original", "data.safetensors")
	if os.Getenv("LORALAB_UPDATE") != "" {
		if err := safetensors.Write(path, now, nil); err != nil {
			t.Fatal(err)
		}
	}
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, want := range now {
		if got, _ := f.Get(want.Name); !slices.Equal(got.Data, want.Data) {
			t.Errorf("%s of the fixtures differ from the run's: make them anew, see testdata/make_original.py", want.Name)
		}
	}
}

// From the same weights, data and order, with the original's optimisers, loss,
// schedule and its ways to freeze, the losses and the weights are the
// original's.
func TestOriginalTraining(t *testing.T) {
	variants := map[string]struct {
		adapter sdk.Builder
		sites   []string
		lr      float64 // with the backbone frozen, if not that of LoRA
	}{
		"lora":      {plainLoRA{}, []string{"query", "value"}, 0},
		"serial":    {serial{}, []string{"query", "key", "value"}, 0},
		"localized": {localized{}, []string{"query", "value"}, 1e-3},
	}
	files, err := filepath.Glob(filepath.Join("testdata", "original", "*_*.safetensors"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	tr := trainer(t)
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".safetensors")
		t.Run(name, func(t *testing.T) {
			variant, way, _ := strings.Cut(name, "_")
			v := variants[variant]
			if v.adapter == nil {
				t.Fatal("the fixture is of no case that is known here")
			}
			sum, err := filehash.Of(start(variant))
			if err != nil {
				t.Fatal(err)
			}
			req := original(t, way, v.adapter, v.sites, func(r *spec.RunRequest) {
				if way == "frozen" && v.lr > 0 {
					r.Spec.Optim.LrAdapter = v.lr
				}
				r.Spec.Adapter.Start, r.Places.Start = sum, start(variant)
			})
			events, err := run(t, tr, req, 0)
			finished(t, events, err)
			want := tensorsOfFile(t, path)
			sameLosses(t, events, want)
			sameWeights(t, tensorsIn(t, req, rundir.Last), want)
		})
	}
}

// start is what adapters and head of a variant start with.
func start(variant string) string {
	return filepath.Join("testdata", "original", variant+".safetensors")
}

func sameLosses(t *testing.T, events []*spec.Event, tensors []safetensors.Tensor) {
	t.Helper()
	i := slices.IndexFunc(tensors, func(v safetensors.Tensor) bool { return v.Name == "losses" })
	want, err := tensors[i].Float32()
	if err != nil {
		t.Fatal(err)
	}
	var got []float64
	for _, e := range events {
		if s := e.GetStep(); s != nil {
			got = append(got, s.Loss)
		}
	}
	if len(got) != 20 || len(want) != 20 {
		t.Fatalf("%d losses, the original has %d, want 20", len(got), len(want))
	}
	apart := 0.0
	for i, v := range got {
		d := math.Abs(v - float64(want[i]))
		apart = max(apart, d)
		if !(d <= 1e-5) {
			t.Errorf("update %d: loss %.7f, the original has %.7f", i+1, v, want[i])
		}
	}
	t.Logf("losses from %.4f to %.4f, at most %.1e apart", got[0], got[19], apart)
}

func sameWeights(t *testing.T, got, want []safetensors.Tensor) {
	t.Helper()
	at := map[string]safetensors.Tensor{}
	for _, g := range got {
		at[g.Name] = g
	}
	all, near, apart, worst := 0, 0, 0.0, ""
	for _, w := range want {
		if w.Name == "losses" {
			continue
		}
		g, ok := at[w.Name]
		if !ok || !slices.Equal(g.Shape, w.Shape) {
			t.Errorf("%s is %v, the original has %v", w.Name, g.Shape, w.Shape)
			continue
		}
		a, err := g.Float32()
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.Float32()
		if err != nil {
			t.Fatal(err)
		}
		for i := range a {
			d := math.Abs(float64(a[i]) - float64(b[i]))
			all++
			if d <= 1e-5 {
				near++
			}
			if !(d <= apart) {
				apart, worst = d, w.Name
			}
		}
	}
	if !(apart <= 1e-3) {
		t.Errorf("%s ends %.1e apart from the original", worst, apart)
	}
	t.Logf("%d of %d weights within 1e-5, at most %.1e apart (%s)", near, all, apart, worst)
}
