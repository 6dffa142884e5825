package peft

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
)

// plainLora is what a variant makes of an adapter's rank.
type plainLora int

func (r plainLora) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a := g.Param("A", sdk.Dims(int(r), s.In), sdk.KaimingUniform(1))
	b := g.Param("B", sdk.Dims(s.Out, int(r)), sdk.Zeros)
	g.PEFT("lora_A.weight", a)
	g.PEFT("lora_B.weight", b)
	return g.Add(g.Base(g.X()), g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b)))
}

func (plainLora) PEFTConfig([]sdk.Site) map[string]any { return map[string]any{"peft_type": "LORA"} }

var tiny = &spec.Architecture{Family: "vit", Dim: 4, Depth: 2, Heads: 2, Mlp: 6, Patch: 2, GridH: 2, GridW: 2, Eps: 1e-12, QkvBias: true}

// adapterOf writes the two files of an adapter.
func adapterOf(t testing.TB, config, tensors []byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string][]byte{configFile: config, weightFile: tensors} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// readPlain reads an adapter as Reader does, with plainLora in the place of a
// plug-in.
func readPlain(t testing.TB, dir string) ([]safetensors.Tensor, *Adapter, error) {
	t.Helper()
	d, err := openDir(dir)
	if err != nil {
		return nil, nil, err
	}
	defer d.tensors.Close()
	s := Source{Dir: dir, Arch: tiny, Depth: 2}
	if err := d.place(s); err != nil {
		return nil, nil, err
	}
	if err := d.trained(); err != nil {
		return nil, nil, err
	}
	a := &Adapter{Sites: d.sites(tiny), Build: &protocol.BuildReply{Peft: &protocol.Peft{ConfigJson: `{"peft_type": "LORA"}`}}, PassedOver: d.passedOver()}
	groups, err := d.groups()
	if err != nil {
		return nil, nil, err
	}
	a.Build.ProgramOfSite = make([]uint32, len(a.Sites))
	for _, g := range groups {
		var config struct{ R int }
		if err := json.Unmarshal([]byte(g.text), &config); err != nil || config.R < 1 || config.R > 16 {
			return nil, nil, err
		}
		reply, err := sdk.Programs(t.Context(), plainLora(config.R), s.model(), pick(a.Sites, g.of))
		if err != nil {
			return nil, nil, err
		}
		first := uint32(len(a.Build.Programs))
		a.Build.Programs = append(a.Build.Programs, reply.GetPrograms()...)
		a.Build.Peft.OfProgram = append(a.Build.Peft.OfProgram, reply.GetPeft().GetOfProgram()...)
		for j, of := range g.of {
			a.Build.ProgramOfSite[of] = first + reply.GetProgramOfSite()[j]
		}
	}
	values, err := d.values(s, a)
	return values, a, err
}

func tensorFile(t testing.TB, tensors ...safetensors.Tensor) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tensors")
	if err := safetensors.Write(path, tensors, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func filled(name string, value float32, shape ...int64) safetensors.Tensor {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = value
	}
	return safetensors.FromFloat32(name, v, shape...)
}

// pair is the two tensors of a LoRA at a module.
func pair(module string, rank int64) []safetensors.Tensor {
	return []safetensors.Tensor{
		filled(peftPrefix+module+".lora_A.weight", 1, rank, 4), filled(peftPrefix+module+".lora_B.weight", 2, 4, rank),
	}
}

