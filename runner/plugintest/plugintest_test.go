package plugintest

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/internal/python"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
	"github.com/loralab/loralab/runner/variant"
)

// The plug-ins of these tests are links to the test binary, which serves the
// variant that the link is called after.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	if v, ok := variants[name]; ok && protocol.Started() {
		v.Name = name
		sdk.Serve(v)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// plain is a small variant without a fault: y = base(x) + s·x Aᵀ Bᵀ.
type plain struct {
	Rank  int
	Scale float64
}

func (v plain) Check(s sdk.Site) []sdk.Problem {
	f := faults[filepath.Base(os.Args[0])]
	if f.check != nil {
		f.check(v, s)
	}
	if f.refuse != nil {
		return f.refuse(v, s)
	}
	return nil
}

func (v plain) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	if f, ok := starts[filepath.Base(os.Args[0])]; ok {
		return f.build(v, g, s, sdk.Node{})
	}
	a := g.Param("A", sdk.Dims(v.Rank, s.In), sdk.KaimingUniform(1))
	b := g.Param("B", sdk.Dims(s.Out, v.Rank), sdk.Zeros)
	y := g.Add(g.Base(g.X()), g.Scale(v.Scale, g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))))
	if s.Kind != sdk.Stream {
		g.PEFT("lora_A.weight", a)
		g.PEFT("lora_B.weight", b)
	}
	if f := faults[filepath.Base(os.Args[0])]; f.build != nil {
		return f.build(v, g, s, y)
	}
	return y
}

func (v plain) PEFTConfig([]sdk.Site) map[string]any {
	if _, ok := starts[filepath.Base(os.Args[0])]; ok {
		if config := peftConfigs[filepath.Base(os.Args[0])]; config != nil {
			return config(v)
		}
		return nil
	}
	return map[string]any{"peft_type": "LORA", "r": v.Rank, "lora_alpha": v.Scale * float64(v.Rank)}
}

const schema = `#Params: {
	// Rank of the update.
	rank!: int & >=1 & <=64 | error("must be a whole number from 1 to 64")
	// Factor of the update.
	scale: *1 | number & >0 | error("must be a number above 0")
}`

func sound() sdk.Variant[plain] {
	return sdk.Variant[plain]{
		Version: "1.0.0", Paper: "none", About: "A small update", Formula: "y = base(x) + s·x Aᵀ Bᵀ",
		Schema: schema, Parameters: "rank*(in+out)", PEFT: "LORA", Examples: []string{"rank: 2", "rank: 3, scale: 0.5"},
		Adopt: func(config map[string]any, _ []sdk.Site) (plain, []sdk.Problem) {
			r := config["r"].(float64)
			return plain{int(r), config["lora_alpha"].(float64) / r}, nil
		},
	}
}

// fault is one way not to be sound, and the check that has to see it.
type fault struct {
	seen   string
	found  string // part of what the check says
	change func(*sdk.Variant[plain])
	check  func(plain, sdk.Site)
	refuse func(plain, sdk.Site) []sdk.Problem
	build  func(v plain, g *sdk.Graph, s sdk.Site, y sdk.Node) sdk.Node
	engine bool // the check needs the engine
}

var calls int // of Build, in this process

