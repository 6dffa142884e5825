package experiment

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/load"
	"pgregory.net/rapid"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/schema"
)

// body is what experiments of these tests are made of, without braces.
const body = `
	backbone: {model: "toy", depth: 10}
	adapter: {variant: "lora", targets: ["value", "query"], blocks: "6..9", params: {rank: 4, alpha: 8}}
	data: {source: "procedural", size: 112, classes: ["background", "animal", "boundary"], remap: boundary: "animal"}
	optim: lr: {adapter: 1e-3, head: 2e-3}
	train: {epochs: 2, batch: 4}
`

// forms are ways to make the experiment x of $BASE, which is body, and $OWN.
var forms = map[string]string{
	"a field":                     `x: schema.#Experiment & {$BASE} & {$OWN}`,
	"two fields":                  "x: schema.#Experiment & {$BASE}\nx: {$OWN}",
	"a comprehension":             `for n in ["x"] {"\(n)": schema.#Experiment & {$BASE} & {$OWN}}`,
	"a comprehension over bases":  "_b: schema.#Experiment & {$BASE}\nfor n, b in {x: _b} {\"\\(n)\": b & {$OWN}}",
	"a comprehension, plain name": "_b: schema.#Experiment & {$BASE}\nfor n in [1] {x: _b & {$OWN}}",
	"a condition":                 "c: *\"small\" | \"large\" @tag(c)\nif c == \"small\" {x: schema.#Experiment & {$BASE} & {$OWN}}",
	"a condition and a field":     "c: 1\nx: schema.#Experiment & {$BASE}\nif c == 1 {x: {$OWN}}",
	"an embedding":                `{x: schema.#Experiment & {$BASE} & {$OWN}}`,
	"an embedded reference":       "_all: x: schema.#Experiment & {$BASE} & {$OWN}\n_all",
	"a computed name":             "_n: \"x\"\n\"\\(_n)\": schema.#Experiment & {$BASE} & {$OWN}",
	"a name in parentheses":       "_n: \"x\"\n(_n): schema.#Experiment & {$BASE} & {$OWN}",
	"a reference":                 "_y: schema.#Experiment & {$BASE} & {$OWN}\nx: _y",
	"a hidden base":               "_b: schema.#Experiment & {$BASE}\nx: _b & {$OWN}",
	"a definition":                "#b: schema.#Experiment & {$BASE}\nx: #b & {$OWN}",
	"a let clause":                "let B = {$BASE}\nx: schema.#Experiment & B & {$OWN}",
	"a let clause inside":         "x: {let B = {$BASE}, schema.#Experiment & B & {$OWN}}",
	"a selection by index":        "_p: {a: {$BASE}, b: {}}\n_k: \"a\"\nx: schema.#Experiment & _p[_k] & {$OWN}",
	"an element of a list":        "_p: [{$BASE}, {}]\nx: schema.#Experiment & _p[0] & {$OWN}",
	"a pattern":                   "[=~\"^x\"]: schema.#Experiment & {$BASE}\nx: {$OWN}",
	"another package":             "x: schema.#Experiment & lib.base & {$OWN}",
	"a definition of another":     "x: lib.#Base & {$OWN}",
	"an alias":                    "x: X={schema.#Experiment & {$BASE} & {$OWN}, _n: \"\\(X.train.epochs)\"}",
	"a guard within":              "_c: true\nx: schema.#Experiment & {if _c {$BASE}, $OWN}",
}

// inForm writes a project with an experiment in one of the forms.
func inForm(t testing.TB, form, own string) string {
	t.Helper()
	dir := t.TempDir()
	lib := "package lib\n\nimport \"github.com/loralab/loralab/schema\"\n\nbase: {" + body + "}\n#Base: schema.#Experiment & {" + body + "\n\t...\n}\n"
	text := "package e\n\nimport (\n\t\"github.com/loralab/loralab/schema\"\n"
	if strings.Contains(form, "lib.") {
		text += "\t\"e.example/lib\"\n"
	}
	text += ")\n\n" + strings.NewReplacer("$BASE", body, "$OWN", own).Replace(form) + "\n"
	if !strings.Contains(text, "schema.") {
		text = strings.Replace(text, "\t\"github.com/loralab/loralab/schema\"\n", "", 1)
	}
	for name, content := range map[string]string{
		"cue.mod/module.cue": "module: \"e.example\"\nlanguage: version: \"v0.17.0\"\n",
		"lib/lib.cue":        lib,
		"e.cue":              text,
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "e.cue")
}

