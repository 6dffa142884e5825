package export_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/engine/export"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
)

const backbone = "../vit/testdata/vit/model.safetensors"

// lowRank is base(x) + x Aᵀ Bᵀ.
type lowRank struct{}

func (lowRank) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a, b := g.Param("A", sdk.Dims(2, s.In), sdk.Zeros), g.Param("B", sdk.Dims(s.Out, 2), sdk.Zeros)
	return g.Add(g.Base(g.X()), g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b)))
}

// trained is a request to merge a run whose checkpoint is random, into a
// directory of its own.
func trained(t *testing.T) *spec.ExportRequest {
	t.Helper()
	digest, err := filehash.Of(backbone)
	if err != nil {
		t.Fatal(err)
	}
	s := &spec.RunSpec{
		Revision: spec.Revision,
		Backbone: &spec.Backbone{Digest: digest, Depth: 3, Freeze: &spec.Freeze{Kind: spec.Freeze_ALL}, Arch: &spec.Architecture{
			Family: "vit", Dim: 24, Depth: 5, Heads: 3, Mlp: 64, Patch: 8, GridH: 6, GridW: 4, Eps: 1e-12, QkvBias: true,
		}},
		Adapter: &spec.Adapter{},
		Head:    &spec.Head{Kind: "linear"},
		Data: &spec.Data{
			Classes: []string{"land", "sea"}, Values: map[uint32]int32{0: 0, 7: 1, 9: 1, 255: -1},
			Height: 48, Width: 32, Mean: []float64{0.5, 0.5, 0.5}, Std: []float64{0.5, 0.5, 0.5},
		},
		Optim: &spec.Optim{Kind: "adamw", LrAdapter: 1e-3, LrHead: 1e-3},
		Train: &spec.Train{Batch: 1},
	}
	r := rng.New(1, "export", "test")
	random := func(name string, shape ...int64) safetensors.Tensor {
		values := make([]float32, shape[0]*shape[1])
		r.Normal(values, 0.3)
		return safetensors.FromFloat32(name, values, shape...)
	}
	checkpoint := []safetensors.Tensor{random("head.conv.weight", 2, 24)}
	var sites []*protocol.Site
	for _, site := range []string{design.SiteQuery, design.SiteValue} {
		at, _ := design.Site(s.Backbone.Arch, 1, site)
		s.Adapter.Placements = append(s.Adapter.Placements, &spec.Placement{Site: at})
		sites = append(sites, at)
		checkpoint = append(checkpoint, random("adapter.blocks.1."+site+".A", 2, 24), random("adapter.blocks.1."+site+".B", 24, 2))
	}
	build, err := sdk.Programs(t.Context(), lowRank{}, &protocol.Model{Family: "vit", Dim: 24, Depth: 3, Heads: 3, Mlp: 64}, sites)
	if err != nil {
		t.Fatal(err)
	}
	s.Adapter.Programs = build.Programs // one: the layers are alike
	run := t.TempDir()
	id := spec.Identity(s)
	_, err = safetensors.WriteSealed(filepath.Join(run, "checkpoints", "best.safetensors"), checkpoint, map[string]string{"id": id, "step": "5"})
	if err != nil {
		t.Fatal(err)
	}
	return &spec.ExportRequest{
		Run:        &spec.RunRequest{Id: id, Spec: s, Label: &spec.Label{Variant: "own"}, Places: &spec.Places{RunDir: run, Backbone: backbone}},
		Checkpoint: "best", Format: spec.ExportRequest_MERGED, Out: t.TempDir(), Tolerance: 1e-5,
	}
}

// replace changes the checkpoint of a run, whose tensors are sorted.
func replace(t *testing.T, req *spec.ExportRequest, change func([]safetensors.Tensor)) {
	t.Helper()
	path := filepath.Join(req.Run.Places.RunDir, "checkpoints", "best.safetensors")
	file, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var ts []safetensors.Tensor
	for _, name := range file.Names() {
		x, _ := file.Get(name)
		x.Data = slices.Clone(x.Data)
		ts = append(ts, x)
	}
	state := file.Metadata()
	file.Close()
	change(ts)
	if _, err := safetensors.WriteSealed(path, ts, state); err != nil {
		t.Fatal(err)
	}
}