var faults = map[string]fault{
	"sound": {},

	"unversioned":  {seen: "description", found: `"one"`, change: func(v *sdk.Variant[plain]) { v.Version = "one" }},
	"paperless":    {seen: "description", found: "nothing", change: func(v *sdk.Variant[plain]) { v.Paper = "" }},
	"misspelt":     {seen: "schema", found: "reference \"itn\" not found", change: func(v *sdk.Variant[plain]) { v.Schema = "#Params: rank: itn" }},
	"open":         {seen: "closed", found: "surely_not_a_parameter: 1 is accepted", change: schemaWith("// Rank of", "...\n// Rank of")},
	"undocumented": {seen: "documented", found: "none above scale", change: schemaWith("// Factor of the update.", "")},
	"unbounded":    {seen: "bounded", found: "every whole number is accepted", change: schemaWith(`int & >=1 & <=64 | error("must be a whole number from 1 to 64")`, "int")}, // trial-plugins F9
	"wordless":     {seen: "messages", found: "out of bound", change: schemaWith(` | error("must be a whole number from 1 to 64")`, "")},
	"exampleless":  {seen: "examples", found: "rank: it is missing", change: func(v *sdk.Variant[plain]) { v.Examples = nil }},
	"hangs": {seen: "examples", found: "did not answer", check: func(plain, sdk.Site) {
		time.Sleep(time.Hour)
	}},
	"crashes_odd": {seen: "sites", found: "integer divide by zero", check: func(_ plain, s sdk.Site) {
		if n := s.In % 24; n == 13 {
			_ = s.In / (n - 13)
		}
	}},
	"biased": {seen: "sites", found: "this site has no bias", build: func(_ plain, g *sdk.Graph, _ sdk.Site, y sdk.Node) sdk.Node {
		return g.Add(y, g.Scale(0.5, g.Sub(g.B(), g.B())))
	}},
	"at_odds": {
		seen: "sites", found: "shared with query of block 0, but not the same there", change: func(v *sdk.Variant[plain]) { v.PEFT = "" },
		build: func(_ plain, g *sdk.Graph, s sdk.Site, y sdk.Node) sdk.Node {
			return g.Add(y, g.Scale(2, g.Sum(g.Param("shared", sdk.Dims(s.Out), sdk.Zeros, sdk.PerBlock))))
		},
	},
	"divides": {seen: "bad parameters", found: "integer divide by zero", check: func(v plain, _ sdk.Site) { _ = 64 / v.Rank }},
	"waits": {seen: "bad parameters", found: "did not answer", check: func(v plain, _ sdk.Site) {
		if v.Rank > 1000 {
			time.Sleep(time.Hour)
		}
	}},
	"random": {seen: "deterministic", found: "scale", build: func(_ plain, g *sdk.Graph, _ sdk.Site, y sdk.Node) sdk.Node {
		return g.Add(y, g.Scale(rand.Float64()+2, g.Sub(y, y)))
	}},
	"remembers": {seen: "deterministic", found: "scale", build: func(_ plain, g *sdk.Graph, _ sdk.Site, y sdk.Node) sdk.Node {
		calls++
		return g.Add(y, g.Scale(float64(calls+1), g.Sub(y, y)))
	}},
	"slow": {seen: "quick", found: "it took", check: func(_ plain, s sdk.Site) {
		if s.In == 768 && s.Block == 0 && s.Name == "query" {
			time.Sleep(2 * time.Second)
		}
	}},
	"wasteful": {seen: "unused", found: "never used", build: func(_ plain, g *sdk.Graph, _ sdk.Site, y sdk.Node) sdk.Node {
		g.Neg(y)
		return y
	}},
	"miscounts": {seen: "count", found: "96", change: func(v *sdk.Variant[plain]) { v.Parameters = "rank*in" }},
	"misreads": {seen: "PEFT file", found: "lora_A.weight had shape [2, 24] and has [4, 24]", change: func(v *sdk.Variant[plain]) {
		v.Adopt = func(config map[string]any, _ []sdk.Site) (plain, []sdk.Problem) {
			return plain{2 * int(config["r"].(float64)), 1}, nil
		}
	}},

	"not_finite": {seen: "runs", found: "infinite", engine: true, build: func(_ plain, g *sdk.Graph, _ sdk.Site, y sdk.Node) sdk.Node {
		return g.Add(y, g.Div(g.Const(sdk.Dims(1), 0), g.Const(sdk.Dims(1), 0)))
	}},
	"not_a_no_op": {seen: "no-op", found: "a relative difference", engine: true, build: func(_ plain, g *sdk.Graph, _ sdk.Site, y sdk.Node) sdk.Node {
		return g.Scale(1.5, y)
	}},
	"a_no_op_after_all": {seen: "no-op", found: "the output of the frozen layer", engine: true, change: func(v *sdk.Variant[plain]) { v.ChangesStart = true }},
	"detached": {
		seen: "all train", found: "C never gets one", engine: true, change: func(v *sdk.Variant[plain]) { v.Parameters = "rank*(in+out) + out" },
		build: func(_ plain, g *sdk.Graph, s sdk.Site, y sdk.Node) sdk.Node {
			return g.Add(y, g.Detach(g.Param("C", sdk.Dims(s.Out), sdk.Zeros)))
		},
	},
	"steep": {
		seen: "gradient", found: "is off by", engine: true, change: func(v *sdk.Variant[plain]) { v.Parameters = "rank*(in+out) + out" },
		build: func(_ plain, g *sdk.Graph, s sdk.Site, y sdk.Node) sdk.Node {
			return g.Add(y, g.Sin(g.Scale(1e13, g.Param("C", sdk.Dims(s.Out), sdk.Zeros))))
		},
	},
}

