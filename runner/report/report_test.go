package report_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/samplesheet"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/report"
)

// world makes experiments with results as the engine leaves them.
type world struct {
	t       *testing.T
	exp     *experiment.Experiment
	results []report.Result
	// bare leaves out curves and sample pictures.
	bare bool
}

var classes = []string{"background", "nucleus"}

func newWorld(t *testing.T, name string, axes ...string) *world {
	return &world{t: t, exp: &experiment.Experiment{
		Name: name, About: "What the rank buys", Axes: axes, Metric: "dice/nucleus", Domains: []string{"test", "histology"},
	}}
}

// metrics has the given Dice of the nucleus class, nearly.
func metrics(dice float64) *spec.Metrics {
	c := metric.NewCounts(classes)
	n := 1000
	hit := int(math.Round(dice * float64(n)))
	pred, truth := make([]byte, 4*n), make([]byte, 4*n)
	for i := range n {
		truth[i] = 1
		pred[i+n-hit] = 1
	}
	c.Add(pred, truth)
	return c.Metrics(0.3, 60)
}

// line is an event as the engine writes it.
func line(t *testing.T, kind string, m proto.Message) string {
	t.Helper()
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer // protojson varies its white space
	if err := json.Compact(&compact, b); err != nil {
		t.Fatal(err)
	}
	return `{"type":"` + kind + `",` + compact.String()[1:] + "\n"
}

// add makes a run of a cell, trained to the given Dice in and out of domain.
func (w *world) add(cell string, values []experiment.AxisValue, seed, adapter uint64, dice ...float64) *report.Result {
	w.t.Helper()
	run := &experiment.Run{
		Experiment: w.exp.Name, Cell: cell, Values: values, Seed: seed, ID: fmt.Sprintf("%064x", len(w.results)),
		Spec: &spec.RunSpec{
			Data: &spec.Data{Classes: classes, Height: 32, Width: 32}, Loss: []*spec.Loss{{Kind: "cross_entropy", Weight: 1}, {Kind: "dice", Weight: 1}},
			Train: &spec.Train{Monitor: "dice/mean"},
		},
	}
	for _, d := range w.exp.Domains {
		run.Evaluations = append(run.Evaluations, experiment.Evaluation{ID: d, Spec: &spec.Evaluation{Domain: d, Data: run.Spec.Data, Checkpoint: "best"}})
	}
	w.exp.Runs = append(w.exp.Runs, run)
	if dice == nil {
		return nil
	}
	r := report.Result{
		Run: run, Evaluations: map[string]*spec.Metrics{},
		Summary: &spec.Summary{Id: run.ID, AdapterParams: adapter, HeadParams: 664_706, Steps: 72, BestStep: 60, Validation: metrics(dice[0])},
	}
	for i, d := range w.exp.Domains {
		r.Evaluations[d] = metrics(dice[i])
	}
	if w.bare {
		w.results = append(w.results, r)
		return &w.results[len(w.results)-1]
	}
	dir := w.t.TempDir()
	r.Dir = rundir.Dir(dir)
	if err := os.Mkdir(r.Dir.Path(rundir.Samples), 0o777); err != nil {
		w.t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, uint64(len(w.results))))
	var log strings.Builder
	for step := range uint64(72) {
		x := float64(step) / 72
		loss := 0.25 + 1.1*math.Exp(-4*x)*(1+0.2*(1-dice[0])) + 0.06*rng.NormFloat64()*math.Exp(-2*x)
		log.WriteString(line(w.t, "step", &spec.Step{Step: step + 1, Epoch: uint32(step/12) + 1, Loss: loss, Lr: 1e-3}))
		if step%12 == 11 {
			m := metrics(dice[0] * (1 - 0.5*math.Exp(-5*x) + 0.01*rng.NormFloat64()))
			log.WriteString(line(w.t, "validation", &spec.Validation{Step: step + 1, Epoch: uint32(step/12) + 1, Metrics: m}))
		}
	}
	if err := os.WriteFile(r.Dir.Path(rundir.Journal), []byte(log.String()), 0o644); err != nil {
		w.t.Fatal(err)
	}
	for i, d := range w.exp.Domains {
		w.samples(r.Dir.Path(rundir.Sample(d, d)), d, dice[i], rng)
	}
	w.results = append(w.results, r)
	return &w.results[len(w.results)-1]
}

