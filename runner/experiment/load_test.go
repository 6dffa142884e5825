package experiment

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/bounded"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/variant"
	"github.com/loralab/loralab/schema"
)

// Sums of files are remembered in a cache of the tests' own.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "experiment")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_CACHE_HOME", dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// world is a resolver over one backbone, "toy", and two variants, "lora" and
// "scale", whose programs depend on their parameters.
func world() *resolver {
	r := newResolver(context.Background(), Env{})
	r.backbone = remembered(r.ctx, func(name string) (*backbone.Backbone, error) {
		if name != "toy" && name != "toy-large" {
			return nil, &backbone.MissingError{Name: name, Reason: "is not on this machine", Cure: "fetch it"}
		}
		arch := &spec.Architecture{Family: "dinov2", Dim: 64, Depth: 12, Heads: 4, Mlp: 256, Patch: 14, QkvBias: true}
		if name == "toy-large" {
			arch.Patch = 16
		}
		return &backbone.Backbone{
			Name: name, Path: "/weights/" + name, Digest: "digest of " + name, Arch: arch,
			Mean: []float64{0.5, 0.5, 0.5}, Std: []float64{0.25, 0.25, 0.25},
		}, nil
	})
	schemas := map[string]string{
		"lora": `#Params: {
	// Rank of the update.
	rank!: int & >=1 & <=64 | error("must be a whole number from 1 to 64")
	alpha: *(rank * 1) | number & >0 | error("must be a number above 0")
	dropout: *0 | number & >=0 & <1 | error("must be a number from 0 to below 1")
	// Written as people do who have not met CUE's messages.
	heads: int & <=16 | *1
}`,
		"scale": `#Params: {init: *1 | number}`,
	}
	r.describe = func(_ context.Context, name string) (*protocol.DescribeReply, error) {
		if schemas[name] == "" {
			return nil, &variant.UnknownError{Name: name, Known: []string{"lora", "scale"}}
		}
		return &protocol.DescribeReply{Name: name, Version: "1.2.3", Schema: schemas[name]}, nil
	}
	r.build = func(_ context.Context, name, params string, _ *protocol.Model, sites []*protocol.Site) (*protocol.BuildReply, error) {
		var p struct{ Rank, Alpha, Init float64 }
		if err := json.Unmarshal([]byte(params), &p); err != nil {
			return nil, err
		}
		if p.Rank == 13 {
			return &protocol.BuildReply{Problems: []*protocol.Problem{{Message: "it takes 256 inputs, want 64", Hint: "target the others", Site: 1}}}, nil
		}
		if p.Rank == 7 {
			return &protocol.BuildReply{Problems: []*protocol.Problem{{Param: "rank", Message: "7 does not divide 64", Hint: "8 does", Site: -1}}}, nil
		}
		reply := &protocol.BuildReply{Programs: []*protocol.Program{{
			Version: 1,
			Params:  []*protocol.Param{{Name: name, Shape: []int64{int64(p.Rank), 64}}},
			Nodes:   []*protocol.Node{{Op: protocol.Op_SCALE, Number: p.Alpha + p.Init}},
		}}}
		reply.ProgramOfSite = make([]uint32, len(sites))
		return reply, nil
	}
	return r
}

// rawText is what only CUE says.
var rawText = []string{"disjunction", "conflicting values", "incompatible", "_|_", "bottom", "field not allowed", "cue.mod/pkg", "mismatched", "non-concrete", "explicit error"}

// Every broken file has its messages beside it. LORALAB_UPDATE=1 writes them
// anew: read the difference before keeping it.
func TestBrokenFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.cue")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d broken files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".cue"), func(t *testing.T) {
			experiments, found := loadWith([]string{file}, Env{}, world())
			got := rendered(t, found)
			golden := strings.TrimSuffix(file, ".cue") + ".txt"
			if os.Getenv("LORALAB_UPDATE") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if len(found) == 0 {
				t.Error("nothing was found wrong")
			}
			if found.HasErrors() && len(experiments) > 0 {
				t.Errorf("a broken file gave the experiment %s", experiments[0].Name)
			}
			for _, d := range found {
				for _, raw := range rawText {
					if strings.Contains(d.Message+d.Hint, raw) {
						t.Errorf("raw text of CUE: %s", d.Text())
					}
				}
				if d.At.File == "" {
					t.Errorf("no place: %s", d.Text())
				}
			}
		})
	}
}

