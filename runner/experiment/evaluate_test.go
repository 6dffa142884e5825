package experiment

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"cuelang.org/go/cue/parser"
	"pgregory.net/rapid"

	"github.com/loralab/loralab/schema"
)

// What thousands of cells come to is put together from values that are checked
// once each. It is what CUE says of every cell in full, over matrices of all
// kinds: values that are wrong, that others are computed from, that fall into
// conditions, that come from shared structs.
func TestCellsAreWhatCUESays(t *testing.T) {
	base := sound
	values := map[string][]string{
		"adapter.params.rank":       {"2", "4", "8", "9", "65", `"four"`, "int"},
		"adapter.params.alpha":      {"1", "16.5", "0", `"x"`},
		"adapter.params.heads":      {"2", "17"},
		"adapter.params":            {"{rank: 3}", "{rank: 4, alpha: 2}", "{rnak: 4}", "{}"},
		"adapter.targets":           {`["query"]`, `["value", "query"]`, `["qeury"]`, "[]"},
		"adapter.blocks":            {`"all"`, `"2..5"`, "[1, 3]", `"5..2"`, `"x"`},
		"adapter.variant":           {`"lora"`, `"none"`, `"scale"`, `"lroa"`},
		"optim.lr.head":             {"1e-3", "0.01", "2", "0"},
		"optim.lr":                  {"{head: 1e-3}", "{hed: 1e-3}", "{}", "3"},
		"optim.schedule.warmup":     {"0", "0.5", "1"},
		"optim.schedule":            {`{kind: "linear"}`, `{kind: "none"}`},
		"backbone.freeze":           {`"all"`, `"none"`, `{blocks: "0..3"}`, `{blok: 1}`, `"some"`},
		"backbone.depth":            {"8", "10", "13", "0"},
		"backbone.model":            {`"toy"`, `"toy-large"`, `"tyo"`},
		"data.size":                 {"112", "[112, 126]", "100", `"big"`},
		"data.remap":                {`{boundary: "background"}`, "{}", "{x: 1}"},
		"data.remap.boundary":       {`"ignore"`, `"animal"`, `"x"`},
		"data.ignore":               {"255", "1", "300"},
		"loss.dice":                 {"0", "1", "-1"},
		"loss":                      {"{crossEntropy: 0}", "{dice: 1}"},
		"train.batch":               {"1", "2", "0", "2.5"},
		"train.monitor":             {`"loss"`, `"dice/x"`},
		"head.kind":                 {`"linear"`, `"segmenter"`, `"cnv"`},
		"optim.weigthDecay":         {"1"},
		"data.procedural.train":     {"4", "5"},
		"data.normalize":            {"{mean: [0, 0, 0], std: [1, 1, 1]}", "{mean: [0, 0]}"},
		"evaluate.checkpoint":       {`"last"`},
		"optim.betas":               {"[0.9, 0.99]", "[0.9]", "[0.9, 2]"},
		"train.evalEvery":           {"1", "3"},
		"adapter.params.dropout":    {"0.5", "1"},
		"data.split.train":          {"0.5", "0.95"},
		"data.limit.test":           {"3"},
		"train.precision":           {`"bf16"`, `"f16"`},
		"optim.clip":                {"0", "1.5"},
		"head.dropout":              {"0", "0.3"},
		"head.norm":                 {"true", "false"},
		"adapter.params.nested.new": {"1"},
		"preset":                    {`"original"`, `""`, `"originalSearch"`, `"orignal"`},
		"optim.kind":                {`"adam"`, `"sgd"`},
	}
	var paths []string
	for path := range values {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	// Of these fewer than the first two values are sound by themselves.
	sound := map[string]int{
		"adapter.params.heads": 1, "adapter.params.nested.new": 0, "adapter.variant": 1, "backbone.model": 1, "data.ignore": 1,
		"data.normalize": 1, "data.remap": 1, "optim.betas": 1, "optim.schedule": 1, "optim.weigthDecay": 0, "train.monitor": 1,
		"adapter.params.dropout": 1, "data.split.train": 1, "loss": 0, "train.precision": 1, "optim.lr": 1, "data.size": 2,
	}
	soundPaths := slices.DeleteFunc(slices.Clone(paths), func(p string) bool { n, ok := sound[p]; return ok && n == 0 })
	twists := []string{
		"adapter: params: {rank: _, alpha: 2 * rank}",
		"adapter: {params: rank: _, if params.rank > 4 {blocks: \"6..7\"}}",
		"train: {batch: _, evalEvery: batch}",
		"optim: {lr: {head: _, adapter: head}}",
		"data: {_ignored: *7 | int, ignore: _ignored}",
		"head: {kind: _, if kind == \"linear\" {dropout: 0}}",
		"backbone: _shared",
		"let small = 3\n\tdata: limit: train: small",
		"optim: schedule: {kind: \"linear\", floor: *0 | number, warmup: floor}",
		"loss: {[string]: <10}",
		"train: {monitor: *\"loss\" | string, _m: monitor}",
		"optim: lr: close({head: _, adapter: _})",
		"adapter: X={params: rank: _, blocks: *\"0..3\" | string, if X.params.rank == 2 {blocks: \"1..3\"}}",
		"report: metric: train.monitor\n\ttrain: monitor: _",
		"\"\\(_name)\": {kind: \"linear\"}\n\t_name: \"head\"",
		"if optim.lr.head > 0.005 {loss: dice: 0.5}\n\toptim: lr: head: _",
		"preset: \"original\"",
		"preset: \"original\"\n\toptim: kind: \"adam\"",
		"about: \"rank \\(adapter.params.rank)\"\n\tadapter: params: rank: _",
		"data: {size: *112 | _, procedural: size: *96 | int, if size == 112 {limit: val: 2}}",
	}
	file := write(t, base)
	load := func(t failer, slow bool) (lines []string, total, bound int) {
		experiments, found := loadWith([]string{file}, Env{slow: slow}, world())
		for _, e := range experiments {
			if !slow { // and points with the values of cells are cells
				resolvesToItsCells(t, e)
			}
			lines = append(lines, e.Name, strings.Join(e.Axes, " "))
			for _, r := range e.Runs {
				line := fmt.Sprint(r.Name(), " ", r.ID, r.Values, sorted(r.Label.VariantParams))
				for _, v := range r.Evaluations {
					line += " " + v.ID
				}
				lines = append(lines, line)
			}
			for _, c := range e.cells {
				lines = append(lines, sorted(string(c.resolved().append(nil))))
				for _, o := range c.overlay {
					total++
					if o.bound {
						bound++
					}
				}
			}
		}
		for _, d := range found {
			lines = append(lines, d.Text())
		}
		return lines, total, bound
	}
	accepted, overlays, evaluated := 0, 0, 0
	agree := func(t failer, text string) {
		t.Helper()
		text += "\n_shared: {freeze: *\"all\" | _}\n"
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatalf("%v", err)
		}
		fast, total, bound := load(t, false)
		slow, _, _ := load(t, true)
		// Without the base's parameters, what refers to them is unknown. CUE does not
		// report that if there is another mistake, and the two ways collect mistakes
		// differently. Both must report that there is one.
		unknown := func(line string) bool { return strings.Contains(line, `params has no field "rank"`) }
		fast, slow = slices.DeleteFunc(fast, unknown), slices.DeleteFunc(slow, unknown)
		if f, s := strings.Join(fast, "\n"), strings.Join(slow, "\n"); f != s {
			t.Fatalf("in\n%s\nput together:\n%s\nin full:\n%s", text, f, s)
		}
		if total > 0 {
			accepted++
			overlays += total
			evaluated += bound
		}
	}
	// Two matrices take the two ways, whatever is drawn.
	agree(t, insert(base, "\tvary: \"optim.lr.head\": [1e-3, 0.01]\n"))
	agree(t, insert(base, "\tvary: \"train.batch\": [1, 2]\n\ttrain: {batch: _, evalEvery: batch}\n"))
	if accepted != 2 || evaluated == 0 || evaluated == overlays {
		t.Fatalf("of 2 matrices %d are sound, %d of %d values are evaluated in full", accepted, evaluated, overlays)
	}
	rapid.Check(t, func(t *rapid.T) {
		wrong := rapid.IntRange(0, 2).Draw(t, "mistakes") == 0
		of := func() (string, []string) {
			if wrong {
				path := rapid.SampledFrom(paths).Draw(t, "path")
				return path, values[path]
			}
			path := rapid.SampledFrom(soundPaths).Draw(t, "path")
			n, ok := sound[path]
			if !ok {
				n = 2
			}
			return path, values[path][:min(n, len(values[path]))]
		}
		pick := func(what string) []string {
			n := rapid.IntRange(0, 3).Draw(t, what)
			var lines []string
			used := map[string]bool{}
			for range n {
				path, v := of()
				if used[path] {
					continue
				}
				used[path] = true
				list := rapid.SliceOfNDistinct(rapid.SampledFrom(v), 1, min(3, len(v)), rapid.ID[string]).Draw(t, "values")
				lines = append(lines, fmt.Sprintf("%q: [%s]", path, strings.Join(list, ", ")))
			}
			return lines
		}
		lines := ""
		for _, line := range pick("vary") {
			lines += "\tvary: " + line + "\n"
		}
		for _, line := range pick("ablate") {
			lines += "\tablate: " + line + "\n"
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "cases") {
			for range rapid.IntRange(1, 3).Draw(t, "fields") {
				path, v := of()
				value := rapid.SampledFrom(v).Draw(t, "value")
				lines += fmt.Sprintf("\tcases: case%d: %s: %s\n", i, strings.ReplaceAll(path, ".", ": "), value)
			}
		}
		for range rapid.IntRange(0, 2).Draw(t, "twists") {
			lines += "\t" + rapid.SampledFrom(twists).Draw(t, "twist") + "\n"
		}
		text := insert(base, lines)
		if rapid.Bool().Draw(t, "below a condition") {
			text = belowCondition(text)
		}
		agree(t, text)
	})
	t.Logf("%d sound matrices with %d values, %d of them evaluated in full", accepted, overlays, evaluated)
}