// samples writes a sheet whose predictions err more with a lower Dice.
func (w *world) samples(path, domain string, dice float64, rng *rand.Rand) {
	w.t.Helper()
	style := ""
	if domain != "test" {
		style = "inverted"
	}
	set, err := data.OpenProcedural(&spec.Procedural{Seed: 1, Count: 2, Style: style, Size: 32},
		&spec.Data{Classes: classes, Height: 32, Width: 32, Values: map[uint32]int32{0: 0, 1: 1, 2: 1}}, data.Contents{})
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := set.Batch(w.t.Context(), []int{0, 1})
	if err != nil {
		w.t.Fatal(err)
	}
	pred := bytes.Clone(b.Labels)
	for i := range pred {
		if rng.Float64() < (1-dice)/2 {
			pred[i] = 1 - pred[i]
		}
	}
	var rows []samplesheet.Row
	for i := range b.N {
		n := b.Area()
		rows = append(rows, samplesheet.Row{Labelled: b.At(i), Predicted: raster.Labels{Size: b.Size, Pix: pred[i*n : (i+1)*n]}, Caption: b.Names[i]})
	}
	var out bytes.Buffer
	if err := png.Encode(&out, samplesheet.Samples(classes, b.Size).Draw(domain, rows)); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func at(path string, value any) []experiment.AxisValue {
	return []experiment.AxisValue{{Path: path, Value: value}}
}

const rank = "adapter.params.rank"

// ranks is the default experiment: four ranks and a baseline, three seeds.
func ranks(t *testing.T, bare bool) *world {
	w := newWorld(t, "ablation_rank", rank)
	w.bare = bare
	for i, r := range []float64{2, 4, 8, 16} {
		for seed := range uint64(3) {
			jitter := 0.012 * (float64((seed*7+uint64(i)*5)%5) - 2) / 2
			w.add(fmt.Sprintf("rank=%v", r), at(rank, r), seed+1, uint64(r)*6144, 0.77+0.02*float64(i)+jitter, 0.53+0.015*float64(i)-jitter*2)
		}
	}
	for seed := range uint64(3) {
		w.add("head_only", nil, seed+1, 0, 0.70+0.01*float64(seed), 0.49+0.006*float64(seed))
	}
	return w
}

func (w *world) build(root string) report.Written {
	w.t.Helper()
	paths, err := report.Build(w.t.Context(), root, []*experiment.Experiment{w.exp}, w.results, nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(paths.Experiments) != 1 {
		w.t.Fatalf("%d reports, want 1", len(paths.Experiments))
	}
	return paths.Experiments[0]
}

func TestTableHasARowForEveryCellInTheOrderOfTheFile(t *testing.T) {
	w := ranks(t, true)
	table, err := report.Tabulate(w.exp, w.results)
	if err != nil {
		t.Fatal(err)
	}
	var cells []string
	for _, r := range table.Rows {
		cells = append(cells, r.Cell)
	}
	if want := []string{"rank=2", "rank=4", "rank=8", "rank=16", "head_only"}; !slices.Equal(cells, want) {
		t.Errorf("cells %v, want %v", cells, want)
	}
	// Written out by hand: 0.70, 0.71, 0.72 have the mean 0.71 and the sample
	// standard deviation 0.01 (not 0.00816, that of a population).
	last := table.Rows[4]
	if got := last.Scores[0].Metric; got.N != 3 || !near(got.Mean, 0.71) || !near(got.Std, 0.01) || !near(got.Min, 0.70) || !near(got.Max, 0.72) {
		t.Errorf("head_only scores %+v", got)
	}
	if last.Adapter != 0 || last.Trainable() != 664_706 || table.Rows[3].Trainable() != 664_706+16*6144 {
		t.Errorf("trainable parameters %d and %d", last.Trainable(), table.Rows[3].Trainable())
	}
	for _, want := range []string{
		"| head_only |    3 |       0 | 664,706 | 0.710 ± 0.010 |  0.496 ± 0.006 |\n",
		"| head_only | 0.687 ± 0.009 | 0.521 ± 0.004 |\n",
		"Dice is that of the class nucleus, IoU the mean over classes.",
	} {
		if text := table.Markdown(); !strings.Contains(text, want) {
			t.Errorf("no line\n%s\nin\n%s", want, text)
		}
	}
}

func TestNotesSayWhatTheNumbersDoNot(t *testing.T) {
	w := ranks(t, true)
	w.add("rank=32", at(rank, 32.0), 1, 32*6144, 0.84, 0.6) // one seed only
	w.add("rank=64", at(rank, 64.0), 1, 0)                  // never trained
	w.add("rank=64", at(rank, 64.0), 2, 0)
	w.results = append(w.results, report.Result{Run: w.exp.Runs[len(w.exp.Runs)-1], Failed: "out of memory in\nmatmul"})
	delete(w.results[0].Evaluations, "histology") // of rank=2
	w.results[3].Summary.Steps = 50               // of rank=4
	w.exp.Overlaps = []experiment.Overlap{{Domain: "histology", Images: 37, Of: 60, Some: true}}
	table, err := report.Tabulate(w.exp, w.results)
	if err != nil {
		t.Fatal(err)
	}
	text := table.Markdown()
	for _, want := range []string{
		"sample standard deviation (n−1)",
		"test 60, histology 60",
		"best validation dice/mean",
		"**Trained on**: up to 37 of 60 images of histology are in the training split",
		"Not budget-matched: adapter parameters from 12,288 (rank=2) to 196,608 (rank=32); without an adapter: head_only.",
		"Not matched in training steps: from 50 (rank=4) to 72 (rank=2)",
		"Cells with n = 1 have no spread",
		"   0.840 |",
		"Not every trained run has a score on histology: rank=2 (2 of 3)",
		"0 of 2",
		"**Missing**, not trained yet: rank=64 (seed 1)",
		"**Failed**: rank=64, seed 2: out of memory in matmul",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// Whether cells had the same to work with is told from what was trained.
func TestBudgets(t *testing.T) {
	for name, c := range map[string]struct {
		adapters []uint64
		change   func(w *world)
		want     []string
		not      string
	}{
		"equal": {
			adapters: []uint64{10_000, 10_000},
			want:     []string{"Budget-matched: adapter parameters are equal, 10,000."}, not: "Not",
		},
		"near": {
			adapters: []uint64{10_000, 10_326, 0, 10_010},
			want:     []string{"Budget-matched: adapter parameters within 3.3 %, from 10,000 (a) to 10,326 (b); without an adapter: c."}, not: "Not",
		},
		"far": {
			adapters: []uint64{10_501, 10_000},
			want:     []string{"Not budget-matched: adapter parameters from 10,000 (b) to 10,501 (a)."}, not: "Budget-matched: ",
		},
		"one adapter": {adapters: []uint64{10_000, 0}, not: "udget-matched"},
		"no adapter":  {adapters: []uint64{0, 0}, not: "udget-matched"},
		"not trained yet": {
			adapters: []uint64{10_000, 10_000},
			change:   func(w *world) { w.add("later", nil, 1, 0) },
			want:     []string{"adapter parameters are equal, 10,000.", "later (seed 1)"},
		},
		"the rest": {
			adapters: []uint64{10_000, 10_000},
			change: func(w *world) {
				sum, run := w.results[1].Summary, w.results[1].Run.Spec
				sum.BackboneParams, sum.HeadParams, sum.Steps = 22_000_000, 1_000, 60
				run.Train.Batch = 8
				run.Data = proto.CloneOf(run.Data)
				run.Data.Splits = map[string]*spec.Split{"train": {Count: 40}}
			},
			want: []string{
				"Not matched in trained backbone parameters: from 0 (a) to 22,000,000 (b).",
				"Not matched in head parameters: from 1,000 (b) to 664,706 (a).",
				"Not matched in images to train on: from 0 (a) to 40 (b).",
				"Not matched in batch: from 0 (a) to 8 (b).",
				"Not matched in training steps: from 60 (b) to 72 (a).",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "budgets", "variant")
			w.bare = true
			for i, n := range c.adapters {
				cell := string(rune('a' + i))
				w.add(cell, at("variant", cell), 1, n, 0.8, 0.5)
			}
			if c.change != nil {
				c.change(w)
			}
			table, err := report.Tabulate(w.exp, w.results)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Join(table.Notes, "\n")
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			if c.not != "" && strings.Contains(text, c.not) {
				t.Errorf("%q in\n%s", c.not, text)
			}
		})
	}
}

// What an earlier report showed and this one does not goes; what someone laid
// beside it stays. A report says what was asked for, and whose place it took.
func TestBuildInThePlaceOfAnother(t *testing.T) {
	w := ranks(t, false)
	root := t.TempDir()
	build := func(w *world, asked ...string) report.Written {
		t.Helper()
		paths, err := report.Build(t.Context(), root, []*experiment.Experiment{w.exp}, w.results, nil, asked)
		if err != nil {
			t.Fatal(err)
		}
		return paths.Experiments[0]
	}
	first := build(w, "-t scale=paper")
	if first.Replaced != nil {
		t.Errorf("the first report took the place of %q", *first.Replaced)
	}
	if page, err := os.ReadFile(first.Page); err != nil || !strings.Contains(string(page), "Asked for with `-t scale=paper`.") {
		t.Errorf("the page does not say what was asked for: %v\n%s", err, page)
	}
	if page, err := os.ReadFile(first.HTML); err != nil || !strings.Contains(string(page), "-t scale=paper</code></dt><dd>trains what is missing") {
		t.Errorf("the page does not say how to apply with the same flags: %v", err)
	}
	own := filepath.Join(root, "plots", w.exp.Name, "own.png")
	if err := os.WriteFile(own, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	plain := newWorld(t, w.exp.Name, "variant")
	plain.add("a", at("variant", "a"), 1, 100, 0.8, 0.5)
	second := build(plain)
	if second.Replaced == nil || *second.Replaced != "-t scale=paper" {
		t.Errorf("the second report took the place of %v", second.Replaced)
	}
	left, err := filepath.Glob(filepath.Join(root, "plots", w.exp.Name, "*"))
	if err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(second.Figures), own)
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("there are %v, want %v", left, want)
	}
	if third := build(plain); third.Replaced != nil {
		t.Errorf("the same report again took the place of %q", *third.Replaced)
	}
}

func TestBuildWritesTheSameBytesEveryTime(t *testing.T) {
	w := ranks(t, false)
	first, second := t.TempDir(), t.TempDir()
	written := w.build(first)
	slices.Reverse(w.results) // the order of results is no matter
	w.build(second)

	plots := filepath.Join(first, "plots", "ablation_rank")
	var want []string
	for _, name := range []string{"training_loss.png", "training_loss.svg", "validation.png", "validation.svg", "rank.png", "rank.svg", "samples.png"} {
		want = append(want, filepath.Join(plots, name))
	}
	if !slices.Equal(written.Figures, want) {
		t.Errorf("figures %v, want %v", written.Figures, want)
	}
	for _, path := range append(want, written.Page, written.Markdown, written.CSV, written.RunsCSV) {
		a, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		relative, err := filepath.Rel(first, path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second, relative))
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs: %v", relative, err)
		}
		if filepath.Ext(path) == ".png" {
			img, err := png.Decode(bytes.NewReader(a))
			if err != nil {
				t.Errorf("%s: %v", relative, err)
			} else if !colorful(img) {
				t.Errorf("%s is empty", relative)
			} else if filepath.Base(path) == "samples.png" {
				showsEveryCell(t, img)
			}
		}
	}
	if err := filepath.WalkDir(first, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(path), ".") {
			t.Errorf("left behind: %s", path)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	page, err := os.ReadFile(written.Page)
	if err != nil {
		t.Fatal(err)
	}
	sheets := 0
	for _, link := range regexp.MustCompile(`\[[^]]*\]\(<?([^)>]*)>?\)`).FindAllStringSubmatch(string(page), -1) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(written.Page), link[1])); err != nil {
			t.Errorf("the page shows what is not there: %v", err)
		}
		if slices.Contains([]string{"test-test.png", "histology-histology.png"}, filepath.Base(link[1])) {
			sheets++
		}
	}
	if sheets != 5*2 {
		t.Errorf("%d links to sheets, want one for each of 5 cells and 2 domains", sheets)
	}
}

