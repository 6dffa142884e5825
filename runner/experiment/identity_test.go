package experiment

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Two experiments, each drawn and written in any way: their runs have one
// identity exactly if they mean the same. What they mean is worked out here,
// apart from the code under test.

// writable are fields, the default first, and what else they may be.
var writable = map[string][]string{
	"about":                      {`""`, `"one"`, `"another"`},
	"backbone.depth":             {"12", "11", "10"},
	"backbone.freeze":            {`"all"`, `"none"`, `{blocks: "0..3"}`, `{blocks: "0..4"}`},
	"adapter.variant":            {`"lora"`, `"scale"`, `"none"`},
	"adapter.targets":            {`["query", "value"]`, `["query"]`, `["value", "fc2"]`},
	"adapter.blocks":             {`"all"`, `"2..9"`, `[0, 3]`},
	"adapter.params.rank":        {"4", "8"},
	"adapter.params.alpha":       {"4", "8", "0.5"},
	"adapter.params.init":        {"1", "2"},
	"head.kind":                  {`"conv"`, `"linear"`, `"segmenter"`, `"setr_pup"`},
	"head.hidden":                {"0", "16"},
	"head.taps":                  {"unset", "[2, 5]", `"1..3"`},
	"head.norm":                  {"unset", "true", "false"},
	"head.dropout":               {"0.1", "0", "0.5"},
	"head.layers":                {"2", "1"},
	"head.heads":                 {"0", "2"},
	"head.width":                 {"0", "32"},
	"head.stages":                {"2", "1", "3"},
	"data.size":                  {"224", "112", "[112, 224]"},
	"data.remap":                 {"{}", `{boundary: "animal"}`, `{boundary: "ignore"}`},
	"data.ignore":                {"unset", "255", "7"},
	"data.augment":               {"unset", `[{kind: "flip"}]`, inWindows, `[{kind: "window"}, {kind: "flip"}]`},
	"data.views":                 {"unset", "{count: 2}", "{count: 3}", "{count: 2, seed: 4}"},
	"data.limit.train":           {"unset", "9", "10"},
	"data.limit.test":            {"unset", "3"},
	"data.procedural.seed":       {"0", "5"},
	"data.procedural.style":      {`"plain"`, `"noisy"`},
	"loss.crossEntropy":          {"1", "0.5"},
	"loss.dice":                  {"0", "1", "0.25"},
	"optim.lr.backbone":          {"0.00001", "0.0001"},
	"optim.lr.adapter":           {"0.001", "0.002"},
	"optim.lr.head":              {"0.001", "0.02"},
	"optim.weightDecay":          {"0.01", "0", "0.1"},
	"optim.betas":                {"[0.9, 0.999]", "[0.9, 0.99]"},
	"optim.eps":                  {"0.00000001", "0.000001"},
	"optim.clip":                 {"1", "0"},
	"optim.schedule.kind":        {`"cosine"`, `"linear"`, `"constant"`},
	"optim.schedule.warmup":      {"0", "0.1"},
	"optim.schedule.warmupSteps": {"0", "3"},
	"optim.schedule.floor":       {"0", "0.01"},
	"train.epochs":               {"10", "3"},
	"train.steps":                {"0", "9"},
	"train.batch":                {"8", "4"},
	"train.precision":            {`"fp32"`, `"bf16"`},
	"train.deterministic":        {"false", "true"},
	"train.maxSteps":             {"0", "7"},
	"train.monitor":              {`"dice/mean"`, `"loss"`},
	"train.evalEvery":            {"1", "2"},
	"train.evalSteps":            {"0", "2"},
	"train.validate":             {`"model"`, `"test"`},
	"evaluate.resolution":        {`"model"`, `"original"`},
	"seeds":                      {"[1]", "[2]"},
	"evaluate.checkpoint":        {`"best"`, `"last"`},
	"evaluate.domains":           {"{}", `{far: {source: "procedural", seed: 3}}`},
	"report.metric":              {`"dice/mean"`, `"accuracy"`},
	"track":                      {"unset", `{tensorboard: true, wandb: {project: "p", mode: "offline"}}`},
	"resources":                  {"unset", `{time: "4h", workers: 3, gpus: 1, options: ["--licenses=x"]}`},
	"data.split.seed":            {"0", "3"}, // of a source that is divided, which a drawn one is not
	"data.limit.seed":            {"0", "3"}, // likewise
	"evaluate.domains.a.seed":    {"unset", "1"},
}

