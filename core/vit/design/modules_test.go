package design

import (
	"testing"

	"github.com/loralab/loralab/core/spec"
)

// The names that the named versions give, checked against the library itself
// by the tests in parity.
func TestModule(t *testing.T) {
	for _, c := range []struct {
		family, site string
		version      int
		want         string
	}{
		{"vit", "query", 5, "layers.3.attention.q_proj"},
		{"vit", "query", 4, "encoder.layer.3.attention.attention.query"},
		{"vit", "fc2", 4, "encoder.layer.3.output.dense"},
		{"deit", "output", 5, "layers.3.attention.o_proj"},
		{"dinov2", "value", 5, "encoder.layer.3.attention.v_proj"},
		{"dinov2", "fc1", 4, "encoder.layer.3.mlp.fc1"},
		{"dinov2", "patch", 5, "embeddings.patch_embeddings.projection"},
		{"vit", "attn_in", 5, ""},
		{"vit", "query", 3, ""},
		{"bert", "query", 5, ""},
	} {
		got, err := Module(&spec.Architecture{Family: c.family, Depth: 4}, c.version, 3, c.site)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s %s in version %d: %q, %v; want %q", c.family, c.site, c.version, got, err, c.want)
		}
	}
}

// Every module is found again at the place it was named for.
func TestModulesInvertModule(t *testing.T) {
	for _, family := range Families() {
		for _, version := range Versions {
			a := &spec.Architecture{Family: family, Depth: 3}
			all, err := Modules(a, version)
			if err != nil || len(all) != 1+6*3 {
				t.Fatalf("%s in version %d: %d modules, want 19; %v", family, version, len(all), err)
			}
			for name, p := range all {
				if got, err := Module(a, version, p.Block, p.Site); got != name || err != nil {
					t.Errorf("%v of %s in version %d is %s, %v; want %s", p, family, version, got, err, name)
				}
			}
		}
	}
}
