package design_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/protocol"
)

// The rows say what transformers writes: every fixture of the engine has the tensors
// that its config.json leads to, with their shapes, and no others but those that are
// said to be unused.
func TestTensorsAreThoseOfTransformers(t *testing.T) {
	configs, err := filepath.Glob("../../engine/vit/testdata/*/config.json")
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, config := range configs {
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		arch, err := design.Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", config, err)
		}
		row, err := design.Of(arch)
		if err != nil {
			t.Fatalf("%s: %v", config, err)
		}
		types = append(types, row.Type)
		if class := fmt.Sprintf("%q", row.Class); !strings.Contains(string(text), class) {
			t.Errorf("%s is not of the class %s", config, class)
		}
		want, err := design.Shapes(arch)
		if err != nil {
			t.Fatal(err)
		}
		f, err := safetensors.Open(filepath.Join(filepath.Dir(config), "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := map[string][]int64{}
		for _, name := range f.Names() {
			if x, _ := f.Get(name); !slices.Contains(row.Unused, name) {
				got[name] = x.Shape
			}
		}
		if !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s: the file has\n%v\nthe table\n%v", config, got, want)
		}
	}
	for _, kind := range design.Types() {
		if !slices.Contains(types, kind) {
			t.Errorf("no fixture is of the type %s", kind)
		}
	}
}

// Layers are those that adapters are placed at, whatever the row calls them.
func TestSites(t *testing.T) {
	a := &spec.Architecture{Family: "dinov2", Dim: 24, Depth: 2, Mlp: 72, Registers: 4}
	for name, want := range map[string]string{
		"query": "24 × 24 false", "key": "24 × 24 false", "value": "24 × 24 false", "output": "24 × 24 true", "fc1": "72 × 24 true", "fc2": "24 × 72 true",
	} {
		s, ok := design.Site(a, 1, name)
		if got := fmt.Sprintf("%d × %d %v", s.GetOut(), s.GetIn(), s.GetBias()); !ok || got != want || s.GetBlock() != 1 || s.GetName() != name {
			t.Errorf("%s: %v, %v; want %s", name, s, ok, want)
		}
		if !slices.Contains(design.Sites, name) {
			t.Errorf("%s is not listed", name)
		}
	}
	for _, name := range []string{"qkv", "Patch", ""} {
		if s, ok := design.Site(a, 1, name); ok {
			t.Errorf("%q is the place %v", name, s)
		}
	}
}

// What an experiment can name is a place of the model or of its blocks
// (trial-plugins M7).
func TestTargets(t *testing.T) {
	a := &spec.Architecture{Family: "dinov2", Dim: 24, Depth: 2, Mlp: 72, Patch: 14}
	kinds := map[string]protocol.Site_Kind{
		"patch": protocol.Site_PATCH, "attn_in": protocol.Site_STREAM, "mlp_in": protocol.Site_STREAM,
	}
	for _, name := range design.Targets {
		s, ok := design.Site(a, 1, name)
		kind, other := kinds[name]
		if !ok || other == slices.Contains(design.Sites, name) || other && s.GetKind() != kind {
			t.Errorf("%s: %v, %v", name, s, ok)
		}
	}
	if s, _ := design.Site(a, 1, "patch"); s.GetBlock() != 0 || s.GetIn() != 3*14*14 || s.GetOut() != 24 || !s.GetBias() {
		t.Errorf("%v", s)
	}
	if s, _ := design.Site(a, 1, "mlp_in"); s.GetBlock() != 1 || s.GetIn() != 24 || s.GetOut() != 24 || s.GetBias() {
		t.Errorf("%v", s)
	}
}

func TestUnknownIsAnError(t *testing.T) {
	for _, c := range []struct {
		arch *spec.Architecture
		want string
	}{
		{&spec.Architecture{Family: "swin"}, `family "swin" is not one of deit, dinov2, vit`},
		{&spec.Architecture{Family: "vit", Registers: 4}, "4 register tokens: of the families only dinov2 has any"},
		{nil, `family "" is not one of`},
	} {
		if _, err := design.Tensors(c.arch, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %s", c.arch, err, c.want)
		}
	}
}