// outcome is what a file evaluates to: runs, values with who gives them, and what
// is wrong, without the lines.
func outcome(t testing.TB, file string, env Env) string {
	t.Helper()
	experiments, found := loadWith([]string{file}, env, world())
	var b strings.Builder
	for _, d := range found {
		if d.At.Line == 0 {
			t.Errorf("no place: %s", d.Text())
		}
		fmt.Fprintln(&b, d.Message, d.Cells)
	}
	for _, e := range experiments {
		fmt.Fprintln(&b, e.Name, e.Axes, e.Domains)
		for _, r := range e.Runs {
			fmt.Fprintln(&b, r.Name(), r.ID, r.Values, sorted(r.Label.VariantParams))
		}
		for _, c := range e.cells {
			values, err := e.Values(c.name)
			if err != nil {
				t.Error(err)
			}
			var lines []string
			for _, v := range values {
				if v.Path == "about" {
					continue
				}
				if v.At.Line == 0 {
					t.Errorf("no place of %s, which is from the %s", v.Path, v.From)
				}
				lines = append(lines, fmt.Sprint("  ", v.Path, " ", string(v.Value), " ", v.From))
			}
			slices.Sort(lines)
			fmt.Fprintln(&b, c.name, "\n", strings.Join(lines, "\n"))
		}
	}
	return b.String()
}

// However a file makes its experiments, they are found, and are what they are
// when written as plain fields: matrices, cases, --set, places of values and of
// mistakes (trial-language W1, M1).
func TestHoweverAnExperimentIsMade(t *testing.T) {
	for name, own := range map[string]string{
		"nothing":     "seeds: [1, 2]",
		"vary":        `vary: {"adapter.params.rank": [2, 8], "train.batch": [2, 16]}`,
		"zip, ablate": `zip: {"adapter.params.rank": [2, 8], "optim.lr.head": [1e-4, 1e-5]}, ablate: "train.epochs": [1, 2, 3]`,
		// What is left of the base's value must not be merged into the cell's.
		"structs":    `vary: "adapter.params": [{rank: 2}, {rank: 4, alpha: 1}], cases: small: data: remap: {}`,
		"cases":      `cases: {bare: adapter: variant: "none", other: {adapter: {variant: "scale", params: init: 2}, train: batch: 8}}`,
		"evaluation": `evaluate: {domains: noisy: {source: "procedural", style: "noisy"}, corruptions: kinds: ["fog"]}`,
		"idle":       `optim: lr: backbone: 1e-6`,
		"mistakes":   `vary: {"adapter.params.rank": [2, 65], "train.batch": [0]}, cases: a: optim: weigthDecay: 1`,
		"a mistake":  `train: maxSteps: -1, evaluate: domains: "a/b": source: "procedural"`,
	} {
		t.Run(name, func(t *testing.T) {
			envs := []Env{{}}
			if name == "vary" || name == "a mistake" {
				envs = append(envs, Env{Set: []string{"train.epochs=5", "adapter.blocks=all"}})
			}
			for _, env := range envs {
				want := outcome(t, inForm(t, forms["a field"], own), env)
				for kind, form := range forms {
					if name != "vary" && name != "structs" && !strings.Contains(kind, "comp") && kind != "another package" {
						continue // it is the same code
					}
					if got := outcome(t, inForm(t, form, own), env); got != want {
						t.Errorf("%s, set %v: got\n%s\nwant\n%s", kind, env.Set, got, want)
					}
				}
			}
		})
	}
}

