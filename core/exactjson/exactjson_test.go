package exactjson

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestUnmarshal(t *testing.T) {
	type config struct {
		Eps   float64 `json:"layer_norm_eps"`
		Heads int64   `json:"heads"`
		Size  struct {
			Height int `json:"height"`
		} `json:"size"`
		Mean []float64 `json:"mean"`
	}
	var c config
	c.Eps = 1
	text := `{"layer_norm_eps": 1e-12, "Layer_Norm_Eps": 0.1, "HEADS": 8, "heads": 2, "heads": 9007199254740993,
		"size": {"Height": 1, "height": 3}, "size ": 1, "mean": [0.1, 0.25], "Mean": [1]}`
	if err := Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if c.Eps != 1e-12 || c.Heads != 9007199254740993 || c.Size.Height != 3 || len(c.Mean) != 2 {
		t.Errorf("read %+v", c)
	}
	c = config{Eps: 1}
	if err := Unmarshal([]byte(`{"LAYER_NORM_EPS": 0.1, "layer_norm_epſ": 0.2}`), &c); err != nil || c.Eps != 1 {
		t.Errorf("names in other letters: %+v, %v", c, err)
	}
	// Errors are those of encoding/json, with its places.
	for _, bad := range []string{``, `{`, `{"heads": "two"}`, `{} {}`, `[1]`, `{"heads": 1,}`, `{"heads": 1.5}`} {
		got, want := Unmarshal([]byte(bad), &config{}), json.Unmarshal([]byte(bad), &config{})
		if got == nil || want == nil || strings.Split(got.Error(), " at ")[0] != strings.Split(want.Error(), " at ")[0] {
			t.Errorf("%s: %v, want %v", bad, got, want)
		}
	}
}