const inWindows = `[{kind: "resize"}, {kind: "window", maxClass: 0.75}, {kind: "photometric"}]`

// validatesAsTested is whether validations are at the original resolution.
func (d drawn) validatesAsTested() bool {
	return d.get("train.validate") == `"test"` && d.get("evaluate.resolution") == `"original"`
}

// inSteps are the fields that another in steps takes the place of.
var inSteps = map[string]string{
	"train.epochs": "train.steps", "train.maxSteps": "train.steps", "train.evalEvery": "train.evalSteps", "optim.schedule.warmup": "optim.schedule.warmupSteps",
}

// replaced reports whether another field says in steps what the one at path says.
func (d drawn) replaced(path string) bool { return inSteps[path] != "" && d.get(inSteps[path]) != "0" }

// paths that leave the weights of this experiment alone, whatever they say.
var harmless = []string{
	"about", "data.limit.test", "evaluate.checkpoint", "evaluate.domains", "report.metric", "track", "resources", "data.split.seed", "data.limit.seed", "evaluate.domains.a.seed",
}

// drawn is a choice for some fields; the others have their default.
type drawn map[string]string

func (d drawn) get(path string) string {
	if v, ok := d[path]; ok {
		return v
	}
	return writable[path][0]
}

// meaning is all that decides over the weights, in one form.
func (d drawn) meaning() string {
	variant := d.get("adapter.variant")
	unused := slices.Clone(harmless)
	unless := func(used bool, paths ...string) {
		if !used {
			unused = append(unused, paths...)
		}
	}
	unless(d.get("backbone.freeze") != `"all"`, "optim.lr.backbone")
	unless(variant != `"none"`, "optim.lr.adapter", "adapter.targets", "adapter.blocks")
	unless(variant == `"lora"`, "adapter.params.rank", "adapter.params.alpha")
	unless(variant == `"scale"`, "adapter.params.init")
	unless(d.get("data.augment") != "unset", "data.views")
	unless(d.validatesAsTested(), "train.validate", "evaluate.resolution")
	kind := d.get("head.kind")
	unless(kind == `"conv"` || kind == `"setr_pup"`, "head.hidden")
	unless(kind != `"segmenter"`, "head.norm")
	unless(kind != `"linear"`, "head.dropout")
	unless(kind == `"segmenter"`, "head.layers", "head.heads", "head.width")
	unless(kind == `"setr_pup"`, "head.stages")
	unless(d.get("optim.schedule.kind") != `"constant"`, "optim.schedule.floor")
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(writable)) {
		if slices.Contains(unused, path) || d.replaced(path) {
			continue
		}
		value := d.get(path)
		switch {
		case path == "adapter.params.alpha" && d["adapter.params.alpha"] == "":
			value = d.get("adapter.params.rank") // the variant's default
		case path == "head.norm" && value == "unset":
			value = strconv.FormatBool(kind != `"linear"`)
		case path == "adapter.blocks" && value == `"all"`:
			value = "0.." + d.get("backbone.depth")
		}
		fmt.Fprintf(&b, "%s: %s\n", path, value)
	}
	return b.String()
}

// draw changes some fields, so many at most.
func draw(t *rapid.T, from drawn, most int) drawn {
	d := maps.Clone(from)
	paths := slices.Sorted(maps.Keys(writable))
	for _, path := range rapid.SliceOfN(rapid.SampledFrom(paths), 0, most).Draw(t, "fields") {
		d[path] = rapid.SampledFrom(writable[path]).Draw(t, path)
	}
	if d.validatesAsTested() && d.get("train.monitor") == `"loss"` {
		delete(d, "train.monitor") // which has no value then
	}
	return d
}