// belowCondition has the experiment x below conditions at the top of its file.
func belowCondition(text string) string {
	return strings.Replace(text, "\nx:", "\n_on: true\nif _on if _on {\nif _on {\nx:", 1) + "}\n}\n"
}

// An experiment below a condition depends on what it refers to, and on nothing else.
func TestExperimentBelowACondition(t *testing.T) {
	lines := "\toptim: {lr: head: _, weightDecay: lr.head / 10}\n\tvary: {\"optim.lr.head\": [0.1, 0.2], \"train.batch\": [2, 4, 8]}"
	e := loadText(t, belowCondition(insert(strings.Replace(sound, ", head: 2e-3", "", 1), lines)))[0]
	bound := map[string]bool{}
	for _, c := range e.cells {
		for _, o := range c.overlay {
			bound[strings.Join(o.path, ".")] = o.bound
		}
	}
	if len(e.Runs) != 12 || !bound["optim.lr.head"] || bound["train.batch"] {
		t.Errorf("%d runs; depended on: %v", len(e.Runs), bound)
	}
	for _, r := range e.Runs {
		if o := r.Spec.Optim; math.Abs(o.WeightDecay-o.LrHead/10) > 1e-9 {
			t.Errorf("%s decays by %v, want a tenth of %v", r.Name(), o.WeightDecay, o.LrHead)
		}
	}
}