// A family is a row of one table: with the row alone its config.json is read, its file
// is checked, plans list and group its tensors, and its modules have names.
func TestARowIsAFamily(t *testing.T) {
	module := func(name string) design.Name { return design.Name{V4: name, V5: "new_" + name} }
	row := design.Row{
		Type: "made_up_vision", Family: "made_up", Title: "MadeUp", Class: "MadeUpModel",
		Embeddings: "stem", Placed: []string{"stem.first", "stem.second", "stem.third"}, Registers: "stem.spare", Positions: "stem.table", Patches: "stem.conv",
		Blocks: module("trunk"),
		Attention: design.Attention{
			Norm: "a", Query: module("q"), Key: module("k"), Value: module("v"), Output: module("o"), Joined: "all", Scale: "gain",
		},
		MLP:    design.MLP{Norm: "b", FC1: module("up"), FC2: module("down"), Activation: "gelu"},
		Norm:   "last",
		Unused: []string{"logits"},
		Config: design.Config{Patch: 8, Eps: 1e-5, Registers: 2, Ratio: true},
	}
	config := []byte(`{"model_type": "made_up_vision", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2, "image_size": [16, 24], "qkv_bias": false}`)
	if _, err := design.Parse(config); err == nil || !strings.Contains(err.Error(), "it must be vit, deit, dinov2 or dinov2_with_registers") {
		t.Errorf("without the row: %v", err)
	}
	design.AddRow(t, row)

	arch, err := design.Parse(config)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(arch.Family, arch.Patch, arch.GridH, arch.GridW, arch.Eps, arch.Registers, arch.Mlp), fmt.Sprint("made_up", 8, 2, 3, 1e-5, 2, 16); got != want {
		t.Errorf("config.json is %s, want %s", got, want)
	}
	shapes, err := design.Shapes(arch)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]int64{
		"stem.first": {1, 1, 8}, "stem.spare": {1, 2, 8}, "stem.table": {1, 3 + 6, 8}, "stem.conv.weight": {8, 3, 8, 8},
		"trunk.1.q.weight": {8, 8}, "trunk.1.up.weight": {16, 8}, "trunk.1.gain": {8}, "last.bias": {8},
	} {
		if !slices.Equal(shapes[name], want) {
			t.Errorf("%s has the shape %v, want %v", name, shapes[name], want)
		}
	}
	// Embeddings and the last norm; in a block o, up, down, two norms, q, k, v
	// without bias, and one scale.
	if want := 3 + 1 + 1 + 2 + 2 + 2*(6+4+3+1); len(shapes) != want {
		t.Errorf("%d tensors, want %d: %v", len(shapes), want, shapes)
	}

	var all []safetensors.Tensor
	for name, shape := range shapes {
		all = append(all, zeros("made_up_vision."+name, shape))
	}
	all = append(all, zeros("logits", []int64{3}))
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := safetensors.Write(path, all, nil); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := design.Match(path, f, arch); err != nil {
		t.Error(err)
	}

	tensors, err := params.Of(&spec.RunSpec{
		Backbone: &spec.Backbone{Arch: arch, Depth: 2, Freeze: &spec.Freeze{Kind: spec.Freeze_BLOCKS, Trainable: []uint32{1}}},
		Head:     &spec.Head{Kind: "linear"},
		Data:     &spec.Data{Classes: []string{"a", "b"}},
		Optim:    &spec.Optim{LrBackbone: 1, LrHead: 1, WeightDecay: 0.1},
	})
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(tensors, func(x params.Tensor) bool { return x.Name == "backbone.trunk.1.all.weight" }); i < 0 || !slices.Equal(tensors[i].Shape, []int64{24, 8}) {
		t.Errorf("the plan lacks query, key and value: %v", tensors)
	}
	var patterns []string
	for _, g := range params.Groups(tensors) {
		patterns = append(patterns, g.Pattern)
	}
	want := []string{"backbone.stem.*", "backbone.trunk.0.*", "backbone.trunk.1.*", "backbone.trunk.1.* (vectors)", "backbone.last.* (vectors)", "head.*", "head.* (vectors)"}
	if !slices.Equal(patterns, want) {
		t.Errorf("groups %q, want %q", patterns, want)
	}

	for version, want := range map[int]string{4: "trunk.1.down", 5: "new_trunk.1.new_down"} {
		if got, err := design.Module(arch, version, 1, design.SiteFC2); got != want || err != nil {
			t.Errorf("in transformers %d fc2 is %s, %v; want %s", version, got, err, want)
		}
		if modules, err := design.Modules(arch, version); err != nil || modules[want] != (design.Place{Block: 1, Site: design.SiteFC2}) {
			t.Errorf("%s is %v, %v", want, modules[want], err)
		}
	}
	if s, ok := design.Site(arch, 1, design.SiteFC1); !ok || s.Out != 16 {
		t.Errorf("fc1 is %v", s)
	}
}