func TestCSVHoldsEveryRunInFullPrecision(t *testing.T) {
	w := ranks(t, true)
	w.add("rank=64", at(rank, 64.0), 1, 0) // not trained
	written := w.build(t.TempDir())
	runs := readCSV(t, written.RunsCSV)
	if want := (5*3 + 1) * 3; len(runs) != want { // validation, test and histology
		t.Errorf("%d lines, want %d", len(runs), want)
	}
	var sum float64
	for _, l := range runs {
		if l["cell"] == "rank=8" && l["domain"] == "histology" {
			v, err := strconv.ParseFloat(l["dice/nucleus"], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += v
			if l[rank] != "8" || l["adapter_params"] != "49152" || l["state"] != "trained" || l["images"] != "60" {
				t.Errorf("line %v", l)
			}
		}
		if l["cell"] == "rank=64" && (l["state"] != "missing" || l["dice/nucleus"] != "" || l["steps"] != "") {
			t.Errorf("a run that is missing has the line %v", l)
		}
	}
	cells := readCSV(t, written.CSV)
	found := false
	for _, l := range cells {
		if l["cell"] == "rank=8" && l["domain"] == "histology" {
			found = true
			if v, err := strconv.ParseFloat(l["mean"], 64); err != nil || math.Abs(v-sum/3) > 1e-15 || l["n"] != "3" {
				t.Errorf("mean %s over %s, want %v over 3", l["mean"], l["n"], sum/3)
			}
		}
	}
	if !found {
		t.Error("no aggregated line")
	}
}

// A resumed run repeats steps, a killed one cuts a line, a diverged one has NaN.
func TestCurvesSurviveCrashes(t *testing.T) {
	w := newWorld(t, "crashed", rank)
	for i, r := range []float64{2, 4} {
		result := w.add(fmt.Sprintf("rank=%v", r), at(rank, r), 1, 100, 0.8, 0.5)
		content, err := os.ReadFile(result.Dir.Path(rundir.Journal))
		if err != nil {
			t.Fatal(err)
		}
		more := `{"type":"step","step":"80","lo` + "\n" +
			line(t, "step", &spec.Step{Step: 2, Loss: 1.2}) +
			line(t, "step", &spec.Step{Step: 73, Loss: math.NaN()}) +
			`{"type":"step","st`
		if err := os.WriteFile(result.Dir.Path(rundir.Journal), append(content, more...), 0o644); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			result.Dir = rundir.Dir(t.TempDir())
		}
	}
	if written := w.build(t.TempDir()); len(written.Figures) != 7 {
		t.Errorf("figures %v", written.Figures)
	}
}

