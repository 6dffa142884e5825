// Package parity holds loralab's adapters against PEFT: every variant that says
// it has a form there (Describe.peft_type) is exported, loaded by the real
// library over the same backbone, and has to give the same tokens, gradients
// and merged weights; and an adapter that PEFT made and saved has to give the
// same tokens here. The variants are those in bin/plugins, with the parameters
// that they name as examples.
package parity

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/engine/adapter"
	"github.com/loralab/loralab/core/engine/export"
	"github.com/loralab/loralab/core/engine/head"
	"github.com/loralab/loralab/core/engine/programtest"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/internal/python"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/peft"
	"github.com/loralab/loralab/runner/variant"
)

// tolerance of tokens, which a LayerNorm has brought to size 1, and of
// gradients and weights relative to the largest.
const tolerance = 1e-5

// backbones are tiny models that transformers wrote, and the images they take.
var backbones = []struct {
	name          string
	height, width uint32
}{
	{"vit", 48, 32},
	{"dinov2", 70, 56}, // another grid than the positions'
	{"registers", 40, 40},
}

// targets are tried in turn: not every variant takes every layer.
var targets = [][]string{{"query", "key", "value", "output", "fc1", "fc2"}, {"query", "key", "value"}, {"query", "value"}}

func TestPEFT(t *testing.T) {
	bench := open(t)
	var cases []*trial
	for _, name := range bench.variants.Names() {
		d, err := bench.variants.Describe(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if d.GetPeftType() == "" {
			continue
		}
		examples := d.GetExamples()
		if len(examples) == 0 {
			examples = []string{""}
		}
		for i, example := range examples {
			for j, b := range backbones {
				// Names of modules differ by family, mathematics does not.
				if j > 0 && i > 0 {
					continue
				}
				c := &trial{bench: bench, variant: name, params: complete(t, d, example), index: j}
				c.name = fmt.Sprintf("%s-%d-%s", name, i, b.name)
				if c.build(t) {
					cases = append(cases, c)
				}
			}
		}
		if !slices.ContainsFunc(cases, func(c *trial) bool { return c.variant == name }) {
			t.Errorf("%s says that PEFT has it as %s, but has a form there with none of its examples", name, d.GetPeftType())
		}
	}
	var names []string
	for _, c := range cases {
		c.write(t)
		names = append(names, c.name)
	}
	list, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(bench.dir, "cases.json"), list)
	ask := bench.theirs(t)
	ask("cases")
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, "-", "/"), c.compare)
	}
	t.Run("foreign", func(t *testing.T) { foreign(t, cases[0]) })
	bench.again(t, ask)
}

// refused are the adapters of theirs.py that nothing here is like, and what the
// error has to name.
var refused = map[string]string{
	"layernorm": "modules_to_save: layernorm", "mlp": "modules_to_save: layers.2.mlp.fc1",
	"bias all": "bias", "bias lora_only": "bias", "bias of oft": "bias", "lora_bias": "lora_bias",
	"target_parameters": "target_parameters", "pissa": "init_lora_weights: pissa", "olora": "init_lora_weights: olora",
	"mica": "init_lora_weights", "qalora": "use_qalora",
	"hira":              "layers.0.mlp.fc1.hira_A is [4 24], want [2 24]", // PEFT 0.21.2 makes it as if rank_pattern was not there
	"layer_replication": "layer_replication", "trainable_token_indices": "trainable_token_indices", "alora_invocation_tokens": "alora_invocation_tokens",
	"use_bdlora": "use_bdlora", "kasa_config": "kasa_config", "velora_config": "velora_config",
	"monteclora_config": "monteclora_config", "arrow_config": "arrow_config", "init_lora_weights": "init_lora_weights: corda",
}

// passedOver are modules outside of the backbone, or that no tokens come from.
var passedOver = map[string][]string{
	"all linear": {"pooler.dense"}, "all linear of a classifier": {"classifier"}, "decoder": {"decoder.0"}, "classifier": {"classifier"}, "patterns": {"classifier"},
}