func device(t *testing.T) *torch.Device {
	t.Helper()
	dev, err := torch.CPU(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	return dev
}

func weights(t *testing.T, path string) map[string][]float32 {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string][]float32{}
	for _, name := range f.Names() {
		x, _ := f.Get(name)
		if out[name], err = x.Float32(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Merging moves the adapted layers by BA and nothing else; the model computes
// what the adapted one does; loralab.json vouches for each file.
func TestMerged(t *testing.T) {
	req := trained(t)
	reply, err := export.Run(t.Context(), device(t), req)
	if err != nil {
		t.Fatal(err)
	}
	if reply.OutputDifference > 1e-5 || reply.DifferenceAt == "" {
		t.Errorf("it differs by %g, a layer by %g at %q", reply.OutputDifference, reply.Difference, reply.DifferenceAt)
	}
	was, is := weights(t, backbone), weights(t, filepath.Join(req.Out, "model.safetensors"))
	moved := 0
	for name, values := range is {
		if strings.Contains(name, "layer.3.") || strings.Contains(name, "layer.4.") {
			t.Errorf("%s is of a block that is not in use", name)
		}
		if adapted := strings.Contains(name, "layer.1.attention.attention.query.weight") || strings.Contains(name, "layer.1.attention.attention.value.weight"); adapted {
			moved++
			if slices.Equal(values, was[name]) {
				t.Errorf("%s is as before", name)
			}
		} else if !slices.Equal(values, was[name]) {
			t.Errorf("%s has moved and is not adapted", name)
		}
	}
	if moved != 2 {
		t.Errorf("%d adapted layers, want 2", moved)
	}

	text, err := os.ReadFile(filepath.Join(req.Out, spec.ExportedFile))
	if err != nil {
		t.Fatal(err)
	}
	about := &spec.Exported{}
	if err := protojson.Unmarshal(text, about); err != nil {
		t.Fatal(err)
	}
	if about.Format != spec.ExportedMerged || about.Run != req.Run.Id || about.Step != 5 || about.Spec.Adapter != nil || about.Label.Variant != "own" {
		t.Errorf("it says of itself %v", about)
	}
	if c := about.Classes; len(c) != 2 || c[1].Name != "sea" || !slices.Equal(c[1].Values, []uint32{7, 9}) || !strings.HasPrefix(c[1].Colour, "#") {
		t.Errorf("classes are %v", c)
	}
	files, err := os.ReadDir(req.Out)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if sum, err := filehash.Of(filepath.Join(req.Out, f.Name())); f.Name() != spec.ExportedFile && (err != nil || about.Files[f.Name()] != sum) {
			t.Errorf("the digest of %s is %s, want %s", f.Name(), about.Files[f.Name()], sum)
		}
	}
	if len(about.Files) != len(files)-1 || !slices.Contains(reply.Files, spec.ExportedFile) {
		t.Errorf("it lists %v, and the reply %v", about.Files, reply.Files)
	}
}

// What cannot be exported is refused, and leaves nothing.
func TestRefused(t *testing.T) {
	dev := device(t)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for name, c := range map[string]struct {
		ctx  context.Context
		edit func(req *spec.ExportRequest)
		want string
	}{
		"tolerance": {edit: func(r *spec.ExportRequest) { r.Tolerance = 1e-20 }, want: "more than 1e-20"},
		// M7 of trial-plugins.
		"a stream in PEFT": {edit: func(r *spec.ExportRequest) {
			r.Format = spec.ExportRequest_PEFT
			at, _ := design.Site(r.Run.Spec.Backbone.Arch, 1, design.SiteAttnIn)
			r.Run.Spec.Adapter.Placements[0].Site = at
		}, want: "PEFT adapts modules, and the run has an adapter of attn_in of block 1, which is none: export it merged"},
		"the patch embedding in PEFT": {edit: func(r *spec.ExportRequest) {
			r.Format = spec.ExportRequest_PEFT
			at, _ := design.Site(r.Run.Spec.Backbone.Arch, 0, design.SitePatch)
			r.Run.Spec.Adapter.Placements[0].Site = at
		}, want: "the run has an adapter of the patch embedding, which PEFT stores in the form of a convolution"},
		"no form in PEFT": {edit: func(r *spec.ExportRequest) { r.Format = spec.ExportRequest_PEFT }, want: "PEFT has no form for variant own"},
		"no checkpoint":   {edit: func(r *spec.ExportRequest) { r.Checkpoint = "last" }, want: "reading the checkpoint"},
		"another run":     {edit: func(r *spec.ExportRequest) { r.Run.Id = "other" }, want: "it is of another run"},
		"arithmetic":      {edit: func(r *spec.ExportRequest) { r.Run.Spec.Revision++ }, want: "run it again"},
		"interrupted":     {ctx: stopped, edit: func(*spec.ExportRequest) {}, want: context.Canceled.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			req := trained(t)
			c.edit(req)
			ctx := t.Context()
			if c.ctx != nil {
				ctx = c.ctx
			}
			to := filepath.Join(t.TempDir(), "model")
			err := replacefile.Dir(to, false, func(dir string) error {
				req.Out = dir
				_, err := export.Run(ctx, dev, req)
				return err
			})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			left, err := os.ReadDir(filepath.Dir(to))
			if err != nil || len(left) > 0 {
				t.Errorf("it left %v (%v)", left, err)
			}
		})
	}
	broken := trained(t)
	replace(t, broken, func(ts []safetensors.Tensor) {
		ts[1] = safetensors.FromFloat32(ts[1].Name, slices.Repeat([]float32{1, float32(math.NaN())}, int(ts[1].Len()/2)), ts[1].Shape...)
	})
	if _, err := export.Run(t.Context(), dev, broken); err == nil || !strings.Contains(err.Error(), "24 of the 48 values of adapter.blocks.1.query.B are infinite or no numbers (NaN)") {
		t.Errorf("of NaN: %v", err)
	}
	req := trained(t)
	if err := os.WriteFile(filepath.Join(req.Out, "mine"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := export.Run(t.Context(), dev, req); err == nil || errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("over other files: %v", err)
	}
}

// What was read back is compared by layer: "trial-data F1".
func TestCompare(t *testing.T) {
	dev := device(t)
	for name, c := range map[string]struct {
		edit  func(*spec.Adapter, []safetensors.Tensor)
		other string
		far   bool
		same  bool
	}{
		"the same":      {edit: func(*spec.Adapter, []safetensors.Tensor) {}, same: true},
		"another start": {edit: func(a *spec.Adapter, _ []safetensors.Tensor) { a.Programs[0].Params[0].Init.Kind = protocol.Init_ONES }, same: true},
		"another value": {edit: func(_ *spec.Adapter, ts []safetensors.Tensor) { ts[1].Data[0] ^= 1 }, same: true, other: "blocks.1.query.B"},
		"another scale": {edit: func(a *spec.Adapter, _ []safetensors.Tensor) {
			p := a.Programs[0]
			p.Nodes = append(p.Nodes, &protocol.Node{Op: protocol.Op_ADD, Inputs: []uint32{p.Output, p.Nodes[p.Output].Inputs[1]}})
			p.Output = uint32(len(p.Nodes) - 1)
		}, far: true},
		"not finite": {edit: func(_ *spec.Adapter, ts []safetensors.Tensor) {
			copy(ts[1].Data, []byte{0, 0, 0xc0, 0x7f})
		}, same: true, other: "blocks.1.query.B", far: true},
	} {
		t.Run(name, func(t *testing.T) {
			req := trained(t)
			other := proto.CloneOf(req.Run.Spec.Adapter)
			var values []safetensors.Tensor
			replace(t, req, func(ts []safetensors.Tensor) {
				for _, x := range ts {
					if rest, is := strings.CutPrefix(x.Name, "adapter."); is {
						x.Name, x.Data = rest, slices.Clone(x.Data)
						values = append(values, x)
					}
				}
			})
			c.edit(other, values)
			path := filepath.Join(t.TempDir(), "values")
			if err := safetensors.Write(path, values, nil); err != nil {
				t.Fatal(err)
			}
			reply, err := export.Compare(t.Context(), dev, &spec.CompareRequest{Run: req.Run, Checkpoint: "best", Other: other, Values: path})
			if err != nil {
				t.Fatal(err)
			}
			got := reply.Sites[0]
			if far := !(got.Difference <= 1e-4*got.Effect); got.SameProgram != c.same || got.OtherValue != c.other || far != c.far || !(got.Effect > 0.1) {
				t.Errorf("%v", got)
			}
		})
	}
}

// Weights that are not those that were written are not handed on:
// trial-reliability 3.
func TestRefusesChangedWeights(t *testing.T) {
	for _, format := range []spec.ExportRequest_Format{spec.ExportRequest_MERGED, spec.ExportRequest_PEFT} {
		req := trained(t)
		req.Format = format
		path := filepath.Join(req.Run.Places.RunDir, "checkpoints", "best.safetensors")
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)-40] ^= 1
		if err := os.WriteFile(path, content, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := export.Run(t.Context(), device(t), req); err == nil || !strings.Contains(err.Error(), "is damaged: its content was changed") {
			t.Errorf("%v: got %v", format, err)
		}
	}
}