// write is the experiment as someone might write it: fields in any order and
// nesting, numbers in any form, defaults written or not, with comments.
func (d drawn) write(t *rapid.T) string {
	const about = "writing"
	type node struct {
		children map[string]*node
		value    string
	}
	root := &node{children: map[string]*node{}}
	put := func(path, value string) {
		n := root
		for _, name := range strings.Split(path, ".") {
			if n.children[name] == nil {
				n.children[name] = &node{children: map[string]*node{}}
			}
			n = n.children[name]
		}
		n.value = value
	}
	put("backbone.model", `"toy"`)
	put("data.source", `"procedural"`)
	put("data.classes", `["background", "animal", "boundary"]`)
	variant := d.get("adapter.variant")
	var constants []string
	for _, path := range slices.Sorted(maps.Keys(writable)) {
		value := d.get(path)
		_, chosen := d[path]
		needed := path == "adapter.variant" || path == "adapter.params.rank"
		switch {
		case value == "unset", d.replaced(path), path == "evaluate.domains.a.seed":
			continue
		case strings.HasPrefix(path, "adapter.params.") && (path == "adapter.params.init") != (variant == `"scale"`), path != "adapter.variant" && variant == `"none"` && strings.HasPrefix(path, "adapter.params"):
			continue // a variant knows its own parameters only
		case !needed && !chosen && (path == "adapter.params.alpha" || path == "backbone.depth" || !rapid.Bool().Draw(t, "write the default of "+path)):
			continue
		case !needed && chosen && value == writable[path][0] && path != "adapter.params.alpha" && rapid.Bool().Draw(t, "leave out "+path):
			continue
		}
		value = respell(t, value)
		if rapid.IntRange(0, 9).Draw(t, about) == 0 {
			name := "_c" + strconv.Itoa(len(constants))
			constants = append(constants, name+": "+value)
			value = name
		}
		put(path, value)
	}
	if seed := d.get("evaluate.domains.a.seed"); seed != "unset" {
		put("evaluate.domains.a.source", `"procedural"`)
		put("evaluate.domains.a.seed", seed)
		if n := root.children["evaluate"].children["domains"]; n.value != "" {
			n.value = "" // one of both is enough
		}
	}
	comment := func() string {
		return rapid.SampledFrom([]string{"", "", "", "// a word\n", "\n\n"}).Draw(t, about)
	}
	var fields func(n *node) []string
	fields = func(n *node) []string {
		var out []string
		for _, name := range rapid.Permutation(slices.Sorted(maps.Keys(n.children))).Draw(t, "order") {
			child := n.children[name]
			if rapid.IntRange(0, 5).Draw(t, about) == 0 {
				name = strconv.Quote(name)
			}
			switch {
			case len(child.children) == 0 || child.value != "":
				out = append(out, comment()+name+": "+child.value)
			case rapid.Bool().Draw(t, "nested"):
				out = append(out, name+": {\n"+strings.Join(fields(child), "\n")+"\n}")
			default:
				for _, f := range fields(child) {
					if strings.HasPrefix(f, "//") || strings.HasPrefix(f, "\n") {
						out = append(out, name+": {\n"+f+"\n}")
					} else {
						out = append(out, name+": "+f)
					}
				}
			}
		}
		return out
	}
	name := rapid.SampledFrom([]string{"x", "renamed", `"with-dash"`}).Draw(t, "name")
	return "package e\n\nimport \"github.com/loralab/loralab/schema\"\n\n" + strings.Join(constants, "\n") + "\n" +
		name + ": schema.#Experiment & {\n" + strings.Join(fields(root), "\n") + "\n}\n"
}