// foreign reads adapters with every setting that PEFT has. Each is read, and
// gives the same tokens, or is refused by the name of the setting.
func foreign(t *testing.T, c *trial) {
	raw, err := os.ReadFile(filepath.Join(c.dir, "foreign", "foreign.json"))
	if err != nil {
		t.Fatal(err)
	}
	var said map[string]string
	if err := json.Unmarshal(raw, &said); err != nil {
		t.Fatal(err)
	}
	for name, failed := range said {
		t.Run(name, func(t *testing.T) {
			if failed != "" {
				t.Fatalf("PEFT cannot make it:\n%s", failed)
			}
			dir := filepath.Join(c.dir, "foreign", name)
			want, no := refused[name]
			if !no {
				a := c.adopt(t, dir)
				if !slices.Equal(a.PassedOver, passedOver[name]) {
					t.Errorf("it passes over %v, want %v", a.PassedOver, passedOver[name])
				}
				if name == "patterns" {
					var at []string
					for _, s := range a.Sites {
						at = append(at, program.SiteName(s))
					}
					if want := []string{"query of block 0", "fc1 of block 0", "query of block 4"}; !slices.Equal(at, want) {
						t.Errorf("it is on %v, want %v", at, want)
					}
				}
				return
			}
			if _, err := c.read(t, dir); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("it is read with %v, want an error that names %s", err, want)
			}
		})
	}
	for name := range refused {
		if _, ok := said[name]; !ok {
			t.Errorf("PEFT made no adapter %q", name)
		}
	}
}

// bench is what all trials share.
type bench struct {
	dir      string
	python   string
	variants *variant.Registry
	dev      *torch.Device
	hub      []*backbone.Backbone
	exports  []*reexport
}

// theirs starts theirs.py, which takes seconds, and returns what asks it.
func (b *bench) theirs(t *testing.T) func(what string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), b.python, "theirs.py", b.dir)
	cmd.Env = append(os.Environ(), "HF_HUB_OFFLINE=1", "TRANSFORMERS_NO_ADVISORY_WARNINGS=1")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // what it was asked is answered
	})
	lines := bufio.NewScanner(out)
	return func(what string) {
		t.Helper()
		if _, err := io.WriteString(in, what+"\n"); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			if lines.Text() == "done" {
				return
			}
		}
		_ = cmd.Wait()
		t.Fatalf("theirs.py ended:\n%s", complaints.String())
	}
}

// reexport is an adapter that PEFT made, as loralab has written it again.
type reexport struct {
	name   string    // its directory
	tokens []float32 // those of the adapter that PEFT made
}

// again has PEFT load what was made of its own adapters: "trial-data F1".
func (b *bench) again(t *testing.T, ask func(string)) {
	names := []string{}
	for _, e := range b.exports {
		names = append(names, e.name)
	}
	list, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(b.dir, "again.json"), list)
	ask("again")
	for _, e := range b.exports {
		t.Run(e.name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(b.dir, e.name, "theirs.json"))
			if err != nil {
				t.Fatal(err)
			}
			var said theirs
			if err := json.Unmarshal(raw, &said); err != nil {
				t.Fatal(err)
			}
			if said.Error != "" {
				t.Fatal(said.Error)
			}
			if len(said.Warnings) > 0 {
				t.Errorf("PEFT warns %q", said.Warnings)
			}
			file, err := safetensors.Open(filepath.Join(b.dir, e.name, "tokens.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			near(t, "tokens", floats(t, file, "tokens"), e.tokens, 1)
		})
	}
}