// A backbone that may be downloaded is of a kind. Another mistake at the same
// place is not: a download would not help.
func TestMissingBackbonesHaveAKind(t *testing.T) {
	r := world()
	known := r.backbone
	r.backbone = func(name string) (*backbone.Backbone, error) {
		if name == "./weights" {
			return nil, &backbone.MissingError{Name: name, Reason: "is a file", Cure: "name the directory", Here: true}
		}
		return known(name)
	}
	for model, missing := range map[string]bool{`"other"`: true, `"./weights"`: false, "3": false, "string": false} {
		text := strings.Replace(sound, `"toy"`, model, 1)
		_, found := loadWith([]string{write(t, text)}, Env{}, r)
		if found.OnlyErrorsAre(diagnostic.MissingBackbone) != missing || len(found) == 0 || !strings.HasSuffix(found[0].Path, ".backbone.model") {
			t.Errorf("%s: missing is %v\n%s", model, !missing, rendered(t, found))
		}
	}
	mixed := diagnostic.List{{Kind: diagnostic.MissingBackbone}, {Warning: true}, {Message: "another"}}
	if !mixed[:2].OnlyErrorsAre(diagnostic.MissingBackbone) || mixed.OnlyErrorsAre(diagnostic.MissingBackbone) || mixed[1:2].OnlyErrorsAre(diagnostic.MissingBackbone) {
		t.Error("a list of errors is of a kind if all errors are, warnings aside")
	}
}

// rendered is what a user sees, with the paths of this machine replaced.
func rendered(t *testing.T, found diagnostic.List) string {
	t.Helper()
	if len(found) == 0 {
		return ""
	}
	found.Sort()
	root := FindRoot("testdata")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(root, "$ROOT", filepath.Dir(filepath.Dir(exe)), "$BINARY").Replace(found.Text() + "\n")
}

// located lists where mistakes are and what they are, without their source
// lines and hints, "FILE:LINE:COLUMN: MESSAGE".
func located(found diagnostic.List) string {
	found.Sort()
	var b strings.Builder
	for _, d := range found {
		where, kind := d.At.String(), ""
		if d.Warning {
			kind = "warning: "
		}
		fmt.Fprintf(&b, "%s: %s%s\n", where, kind, d.Message)
	}
	return b.String()
}

// A file may say which version of the schema it is written for.
func TestVersionOfTheSchema(t *testing.T) {
	with := func(version string) string {
		return strings.Replace(sound, `loralab/schema"`, "loralab/schema"+version+`"`, 1)
	}
	if a, b := loadText(t, sound)[0], loadText(t, with("@"+schema.Version))[0]; a.Runs[0].ID != b.Runs[0].ID {
		t.Error("naming the version moves an identity")
	}
	_, found := loadWith([]string{write(t, with("@v7"))}, Env{}, world())
	if len(found) != 1 || !strings.Contains(found[0].Message, "written for schema v7") || found[0].At.Line != 3 {
		t.Errorf("found %s", rendered(t, found))
	}
}

// What is no experiment is one mistake at its place, and never a panic
// (trial-language C1, C2, W7, M16, M17).
func TestFilesWithoutExperiments(t *testing.T) {
	imported := "package e\n\nimport \"github.com/loralab/loralab/schema\"\n\n"
	for _, c := range []struct{ name, text, want string }{
		{"e.cue", "package e\nx: {a: 1}\n", "there is no experiment in this file"},
		{"e.cue", "package e\nx: 3\n", "there is no experiment in this file"},
		{"e.cue", "", "there is no experiment in this file"},
		{"e.cue", "3", "cannot use value 3"},
		{"e.cue", "package e\rx: 1\r", "the lines of the file end in carriage returns alone"},
		{"e.yaml", "x: 1\n", "an experiment is a .cue file"},
		{"e.json", "{}", "an experiment is a .cue file"},
		{"e.txt", "", "an experiment is a .cue file"},
		{"e.md", "# e", "an experiment is a .cue file"},
		{"e", "x: 1", "an experiment is a .cue file"},
		{"e.cue", imported + "e?: schema.#Experiment & {}\n", "e? is only a constraint"},
		{"e.cue", imported + "e!: schema.#Experiment & {}\n", "e! is only a constraint"},
		{"e.cue", imported + "if true {e?: schema.#Experiment & {}}\n", "e? is only a constraint"},
		{"e.cue", imported + "_e: schema.#Experiment & {}\n", "write e: _e"},
		{"e.cue", imported + "#E: schema.#Experiment & {}\n", "write E: #E"},
		{"e.cue", imported + "g: inner: schema.#Experiment & {}\n", "g.inner is not run"},
		{"e.cue", imported + "e: schema.#Experiment & ({about: \"a\"} | {about: \"b\"})\n", `"e" may be one of several experiments`},
		{"e.cue", "@if(paper)\n" + imported + "e: schema.#Experiment\n", "CUE passes over this file: @if(paper) did not match"},
		{"e_tool.cue", imported + "e: schema.#Experiment\n", "CUE passes over files whose name ends in _tool.cue"},
		{"e.cue", "@experiment(nosuch)\n" + imported + "e: schema.#Experiment\n", ": parsing experiments for version"},
		{"e.cue", imported + "schema.#Experiment\n", "the file itself is an experiment"},
		{"e.cue", "package e\nx: #Experiment\n", "and write schema.#Experiment"},
		{"e.cue", imported + "c: bool\nif c {e: schema.#Experiment}\n", "5:4: this has no definite value"},
		{"e.cue", imported + "for i in 3 {\"e\\(i)\": schema.#Experiment}\n", "cannot range over 3"},
		{"e.cue", imported + "n: string\n\"\\(n)\": schema.#Experiment\n", "this has no definite value"},
	} {
		file := filepath.Join(t.TempDir(), c.name)
		if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		experiments, found := loadWith([]string{file}, Env{}, world())
		if got := located(found) + rendered(t, found); len(experiments) > 0 || !found.HasErrors() || !strings.Contains(got, c.want) {
			t.Errorf("%s %q: got %d experiments and\n%s\nwant %s", c.name, c.text, len(experiments), got, c.want)
		}
	}
	fifo := filepath.Join(t.TempDir(), "f.cue")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, found := loadWith([]string{fifo}, Env{}, world()); !strings.Contains(rendered(t, found), "no regular file") {
		t.Error(found)
	}
}