// starts are variants whose start is wrong, which a random step hides:
// "trial-plugins F1". Each is a complete layer.
var starts = map[string]struct {
	fault
	parameters string
}{
	"dead": {
		fault{seen: "moves", found: "none has one, and after three steps A, B are still as at the start", build: func(v plain, g *sdk.Graph, s sdk.Site, _ sdk.Node) sdk.Node {
			a, b := g.Param("A", sdk.Dims(v.Rank, s.In), sdk.Zeros), g.Param("B", sdk.Dims(s.Out, v.Rank), sdk.Zeros)
			return g.Add(g.Base(g.X()), update(g, a, b))
		}},
		"rank*(in+out)",
	},
	"dead_by_norm": {
		fault{seen: "moves", found: "none has one, and after three steps A, B are still as at the start", build: func(v plain, g *sdk.Graph, s sdk.Site, _ sdk.Node) sdk.Node {
			a, b := ab(v, g, s)
			return g.Add(g.Base(g.X()), g.Mul(update(g, a, b), g.Norm(b)))
		}},
		"rank*(in+out)",
	},
	"dead_in_part": {
		fault{seen: "moves", found: "C, D are still as at the start: is it multiplied by what stays zero?", build: func(v plain, g *sdk.Graph, s sdk.Site, _ sdk.Node) sdk.Node {
			a, b := ab(v, g, s)
			zero := func(name string) sdk.Node { return g.Param(name, sdk.Dims(s.Out), sdk.Zeros) }
			return g.Add(g.Add(g.Base(g.X()), update(g, a, b)), g.Mul(zero("C"), zero("D")))
		}},
		"rank*(in+out) + 2*out",
	},
	"root_of_zero": {
		fault{seen: "runs", found: "the gradient of B, at the start", build: func(v plain, g *sdk.Graph, s sdk.Site, _ sdk.Node) sdk.Node {
			a, b := ab(v, g, s)
			return g.Add(g.Base(g.X()), g.Mul(update(g, a, b), g.Sqrt(g.Sum(g.Mul(b, b)))))
		}},
		"rank*(in+out)",
	},
	"aux_of_zero": {
		fault{seen: "runs", found: "the auxiliary loss, at the start", build: func(v plain, g *sdk.Graph, s sdk.Site, _ sdk.Node) sdk.Node {
			a, b := ab(v, g, s)
			g.Aux("r", 1, g.Div(g.Sum(b), g.Sum(b)))
			return g.Add(g.Base(g.X()), update(g, a, b))
		}},
		"rank*(in+out)",
	},
	"overflow": {
		fault{seen: "runs", found: "at the start, for x 100 times as large", build: func(v plain, g *sdk.Graph, s sdk.Site, _ sdk.Node) sdk.Node {
			a, b := ab(v, g, s)
			z := g.Add(g.MatMul(g.X(), g.T(g.Param("gate", sdk.Dims(1, s.In), sdk.KaimingUniform(1)))), g.Param("bias", sdk.Dims(1), sdk.Constant(-3)))
			gate := g.Div(g.Const(sdk.Dims(1), 1), g.Add(g.Const(sdk.Dims(1), 1), g.Exp(g.Neg(z))))
			return g.Add(g.Base(g.X()), g.Mul(gate, update(g, a, b)))
		}},
		"rank*(in+out) + in + 1",
	},
}

// inPEFT are variants that PEFT has under a type of its own, of which the rest
// of the suite sees nothing: "trial-plugins F2".
var inPEFT = map[string]bool{"c3a": true, "c3a_flipped": true, "fourier_elsewhere": true, "raw_lora": true}

// c3a is block-circulant: row k, column p of a block is entry (p−k) mod n of its
// kernel in PEFT, or turned the other way.
func c3a(turn int) func(plain, *sdk.Graph, sdk.Site, sdk.Node) sdk.Node {
	return func(v plain, g *sdk.Graph, s sdk.Site, _ sdk.Node) sdk.Node {
		n := v.Rank
		var at []int64
		for row := range n {
			for column := range n {
				at = append(at, int64((turn*(column-row)+n)%n))
			}
		}
		kernel := g.Param("kernel", sdk.Dims(s.Out/n, s.In/n, n), sdk.Zeros)
		places := g.Param("places", sdk.Dims(n*n), sdk.Indices(at...), sdk.Derived)
		blocks := g.Reshape(g.Gather(kernel, 2, places), s.Out/n, s.In/n, n, n)
		w := g.Reshape(g.Permute(blocks, 0, 2, 1, 3), s.Out, s.In)
		y := g.Add(g.Base(g.X()), g.Scale(1/float64(s.In), g.MatMul(g.X(), g.T(w))))
		if s.Kind != sdk.Stream {
			g.PEFT("c3a_kernel", kernel)
		}
		return y
	}
}