// What of a file counts, is passed over or stops the reading.
func TestWhatAFileHolds(t *testing.T) {
	query := pair("layers.0.attention.q_proj", 2)
	inVit := pair("vit.layers.0.attention.q_proj", 2)
	const config = `{"peft_type": "LORA", "r": 2, "target_modules": ["q_proj", "dense", "decoder.0"], "layers_to_transform": [0], "layers_pattern": "layers"}`
	for name, c := range map[string]struct {
		config  string
		tensors []safetensors.Tensor
		passed  string
		want    string // error
	}{
		"plain": {config: config, tensors: query},
		// "trial-data U3"
		"pooler":        {config: config, tensors: append(pair("pooler.dense", 2), query...), passed: "pooler.dense"},
		"pooler inside": {config: config, tensors: append(pair("vit.pooler.dense", 2), inVit...), passed: "vit.pooler.dense"},
		"decoder":       {config: config, tensors: append(pair("decoder.0", 2), inVit...), passed: "decoder.0"},
		"classifier": {
			config:  strings.Replace(config, `"r"`, `"modules_to_save": ["classifier"], "r"`, 1),
			tensors: append([]safetensors.Tensor{filled(peftPrefix+"classifier.weight", 1, 2, 4)}, inVit...), passed: "classifier",
		},
		"trained layernorm": {
			config:  strings.Replace(config, `"r"`, `"modules_to_save": ["layernorm"], "r"`, 1),
			tensors: append([]safetensors.Tensor{filled(peftPrefix+"vit.layernorm.weight", 1, 4)}, inVit...),
			want:    "modules_to_save: layernorm: these modules of the backbone were trained with the adapter",
		},
		"trained bias": {
			config: config, tensors: append([]safetensors.Tensor{filled(peftPrefix+"vit.layers.0.mlp.fc1.bias", 1, 6)}, inVit...),
			want: "1 not wanted:",
		},
		"another module": {config: config, tensors: append(pair("layers.1.attention.q_proj", 2), query...), want: "2 not wanted:"},
		"NaN":            {config: config, tensors: append([]safetensors.Tensor{filled(query[0].Name, float32(math.NaN()), 2, 4)}, query[1]), want: "holds values that are infinite or no numbers (NaN)"},
		"no module":      {config: `{"peft_type": "LORA", "r": 2, "target_modules": [], "target_parameters": ["layers.0.attention.q_proj.weight"]}`, tensors: query, want: `target_modules [] select no layer of the backbone; target_parameters ["layers.0.attention.q_proj.weight"] is not read`},
		"rank of each":   {config: `{"peft_type": "ADALORA", "r": 2, "target_modules": ["q_proj"], "rank_pattern": {"q_proj": [true, false]}}`, tensors: query, want: "rank_pattern"},
	} {
		t.Run(name, func(t *testing.T) {
			_, a, err := readPlain(t, adapterOf(t, []byte(c.config), tensorFile(t, c.tensors...)))
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want an error with %q", err, c.want)
			case c.want == "" && strings.Join(a.PassedOver, " ") != c.passed:
				t.Errorf("it passes over %q, want %q", a.PassedOver, c.passed)
			}
		})
	}
}

// Whatever the files of an adapter hold, reading them ends with values for every
// parameter, or with an error.
func FuzzAdapter(f *testing.F) {
	query := pair("layers.0.attention.q_proj", 2)
	for _, seed := range []struct {
		config  string
		tensors []safetensors.Tensor
	}{
		{`{"peft_type": "LORA", "r": 2, "target_modules": ["layers.0.attention.q_proj"]}`, query},
		{`{"peft_type": "LORA", "r": 2, "target_modules": ".*0.*q_proj", "exclude_modules": ["x"], "modules_to_save": ["classifier"]}`, pair("vit.layers.0.attention.q_proj", 2)},
		{
			`{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "layers_to_transform": 0, "layers_pattern": ["layers"], "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"^layers": 3}}`,
			query,
		},
		{`{"peft_type": "LORA", "r": 2, "target_modules": "all-linear"}`, append(pair("pooler.dense", 1), query...)},
		{`{"peft_type": "IA3", "target_modules": ["query"], "feedforward_modules": ["query"]}`, pair("encoder.layer.1.attention.attention.query", 1)},
		{`{"peft_type": null, "rank_pattern": null}`, nil},
		{`[]`, nil},
	} {
		f.Add([]byte(seed.config), tensorFile(f, seed.tensors...))
	}
	f.Add([]byte(`{}`), []byte{})
	f.Fuzz(func(t *testing.T, config, tensors []byte) {
		values, a, err := readPlain(t, adapterOf(t, config, tensors))
		if err != nil || a == nil {
			return
		}
		given := map[string]bool{}
		for _, v := range values {
			given[v.Name] = true
		}
		for _, s := range a.Sites {
			if s.GetBlock() >= 2 {
				t.Errorf("there is no %v", s)
			}
		}
		if n := len(given); n != 2*len(a.Sites) {
			t.Errorf("%d parameters have values, want 2 for each of %d layers", n, len(a.Sites))
		}
	})
}