func open(t *testing.T) *bench {
	t.Helper()
	plugins, err := filepath.Abs("../bin/plugins")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(plugins); err != nil {
		t.Fatalf("there are no plug-ins to test (%v): run `make build`", err)
	}
	b := &bench{dir: t.TempDir(), python: python.Find(t), variants: variant.Open(variant.Options{Dirs: []string{plugins}})}
	t.Setenv("LORALAB_PYTHON", b.python) // plug-ins may be in Python too
	if keep := os.Getenv("PARITY_DIR"); keep != "" {
		b.dir = keep
	}
	t.Cleanup(b.variants.Close)
	if b.dev, err = torch.CPU(2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.dev.Close)
	for _, of := range backbones {
		dir, err := filepath.Abs(filepath.Join("../core/engine/vit/testdata", of.name))
		if err != nil {
			t.Fatal(err)
		}
		found, err := (&backbone.Finder{Cache: t.TempDir()}).Resolve(dir)
		if err != nil {
			t.Fatal(err)
		}
		b.hub = append(b.hub, found)
	}
	return b
}

// complete fills in the defaults of a variant's parameters.
func complete(t *testing.T, d *protocol.DescribeReply, example string) string {
	t.Helper()
	c := cuecontext.New()
	schema := c.CompileString(d.GetSchema()).LookupPath(cue.ParsePath("#Params"))
	text, err := schema.Unify(c.CompileString(example)).MarshalJSON()
	if err != nil {
		t.Fatalf("%s with {%s}: %v", d.GetName(), example, err)
	}
	return string(text)
}

// trial is one variant with some parameters on one backbone.
type trial struct {
	*bench
	name, variant, params string
	index                 int // of the backbone
	spec                  *spec.RunSpec
	peft                  *protocol.Peft
	stored                []*program.Stored
	tokens                []float32
}

func (c *trial) arch() *spec.Architecture { return c.hub[c.index].Arch }

func (c *trial) at(name ...string) string {
	return filepath.Join(append([]string{c.dir, c.name}, name...)...)
}

// build asks the variant for its programs; false if PEFT has no form for these
// parameters, or no layers take them.
func (c *trial) build(t *testing.T) bool {
	t.Helper()
	a := c.arch()
	m := &protocol.Model{Family: a.Family, Dim: a.Dim, Depth: a.Depth, Heads: a.Heads, Mlp: a.Mlp}
	for _, names := range targets {
		sites := sitesOf(a, names)
		reply, err := c.variants.Build(t.Context(), c.variant, c.params, m, sites)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if len(reply.GetProblems()) > 0 || reply.GetPeft() == nil {
			continue
		}
		c.peft = reply.GetPeft()
		size := backbones[c.index]
		c.spec = &spec.RunSpec{
			Revision: spec.Revision, Seed: 7,
			Backbone: &spec.Backbone{Digest: c.hub[c.index].Digest, Arch: a, Depth: a.Depth, Freeze: &spec.Freeze{Kind: spec.Freeze_ALL}},
			Adapter:  &spec.Adapter{Programs: reply.GetPrograms()},
			Head:     &spec.Head{Kind: "linear"},
			Data:     &spec.Data{Classes: []string{"a", "b"}, Height: size.height, Width: size.width, Mean: []float64{.5, .5, .5}, Std: []float64{.5, .5, .5}},
		}
		for i, s := range sites {
			c.spec.Adapter.Placements = append(c.spec.Adapter.Placements, &spec.Placement{Site: s, Program: reply.GetProgramOfSite()[i]})
		}
		placed, err := program.CheckAll(reply.GetPrograms(), sites, reply.GetProgramOfSite(), m)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.stored, err = program.CheckPeftAll(c.peft, placed, reply.GetProgramOfSite()); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		return true
	}
	return false
}

// sitesOf are the named layers of the first and the last block.
func sitesOf(a *spec.Architecture, names []string) []*protocol.Site {
	var sites []*protocol.Site
	for _, block := range []uint32{0, a.Depth - 1} {
		for _, name := range names {
			s := &protocol.Site{Name: name, Block: block, Kind: protocol.Site_LINEAR, In: a.Dim, Out: a.Dim, Bias: true}
			switch name {
			case "query", "key", "value":
				s.Bias = a.QkvBias
			case "fc1":
				s.Out = a.Mlp
			case "fc2":
				s.In = a.Mlp
			}
			sites = append(sites, s)
		}
	}
	return sites
}