// A module file that the schema cannot be used with is one mistake, at its line
// (trial-reliability 29).
func TestModuleFiles(t *testing.T) {
	for text, want := range map[string]string{
		"module: \"a.example\"\nlanguage: version: \"v0.9.0\"\n":  `cue.mod/module.cue:2:20: the project asks for CUE v0.9.0, and the schema of experiments needs v0.14.0`,
		"module: \"a.example\"\nlanguage: version: \"v0.99.0\"\n": `cue.mod/module.cue:2:20: the module file of the project cannot be used`,
		"module: \"a.example\"\n":                                 `cue.mod/module.cue: the module file of the project cannot be used`,
		"x":                                                       `cue.mod/module.cue: the module file of the project cannot be used`,
		"module: \"a.example\"\nlanguage: version: \"v0.14.0\"\n": "",
	} {
		dir := t.TempDir()
		for name, content := range map[string]string{"cue.mod/module.cue": text, "a.cue": sound, "b.cue": strings.ReplaceAll(sound, "x:", "y:")} {
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		_, found := loadWith([]string{filepath.Join(dir, "a.cue"), filepath.Join(dir, "b.cue")}, Env{}, world())
		switch {
		case want == "" && len(found) > 0, want != "" && len(found) != 1:
			t.Errorf("%q: %s", text, rendered(t, found))
		case want != "" && !strings.HasPrefix(strings.TrimPrefix(located(found), dir+"/"), want):
			t.Errorf("%q: got %s, want %s", text, rendered(t, found), want)
		}
	}
}

// A module file that is a pipe is refused and not waited for (trial-reliability 24).
func TestModuleFileThatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "cue.mod"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "cue.mod", "module.cue"), 0o666); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "a.cue")
	if err := os.WriteFile(file, []byte(sound), 0o666); err != nil {
		t.Fatal(err)
	}
	_, found := loadWith([]string{file}, Env{}, world())
	if len(found) != 1 || !strings.Contains(found[0].Message, "not a regular file") {
		t.Errorf("a pipe as the module file: %s", rendered(t, found))
	}
}

// A list that takes CUE minutes, or all memory, ends with an error that says so
// (trial-reliability 24, trial-language C4).
func TestReadingIsBounded(t *testing.T) {
	before := loadLimits
	t.Cleanup(func() { loadLimits = before })
	text := strings.NewReplacer("import ", "import \"list\"\nimport ", "seeds: [1, 2]", "seeds: list.Range(0, 30000, 1)").Replace(sound)
	for want, limits := range map[string]bounded.Limits{
		"takes more than 100ms of computing": {CPU: 100 * time.Millisecond},
		"takes more than 1 MB of memory":     {Memory: 1 << 20},
	} {
		loadLimits = limits
		all, found := Load(t.Context(), []string{write(t, text)}, Env{})
		if len(all) > 0 || len(found) != 1 || !strings.Contains(found[0].Message, want) {
			t.Errorf("%v, %v; want %q", all, found, want)
		}
	}
}
