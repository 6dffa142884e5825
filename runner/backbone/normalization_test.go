package backbone

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/loralab/loralab/core/vit/design"
)

func row(t *testing.T, modelType string) *design.Row {
	t.Helper()
	r, ok := design.Find(modelType)
	if !ok {
		t.Fatalf("no row %s", modelType)
	}
	return r
}

// trial-data F5: a model sees what transformers shows it; see
// testdata/make_processors.py.
func TestNormalizationIsThatOfTransformers(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "processors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var fixture struct {
		Levels []float64
		Cases  []struct {
			Family string
			Config json.RawMessage
			Seen   [][]float64
		}
	}
	if err := json.Unmarshal(text, &fixture); err != nil {
		t.Fatal(err)
	}
	if len(fixture.Cases) < 10 {
		t.Fatalf("%d cases", len(fixture.Cases))
	}
	for _, c := range fixture.Cases {
		n, err := parseNormalization(c.Config, row(t, c.Family))
		if err != nil {
			t.Errorf("%s: %v", c.Config, err)
			continue
		}
		for color, row := range c.Seen {
			for i, level := range fixture.Levels {
				// They compute in float32.
				got, want := (level/255-n.mean[color])/n.std[color], row[i]
				if math.Abs(got-want) > 1e-6*max(1, math.Abs(want)) {
					t.Errorf("%s of %s: level %g of color %d becomes %g, want %g", c.Config, c.Family, level, color, got, want)
				}
			}
		}
	}
}

// FuzzConfig holds the readers of a model's JSON to an architecture within the
// bounds and to a normalization that can be computed.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(tinyConfig))
	f.Add([]byte(dinov2SmallConfig))
	f.Add([]byte(`{"model_type":"vit","image_size":[48,80],"patch_size":[8,8],"hidden_size":12,"num_attention_heads":3}`))
	f.Add([]byte(`{"do_rescale":false,"rescale_factor":1.0,"image_mean":[127.5,127.5,127.5],"image_std":0.5}`))
	f.Add([]byte(`{"image_processor_type":"BitImageProcessor","do_normalize":false}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if arch, err := design.Parse(text); err == nil {
			if arch.Depth == 0 || arch.Depth > 1000 || arch.Dim == 0 || arch.Dim > 1<<16 || arch.Mlp == 0 || arch.Mlp > 1<<20 || arch.GridH == 0 || arch.GridW == 0 {
				t.Errorf("%s: %v", text, arch)
			}
		}
		for _, family := range design.Types() {
			n, err := parseNormalization(text, row(t, family))
			if err != nil {
				continue
			}
			for i := range 3 {
				for _, pixel := range []float64{0, 1} {
					if v := (pixel - n.mean[i]) / n.std[i]; math.IsNaN(v) {
						t.Errorf("%s: %v", text, n)
					}
				}
			}
		}
	})
}