// with runs fn on the adapted backbone, whose adapters have the values of a
// file, or, without one, random ones.
func (c *trial) with(t *testing.T, values string, fn func(*vit.Model, *adapter.Set) error) {
	t.Helper()
	err := c.dev.Do(func() error {
		m, err := vit.Load(c.dev, c.hub[c.index].Path, c.arch(), vit.Options{})
		if err != nil {
			return err
		}
		defer m.Free()
		set, err := adapter.Load(c.dev, m, c.spec.Adapter, c.spec.Seed)
		if err != nil {
			return err
		}
		defer set.Free()
		if values == "" {
			pixels, _ := c.given(m)
			if err := programtest.Scatter(m, set, pixels); err != nil {
				return err
			}
		} else {
			file, err := safetensors.Open(values)
			if err != nil {
				return err
			}
			defer file.Close()
			var ts []safetensors.Tensor
			for _, name := range file.Names() {
				tensor, _ := file.Get(name)
				ts = append(ts, tensor)
			}
			if err := set.Assign(ts); err != nil {
				return err
			}
		}
		return fn(m, set)
	})
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
}

// images and the weights of a linear loss over the tokens.
func (c *trial) given(m *vit.Model) (pixels, weights *torch.Tensor) {
	size := backbones[c.index]
	a := c.arch()
	random := func(name string, shape ...int64) *torch.Tensor {
		n := int64(1)
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		rng.New(2, "parity", name).Normal(v, 1)
		return torch.Of(c.dev, v, shape...)
	}
	n := int64(size.height/a.Patch*(size.width/a.Patch)) + int64(m.Prefix())
	return random("pixels", 2, 3, int64(size.height), int64(size.width)), random("weights", 2, n, int64(a.Dim))
}

// write makes a run of the trial and exports it both ways.
func (c *trial) write(t *testing.T) {
	t.Helper()
	run := c.run(t)
	for dir, format := range map[string]spec.ExportRequest_Format{"peft": spec.ExportRequest_PEFT, "merged": spec.ExportRequest_MERGED} {
		c.export(t, run, format, c.at(dir))
	}
}