// fourier has its frequencies at places of its own, where PEFT draws them with
// torch.randperm.
func fourier(v plain, g *sdk.Graph, s sdk.Site, _ sdk.Node) sdk.Node {
	spectrum := g.Param("spectrum", sdk.Dims(v.Rank), sdk.Zeros)
	places := g.Param("places", sdk.Dims(v.Rank), sdk.Permutation(777, s.In*s.Out), sdk.Derived)
	w := g.Scale(150, g.IFFT2(g.Reshape(g.Scatter(sdk.Dims(s.Out*s.In), spectrum, places), s.Out, s.In)))
	y := g.Add(g.Base(g.X()), g.MatMul(g.X(), g.T(w)))
	if s.Kind != sdk.Stream {
		g.PEFT("fourierft_spectrum", spectrum)
	}
	return y
}

// rawLora stores a vector as what PEFT calls LORA.
func rawLora(_ plain, g *sdk.Graph, s sdk.Site, _ sdk.Node) sdk.Node {
	c := g.Param("c", sdk.Dims(s.Out), sdk.Zeros)
	y := g.Add(g.Base(g.X()), c)
	if s.Kind != sdk.Stream {
		g.PEFT("lora_A.weight", c)
	}
	return y
}

var peftConfigs = map[string]func(v plain) map[string]any{
	"c3a":         func(v plain) map[string]any { return map[string]any{"peft_type": "C3A", "block_size": v.Rank} },
	"c3a_flipped": func(v plain) map[string]any { return map[string]any{"peft_type": "C3A", "block_size": v.Rank} },
	"fourier_elsewhere": func(v plain) map[string]any {
		return map[string]any{"peft_type": "FOURIERFT", "n_frequency": v.Rank, "scaling": 150, "random_loc_seed": 777}
	},
	"raw_lora": func(plain) map[string]any { return map[string]any{"peft_type": "LORA"} },
}

func init() {
	divides := func(v plain, s sdk.Site) []sdk.Problem {
		if v.Rank > 0 && s.In%v.Rank == 0 && s.Out%v.Rank == 0 && s.Kind != sdk.Patch {
			return nil
		}
		return []sdk.Problem{{Param: "rank", Message: "it does not divide the layer", Hint: "use a divisor"}}
	}
	add := func(name, parameters string, f fault) {
		starts[name] = struct {
			fault
			parameters string
		}{f, parameters}
	}
	add("c3a", "in*out/rank", fault{build: c3a(1), refuse: divides})
	add("c3a_flipped", "in*out/rank", fault{seen: "PEFT", found: "PEFT computes another adapter", build: c3a(-1), refuse: divides})
	add("fourier_elsewhere", "rank", fault{seen: "PEFT", found: "PEFT computes another adapter", build: fourier})
	add("raw_lora", "out", fault{seen: "PEFT", found: "lora_", build: rawLora})
}

func ab(v plain, g *sdk.Graph, s sdk.Site) (a, b sdk.Node) {
	return g.Param("A", sdk.Dims(v.Rank, s.In), sdk.KaimingUniform(1)), g.Param("B", sdk.Dims(s.Out, v.Rank), sdk.Zeros)
}

func update(g *sdk.Graph, a, b sdk.Node) sdk.Node {
	return g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))
}

func init() {
	for name, f := range starts {
		f.engine = true
		f.change = func(v *sdk.Variant[plain]) {
			v.Parameters, v.Examples = f.parameters, []string{"rank: 2"}
			v.PEFT, v.Adopt = "", nil
			if config, ok := peftConfigs[name]; ok {
				v.PEFT = config(plain{})["peft_type"].(string)
				v.Examples = []string{"rank: 12"}
			}
		}
		faults[name] = f.fault
	}
}

func schemaWith(old, with string) func(*sdk.Variant[plain]) {
	return func(v *sdk.Variant[plain]) { v.Schema = strings.Replace(v.Schema, old, with, 1) }
}

