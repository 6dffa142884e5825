package experiment

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/variant"
)

const sound = `package e

import "github.com/loralab/loralab/schema"

x: schema.#Experiment & {
	about: "what a user may write"
	backbone: {model: "toy", depth: 10}
	adapter: {variant: "lora", targets: ["value", "query"], blocks: "6..9", params: {rank: 4, alpha: 8}}
	data: {source: "procedural", size: 112, classes: ["background", "animal", "boundary"], remap: boundary: "animal"}
	optim: lr: {adapter: 1e-3, head: 2e-3}
	train: {epochs: 2, batch: 4}
	seeds: [1, 2]
}
`

// write puts an experiment into a directory of its own, without a cue.mod.
func write(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "e.cue")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func loadText(t testing.TB, text string, tags ...string) []*Experiment {
	t.Helper()
	experiments, found := loadWith([]string{write(t, text)}, Env{Tags: tags}, world())
	if found.HasErrors() {
		var b strings.Builder
		for _, d := range found {
			b.WriteString(d.Text() + "\n")
		}
		t.Fatalf("in\n%s\n%s", text, b.String())
	}
	return experiments
}

// insert adds lines to the experiment x.
func insert(text, lines string) string {
	return strings.Replace(text, "\tseeds:", lines+"\n\tseeds:", 1)
}

func cells(e *Experiment) []string {
	var names []string
	for _, r := range e.Runs {
		if !slices.Contains(names, r.Cell) {
			names = append(names, r.Cell)
		}
	}
	return names
}

func TestOneExperimentIsResolved(t *testing.T) {
	e := loadText(t, insert(sound, `	evaluate: domains: {
		noisy: {source: "procedural", style: "noisy", seed: 3, limit: 5}
		inverted: {source: "procedural", style: "inverted"}
	}
	report: metric: "dice/animal"`))[0]
	if e.Name != "x" || e.About != "what a user may write" || e.Metric != "dice/animal" {
		t.Errorf("experiment %q, about %q, metric %q", e.Name, e.About, e.Metric)
	}
	if want := []string{"test", "noisy", "inverted"}; !slices.Equal(e.Domains, want) {
		t.Errorf("domains %v, want %v", e.Domains, want)
	}
	if len(e.Runs) != 2 || e.Runs[0].Name() != "x/base/seed=1" || e.Runs[1].Seed != 2 {
		t.Fatalf("runs %v", e.Runs)
	}
	r := e.Runs[0]
	s := r.Spec
	if r.ID != spec.Identity(s) {
		t.Error("ID is not the identity of the specification")
	}
	if s.Backbone.Depth != 10 || s.Backbone.Freeze.Kind != spec.Freeze_ALL || s.Optim.LrBackbone != 0 || s.Optim.LrAdapter != 1e-3 {
		t.Errorf("backbone %v, optimiser %v", s.Backbone, s.Optim)
	}
	var sites []string
	for _, p := range s.Adapter.Placements {
		sites = append(sites, fmt.Sprintf("%d.%s %dx%d", p.Site.Block, p.Site.Name, p.Site.Out, p.Site.In))
	}
	if want := "6.query 64x64, 6.value 64x64, 7.query 64x64, 7.value 64x64, 8.query 64x64, 8.value 64x64, 9.query 64x64, 9.value 64x64"; strings.Join(sites, ", ") != want {
		t.Errorf("sites %v, want %s", sites, want)
	}
	if !slices.Equal(s.Data.Classes, []string{"background", "animal"}) || !reflect.DeepEqual(s.Data.Values, map[uint32]int32{0: 0, 1: 1, 2: 1}) {
		t.Errorf("classes %v, values %v", s.Data.Classes, s.Data.Values)
	}
	if len(s.Data.Splits) != 2 || s.Data.Splits["train"].Count != 32 || s.Data.Splits["val"].Count != 8 || s.Data.Splits["train"].Digest == s.Data.Splits["val"].Digest {
		t.Errorf("splits %v", s.Data.Splits)
	}
	if r.Label.Variant != "lora" || r.Label.VariantVersion != "1.2.3" || r.Label.VariantParams == "" || r.Places.Backbone != "/weights/toy" {
		t.Errorf("label %v, places %v", r.Label, r.Places)
	}
	if len(r.Evaluations) != 3 {
		t.Fatalf("%d evaluations", len(r.Evaluations))
	}
	noisy := r.Evaluations[1]
	if noisy.ID != spec.EvaluationIdentity(r.ID, noisy.Spec) || noisy.Spec.Domain != "noisy" || noisy.Spec.Checkpoint != "best" {
		t.Errorf("evaluation %v", noisy.Spec)
	}
	if p := noisy.Spec.Data.Splits["test"].Procedural; p.Style != "noisy" || p.Count != 5 {
		t.Errorf("drawn %v", p)
	}
	// Another style of the same seed shows the shapes of the test split.
	a, b := r.Evaluations[0].Spec.Data.Splits["test"].Procedural, r.Evaluations[2].Spec.Data.Splits["test"].Procedural
	if a.Seed != b.Seed || a.Style == b.Style {
		t.Errorf("test %v, inverted %v", a, b)
	}
}

func TestLabelsOfMasks(t *testing.T) {
	ignore := uint32(255)
	got := mergeClasses([]string{"unused", "pet", "background", "boundary"}, map[string]string{"unused": "ignore", "boundary": "pet"}, &ignore)
	if !slices.Equal(got.classes, []string{"pet", "background"}) || !reflect.DeepEqual(got.values, map[uint32]int32{0: -1, 1: 0, 2: 1, 3: 0, 255: -1}) {
		t.Errorf("got %v", got)
	}
}