// A field that nothing knows is reported beside other mistakes of its cell,
// whichever way the cell is evaluated.
func TestUnknownFieldBesideOtherMistakes(t *testing.T) {
	file := write(t, insert(sound, `	cases: other: optim: schedule: {kind: "none"}
	cases: other: optim: weigthDecay: 1
	cases: other: adapter: params: {rank: 4, alpha: 2}`))
	for _, slow := range []bool{false, true} {
		_, found := loadWith([]string{file}, Env{slow: slow}, world())
		if len(found) != 2 || !strings.Contains(found[0].Message, `"none"`) || !strings.Contains(found[1].Message, `no field "weigthDecay"`) {
			t.Errorf("slow %v: %v", slow, found)
		}
	}
}

// sorted is JSON with its members in order.
func sorted(text string) string {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	b, _ := json.Marshal(v)
	return string(b)
}

// The schema itself computes no field from another but those that are known, or what
// is put together would not be what CUE says.
func TestSchemaRefersToDefinitionsOnly(t *testing.T) {
	entries, err := schema.Files.ReadDir(".")
	if err != nil || len(entries) < 5 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		text, err := schema.Files.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(e.Name(), text)
		if err != nil {
			t.Fatal(err)
		}
		r := &references{}
		r.file(f, "")
		// But for the preset, which bind knows of, and those of ofSchema, each in the file
		// of its section.
		r.paths = slices.DeleteFunc(r.paths, func(p reference) bool {
			known := slices.ContainsFunc(ofSchema, func(o reference) bool {
				return e.Name() == o.path[0]+".cue" && slices.Equal(p.path, o.path[1:])
			})
			return known || p.path[0] == presetField || p.path[0] == "_base"
		})
		if len(r.paths) > 0 {
			t.Errorf("%s refers to %v", e.Name(), r.paths)
		}
	}
}