// A condition of the experiment on a value that varies follows each cell.
func TestConditionsFollowTheCell(t *testing.T) {
	text := insert(strings.Replace(sound, "\ttrain: {epochs: 2, batch: 4}\n", "\ttrain: epochs: 2\n", 1), `	if adapter.params.rank == 4 {train: batch: 2}
	if adapter.params.rank == 8 {train: batch: 3}
	vary: "adapter.params.rank": [4, 8]
	cases: own: train: batch: 5`)
	var got []string
	for _, r := range loadText(t, text)[0].Runs {
		if r.Seed == 1 {
			got = append(got, fmt.Sprint(r.Cell, " ", r.Spec.Train.Batch))
		}
	}
	if want := []string{"rank=4 2", "rank=8 3", "own 5"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A value that no field gives cannot be replaced, and is not merged with what
// should take its place.
func TestValuesThatCannotBeReplaced(t *testing.T) {
	head := "package e\n\nimport (\n\t\"encoding/json\"\n\t\"github.com/loralab/loralab/schema\"\n)\n\nx: schema.#Experiment & {\n"
	adapter := strings.Replace(body, `adapter: {variant: "lora", targets: ["value", "query"], blocks: "6..9", params: {rank: 4, alpha: 8}}`, `adapter: json.Unmarshal(#"{"variant": "lora", "params": {"rank": 4, "alpha": 8}}"#)`, 1)
	for own, want := range map[string]string{
		`vary: "adapter.params": [{rank: 2}]`:      "e.cue:%d:8: adapter.params cannot vary: its value comes from elsewhere and stays a struct",
		`vary: "adapter.params.rank": [2, 8]`:      "e.cue:%d:32: adapter.params.rank cannot vary: its value comes from elsewhere and stays 4",
		`cases: a: adapter: {variant: "scale"}`:    "e.cue:%d:31: adapter.variant cannot vary",
		`cases: a: adapter: params: rank: 2`:       "e.cue:%d:35: adapter.params.rank cannot vary",
		`ablate: "adapter.params.alpha": [2, 8]`:   "e.cue:%d:35: adapter.params.alpha cannot vary",
		`vary: "adapter.params.rank": [65, 66, 4]`: "e.cue:%d:32: adapter.params.rank cannot vary",
	} {
		text := head + adapter + "\t" + own + "\n}\n"
		_, found := loadWith([]string{write(t, text)}, Env{}, world())
		want := fmt.Sprintf(want, strings.Count(text, "\n")-1)
		if got := located(found); !strings.Contains(got, want) {
			t.Errorf("%s: got\n%s\nwant %s", own, got, want)
		}
	}
	_, found := loadWith([]string{write(t, head+adapter+"}\n")}, Env{Set: []string{"adapter.params.rank=2"}}, world())
	if got := located(found); !strings.HasPrefix(got, "command line:1:7: adapter.params.rank cannot be set: its value comes from elsewhere and stays 4") {
		t.Error(got)
	}
}

// The experiments of a file are those that CUE has: the concrete fields that
// carry the mark of the schema.
func TestExperimentsAreThoseOfCUE(t *testing.T) {
	head := "package e\n\nimport \"github.com/loralab/loralab/schema\"\n\n_b: schema.#Experiment & {" + body + "}\n"
	file := filepath.Join(inDirOf(t), "e.cue")
	rapid.Check(t, func(t *rapid.T) {
		text := head
		for i := range rapid.IntRange(1, 4).Draw(t, "statements") {
			n := fmt.Sprint("e", rapid.IntRange(0, 3).Draw(t, "name"))
			text += rapid.SampledFrom([]string{
				n + ": _b",
				n + ": _b & {seeds: [1, 2]}",
				fmt.Sprintf("for i in [0, 1] {\"%s\\(i)\": _b & {seeds: [i]}}", n),
				fmt.Sprintf("for i, s in {a: 1, b: 2} if s > 1 {\"%s\\(i)\": _b}", n),
				fmt.Sprintf("if true {%s: _b}", n),
				fmt.Sprintf("if false {%s: _b}", n),
				fmt.Sprintf("{%s: _b}", n),
				fmt.Sprintf("\"%s\\(%d)\": _b", n, i),
				fmt.Sprintf("_%s: _b", n),
				fmt.Sprintf("#%s: _b", n),
				n + ": {about: \"no experiment\"}",
				n + ": {_b}",
				fmt.Sprintf("_all%d: %s: _b\n_all%[1]d", i, n),
				n + ": 3",
				fmt.Sprintf("let L%d = _b\n%s: L%[1]d", i, n),
			}).Draw(t, "statement") + "\n"
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		var want []string
		inst := load.Instances([]string{file}, &load.Config{Dir: filepath.Dir(file)})[0]
		if inst.Err != nil {
			t.Fatal(inst.Err)
		}
		v := cuecontext.New().BuildInstance(inst)
		sound := v.Validate() == nil
		it, err := v.Fields()
		for err == nil && it.Next() {
			if ok, _ := it.Value().LookupPath(cue.MakePath(cue.Hid("_experiment", schema.ImportPath))).Bool(); ok {
				want = append(want, it.Selector().Unquoted())
			}
		}
		experiments, found := loadWith([]string{file}, Env{}, world())
		if !sound || len(want) == 0 {
			if !found.HasErrors() {
				t.Fatalf("in\n%s\nCUE has %v, error %v; found are %v", text, want, v.Validate(), found)
			}
			return
		}
		var got []string
		for _, e := range experiments {
			got = append(got, e.Name)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("in\n%s\nCUE has %v, found are %v, %v", text, want, got, found)
		}
	})
}

// inDirOf is a project with the schema on disk.
func inDirOf(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, "cue.mod", "pkg", filepath.FromSlash(schema.ImportPath))
	if err := os.CopyFS(at, schema.Files); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cue.mod", "module.cue"), []byte("module: \"e.example\"\nlanguage: version: \"v0.17.0\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Several references embedded at the top of a file are looked through once each.
func TestEmbeddedReferences(t *testing.T) {
	text := "package e\n\nimport \"github.com/loralab/loralab/schema\"\n\n"
	for i := range 8 {
		text += fmt.Sprintf("_all%d: x%[1]d: schema.#Experiment & {%s}\n_all%[1]d\n", i, body)
	}
	if n := len(loadText(t, text)); n != 8 {
		t.Errorf("%d experiments", n)
	}
}

// A schema that never ends with some parameters ends the command with the
// name of the variant, and nothing that it still uses is used again
// (trial-plugins F4).
func TestSchemaThatDoesNotEnd(t *testing.T) {
	before := foreignLimits
	t.Cleanup(func() { foreignLimits = before })
	foreignLimits.CPU = 50 * time.Millisecond
	r := world()
	describe := r.describe
	r.describe = func(ctx context.Context, name string) (*protocol.DescribeReply, error) {
		if name != "evil" {
			return describe(ctx, name)
		}
		return &protocol.DescribeReply{Name: name, Version: "1.0.0", Schema: `import "list"
#Params: {
	rank!: int
	_d: list.Range(0, 80, 1)
	_n: [if rank > 3 for a in _d for b in _d for c in _d if a+b+c < 0 {a}]
}`}, nil
	}
	file := write(t, insert(sound, "\tcases: {a: adapter: {variant: \"evil\", params: rank: 4}, b: adapter: variant: \"none\"}"))
	experiments, found := loadWith([]string{file}, Env{}, r)
	if got := located(found); len(experiments) != 0 || !strings.HasPrefix(got, file+`: the schema of variant "evil" cannot be evaluated with these parameters: it takes more than 50ms of computing`) {
		t.Errorf("%d experiments, %s", len(experiments), got)
	}
}

func TestLoadThatIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// What looks at the context by itself ends by itself.
	if _, found := Load(ctx, []string{write(t, sound)}, Env{}); len(found) > 1 {
		t.Error(found)
	}
}

// A directory whose name is not UTF-8 is an error before anything is planned in it.
func TestLoadInADirectoryThatIsNotUTF8(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d\xe9")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Skip(err) // a file system that refuses such names
	}
	file := filepath.Join(dir, "e.cue")
	if err := os.WriteFile(file, []byte(sound), 0o666); err != nil {
		t.Fatal(err)
	}
	_, found := loadWith([]string{file}, Env{Root: dir}, world())
	if len(found) != 1 || !strings.Contains(found[0].Message, `d\xe9 is not UTF-8; rename it`) {
		t.Errorf("found %v", found)
	}
}

// A link that leads nowhere is not a source of another name.
func TestDataThatIsADanglingLink(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "data"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere/mI", filepath.Join(root, "data", "mI")); err != nil {
		t.Fatal(err)
	}
	_, err := findData(root, "mI")
	if err == nil || !strings.Contains(err.Error(), "mI is a link to /nowhere/mI, which is not there") {
		t.Errorf("got %v", err)
	}
}
