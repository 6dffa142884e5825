package experiment

import (
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/variant"
)

// experiments/variants.cue says that it compares at one number of parameters.
// Its cells are drawn by the plug-ins that make build has built; in CI they
// have to be there.
func TestVariantsAreCompared(t *testing.T) {
	plugins, err := filepath.Abs("../../bin/plugins")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(plugins); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("make build first: %v", err)
		}
		t.Log("nothing tested: there are no plug-ins; see: make build")
		return
	}
	registry := variant.Open(variant.Options{Dirs: []string{plugins}})
	defer registry.Close()
	t.Setenv("LORALAB_DATA", pets(t))

	for _, scale := range []string{"small", "smoke", "paper"} {
		arch := &spec.Architecture{Family: "dinov2", Dim: 384, Depth: 12, Heads: 6, Mlp: 1536, Patch: 14, QkvBias: true}
		if scale == "paper" {
			arch = &spec.Architecture{Family: "vit", Dim: 768, Depth: 12, Heads: 12, Mlp: 3072, Patch: 16, QkvBias: true}
		}
		r := world()
		r.backbone = func(name string) (*backbone.Backbone, error) {
			return &backbone.Backbone{Name: name, Path: "/weights", Digest: "digest", Arch: arch, Mean: []float64{.5, .5, .5}, Std: []float64{.5, .5, .5}}, nil
		}
		r.describe, r.build = registry.Describe, registry.Build
		all, found := loadWith([]string{"../../experiments/variants.cue"}, Env{Tags: []string{"scale=" + scale}}, r)
		for _, d := range found {
			if !d.Warning { // pets are few here
				t.Errorf("%s: %s", scale, d.Text())
			}
		}
		if len(all) != 1 {
			t.Fatalf("%s: %d experiments", scale, len(all))
		}
		count := map[string]int64{}
		for _, run := range all[0].Runs {
			count[run.Cell] = trainable(t, arch, run.Spec)
		}
		lora := count["lora"]
		for cell, n := range count {
			if cell == "head_only" {
				if n != 0 {
					t.Errorf("%s: head_only trains %d parameters of an adapter", scale, n)
				}
			} else if more := float64(n)/float64(lora) - 1; more < -0.05 || more > 0.05 {
				t.Errorf("%s: %s trains %d parameters, lora %d", scale, cell, n, lora)
			}
		}
		if len(count) < 9 {
			t.Errorf("%s: %d cells, want eight variants and the head alone at least", scale, len(count))
		}
	}
}

// trainable counts what the programs of a run train.
func trainable(t *testing.T, arch *spec.Architecture, s *spec.RunSpec) int64 {
	t.Helper()
	if len(s.GetAdapter().GetPlacements()) == 0 {
		return 0
	}
	var sites []*protocol.Site
	var of []uint32
	for _, p := range s.Adapter.Placements {
		sites, of = append(sites, p.Site), append(of, p.Program)
	}
	placed, err := program.CheckAll(s.Adapter.Programs, sites, of, &protocol.Model{
		Family: arch.Family, Dim: arch.Dim, Depth: s.Backbone.Depth, Heads: arch.Heads, Mlp: arch.Mlp,
	})
	if err != nil {
		t.Fatal(err)
	}
	return placed.Trainable
}

// pets is a data folder with the data set of scale paper, forty tiny images.
func pets(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	encoder := png.Encoder{CompressionLevel: png.NoCompression} // the same bytes in every version of Go
	for _, part := range []string{"images", "masks"} {
		dir := filepath.Join(root, "oxford-iiit-pet", part)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			file, err := os.Create(filepath.Join(dir, strconv.Itoa(i)+".png"))
			if err != nil {
				t.Fatal(err)
			}
			if err := encoder.Encode(file, image.NewGray(image.Rect(0, 0, 8, 8+i))); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}