// run makes a run of the trial, with random values.
func (c *trial) run(t *testing.T) *spec.RunRequest {
	t.Helper()
	id := spec.Identity(c.spec)
	var checkpoint, own []safetensors.Tensor
	c.with(t, "", func(m *vit.Model, set *adapter.Set) error {
		own = set.Tensors()
		for _, p := range own {
			p.Name = "adapter." + p.Name
			checkpoint = append(checkpoint, p)
		}
		h, err := head.New(c.dev, c.spec.Head, int(c.arch().Dim), 2, 1)
		if err != nil {
			return err
		}
		defer h.Free()
		for _, p := range h.Params() {
			checkpoint = append(checkpoint, safetensors.Tensor{Name: "head." + p.Name, DType: safetensors.F32, Shape: p.T.Shape(), Data: p.T.Bytes()})
		}
		pixels, weights := c.given(m)
		c.dev.NoGrad(func() { c.tokens = m.Forward(pixels).Floats() })
		return safetensors.Write(c.at("case.safetensors"), []safetensors.Tensor{
			{Name: "pixels", DType: safetensors.F32, Shape: pixels.Shape(), Data: pixels.Bytes()},
			{Name: "weights", DType: safetensors.F32, Shape: weights.Shape(), Data: weights.Bytes()},
		}, nil)
	})
	if err := safetensors.Write(c.at("ours.safetensors"), own, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := safetensors.WriteSealed(c.at("run/checkpoints/best.safetensors"), checkpoint, map[string]string{"id": id, "step": "1"}); err != nil {
		t.Fatal(err)
	}
	writeFile(t, c.at("backbone"), []byte(filepath.Dir(c.hub[c.index].Path)))
	return &spec.RunRequest{
		Id: id, Spec: c.spec, Peft: c.peft, Label: &spec.Label{Variant: c.variant, VariantParams: c.params},
		Places: &spec.Places{RunDir: c.at("run"), Backbone: c.hub[c.index].Path},
	}
}

// What was written and is another adapter than that of the run is refused:
// "trial-data F1" and "trial-plugins F2".
func TestReadBackRefuses(t *testing.T) {
	b := open(t)
	c := &trial{bench: b, variant: "lora", name: "lora"}
	d, err := b.variants.Describe(t.Context(), c.variant)
	if err != nil {
		t.Fatal(err)
	}
	c.params = complete(t, d, "rank: 3, alpha: 6")
	if !c.build(t) {
		t.Fatal("there is no lora")
	}
	run := c.run(t)
	for name, change := range map[string]struct {
		edit func(*protocol.Peft)
		want string
	}{
		"": {func(*protocol.Peft) {}, ""},
		"another scale": {func(q *protocol.Peft) {
			q.ConfigJson = strings.Replace(q.ConfigJson, `"lora_alpha":6`, `"lora_alpha":5`, 1)
		}, "hold another adapter than the run, so they are not kept:\n  query of block 0: the outputs differ by "},
		"another rank": {func(q *protocol.Peft) { q.ConfigJson = strings.Replace(q.ConfigJson, `"r":3`, `"r":4`, 1) }, "cannot be read back, so they are not kept: "},
		"raw":          {func(q *protocol.Peft) { q.ConfigJson = `{"peft_type": "LORA"}`; dropSecond(q) }, "cannot be read back, so they are not kept: "},
		"unknown type": {func(q *protocol.Peft) { q.ConfigJson = `{"peft_type": "C3A"}` }, "-no variant reads adapters of PEFT type C3A"},
		"unknown setting": {func(q *protocol.Peft) {
			q.ConfigJson = strings.Replace(q.ConfigJson, `"r":3`, `"r":3,"kasa_config":{"beta":1}`, 1)
		}, "-variant lora cannot read the adapter: kasa_config: "},
	} {
		t.Run(name, func(t *testing.T) {
			edited := proto.CloneOf(run)
			change.edit(edited.Peft)
			out := t.TempDir()
			req := &spec.ExportRequest{Run: edited, Checkpoint: "best", Format: spec.ExportRequest_PEFT, Out: out}
			if _, err := export.Run(t.Context(), b.dev, req); err != nil {
				t.Fatal(err)
			}
			checked, err := b.check(t, out, edited)
			reason, unread := strings.CutPrefix(change.want, "-")
			switch {
			case change.want == "":
				if err != nil || checked.Reader != "lora" {
					t.Errorf("%+v, %v", checked, err)
				}
			case unread:
				if err != nil || checked.Reader != "" || !strings.HasPrefix(checked.Reason, reason) {
					t.Errorf("%+v, %v; want the reason %q", checked, err, reason)
				}
			case err == nil || !strings.Contains(err.Error(), change.want):
				t.Errorf("%v, want an error with %q", err, change.want)
			}
		})
	}
}

// dropSecond leaves the first tensor alone.
func dropSecond(q *protocol.Peft) {
	for _, tensors := range q.OfProgram {
		tensors.Tensors = tensors.Tensors[:1]
	}
}

// check reads an export back, as runner does.
func (b *bench) check(t *testing.T, out string, run *spec.RunRequest) (*peft.Checked, error) {
	t.Helper()
	r := &peft.Reader{Variants: b.variants, Cache: t.TempDir()}
	return r.Check(t.Context(), out, run, "best", func(ctx context.Context, r *spec.CompareRequest) (*spec.CompareReply, error) {
		return export.Compare(ctx, b.dev, r)
	})
}

// export writes a run. One for PEFT is read back, as runner does; of every
// variant that is shipped another or itself can read it.
func (b *bench) export(t *testing.T, run *spec.RunRequest, format spec.ExportRequest_Format, out string) {
	t.Helper()
	if err := os.MkdirAll(out, 0o777); err != nil {
		t.Fatal(err)
	}
	req := &spec.ExportRequest{Run: run, Checkpoint: "best", Format: format, Out: out, Tolerance: tolerance}
	if _, err := export.Run(t.Context(), b.dev, req); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if format != spec.ExportRequest_PEFT {
		return
	}
	checked, err := b.check(t, out, run)
	switch {
	case err != nil:
		t.Fatalf("%s: %v", out, err)
	case checked.Reader == "" || checked.Weak > 0:
		t.Errorf("%s: reading it back says %+v", out, checked)
	}
}

// theirs is what theirs.py says of a trial.
type theirs struct {
	Error               string
	Warnings            []string
	Missing, Unexpected []string
	MergedNames         []string `json:"merged_names"`
	MergedWeights       float64  `json:"merged_weights"`
}

func (c *trial) compare(t *testing.T) {
	raw, err := os.ReadFile(c.at("theirs.json"))
	if err != nil {
		t.Fatal(err)
	}
	var said theirs
	if err := json.Unmarshal(raw, &said); err != nil {
		t.Fatal(err)
	}
	if said.Error != "" {
		t.Fatalf("with %s:\n%s", c.params, said.Error)
	}
	if len(said.Missing)+len(said.Unexpected)+len(said.Warnings) > 0 {
		t.Errorf("PEFT misses %v, does not expect %v, warns %v", said.Missing, said.Unexpected, said.Warnings)
	}
	file, err := safetensors.Open(c.at("theirs.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	near(t, "tokens", c.tokens, floats(t, file, "tokens"), 1)
	near(t, "tokens of the merged model", floats(t, file, "merged_tokens"), floats(t, file, "tokens"), 1)
	if len(said.MergedNames) > 0 || !(said.MergedWeights <= tolerance) {
		t.Errorf("merged weights differ by %.2g, names by %v", said.MergedWeights, said.MergedNames)
	}
	c.gradients(t, file)
	c.adopt(t, c.at("made"))
}

// read reads an adapter that PEFT made.
func (c *trial) read(t *testing.T, dir string) (*peft.Adapter, error) {
	t.Helper()
	r := &peft.Reader{Variants: c.variants, Cache: t.TempDir()}
	return r.Read(t.Context(), peft.Source{Dir: dir, Arch: c.arch(), Depth: c.arch().Depth})
}

// adopt reads an adapter that PEFT made, compares the tokens, and writes it for
// PEFT again.
func (c *trial) adopt(t *testing.T, dir string) *peft.Adapter {
	t.Helper()
	a, err := c.read(t, dir)
	if err != nil {
		t.Fatalf("adopting: %v", err)
	}
	t.Logf("read as %s with %s", a.Variant, a.Params)
	d := *c
	d.spec = proto.CloneOf(c.spec)
	d.spec.Adapter = &spec.Adapter{Programs: a.Build.GetPrograms(), Start: a.Digest}
	for i, s := range a.Sites {
		d.spec.Adapter.Placements = append(d.spec.Adapter.Placements, &spec.Placement{Site: s, Program: a.Build.GetProgramOfSite()[i]})
	}
	made, err := safetensors.Open(dir + ".safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	var checkpoint []safetensors.Tensor
	d.with(t, a.Start, func(m *vit.Model, set *adapter.Set) error {
		for _, p := range set.Tensors() {
			p.Name = "adapter." + p.Name
			checkpoint = append(checkpoint, p)
		}
		pixels, _ := d.given(m)
		c.dev.NoGrad(func() { d.tokens = m.Forward(pixels).Floats() })
		return nil
	})
	near(t, "tokens of an adapter that PEFT made", d.tokens, floats(t, made, "tokens"), 1)

	if c.index > 0 {
		return a // names of modules differ, and write has tried those
	}
	name, err := filepath.Rel(c.dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	name = filepath.Join("again", name)
	at := filepath.Join(c.dir, name)
	run := &spec.RunRequest{
		Id: spec.Identity(d.spec), Spec: d.spec, Peft: a.Build.GetPeft(), Label: &spec.Label{Variant: a.Variant, VariantParams: a.Params},
		Places: &spec.Places{RunDir: filepath.Join(at, "run"), Backbone: c.hub[c.index].Path},
	}
	if _, err := safetensors.WriteSealed(filepath.Join(at, "run/checkpoints/best.safetensors"), checkpoint, map[string]string{"id": run.Id, "step": "1"}); err != nil {
		t.Fatal(err)
	}
	c.export(t, run, spec.ExportRequest_PEFT, filepath.Join(at, "peft"))
	writeFile(t, filepath.Join(at, "backbone"), []byte(filepath.Dir(c.hub[c.index].Path)))
	writeFile(t, filepath.Join(at, "pixels"), []byte(c.at("case.safetensors")))
	c.exports = append(c.exports, &reexport{name, floats(t, made, "tokens")})
	return a
}

// gradients compares those of our parameters. Where PEFT's tensors are
// functions of ours, theirs come back through the derivative of these.
func (c *trial) gradients(t *testing.T, file *safetensors.File) {
	t.Helper()
	type pair struct{ ours, theirs []float32 }
	got := map[string]pair{}
	c.with(t, c.at("ours.safetensors"), func(m *vit.Model, set *adapter.Set) error {
		var params []*torch.Tensor
		for _, p := range set.Params {
			if p.Trainable {
				params = append(params, p.T)
			}
		}
		pixels, weights := c.given(m)
		m.Forward(pixels).Mul(weights).Sum().Backward()
		for _, p := range set.Params {
			if p.Trainable {
				got[p.Name] = pair{ours: p.T.Grad().Floats()}
			}
		}
		torch.DropGrads(params)
		var total *torch.Tensor
		seen := map[string]bool{}
		for i, p := range c.spec.Adapter.Placements {
			values := set.Store(i, c.stored[i])
			for j, s := range c.stored[i].Tensors.GetTensors() {
				name, err := export.Key(c.arch(), 5, p.Site, s)
				if err != nil {
					return err
				}
				g, ok := file.Get("grad." + name)
				if !ok || seen[name] {
					continue
				}
				seen[name] = true
				term := values[j].Mul(torch.Of(c.dev, floats(t, file, g.Name), g.Shape...)).Sum()
				if total != nil {
					term = total.Add(term)
				}
				total = term
			}
		}
		if total == nil {
			t.Fatal("PEFT has no gradient at all")
		}
		total.Backward()
		for _, p := range set.Params {
			if p.Trainable {
				g := p.T.Grad()
				if g == nil {
					t.Errorf("%s gets no gradient from PEFT's tensors", p.Name)
					continue
				}
				got[p.Name] = pair{got[p.Name].ours, g.Floats()}
			}
		}
		return nil
	})
	largest := 0.0
	for _, g := range got {
		for _, v := range g.theirs {
			largest = math.Max(largest, math.Abs(float64(v)))
		}
	}
	for name, g := range got {
		near(t, "gradient of "+name, g.ours, g.theirs, largest)
	}
}

// near fails if a and b differ by more than the tolerance, relative to scale.
func near(t *testing.T, what string, a, b []float32, scale float64) {
	t.Helper()
	if len(a) != len(b) {
		t.Errorf("%s: %d values, want %d", what, len(a), len(b))
		return
	}
	if d := worst(a, b) / scale; !(d <= tolerance) {
		t.Errorf("%s: |Δ| %.2g, tolerance %g", what, d, tolerance)
	}
}

// worst is the largest |a − b|, NaN if there is one.
func worst(a, b []float32) float64 {
	w := 0.0
	for i := range a {
		if d := math.Abs(float64(a[i]) - float64(b[i])); !(d <= w) {
			w = d
		}
	}
	return w
}

func floats(t *testing.T, file *safetensors.File, name string) []float32 {
	t.Helper()
	x, ok := file.Get(name)
	if !ok {
		t.Fatalf("PEFT wrote no %s", name)
	}
	v, err := x.Float32()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o666); err != nil {
		t.Fatal(err)
	}
}