func TestMatrix(t *testing.T) {
	e := loadText(t, insert(sound, `	vary: {
		"adapter.params.rank": [2, 8]
		"optim.lr.head": [1e-3, 0.01]
		"data.size": [112, [112, 126]]
	}
	cases: {
		head_only: adapter: variant: "none"
		other: adapter: {variant: "scale", blocks: [0, 9]}
		thawed: {
			backbone: freeze: blocks: "0..7"
			optim: lr: backbone: 1e-6
		}
	}`))[0]
	want := []string{
		"rank=2,head=0.001,size=112", "rank=2,head=0.001,size=[112,126]", "rank=2,head=0.01,size=112", "rank=2,head=0.01,size=[112,126]",
		"rank=8,head=0.001,size=112", "rank=8,head=0.001,size=[112,126]", "rank=8,head=0.01,size=112", "rank=8,head=0.01,size=[112,126]",
		"head_only", "other", "thawed",
	}
	if got := cells(e); !slices.Equal(got, want) {
		t.Fatalf("cells %v", got)
	}
	if want := []string{"adapter.params.rank", "optim.lr.head", "data.size"}; !slices.Equal(e.Axes, want) {
		t.Errorf("axes %v", e.Axes)
	}
	of := map[string]*Run{}
	for _, r := range e.Runs {
		if r.Seed == 1 {
			of[r.Cell] = r
		}
	}
	r := of["rank=8,head=0.01,size=[112,126]"]
	if r.Spec.Adapter.Programs[0].Params[0].Shape[0] != 8 || r.Spec.Optim.LrHead != 0.01 || r.Spec.Data.Width != 126 {
		t.Errorf("cell %v", r.Spec)
	}
	if r.Values[0] != (AxisValue{Path: "adapter.params.rank", Value: 8.0}) {
		t.Errorf("values %v", r.Values)
	}
	head := of["head_only"]
	if head.Spec.Adapter != nil || head.Spec.Optim.LrAdapter != 0 || head.Values != nil || head.Spec.Optim.LrHead != 2e-3 {
		t.Errorf("head_only %v", head.Spec)
	}
	// Another variant has other parameters: none of lora's are left.
	if other := of["other"]; other.Label.VariantParams != `{"init":1}` || len(other.Spec.Adapter.Placements) != 4 {
		t.Errorf("other %v", other.Label)
	}
	thawed := of["thawed"].Spec
	if thawed.Backbone.Freeze.Kind != spec.Freeze_BLOCKS || !slices.Equal(thawed.Backbone.Freeze.Trainable, []uint32{8, 9}) || thawed.Optim.LrBackbone != 1e-6 {
		t.Errorf("thawed %v %v", thawed.Backbone.Freeze, thawed.Optim)
	}
}

// What a file computes from a swept value follows the cell.
func TestComputedValuesFollow(t *testing.T) {
	text := insert(sound, `	adapter: params: {rank: 4, alpha: 2 * rank}
	vary: "adapter.params.rank": [1, 16]`)
	text = strings.Replace(text, ", params: {rank: 4, alpha: 8}", "", 1)
	var got []string
	for _, r := range loadText(t, text)[0].Runs {
		if r.Seed == 1 {
			got = append(got, r.Label.VariantParams)
		}
	}
	if len(got) != 2 || !strings.Contains(got[0], `"alpha":2,`) || !strings.Contains(got[1], `"alpha":32,`) {
		t.Errorf("parameters %v", got)
	}
}

// Values may come through references, comprehensions and conjunctions; the
// same base may serve two experiments.
func TestSharedBase(t *testing.T) {
	text := strings.Replace(sound, "x: schema.#Experiment & {", "_base: {", 1) + `
scale: *"small" | "smoke" @tag(scale)

a: schema.#Experiment & _base & {
	if scale == "small" {train: evalEvery: 2}
	if scale == "smoke" {train: maxSteps: 2}
	vary: "adapter.params.rank": [2, 8]
	vary: "train.evalEvery": [1, 3]
}
b: schema.#Experiment & _base
`
	for _, scale := range []string{"small", "smoke"} {
		e := loadText(t, text, "scale="+scale)
		if len(e) != 2 || len(e[0].Runs) != 8 || len(e[1].Runs) != 2 {
			t.Fatalf("%s: experiments %v", scale, e)
		}
		last := e[0].Runs[7].Spec
		if last.Adapter.Programs[0].Params[0].Shape[0] != 8 || last.Train.EvalEvery != 3 || (last.Train.MaxSteps == 2) != (scale == "smoke") {
			t.Errorf("%s: %v", scale, last.Train)
		}
		if e[1].Runs[0].Spec.Adapter.Programs[0].Params[0].Shape[0] != 4 {
			t.Errorf("%s: b has the values of a cell of a", scale)
		}
	}
}

// Widening a matrix keeps the runs there were.
func TestWideningKeepsIdentities(t *testing.T) {
	ids := func(lines string) map[string]string {
		m := map[string]string{}
		for _, r := range loadText(t, insert(sound, lines))[0].Runs {
			m[r.Name()] = r.ID
		}
		return m
	}
	narrow := ids(`	vary: "adapter.params.rank": [2, 8]`)
	wide := ids(`	vary: "adapter.params.rank": [1, 2, 8]
	cases: head_only: adapter: variant: "none"
	evaluate: domains: noisy: {source: "procedural", style: "noisy"}`)
	if len(narrow) != 4 || len(wide) != 8 {
		t.Fatalf("%d and %d runs", len(narrow), len(wide))
	}
	for name, id := range narrow {
		if wide[name] != id {
			t.Errorf("%s moved", name)
		}
	}
}