// A journal that was changed or cut since draws nothing in silence:
// trial-reliability 6.
func TestJournalsThatAreNotWhole(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(text string) string
		sealed bool
		want   string
	}{
		"whole":       {func(text string) string { return text }, true, ""},
		"cut by byte": {func(text string) string { return text[:len(text)-1] }, true, "rank=2, seed 1: metrics.jsonl was changed or cut after the run ended"},
		"a number":    {func(text string) string { return strings.Replace(text, `"step":"7"`, `"step":"8"`, 1) }, true, "was changed or cut after the run ended"},
		"gone":        {nil, true, "metrics.jsonl is missing"},
		"beginning":   {func(text string) string { return text[strings.Index(text, `{"type":"step","step":"11"`):] }, false, "10 of 72 steps are missing from metrics.jsonl"},
		"garbage":     {func(text string) string { return "x\n" + text }, false, "1 line of metrics.jsonl cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "rank", rank)
			r := w.add("rank=2", at(rank, 2.0), 1, 100, 0.8, 0.5)
			text, err := os.ReadFile(r.Dir.Path(rundir.Journal))
			if err != nil {
				t.Fatal(err)
			}
			if c.sealed {
				r.Summary.Files = map[string]string{"metrics.jsonl": fmt.Sprintf("%x", sha256.Sum256(text))}
			}
			if c.damage == nil {
				err = os.Remove(r.Dir.Path(rundir.Journal))
			} else {
				err = os.WriteFile(r.Dir.Path(rundir.Journal), []byte(c.damage(string(text))), 0o666)
			}
			if err != nil {
				t.Fatal(err)
			}
			page, err := os.ReadFile(w.build(t.TempDir()).Page)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" && strings.Contains(string(page), "Not whole") || !strings.Contains(string(page), c.want) {
				t.Errorf("the page does not say %q:\n%s", c.want, page)
			}
			if drawn := strings.Contains(string(page), "training_loss.png"); drawn == (c.sealed && c.want != "") {
				t.Errorf("drawn: %v", drawn)
			}
		})
	}
}

