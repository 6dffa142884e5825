package experiment

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/variant"
)

// The identities of the shipped experiments are those of the file
// testdata/identities.txt, with the programs of the shipped plug-ins and with
// backbones and data that are the same everywhere. A change of this file says that
// everything of that experiment is trained or scored again: it belongs to a change
// of spec.Revision or of the experiment. LORALAB_UPDATE=1 writes it.
func TestIdentitiesAreRecorded(t *testing.T) {
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
	root := pets(t)
	camVid(t, root)
	t.Setenv("LORALAB_DATA", root)
	files, err := filepath.Glob("../../experiments/*.cue")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, scale := range []string{"small", "smoke", "paper"} {
		for _, file := range files {
			r := world()
			r.backbone = func(name string) (*backbone.Backbone, error) {
				arch := &spec.Architecture{Family: "dinov2", Dim: 384, Depth: 12, Heads: 6, Mlp: 1536, Patch: 14, QkvBias: true}
				if !strings.Contains(name, "dino") {
					arch = &spec.Architecture{Family: "vit", Dim: 768, Depth: 12, Heads: 12, Mlp: 3072, Patch: 16, QkvBias: true}
				}
				return &backbone.Backbone{Name: name, Path: "/weights", Digest: name, Arch: arch, Mean: []float64{.5, .5, .5}, Std: []float64{.5, .5, .5}}, nil
			}
			r.describe, r.build = registry.Describe, registry.Build
			all, found := loadWith([]string{file}, Env{Tags: []string{"scale=" + scale}}, r)
			for _, d := range found {
				if !d.Warning { // images are few here
					t.Errorf("%s: %s", scale, d.Text())
				}
			}
			for _, e := range all {
				if scale == "small" {
					resolvesToItsCells(t, e)
				}
				sum, evaluations := sha256.New(), 0
				runs := e.Runs
				for _, s := range e.Studies { // of which the cells as the file has them are known
					runs = append(runs, s.Untuned...)
				}
				for _, run := range runs {
					fmt.Fprintln(sum, run.Name(), run.ID)
					for _, scores := range run.Evaluations {
						fmt.Fprintln(sum, scores.ID)
						evaluations++
					}
				}
				fmt.Fprintf(&got, "%s %s: %d runs, %d evaluations, %x\n", scale, e.Name, len(runs), evaluations, sum.Sum(nil)[:12])
			}
		}
	}
	golden(t, "testdata/identities.txt", got.String())
}

// camVid adds a data set in the layout of CamVid to a data folder.
func camVid(t *testing.T, root string) {
	t.Helper()
	encoder := png.Encoder{CompressionLevel: png.NoCompression} // the same bytes in every version of Go
	for i, part := range []string{"train", "val", "test"} {
		for _, kind := range []string{"images", "masks"} {
			dir := filepath.Join(root, "camvid", part, kind)
			if err := os.MkdirAll(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			for j := range 24 {
				var b bytes.Buffer
				img := image.NewGray(image.Rect(0, 0, 12, 12))
				if kind == "images" {
					img.Pix[0], img.Pix[1] = uint8(i), uint8(j)
				} else {
					for k := range img.Pix {
						img.Pix[k] = uint8(k / 12)
					}
				}
				if err := encoder.Encode(&b, img); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.png", j)), b.Bytes(), 0o666); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