// respell writes a value in another way.
func respell(t *rapid.T, value string) string {
	if f, err := strconv.ParseFloat(value, 64); err == nil {
		whole := f == float64(int64(f))
		forms := []string{value, "(" + value + ")"}
		if whole {
			forms = append(forms, fmt.Sprintf("%d - 1", int64(f)+1), fmt.Sprintf("%#x", int64(f)))
		} else {
			forms = append(forms, strconv.FormatFloat(f, 'e', -1, 64), value+"00", value+"e0")
		}
		return rapid.SampledFrom(forms).Draw(t, "form")
	}
	switch value {
	case "224", "112":
		return rapid.SampledFrom([]string{value, "[" + value + ", " + value + "]"}).Draw(t, "form")
	case `["query", "value"]`:
		return rapid.SampledFrom([]string{value, `["value", "query"]`}).Draw(t, "form")
	case `["value", "fc2"]`:
		return rapid.SampledFrom([]string{value, `["fc2", "value"]`}).Draw(t, "form")
	case `"2..9"`:
		return rapid.SampledFrom([]string{value, "[2, 3, 4, 5, 6, 7, 8, 9]", "[9, 2, 3, 4, 5, 6, 7, 8]"}).Draw(t, "form")
	case inWindows:
		other := `[{kind: "resize", p: 1, range: [0.5, 2]}, {kind: "window", p: 1, maxClass: 3/4}, {kind: "photometric", p: 1}]`
		return rapid.SampledFrom([]string{value, other}).Draw(t, "form")
	case "{count: 2}":
		return rapid.SampledFrom([]string{value, "{count: 2, seed: 0}"}).Draw(t, "form")
	case `{blocks: "0..3"}`:
		return rapid.SampledFrom([]string{value, "{blocks: [3, 2, 1, 0]}"}).Draw(t, "form")
	}
	return value
}

func TestIdentityIsWhatIsMeant(t *testing.T) {
	file := write(t, "")
	id := func(t *rapid.T, text string) string {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		e, found := loadWith([]string{file}, Env{}, world())
		if len(e) != 1 || found.HasErrors() {
			var b strings.Builder
			for _, d := range found {
				b.WriteString(d.Text() + "\n")
			}
			t.Fatalf("in\n%s\n%s", text, b.String())
		}
		return e[0].Runs[0].ID
	}
	rapid.Check(t, func(t *rapid.T) {
		a := draw(t, drawn{}, 16)
		b := draw(t, a, 2)
		first, second := a.write(t), b.write(t)
		if same := id(t, first) == id(t, second); same != (a.meaning() == b.meaning()) {
			t.Fatalf("one identity: %v, for\n%s\nand\n%s\nwhich mean\n%s\nand\n%s", same, first, second, a.meaning(), b.meaning())
		}
	})
}

// However a matrix is widened, the cells that stay keep their runs.
func TestWideningKeepsEveryRun(t *testing.T) {
	file := write(t, "")
	runs := func(t *rapid.T, ranks, alphas []string, seeds []int) map[string]string {
		lines := fmt.Sprintf("\tvary: {%q: [%s], %q: [%s]}", "adapter.params.rank", strings.Join(ranks, ", "), "adapter.params.alpha", strings.Join(alphas, ", "))
		text := strings.Replace(insert(sound, lines), "seeds: [1, 2]", "seeds: ["+strings.Trim(strings.ReplaceAll(fmt.Sprint(seeds), " ", ", "), "[]")+"]", 1)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		e, found := loadWith([]string{file}, Env{}, world())
		if len(e) != 1 {
			t.Fatalf("%s\n%v", text, found)
		}
		ids := map[string]string{}
		for _, r := range e[0].Runs {
			ids[r.Name()] = r.ID
		}
		return ids
	}
	rapid.Check(t, func(t *rapid.T) {
		identity := func(s string) string { return s }
		ranks := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"1", "2", "3", "4", "8"}), 2, 4, identity).Draw(t, "ranks")
		alphas := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"0.5", "1", "2"}), 2, 3, identity).Draw(t, "alphas")
		seeds := rapid.SliceOfNDistinct(rapid.IntRange(0, 9), 2, 3, func(n int) int { return n }).Draw(t, "seeds")
		narrow := runs(t, ranks[1:], alphas[:1], seeds[1:])
		wide := runs(t, rapid.Permutation(ranks).Draw(t, "order"), alphas, seeds)
		if len(wide) != len(ranks)*len(alphas)*len(seeds) {
			t.Fatalf("%d runs", len(wide))
		}
		for name, id := range narrow {
			if wide[name] != id {
				t.Fatalf("%s moved", name)
			}
		}
	})
}