// Writing the same thing differently keeps every identity; changing anything
// that determines a result moves it.
func TestIdentityOfWhatIsWritten(t *testing.T) {
	base := loadText(t, sound)[0].Runs[0].ID
	same := map[string][2]string{
		"comment":            {"x: schema", "// a comment\nx: schema"},
		"order of fields":    {`params: {rank: 4, alpha: 8}`, `params: {alpha: 8, rank: 4}`},
		"order of targets":   {`["value", "query"]`, `["query", "value"]`},
		"form of a number":   {"adapter: 1e-3", "adapter: 0.001"},
		"trailing zeros":     {"head: 2e-3", "head: 0.00200"},
		"name":               {"x: schema", "renamed: schema"},
		"about":              {"what a user may write", "something else"},
		"default written":    {"train: {", "train: {precision: \"fp32\", "},
		"default parameter":  {"alpha: 8}", "alpha: 8, dropout: 0.0}"},
		"range as a list":    {`blocks: "6..9"`, `blocks: [9, 8, 7, 6]`},
		"rate of the frozen": {"optim: lr: {", "optim: lr: {backbone: 1e-4, "},
		"size as a pair":     {"size: 112", "size: [112, 112]"},
		"name of a class":    {"package e", "package f"},
		"test images":        {"optim:", "data: limit: test: 3\n\toptim:"},
	}
	for name, r := range same {
		if !strings.Contains(sound, r[0]) {
			t.Fatalf("%s: nothing to replace", name)
		}
		if got := loadText(t, strings.Replace(sound, r[0], r[1], 1))[0].Runs[0].ID; got != base {
			t.Errorf("%s moved the identity", name)
		}
	}
	other := map[string][2]string{
		"backbone":  {`model: "toy"`, `model: "toy-large"`},
		"depth":     {"depth: 10", "depth: 11"},
		"freeze":    {"depth: 10", `depth: 10, freeze: "none"`},
		"rank":      {"rank: 4", "rank: 5"},
		"alpha":     {"alpha: 8", "alpha: 9"},
		"targets":   {`["value", "query"]`, `["value"]`},
		"blocks":    {`"6..9"`, `"5..9"`},
		"size":      {"size: 112", "size: 224"},
		"remap":     {`, remap: boundary: "animal"`, ""},
		"rate":      {"head: 2e-3", "head: 2.1e-3"},
		"epochs":    {"epochs: 2", "epochs: 3"},
		"precision": {"batch: 4", `batch: 4, precision: "bf16"`},
		"images":    {"optim:", "data: limit: train: 9\n\toptim:"},
		"seed":      {"seeds: [1, 2]", "seeds: [7]"},
		"dice":      {"optim:", "loss: dice: 0.5\n\toptim:"},
		"schedule":  {"optim:", "optim: schedule: warmup: 0.2\n\toptim:"},
		"head":      {"optim:", "head: dropout: 0\n\toptim:"},
		"normalize": {"optim:", "data: normalize: {mean: [0, 0, 0], std: [1, 1, 1]}\n\toptim:"},
	}
	seen := map[string]string{base: "base"}
	for name, r := range other {
		if !strings.Contains(sound, r[0]) {
			t.Fatalf("%s: nothing to replace", name)
		}
		id := loadText(t, strings.Replace(sound, r[0], r[1], 1))[0].Runs[0].ID
		if seen[id] != "" {
			t.Errorf("%s has the identity of %s", name, seen[id])
		}
		seen[id] = name
	}
}

// Any number, however it is written, is the same run.
func TestAnyFormOfANumber(t *testing.T) {
	file := write(t, sound)
	id := func(rate string) string {
		text := strings.Replace(sound, "head: 2e-3", "head: "+rate, 1)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		e, found := loadWith([]string{file}, Env{}, world())
		if len(e) != 1 {
			t.Fatalf("%s: %v", rate, found)
		}
		return e[0].Runs[0].ID
	}
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.IntRange(1, 9999).Draw(t, "digits")
		a, b := fmt.Sprintf("%de-5", digits), fmt.Sprintf("%.5f", float64(digits)*1e-5)
		if id(a) != id(b) {
			t.Fatalf("%s and %s are two runs", a, b)
		}
	})
}