var variants map[string]sdk.Variant[plain]

func init() {
	all := map[string]sdk.Variant[plain]{}
	for name, f := range faults {
		v := sound()
		if f.change != nil {
			f.change(&v)
		}
		all[name] = v
	}
	variants = all
}

// link makes a plug-in of a fault.
func link(t *testing.T, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// engineTry starts the engine that make build has built; in CI it has to be
// there.
func startEngine(t *testing.T) *testEngine {
	t.Helper()
	path, err := filepath.Abs("../../bin/runner-engine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("make build first: %v", err)
		}
		return nil
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "OMP_WAIT_POLICY=PASSIVE", "LORALAB_THREADS=1")
	p, err := spec.StartEngine(cmd, io.Discard, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return &testEngine{p}
}

type testEngine struct{ client spec.EngineClient }

func (e *testEngine) try(ctx context.Context, r *spec.ConformRequest) (*spec.ConformReply, error) {
	return e.client.Conform(ctx, r)
}

func (e *testEngine) sample(ctx context.Context, r *spec.SampleRequest) error {
	_, err := e.client.Sample(ctx, r)
	return err
}

// startPEFT starts the library, once for all tests: that takes seconds.
func startPEFT(t *testing.T) *PEFT {
	t.Helper()
	path := python.Find(t)
	p, err := startPEFTOnce(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var startPEFTOnce = func() func(string) (*PEFT, error) {
	var once sync.Once
	var p *PEFT
	var err error
	return func(path string) (*PEFT, error) {
		// It ends with this process, which closes its input.
		once.Do(func() { p, err = StartPEFT(context.Background(), path) })
		return p, err
	}
}()

// Every fault is seen by the check that is there for it, and by no other.
func TestEveryFaultIsSeen(t *testing.T) {
	engine := startEngine(t)
	var real *PEFT
	if engine != nil && !testing.Short() {
		real = startPEFT(t)
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // some wait
			if inPEFT[name] && real == nil && engine != nil {
				t.Skip("PEFT takes seconds to start")
			}
			if f.engine && engine == nil {
				t.Log("nothing tested: there is no engine; see: make build")
				return
			}
			o := Options{Name: name, Path: link(t, name), StartTimeout: time.Minute, CallTimeout: time.Minute}
			if f.found == "did not answer" {
				o.CallTimeout = 3 * time.Second
			}
			if inPEFT[name] {
				o.Sample, o.PEFT = engine.sample, real.Compare
			}
			if name == "slow" {
				o.Quick = time.Second
			}
			if engine != nil && (f.engine || name == "sound") {
				o.Try = engine.try
			}
			report, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			var seen []string
			for _, c := range report.Checks {
				if len(c.Faults) == 0 {
					continue
				}
				seen = append(seen, c.Name)
				if c.Name == f.seen && !strings.Contains(c.Faults[0].Found, f.found) {
					t.Errorf("%s found %q, want %q", c.Name, c.Faults[0].Found, f.found)
				}
			}
			if want := []string{f.seen}; f.seen != "" && !slices.Equal(seen, want) || f.seen == "" && len(seen) > 0 {
				text, _ := json.MarshalIndent(report, "", " ")
				t.Errorf("seen by %q, want %q\n%s", seen, f.seen, text)
			}
			if report.Failed() != (f.seen != "") {
				t.Errorf("Failed says %v", report.Failed())
			}
		})
	}
}

// Figures of the engine that no sdk can produce: each belongs to one check.
func TestFiguresOfTheEngine(t *testing.T) {
	good := spec.Conformance{
		Repeats: true, AnyOrder: true, SeedsDiffer: true, Mergeable: true, Saved: true, TokensApart: true, Finite: true,
	}
	path := link(t, "sound")
	for want, change := range map[string]func(*spec.Conformance){
		"":         func(*spec.Conformance) {},
		"runs":     func(c *spec.Conformance) { c.Failure = "einsum: no kernel" },
		"no-op":    func(c *spec.Conformance) { c.Start = 1e-6 },
		"gradient": func(c *spec.Conformance) { c.Gradient, c.GradientAt = 0.5, "A" },
		"seeds":    func(c *spec.Conformance) { c.Repeats = false },
		"order":    func(c *spec.Conformance) { c.AnyOrder = false },
		"tokens":   func(c *spec.Conformance) { c.TokensApart = false },
		"merge":    func(c *spec.Conformance) { c.Merge = 1e-6 },
		"save":     func(c *spec.Conformance) { c.Saved = false },
		"moves":    func(c *spec.Conformance) { c.Unmoved = []string{"A"} },
	} {
		t.Run(want, func(t *testing.T) {
			report, err := Run(t.Context(), Options{
				Name: "sound", Path: path, StartTimeout: time.Minute, CallTimeout: time.Minute,
				Try: func(_ context.Context, r *spec.ConformRequest) (*spec.ConformReply, error) {
					reply := &spec.ConformReply{}
					for i := range r.GetAdapter().GetPlacements() {
						c := &spec.Conformance{
							Repeats: good.Repeats, AnyOrder: good.AnyOrder, SeedsDiffer: good.SeedsDiffer, Mergeable: good.Mergeable,
							Saved: good.Saved, TokensApart: good.TokensApart, Finite: good.Finite,
						}
						if i == 0 {
							change(c)
						}
						reply.Sites = append(reply.Sites, c)
					}
					return reply, nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			seen := ""
			for _, c := range report.Checks {
				if len(c.Faults) > 0 {
					seen += c.Name
				}
				if c.LeftOut != "" && c.Name != peftCheck {
					t.Errorf("%s was left out: %s", c.Name, c.LeftOut)
				}
			}
			if seen != want {
				t.Errorf("seen by %q", seen)
			}
		})
	}
}

// What waits for another parameter is not taken for unbounded.
func TestBounded(t *testing.T) {
	for schema, want := range map[string]int{
		"rank!: int":       1,
		"rank: *8 | int":   1,
		"rank?: uint":      0,
		"rank!: 1 | 2":     0,
		"rank!: >=1 & int": 0,
		"scale: number":    0,
		"inner: n: int":    1,
		"a!: int & >0, b: *(a*2) | int & >0 & <9": 0,
	} {
		read, err := variant.ReadSchema(&protocol.DescribeReply{Name: "x", Schema: "#Params: {" + schema + "}"})
		if err != nil {
			t.Fatal(err)
		}
		trial := &trial{schema: read, now: &Check{}}
		if trial.bounded(); len(trial.now.Faults) != want {
			t.Errorf("%s: %v, want %d", schema, trial.now.Faults, want)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Options{Name: "sound", Path: link(t, "sound")}); err == nil {
		t.Error("no error")
	}
}

func TestFormula(t *testing.T) {
	vars := map[string]any{"rank": 4.0, "in": 10.0, "out": 6.0, "share": "site", "full": true}
	for text, want := range map[string]float64{
		"rank*(in+out)":                   64,
		"-rank + 2*max(in, out, rank)/5":  0,
		"ceil(in/rank)*floor(out/4)":      3,
		"sqrt(rank) + min(in, out)":       8,
		`rank*(share == "site")`:          4,
		`rank*(share != "site")`:          0,
		"in*full + (rank < out && !full)": 10,
		"in%rank":                         2,
	} {
		if got, err := evaluate(text, vars); err != nil || got != want {
			t.Errorf("%s = %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"rank*":          "reading",
		"r*in":           "there is no parameter r",
		"share*2":        "texts can only be equal",
		"log(in)":        "there are the functions",
		"share":          "want a number",
		"func() {}":      "not arithmetic",
		`max(share, in)`: "want numbers",
	} {
		if _, err := evaluate(text, vars); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

// Of a stack the lines are shown that lead to the author's: the first of Go's, the
// last of Python's (trial-plugins F5).
func TestSaid(t *testing.T) {
	stack := func(lines ...string) error {
		return &variant.Error{Message: "it failed", Stack: strings.Join(lines, "\n")}
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{stack("main.go:1", "2", "3", "4", "5"), "it failed\nmain.go:1\n2\n3\n4"},
		{
			stack("Traceback (most recent call last):", "  serve.py, line 1", "  serve.py, line 2", "  serve.py, line 3", "  serve.py, line 4",
				`  File "main.py", line 7, in build`, `    raise ValueError("I do not like it")`, "ValueError: I do not like it", ""),
			"it failed\n  serve.py, line 2\n  serve.py, line 3\n  serve.py, line 4\n" +
				`  File "main.py", line 7, in build` + "\n" + `    raise ValueError("I do not like it")` + "\nValueError: I do not like it",
		},
	} {
		if got := said(c.err); got != c.want {
			t.Errorf("got %q", got)
		}
	}
}