// Notes about a training are below the table: trial-plugins F1,
// trial-data F12.
func TestNotesOfTrainings(t *testing.T) {
	w := newWorld(t, "rank", rank)
	w.bare = true
	r := w.add("rank=2", at(rank, 2.0), 1, 100, 0.8, 0.5)
	r.Summary.Unmoved, r.Summary.Uncounted = []string{"a", "b", "c", "d", "e"}, 3
	table, err := report.Tabulate(w.exp, w.results)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"**Never moved**: rank=2, seed 1: adapter tensors a, b, c, d and 1 more are what they were at the start.",
		"In 3 of 72 updates of rank=2, seed 1, no pixel counted",
	} {
		if !strings.Contains(table.Markdown(), want) {
			t.Errorf("the table does not say %q:\n%s", want, table.Markdown())
		}
	}
}

func TestWhatCanBeDrawnIsDrawn(t *testing.T) {
	figures := func(w *world) string {
		var names []string
		for _, f := range w.build(t.TempDir()).Figures {
			if filepath.Ext(f) == ".png" {
				names = append(names, strings.TrimSuffix(filepath.Base(f), ".png"))
			}
		}
		return strings.Join(names, " ")
	}
	t.Run("named values", func(t *testing.T) {
		w := newWorld(t, "freeze", "backbone.freeze")
		w.bare = true
		w.add("freeze=all", at("backbone.freeze", "all"), 1, 100, 0.8, 0.5)
		w.add("freeze=none", at("backbone.freeze", "none"), 1, 100, 0.8, 0.5)
		if got, want := figures(w), "cells"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
	t.Run("two axes", func(t *testing.T) {
		w := newWorld(t, "grid", rank, "other.rank")
		w.bare = true
		for _, a := range []float64{2, 4} {
			for _, b := range []float64{0.1, 0.2} {
				w.add(fmt.Sprintf("a=%v,b=%v", a, b), []experiment.AxisValue{{Path: rank, Value: a}, {Path: "other.rank", Value: b}}, 1, 100, 0.8, 0.5)
			}
		}
		if got, want := figures(w), "rank other_rank"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
	t.Run("nothing trained", func(t *testing.T) {
		w := newWorld(t, "new", rank)
		w.add("rank=2", at(rank, 2.0), 1, 0)
		w.add("rank=4", at(rank, 4.0), 1, 0)
		if got := figures(w); got != "" {
			t.Errorf("figures %s of nothing", got)
		}
	})
	t.Run("one of two evaluated", func(t *testing.T) {
		w := newWorld(t, "half", rank)
		w.bare = true
		w.add("rank=2", at(rank, 2.0), 1, 100, 0.8, 0.5)
		w.add("rank=4", at(rank, 4.0), 1, 0)
		if got, want := figures(w), "cells"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// showsEveryCell looks for predictions in every column of the sample picture.
func showsEveryCell(t *testing.T, img image.Image) {
	t.Helper()
	nucleus := data.ClassColor(1)
	columns := map[int]bool{}
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y-80; y++ { // above the legend
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			if color.RGBAModel.Convert(img.At(x, y)) == nucleus {
				columns[(x-50)/174] = true
			}
		}
	}
	for k := 1; k <= 6; k++ { // the truth and five cells
		if !columns[k] {
			t.Errorf("column %d shows no nucleus: %v", k, columns)
		}
	}
	if columns[0] {
		t.Error("the image is painted over")
	}
}

func TestBuildRefusesAnExperimentWithoutRuns(t *testing.T) {
	w := newWorld(t, "empty")
	if _, err := report.Build(t.Context(), t.TempDir(), []*experiment.Experiment{w.exp}, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := ranks(t, true)
	if _, err := report.Build(ctx, t.TempDir(), []*experiment.Experiment{r.exp}, r.results, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

// Names from elsewhere stay text: in Markdown, in a spreadsheet and in a picture
// (trial-reliability 26).
func TestForeignNames(t *testing.T) {
	const order = "\x1b]0;owned\x07"
	w := newWorld(t, "e", "init")
	w.bare = true
	w.exp.About = "about" + order + "<script>alert(1)</script>![x](http://tracker)"
	cells := []string{"=HYPERLINK(\"http://x\")" + order, "<img src=x onerror=alert(1)>|a", "a](javascript:alert(1))\nb & c"}
	for i, cell := range cells {
		for seed := range uint64(2) {
			w.add(cell, at("init", cell), seed, 1000, 0.5+0.1*float64(i), 0.4)
		}
	}
	w.add("+failed", at("init", "+failed"), 1, 1000)
	w.results = append(w.results, report.Result{Run: w.exp.Runs[len(w.exp.Runs)-1], Failed: "reason" + order + "<b>\nlast"})
	root := t.TempDir()
	w.build(root)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".png" || filepath.Ext(path) == ".parquet" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.ContainsAny(text, "\x1b\x07") {
			t.Errorf("%s has control characters", path)
		}
		switch filepath.Ext(path) {
		case ".md":
			for _, bad := range []string{"<script", "<img", "<b>", "](http", "](java"} {
				if bytes.Contains(text, []byte(bad)) {
					t.Errorf("%s has %s:\n%s", path, bad, text)
				}
			}
		case ".csv":
			lines, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			for _, line := range lines {
				for _, cell := range line {
					if strings.HasPrefix(cell, "=") || strings.HasPrefix(cell, "+f") {
						t.Errorf("%s has a formula: %s", path, cell)
					}
				}
			}
		case ".svg":
			for d := xml.NewDecoder(bytes.NewReader(text)); ; {
				token, err := d.Token()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("%s: %v", path, err)
				}
				if e, ok := token.(xml.StartElement); ok && (e.Name.Local == "script" || e.Name.Local == "img") {
					t.Errorf("%s has an element %s", path, e.Name.Local)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

// colorful reports whether the picture holds more than greys; every third row
// tells.
func colorful(img image.Image) bool {
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y += 3 {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			if r, g, b, _ := img.At(x, y).RGBA(); r != g || g != b {
				return true
			}
		}
	}
	return false
}

// Report and figures are written below report/ and plots/, which may be links,
// and through no link below them (trial-reliability 8, 12).
func TestReportStaysInItsPlace(t *testing.T) {
	w := newWorld(t, "e", rank)
	w.bare = true
	w.add("rank=2", at(rank, 2.0), 1, 6144, 0.7, 0.5)
	root, scratch, outside := t.TempDir(), t.TempDir(), t.TempDir()
	link := func(to, name string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.Symlink(to, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(scratch, filepath.Join(root, "plots"))
	precious := filepath.Join(outside, "precious")
	if err := os.WriteFile(precious, []byte("precious"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report.md", "table.csv", "original.csv", ".table.md.tmp-0"} {
		link(precious, filepath.Join(root, "report", "e", name))
	}
	w.build(root)
	if text, err := os.ReadFile(precious); err != nil || string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
	if made, _ := filepath.Glob(filepath.Join(scratch, "e", "*.png")); len(made) == 0 {
		t.Error("there are no figures on the scratch disk")
	}
	away := t.TempDir()
	link(outside, filepath.Join(away, "report", "e"))
	if _, err := report.Build(t.Context(), away, []*experiment.Experiment{w.exp}, w.results, nil, nil); err == nil {
		t.Error("a report was written through a link")
	}
	if left, _ := os.ReadDir(outside); len(left) != 1 {
		t.Errorf("outside there are %v", left)
	}
}