// Files are found by content: where they lie does not count, what is in them
// does.
func TestDataOnDisk(t *testing.T) {
	source := filepath.Join(FindRoot("testdata"), "data", "nuclei", "fluorescence")
	pairs := map[string]data.Files{}
	for _, role := range roles {
		f, err := data.Scan(filepath.Join(source, role))
		if err != nil {
			t.Fatal(err)
		}
		pairs[role] = f.Sample(4, 0)
	}
	text := strings.Replace(sound, `"procedural"`, `"cells"`, 1)
	load := func(dir string, env Env) *Run {
		t.Helper()
		file := filepath.Join(dir, "e.cue")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		e, found := loadWith([]string{file}, env, world())
		if len(e) != 1 {
			t.Fatalf("%v", found)
		}
		return e[0].Runs[0]
	}
	place := func(dir string) {
		for role, f := range pairs {
			for _, names := range [][]string{f.Images, f.Masks} {
				for _, name := range names {
					to := filepath.Join(dir, role, name)
					if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
						t.Fatal(err)
					}
					content, err := os.ReadFile(filepath.Join(f.Root, name))
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(to, content, 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	one, two, three := t.TempDir(), t.TempDir(), t.TempDir()
	place(filepath.Join(one, "cells"))
	place(filepath.Join(two, "data", "cells"))
	place(filepath.Join(three, "elsewhere", "cells"))
	t.Setenv("LORALAB_DATA", filepath.Join(three, "elsewhere"))
	a, b, c := load(one, Env{}), load(two, Env{CheckData: true}), load(three, Env{})
	if a.ID != b.ID || b.ID != c.ID {
		t.Error("the same files elsewhere are another run")
	}
	train := a.Spec.Data.Splits["train"]
	if files := a.Places.Files[train.Digest]; train.Count != 4 || len(files.Images) != 4 || !strings.HasPrefix(files.Root, one) {
		t.Errorf("split %v, places %v", train, a.Places)
	}
	if len(a.Places.Files) != 3 {
		t.Errorf("%d sets of files, want train, val and test", len(a.Places.Files))
	}
	// A limit as large as the set is the set.
	text = insert(text, "\tdata: limit: train: 100")
	if load(one, Env{}).ID != a.ID {
		t.Error("a limit above the number of images moved the identity")
	}
	text = strings.Replace(text, `, remap: boundary: "animal"`, "", 1)
	text = strings.Replace(text, `, "boundary"]`, "]", 1)
	file := filepath.Join(one, "e.cue")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// A mask value without a class is found before anything runs.
	_, found := loadWith([]string{file}, Env{CheckData: true}, func() *resolver { r := world(); r.check = true; return r }())
	if !found.HasErrors() || !strings.Contains(found[0].Message, "cells") || !strings.Contains(found[0].Text(), ".png") || found[0].At.Line != 9 {
		t.Errorf("found %v", found)
	}
}

// A sample of the data that leaves a class out is found before anything runs.
func TestClassWithoutAnImage(t *testing.T) {
	text := strings.NewReplacer(`"procedural"`, `"nuclei/fluorescence"`, `"animal"`, `"nucleus"`, `"boundary"]`, `"boundary", "void"]`).Replace(sound)
	text = strings.Replace(text, "size: 112", "size: 112, limit: {train: 3, val: 2}", 1)
	file := write(t, text)
	r := world()
	r.check = true
	_, found := loadWith([]string{file}, Env{Root: FindRoot("testdata")}, r)
	var errors, warnings []string
	for _, d := range found {
		if d.Warning {
			warnings = append(warnings, d.Message)
		} else {
			errors = append(errors, d.Message)
		}
	}
	if want := []string{`none of the images shows class "void"`}; !slices.Equal(errors, want) || slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, "shows class") }) {
		t.Errorf("errors %q, want %q, warnings %q", errors, want, warnings)
	}
}

// masked is a source with 4, 2 and 2 images whose masks have the given values,
// one row for each.
func masked(t *testing.T, train, val, test []uint8) string {
	t.Helper()
	dir := t.TempDir()
	for role, values := range map[string][]uint8{"train": train, "val": val, "test": test} {
		for i := range 2 {
			mask := image.NewGray(image.Rect(0, 0, 16, 16))
			for j := range mask.Pix {
				mask.Pix[j] = values[(j/16)%len(values)]
			}
			shown := image.NewGray(mask.Rect)
			for j := range shown.Pix {
				shown.Pix[j] = uint8(j)
			}
			for kind, picture := range map[string]image.Image{"images": shown, "masks": mask} {
				file := filepath.Join(dir, role, kind, fmt.Sprintf("p%d.png", i))
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				f, err := os.Create(file)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(png.Encode(f, picture), f.Close()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return dir
}

// What training would only find out after its last epoch is found before the
// first (trial-data F16); a class that a part of the images lacks stops nothing
// (trial-data U2).
func TestClassesThatPartsLack(t *testing.T) {
	all := []uint8{0, 1, 2}
	for name, c := range map[string]struct {
		train, val, test []uint8
		monitor          string
		want             []string
	}{
		"all there":         {all, all, all, "dice/rare", nil},
		"no val image":      {all, []uint8{0, 1}, all, "dice/rare", []string{`warning: none of the 2 images of val shows class "rare"`, `none of the 2 images of val shows class "rare", so dice/rare has no value to choose the weights by`}},
		"by another name":   {all, []uint8{0, 1}, all, "iou/rare", []string{`warning: none of the 2 images of val shows class "rare"`, `none of the 2 images of val shows class "rare", so iou/rare has no value`}},
		"by the mean":       {all, []uint8{0, 1}, all, "dice/mean", []string{`warning: none of the 2 images of val shows class "rare"`}},
		"no training image": {[]uint8{0, 1}, all, all, "dice/rare", []string{`warning: none of the 2 images of train shows class "rare"`}},
		"no test image":     {all, all, []uint8{1, 2}, "dice/rare", []string{`warning: none of the 2 images of test shows class "background"`}},
		"nowhere":           {[]uint8{0, 1}, []uint8{0, 1}, []uint8{0, 1}, "dice/rare", []string{`none of the images shows class "rare"`}},
		"val is ignored":    {all, []uint8{255}, all, "loss", []string{`the 2 images of val have no pixel that counts`}},
		"train is ignored":  {[]uint8{255}, all, all, "loss", []string{`the 2 images of train have no pixel that counts`}},
		"test is ignored":   {all, all, []uint8{255}, "loss", []string{`warning: none of the 2 images of test shows class "background"`, `warning: none of the 2 images of test shows class "thing"`, `warning: none of the 2 images of test shows class "rare"`}},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.NewReplacer(
				`source: "procedural"`, fmt.Sprintf("source: %q", masked(t, c.train, c.val, c.test)),
				`["background", "animal", "boundary"], remap: boundary: "animal"`, `["background", "thing", "rare"], ignore: 255`,
				"batch: 4", fmt.Sprintf("batch: 2, monitor: %q", c.monitor),
			).Replace(sound)
			r := world()
			r.check = true
			_, found := loadWith([]string{write(t, text)}, Env{}, r)
			var got []string
			for _, d := range found {
				if d.Warning && strings.Contains(d.Message, "are in the training split") {
					continue // the pictures are alike
				}
				text := d.Message
				if d.Warning {
					text = "warning: " + text
				}
				got = append(got, text)
			}
			if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A set without folders for its parts is divided; all of it is no domain.
func TestADomainIsNotTrainedOn(t *testing.T) {
	f, err := data.Scan(filepath.Join(FindRoot("testdata"), "data", "nuclei", "histology", "test"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(insert(sound, `	evaluate: domains: again: source: "whole"`), `"procedural"`, `"whole"`, 1)
	file := write(t, text)
	if err := os.Symlink(f.Root, filepath.Join(filepath.Dir(file), "whole")); err != nil {
		t.Fatal(err)
	}
	_, found := loadWith([]string{file}, Env{}, world())
	if want := fmt.Sprintf("holds %d images that runs are trained on", int(float64(f.Len())*0.8+0.5)); len(found) != 1 || !strings.Contains(found[0].Message, want) {
		t.Errorf("want %q, found %v", want, found)
	}
}

func TestTags(t *testing.T) {
	_, found := loadWith([]string{write(t, sound)}, Env{Tags: []string{"scale=smoke"}}, world())
	if len(found) != 1 || !strings.Contains(found[0].Message, "-t scale") {
		t.Errorf("a tag that nothing takes: %v", found)
	}
	text := sound + "\nscale: *\"small\" | \"smoke\" @tag(scale)\n"
	if len(loadText(t, text, "scale=smoke")) != 1 {
		t.Error("a tag that the file takes gave no experiment")
	}
	_, found = loadWith([]string{write(t, text)}, Env{Tags: []string{"scale=smoek"}}, world())
	if len(found) != 1 || !strings.Contains(found[0].Text(), `did you mean "smoke"?`) || found[0].At.Line == 0 {
		t.Errorf("a value that the file does not know: %v", found)
	}
	_, found = loadWith([]string{write(t, text)}, Env{Tags: []string{"sclae=smoke"}}, world())
	if len(found) != 1 || !strings.Contains(found[0].Hint, `did you mean "scale"?`) {
		t.Errorf("a name that the file does not know: %v", found)
	}
}

// A value that the field of a tag does not allow is one mistake, whether something refers
// to the field or not.
func TestValuesOfTags(t *testing.T) {
	for _, c := range []struct{ field, fields, tag, want string }{
		{`_scale: *"small" | "smoke" @tag(scale)`, "", "scale=smoek", `_scale is "smoek": it must be "small" or "smoke"`},
		{`_scale: *"small" | "smoke" @tag(scale)`, "\ttrain: maxSteps: {small: 5, smoke: 1}[_scale]", "scale=smoek", `_scale is "smoek": it must be "small" or "smoke"`},
		{`_n: *1 | int & <5 @tag(n,type=int)`, "", "n=7", "_n is 7: it must be below 5"},
		{`_n: *1 | int & <5 @tag(n,type=int)`, "\ttrain: maxSteps: _n", "n=7", "_n is 7: it must be below 5"},
		{`_text: =~"^a" @tag(text)`, "", "text=b", `_text is b: it must be a text that matches "^a"`},
	} {
		_, found := loadWith([]string{write(t, insert(sound, c.fields)+c.field+"\n")}, Env{Tags: []string{c.tag}}, world())
		if len(found) != 1 || found[0].Message != c.want || found[0].Warning || found[0].At.Line == 0 {
			t.Errorf("-t %s, %s: got %s, want %s", c.tag, c.field, rendered(t, found), c.want)
		}
	}
}

// Without a hub or plug-ins the rest is checked all the same.
func TestWithoutSurroundings(t *testing.T) {
	e, found := Load(context.Background(), []string{write(t, strings.Replace(sound, "batch: 4", "batch: 0", 1))}, Env{})
	if len(e) != 0 || len(found) != 1 || !strings.Contains(found[0].Message, "train.batch") {
		t.Errorf("experiments %v, found %v", e, found)
	}
	_, found = Load(context.Background(), []string{write(t, sound)}, Env{Variants: variant.Open(variant.Options{Dirs: []string{t.TempDir()}})})
	if len(found) != 1 || !strings.Contains(found[0].Message, `unknown variant "lora"`) {
		t.Errorf("found %v", found)
	}
}

func TestMissingFileAndNameTwice(t *testing.T) {
	a, b := write(t, sound), write(t, sound)
	_, found := loadWith([]string{a, strings.Replace(a, "e.cue", "f.cue", 1), b}, Env{}, world())
	var messages []string
	for _, d := range found {
		messages = append(messages, d.Message)
	}
	if len(found) != 2 || !slices.Contains(messages, "no such file") || !strings.Contains(strings.Join(messages, " "), "also defined in") {
		t.Errorf("found %v", messages)
	}
}

// The experiments of the project are sound at every scale, as far as this
// machine can tell: their backbones are replaced by one that is always there.
func TestExperimentsOfTheProject(t *testing.T) {
	files, err := filepath.Glob("../../experiments/*.cue")
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, scale := range []string{"small", "smoke", "paper"} {
		r := world()
		toy := r.backbone
		r.backbone = func(name string) (*backbone.Backbone, error) { return toy("toy") }
		r.describe = shipped
		r.build = func(_ context.Context, name, params string, _ *protocol.Model, sites []*protocol.Site) (*protocol.BuildReply, error) {
			return &protocol.BuildReply{
				Programs:      []*protocol.Program{{Version: 1, Params: []*protocol.Param{{Name: name + params}}}},
				ProgramOfSite: make([]uint32, len(sites)),
			}, nil
		}
		experiments, found := loadWith(files, Env{Tags: []string{"scale=" + scale}}, r)
		if scale == "paper" {
			// Its data is not in the repository: one message for each file.
			for _, d := range found {
				if !strings.Contains(d.Message, "oxford-iiit-pet") && !strings.Contains(d.Message, "patch") && !strings.Contains(d.Message, `no data "camvid"`) {
					t.Errorf("%s", d.Text())
				}
			}
			continue
		}
		absent := 0 // experiments on data that is never in the repository
		for _, d := range found {
			if strings.Contains(d.Message, `no data "camvid"`) {
				absent++
				continue
			}
			t.Errorf("%s: %s", scale, d.Text())
		}
		if want := len(files) - absent + 9; len(experiments) != want || absent > 1 { // sampler.cue has ten
			t.Errorf("%s: %d experiments in %d files", scale, len(experiments), len(files))
		}
		for _, e := range experiments {
			for _, run := range e.Runs {
				if scale == "smoke" && run.Spec.Train.MaxSteps != 2 {
					t.Errorf("%s takes more than two steps", run.Name())
				}
			}
		}
	}
}

// shipped describes a variant of this repository by the schema in its
// directory, without starting it.
func shipped(_ context.Context, name string) (*protocol.DescribeReply, error) {
	schema, err := os.ReadFile(filepath.Join("../../plugins", name, "schema.cue"))
	if err != nil {
		return nil, &variant.UnknownError{Name: name}
	}
	return &protocol.DescribeReply{Name: name, Version: "1.0.0", Schema: string(schema)}, nil
}

// Whatever a file says, Load answers with experiments or with mistakes that
// have a place: it neither crashes nor stays silent.
func TestAnyFileIsAnswered(t *testing.T) {
	text := insert(sound, `	vary: {
		"adapter.params.rank": [2, 8]
		"backbone.freeze": ["all", {blocks: "0..3"}]
	}
	cases: other: {adapter: variant: "scale", train: batch: 2}
	evaluate: domains: noisy: {source: "procedural", style: "noisy"}`)
	tokens := regexp.MustCompile(`"[^"\n]*"|[A-Za-z_#.]+|[0-9.e-]+|[{}\[\]:,&]|\n`).FindAllStringIndex(text, -1)
	words := []string{"", "{", "}", "[", "]", ":", ",", "\n", "0", "-1", "1e9", "2.5", "null", "true", "_", "x", "string", "[]", "{}", `"none"`, `"lora"`, `""`, "adapter", "params", "rank", "all: "}
	file := write(t, text)
	rapid.Check(t, func(t *rapid.T) {
		changed := text
		for range rapid.IntRange(1, 2).Draw(t, "changes") {
			at := rapid.SampledFrom(tokens).Draw(t, "token")
			if at[1] > len(changed) {
				continue
			}
			word := rapid.SampledFrom(words).Draw(t, "word")
			if rapid.Bool().Draw(t, "other token") {
				from := rapid.SampledFrom(tokens).Draw(t, "from")
				word = text[from[0]:from[1]]
			}
			changed = changed[:at[0]] + word + changed[at[1]:]
		}
		if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
		e, found := loadWith([]string{file}, Env{}, world())
		if len(e) == 0 && !found.HasErrors() {
			t.Fatalf("no answer to\n%s", changed)
		}
		for _, d := range found {
			if d.At.File != file || d.Message == "" {
				t.Fatalf("%q has no place in\n%s", d.Text(), changed)
			}
			for _, raw := range rawText {
				if strings.Contains(d.Message+d.Hint, raw) {
					t.Fatalf("raw text of CUE: %s\nin\n%s", d.Text(), changed)
				}
			}
		}
	})
}

// A default that a file gives to a parameter is its value, also where the variant's
// schema has another default.
func TestDefaultsOfParametersAreValues(t *testing.T) {
	want := loadText(t, strings.Replace(sound, "alpha: 8", "alpha: 2", 1))[0].Runs[0]
	got := loadText(t, strings.Replace(sound, "alpha: 8", "alpha: *2 | number, _of: rank, dropout?: number", 1))[0].Runs[0]
	if got.ID != want.ID || got.Label.VariantParams != want.Label.VariantParams {
		t.Errorf("a default is %s, its value %s", got.Label.VariantParams, want.Label.VariantParams)
	}
}

// numbers are whole numbers from first to below end.
func numbers(first, end int) string {
	var list []string
	for i := first; i < end; i++ {
		list = append(list, strconv.Itoa(i))
	}
	return strings.Join(list, ", ")
}

// Load with everything warm, as `runner validate` does it.
func BenchmarkLoad(b *testing.B) {
	b.Run("cells=5", func(b *testing.B) {
		for b.Loop() {
			r := world()
			toy := r.backbone
			r.backbone = func(string) (*backbone.Backbone, error) { return toy("toy") }
			if e, found := loadWith([]string{"../../experiments/ablation_rank.cue"}, Env{}, r); len(e) != 1 {
				b.Fatal(found)
			}
		}
	})
	matrix := `	vary: {
		"adapter.params.rank": [1, 2, 3, 4, 5, 6, 8, 9, 10, 11]
		"optim.lr.head": [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 2e-1, 2e-2, 2e-3, 2e-4, 2e-5]
		"train.batch": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
	}`
	for name, text := range map[string]string{
		"cells=1000":          insert(sound, matrix),
		"cells=10000":         insert(sound, matrix+"\n\tvary: \"optim.weightDecay\": [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]"),
		"cells=1024,params":   insert(sound, "\tvary: {\"adapter.params.rank\": ["+numbers(14, 46)+"], \"adapter.params.alpha\": ["+numbers(1, 33)+"]}"),
		"cells=1000,computed": strings.Replace(insert(sound, matrix), "alpha: 8", "alpha: 2 * rank", 1),
	} {
		b.Run(name, func(b *testing.B) {
			file := write(b, text)
			for b.Loop() {
				if e, found := loadWith([]string{file}, Env{}, world()); len(e) != 1 {
					b.Fatal(found)
				}
			}
		})
	}
}

// A run must not share messages that someone might change.
func TestRunsAreTheirOwn(t *testing.T) {
	e := loadText(t, sound)[0]
	before := proto.CloneOf(e.Runs[1].Spec)
	e.Runs[0].Spec.Data.Height = 7
	e.Runs[0].Spec.Optim.LrHead = 7
	if !proto.Equal(before, e.Runs[1].Spec) {
		t.Error("changing one run changed another")
	}
}

// zip moves paths together; exclude and include take points out and add some;
// ablate changes one thing at a time around the base.
func TestOtherMatrices(t *testing.T) {
	names := func(lines string) string { return strings.Join(cells(loadText(t, insert(sound, lines))[0]), " ") }
	for _, c := range []struct{ lines, want string }{
		{`	zip: {"adapter.params.rank": [2, 4], "adapter.params.alpha": [4, 8]}`, "rank=2,alpha=4 rank=4,alpha=8"},
		{`	vary: "train.batch": [1, 2]
	zip: {"adapter.params.rank": [2, 4], "adapter.params.alpha": [4, 8]}
	exclude: [{"train.batch": 2, "adapter.params.rank": 4.0}]
	include: [{"train.batch": 8, "adapter.params.rank": 32, "adapter.params.alpha": 1}]`, "batch=1,rank=2,alpha=4 batch=1,rank=4,alpha=8 batch=2,rank=2,alpha=4 batch=8,rank=32,alpha=1"},
		{`	vary: {"train.batch": [1, 2, 4], "adapter.targets": [["query"], ["query", "value"]]}
	exclude: [{"adapter.targets": ["query"]}, {"train.batch": 4}]`, `batch=1,targets=["query","value"] batch=2,targets=["query","value"]`},
		{`	ablate: {"adapter.params.rank": [2, 4, 8], "head.kind": ["linear"], "backbone.depth": [10, 12]}
	cases: head_only: adapter: variant: "none"`, "base rank=2 rank=8 kind=linear depth=12 head_only"},
		{`	vary: "train.batch": [1, 2]
	ablate: "head.kind": ["linear"]`, "batch=1 batch=2 base kind=linear"},
	} {
		if got := names(c.lines); got != c.want {
			t.Errorf("of\n%s\nthe cells are %s, want %s", c.lines, got, c.want)
		}
	}
	e := loadText(t, insert(sound, `	ablate: {"adapter.params.rank": [2], "optim.lr.head": [1e-2]}`))[0]
	of := map[string]*Run{}
	for _, r := range e.Runs {
		if r.Seed == 1 {
			of[r.Cell] = r
		}
	}
	// Figures find the base on every axis.
	if got := fmt.Sprint(of["base"].Values, of["rank=2"].Values, of["head=0.01"].Values); got != "[{adapter.params.rank 4} {optim.lr.head 0.002}] [{adapter.params.rank 2} {optim.lr.head 0.002}] [{adapter.params.rank 4} {optim.lr.head 0.01}]" {
		t.Errorf("values %s", got)
	}
	if of["base"].ID != loadText(t, sound)[0].Runs[0].ID || of["head=0.01"].Spec.Optim.LrHead != 0.01 || of["head=0.01"].Spec.Adapter.Programs[0].Params[0].Shape[0] != 4 {
		t.Errorf("the base is another run than without ablate, or %v", of["head=0.01"].Spec)
	}
}

// A point has one identity, by whatever words the matrix names it.
func TestWordsOfAMatrixMoveNoIdentity(t *testing.T) {
	ids := func(lines string) map[string]string {
		m := map[string]string{}
		for _, r := range loadText(t, insert(sound, lines))[0].Runs {
			m[r.Name()] = r.ID
		}
		return m
	}
	want := ids(`	vary: {"adapter.params.rank": [2, 8], "train.batch": [4]}`)
	for _, lines := range []string{
		`	zip: {"adapter.params.rank": [2, 8], "train.batch": [4, 4]}`,
		`	vary: {"adapter.params.rank": [2, 8, 9], "train.batch": [4]}
	exclude: [{"adapter.params.rank": 9}]`,
		`	vary: {"adapter.params.rank": [2], "train.batch": [4]}
	include: [{"adapter.params.rank": 8, "train.batch": 4}]`,
		`	cases: {
		"rank=2,batch=4": adapter: params: rank: 2
		"rank=8,batch=4": adapter: params: rank: 8
	}`,
	} {
		if got := ids(lines); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngives %v, want %v", lines, got, want)
		}
	}
}

// Layers of an adapter from a file are named by site, with their blocks.
func TestRangesOfLayers(t *testing.T) {
	site := func(name string, block uint32) *protocol.Site { return &protocol.Site{Name: name, Block: block} }
	got := layerRanges([]*protocol.Site{site("query", 0), site("fc1", 0), site("query", 1), site("fc1", 2), site("query", 2), site("value", 3)})
	if want := []string{"query 0..2", "fc1 0 2", "value 3"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A value that is long, or does not show, is called by its number: no cell has a
// name that a file cannot have (trial-language C3, trial-data F15,
// trial-reliability 21). Two values never get one name.
func TestLongValuesAreNumbered(t *testing.T) {
	e := loadText(t, insert(sound, `	_strong: [{kind: "flip"}, {kind: "rotate", range: [-5, 5]}, {kind: "scale", range: [0.9, 1.1]}]
	_weak: [{kind: "flip", p: 0.125}, {kind: "rotate", range: [-1, 1]}]
	vary: {"data.augment": [[], _strong, _weak], "train.batch": [2, 4]}
	include: [{"data.augment": [{kind: "noise", p: 0.25, range: [0, 0.012345]}], "train.batch": 2}, {"data.augment": _weak, "train.batch": 8}]
	ablate: "adapter.params": [{rank: 4, alpha: 8.5, dropout: 0.125, heads: 2}, {rank: 2}]`))[0]
	want := []string{
		"augment=[],batch=2", "augment=[],batch=4", "augment#2,batch=2", "augment#2,batch=4", "augment#3,batch=2", "augment#3,batch=4",
		"augment#4,batch=2", "augment#3,batch=8", "base", "params#1", `params={"rank":2}`,
	}
	if got := cells(e); !slices.Equal(got, want) {
		t.Errorf("cells %q", got)
	}
	of := map[string]string{}
	for _, r := range e.Runs {
		if r.Seed == 1 {
			of[r.Cell] = r.ID
		}
	}
	// What the value is does not depend on the name.
	same := loadText(t, insert(sound, "\tdata: augment: [{kind: \"flip\", p: 0.125}, {kind: \"rotate\", range: [-1, 1]}]\n"))[0].Runs[0].ID
	if of["augment#3,batch=4"] != same {
		t.Error("a number moves the identity")
	}
	values, err := e.Values("augment#4,batch=2")
	if err != nil || !slices.ContainsFunc(values, func(v Value) bool { return v.Path == "data.augment" && strings.Contains(string(v.Value), "0.012345") }) {
		t.Errorf("values %v, %v", values, err)
	}

	a := &axis{labels: []string{"x"}, shorts: []string{"x"}}
	for _, text := range []string{"a\nb", "\x1b[2J", "sets/a", strings.Repeat("é", 20), strings.Repeat("é", 21), "\xff"} {
		a.steps = append(a.steps, []*override{{text: text}})
	}
	var names []string
	for _, step := range a.steps {
		names = append(names, a.part(0, step[0]))
	}
	if want := []string{"x#1", "x#2", "x=sets/a", "x=" + strings.Repeat("é", 20), "x#5", "x#6"}; !slices.Equal(names, want) {
		t.Errorf("names %q", names)
	}
}

// Names that come in by --set keep the rules too (trial-reliability 8).
func TestNamesThatAreSet(t *testing.T) {
	for set, want := range map[string]string{
		`cases."a/b".train.batch=2`:                                `command line:1:7: "a/b" cannot be the name of a case`,
		`evaluate.domains."../x".source="procedural"`:              `command line:1:7: "../x" cannot be the name of a domain`,
		`evaluate.domains."fog-3"={source: "procedural", seed: 1}`: "",
		`data.classes=["a\tb", "animal", "boundary"]`:              `command line:1:`,
	} {
		_, found := loadWith([]string{write(t, sound)}, Env{Set: []string{set}}, world())
		if got := located(found); want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", set, got, want)
		}
	}
}

// A matrix is counted before it is made (trial-reliability 24).
func TestTooManyRuns(t *testing.T) {
	ranges := "list.Range(1, 101, 1)"
	for lines, want := range map[string]string{
		`vary: {"data.split.seed": ` + ranges + `, "train.maxSteps": ` + ranges + `, "optim.clip": list.Range(1, 1001, 1)}`:                                      "13:9: the experiment has 20000000 runs, 10000000 for each seed; at most 100000 are allowed",
		`_many: list.Range(0, 1000, 1), zip: "data.split.seed": list.Range(0, 150, 1)`:                                                                           "14:2: the experiment has 150000 runs, 150 for each seed",
		`vary: {"data.split.seed": list.Range(0, 499, 1), "train.maxSteps": ` + ranges + `}, cases: {for n in list.Range(0, 101, 1) {"n\(n)": train: batch: 1}}`: "13:9: the experiment has 100002 runs, 50001 for each seed",
	} {
		text := strings.Replace(insert(sound, "\t"+lines), "import ", "import \"list\"\nimport ", 1)
		if strings.Contains(lines, "_many") {
			text = strings.Replace(text, "seeds: [1, 2]", "seeds: _many", 1)
		}
		_, found := loadWith([]string{write(t, text)}, Env{}, world())
		if _, got, _ := strings.Cut(located(found), "e.cue:"); len(found) != 1 || !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", lines, rendered(t, found), want)
		}
	}
}
