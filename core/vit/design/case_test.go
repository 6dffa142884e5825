package design

import "testing"

// Names in config.json are exact, as in Python (trial-data F5).
func TestNamesAreExact(t *testing.T) {
	a, err := Parse([]byte(`{"model_type": "vit", "layer_norm_eps": 1e-6, "Layer_Norm_Eps": 0.1, "NUM_ATTENTION_HEADS": 8}`))
	if err != nil || a.Eps != 1e-6 || a.Heads != 12 {
		t.Errorf("read %v, %v", a, err)
	}
}
