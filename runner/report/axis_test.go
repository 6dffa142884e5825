package report

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/figure"
)

// trial is an experiment with results on domains, with accuracy as its metric.
type trial struct {
	exp     *experiment.Experiment
	results []Result
}

func newTrial(domains []string, axes ...string) *trial {
	return &trial{exp: &experiment.Experiment{Name: "e", Metric: "accuracy", Axes: axes, Domains: domains}}
}

// add adds a run with scores; without any it is not trained.
func (tr *trial) add(cell string, values []experiment.AxisValue, seed uint64, scores ...float64) {
	run := &experiment.Run{Experiment: "e", Cell: cell, Seed: seed, Values: values, Spec: &spec.RunSpec{}}
	tr.exp.Runs = append(tr.exp.Runs, run)
	if scores == nil {
		return
	}
	r := Result{Run: run, Summary: &spec.Summary{}, Evaluations: map[string]*spec.Metrics{}}
	for i, x := range scores {
		r.Evaluations[tr.exp.Domains[i]] = &spec.Metrics{Pixels: 1, Accuracy: x}
	}
	tr.results = append(tr.results, r)
}

func (tr *trial) figures(t *testing.T) map[string]drawing {
	t.Helper()
	s, err := newStudy(tr.exp, tr.results, nil)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]drawing{}
	for _, d := range s.figures() {
		list[d.name] = d
	}
	return list
}

// shown is what a figure shows, a line for each series, level or mark.
func shown(d drawing) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	switch f := d.figure.(type) {
	case *figure.Lines:
		say("x %q log %v ticks %v", f.X.Title, f.X.Log, f.X.Ticks)
		for _, p := range f.Panels {
			say("panel %q scale %q", p.Title, p.Scale)
			for _, s := range p.Series {
				if s.Behind {
					say("  behind")
					continue
				}
				say("  %q %.4g", s.Name, s.Points)
			}
			for _, l := range p.Levels {
				say("  level %q %.4g %.4g %.4g", l.Name, l.Y, l.Low, l.High)
			}
		}
	case *figure.Rows:
		say("x %q zero %v", f.X.Title, f.Zero)
		for _, s := range f.Sections {
			say("section %q", s.Title)
			for _, r := range s.Rows {
				line := fmt.Sprintf("  %q", r.Name)
				for i, dots := range r.Dots {
					line += " | " + f.Panels[i].Title
					for _, d := range dots {
						line += fmt.Sprintf(" %s%.4g (%.4g … %.4g)", d.Name, d.X, d.Low, d.High)
					}
				}
				say("%s", line)
			}
		}
	}
	return b.String()
}

func equal(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// What a figure over an axis shows is data that does not depend on how it is drawn.
// Points are at their value, F4; a key says no domain where there is one, F6.
func TestDataOfAnAxis(t *testing.T) {
	tr := newTrial([]string{"test", "dark"}, "optim.lr.head", "loss")
	at := func(rate any, loss string) []experiment.AxisValue { return on("optim.lr.head", rate, "loss", loss) }
	tr.add("8,a", at(8.0, "a"), 1, 0.5, 0.25)
	tr.add("8,a", at(8.0, "a"), 2, 0.75, 0.5)
	tr.add("2,a", at(2.0, "a"), 1, 0.5) // not scored in the dark
	tr.add("4,b", at(4.0, "b"), 1, 1, 1)
	tr.add("16,b", at(16.0, "b"), 1) // not trained
	tr.add("untrained", nil, 1)
	tr.add("base", nil, 1, 0.125, 0.5)
	d := tr.figures(t)["head"]
	equal(t, shown(d), `x "learning rate of the head (log scale)" log true ticks [{8 8} {2 2} {4 4}]
panel "" scale ""
  "test, a" [{2 0.5 0.5 0.5 []} {8 0.625 0.4482 0.8018 [0.5 0.75]}]
  "test, b" [{4 1 1 1 []}]
  "dark, a" [{8 0.375 0.1982 0.5518 [0.25 0.5]}]
  "dark, b" [{4 1 1 1 []}]
  level "test, base" 0.125 0.125 0.125
  level "dark, base" 0.5 0.5 0.5
`)
	if want := "Without a score: 16,b; untrained."; !strings.Contains(d.caption, want) {
		t.Errorf("the caption does not say %q: %s", want, d.caption)
	}

	one := newTrial([]string{"test@original"}, "optim.lr.head", "loss")
	one.add("a", at(1.0, "a"), 1, 0.5)
	one.add("b", at(2.0, "a"), 1, 0.25)
	d = one.figures(t)["head"]
	equal(t, shown(d), `x "learning rate of the head" log false ticks [{1 1} {2 2}]
panel "" scale ""
  "a" [{1 0.5 0.5 0.5 []} {2 0.25 0.25 0.25 []}]
`)
	if !strings.Contains(d.caption, "All domains are seen as `@original`.") {
		t.Errorf("the caption does not say how images are seen: %s", d.caption)
	}

	tr.add("named,a", at("large", "a"), 1)
	if d, ok := tr.figures(t)["head"]; ok {
		t.Errorf("an axis with a value that is no number has a figure\n%s", shown(d))
	}
	tr.exp.Runs = tr.exp.Runs[:2]
	if d, ok := tr.figures(t)["head"]; ok {
		t.Errorf("an axis with one value has a figure\n%s", shown(d))
	}
}

// Domains far apart have a panel each; from five lines on each has one.
func TestPanels(t *testing.T) {
	tr := newTrial([]string{"test", "dark"}, "train.batch", "train.epochs")
	for b := range 2 {
		for e := range 5 {
			x := float64(b)/100 + float64(e)/1000
			tr.add(fmt.Sprint(b, e), on("train.batch", float64(b+1), "train.epochs", float64(e+1)), 1, 0.9+x, 0.2+x)
		}
	}
	all := tr.figures(t)
	d := all["epochs"]
	equal(t, shown(d), `x "epochs (log scale)" log true ticks [{1 1} {2 2} {3 3} {4 4} {5 5}]
panel "test" scale "test"
  "1" [{1 0.9 0.9 0.9 []} {2 0.901 0.901 0.901 []} {3 0.902 0.902 0.902 []} {4 0.903 0.903 0.903 []} {5 0.904 0.904 0.904 []}]
  "2" [{1 0.91 0.91 0.91 []} {2 0.911 0.911 0.911 []} {3 0.912 0.912 0.912 []} {4 0.913 0.913 0.913 []} {5 0.914 0.914 0.914 []}]
panel "dark" scale "dark"
  "1" [{1 0.2 0.2 0.2 []} {2 0.201 0.201 0.201 []} {3 0.202 0.202 0.202 []} {4 0.203 0.203 0.203 []} {5 0.204 0.204 0.204 []}]
  "2" [{1 0.21 0.21 0.21 []} {2 0.211 0.211 0.211 []} {3 0.212 0.212 0.212 []} {4 0.213 0.213 0.213 []} {5 0.214 0.214 0.214 []}]
`)
	l := all["batch"].figure.(*figure.Lines)
	if len(l.Panels) != 10 || l.Panels[9].Title != "dark, 5" || len(l.Panels[9].Series) != 5 || l.Panels[9].Series[4].Behind {
		t.Errorf("five lines on two domains are\n%s", shown(all["batch"]))
	}
}

// Domains share a panel where differences within each can be seen.
func TestApart(t *testing.T) {
	extent := func(low, high float64) figure.Extent { return figure.Extent{Low: low, High: high, Filled: true} }
	for _, c := range []struct {
		a, b figure.Extent
		want bool
	}{
		{extent(0.7, 0.9), extent(0.4, 0.7), false},
		{extent(0.8, 0.9), extent(0.2, 0.3), true},   // far apart
		{extent(0.78, 0.81), extent(0.2, 0.7), true}, // one is much narrower
		{extent(0.7, 0.9), figure.Extent{}, false},
	} {
		if got := apart([]figure.Extent{c.a, c.b}); got != c.want {
			t.Errorf("%v and %v are apart: %v", c.a, c.b, got)
		}
	}
}

// Ten thousand cells have figures of what fits, and what is left out is named.
func TestManyCells(t *testing.T) {
	tr := newTrial([]string{"test", "dark"}, "train.batch", "optim.weightDecay")
	for b := range 2 {
		for w := range 5000 {
			tr.add(fmt.Sprint(b, w), on("train.batch", float64(b+1), "optim.weightDecay", float64(w)), 1, 0.5, 0.5)
		}
	}
	all := tr.figures(t)
	if l := all["batch"].figure.(*figure.Lines); len(l.Panels) != mostPanels || len(l.Panels[0].Series) != mostPanels/2 {
		t.Errorf("there are %d panels of %d lines", len(l.Panels), len(l.Panels[0].Series))
	}
	if caption := all["batch"].caption; !strings.Contains(caption, "Left out: 12; 13; 14;") || !strings.Contains(caption, "and 4976 more.") {
		t.Errorf("the caption is %s", caption)
	}
	r, err := figure.Render(all["weightDecay"].figure, figure.Size{Width: 7.5, DPI: 20})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], "Ticks without a label: ") || !strings.Contains(r.Notes[0], " more.") {
		t.Errorf("notes %q", r.Notes)
	}
}

// Curves of five cells have a panel each, and begin where steps do: trial-language
// F7. What a figure leaves out is named under it.
func TestPanelsOfCurves(t *testing.T) {
	for _, n := range []int{1, 4, 5, 26} {
		e := newExample("e", false, "adapter.params.rank")
		ranked(e, n)
		for _, d := range e.study(t).figures()[:2] {
			l := d.figure.(*figure.Lines)
			want := 1
			if n > 4 {
				want = min(n, mostPanels)
			}
			if len(l.Panels) != want || len(l.Panels[0].Series) != min(n, mostPanels) {
				t.Errorf("%d cells have %d panels of %d lines", n, len(l.Panels), len(l.Panels[0].Series))
			}
			if left := "Left out: rank=16777216; rank=33554432."; strings.Contains(d.caption, left) != (n == 26) {
				t.Errorf("%d cells: %s", n, d.caption)
			}
			if first := l.Panels[0].Series[0].Points[0].X; first < 1 || d.name == lossName && !l.X.Tight {
				t.Errorf("%s begins at %v", d.name, first)
			}
		}
	}
}

// Paths of zip are one axis: trial-language F1.
func TestZipIsOneAxis(t *testing.T) {
	const rank, alpha, target = "adapter.params.rank", "adapter.params.alpha", "adapter.targets"
	tr := newTrial([]string{"test"}, rank, alpha)
	tr.exp.Zipped = tr.exp.Axes
	tr.add("a", on(rank, 4.0, alpha, 8.0), 1, 0.5)
	tr.add("b", on(rank, 8.0, alpha, 8.0), 1, 0.6)
	tr.add("c", on(rank, 16.0, alpha, 32.0), 1, 0.7)
	all := tr.figures(t)
	if len(all) != 1 {
		t.Errorf("there are %d figures", len(all))
	}
	equal(t, shown(all["rank_alpha"]), `x "rank / alpha of the adapter (log scale)" log true ticks [{4 4 / 8} {8 8 / 8} {16 16 / 32}]
panel "" scale ""
  "" [{4 0.5 0.5 0.5 []} {8 0.6 0.6 0.6 []} {16 0.7 0.7 0.7 []}]
`)

	// Neither path has different numbers: places are in the order of the file.
	tr = newTrial([]string{"test"}, target, alpha)
	tr.exp.Zipped = tr.exp.Axes
	tr.add("a", on(target, []any{"query", "value"}, alpha, 8.0), 1, 0.5)
	tr.add("b", on(target, []any{"query"}, alpha, 8.0), 1, 0.6)
	d := tr.figures(t)["targets_alpha"]
	equal(t, shown(d), `x "layers with adapters / alpha of the adapter" log false ticks [{0 ["query","value"] / 8} {1 ["query"] / 8}]
panel "" scale ""
  "" [{0 0.5 0.5 0.5 []} {1 0.6 0.6 0.6 []}]
`)
	if !strings.Contains(d.caption, "in the order of the file and equally far apart") {
		t.Errorf("the caption is %s", d.caption)
	}
}

// What ablate does is one figure, with a section for each path: trial-language F2.
func TestForest(t *testing.T) {
	const rank, kind = "adapter.params.rank", "head.kind"
	tr := newTrial([]string{"test", "dark"}, rank, kind)
	tr.exp.Ablated = tr.exp.Axes
	cell := func(name string, r, k any, scores ...[]float64) {
		for i, s := range scores {
			tr.add(name, on(rank, r, kind, k), uint64(i+1), s...)
		}
	}
	cell("base", 8.0, "conv", []float64{0.5, 0.25}, []float64{0.75, 0.25})
	cell("rank=2", 2.0, "conv", []float64{0.25, 0.25}, []float64{0.5, 0.5})
	cell("rank=4", 4.0, "conv", nil)
	cell("kind=linear", 8.0, "linear", []float64{0.75, 0.25})
	tr.add("none", nil, 1, 0.5, 0.25)
	all := tr.figures(t)
	d := all["ablation"]
	equal(t, shown(d), `x "difference from the base in pixel accuracy" zero true
section "rank of the adapter (base: 8)"
  "2" | test -0.25 (-0.25 … -0.25) | dark 0.125 (-1.463 … 1.713)
section "kind of the head (base: conv)"
  "linear" | test 0.125 (0.125 … 0.125) | dark 0 (0 … 0)
section "cases"
  "none" | test -0.125 (-0.125 … -0.125) | dark 0 (0 … 0)
`)
	for _, want := range []string{"the line at 0 (test 0.625 ± 0.177, dark 0.250 ± 0.000)", "95 % interval", "Without a score: rank=4."} {
		if !strings.Contains(d.caption, want) {
			t.Errorf("the caption does not say %q: %s", want, d.caption)
		}
	}
	if len(all) != 1 {
		t.Errorf("there are %d figures", len(all))
	}
}

// Paths have words, on axes, and values are as experiments write them:
// trial-language F3.
func TestWords(t *testing.T) {
	for want, paths := range map[string][]string{
		"learning rate of the adapter":                        {"optim.lr.adapter"},
		"learning rate of the adapter / head":                 {"optim.lr.adapter", "optim.lr.head"},
		"rank / alpha of the adapter":                         {"adapter.params.rank", "adapter.params.alpha"},
		"start rank of the adapter":                           {"adapter.params.start_rank"},
		"weight decay":                                        {"optim.weightDecay"},
		"epochs / weight decay":                               {"train.epochs", "optim.weightDecay"},
		"kind of the head":                                    {"head.kind"},
		"power of the schedule":                               {"optim.schedule.power"},
		"learning rate of the backbone / rank of the adapter": {"optim.lr.backbone", "adapter.params.rank"},
	} {
		if got := inWords(paths); got != want {
			t.Errorf("%v are %q, want %q", paths, got, want)
		}
	}
	for path, w := range words {
		if !regexp.MustCompile(`^[a-zA-Zá' -]+$`).MatchString(w) {
			t.Errorf("%s has the words %q", path, w)
		}
	}
	var list any
	if err := json.Unmarshal([]byte(`["query", "value"]`), &list); err != nil {
		t.Fatal(err)
	}
	for want, v := range map[string]any{"0.001": 1e-3, "conv": "conv", "true": true, `["query","value"]`: list} {
		if got := valueText(v); got != want {
			t.Errorf("%v is %s, want %s", v, got, want)
		}
	}
}

// A logarithmic scale needs values above zero that span two octaves.
func TestScaleOfAnAxis(t *testing.T) {
	for _, c := range []struct {
		xs   []float64
		want bool
	}{{[]float64{1, 4}, true}, {[]float64{3.9, 1}, false}, {[]float64{0, 10}, false}, {[]float64{-1, 10}, false}} {
		var ticks []figure.Tick
		for _, x := range c.xs {
			ticks = append(ticks, figure.Tick{At: x})
		}
		if got := logarithmic(ticks); got != c.want {
			t.Errorf("%v: logarithmic is %v", c.xs, got)
		}
	}
}

// What the names of all domains share is said once, below the table, which is at most
// 100 columns wide.
func TestTableOfWindows(t *testing.T) {
	const seen = "@window-252-scale-1.96875"
	tr := newTrial([]string{"test" + seen, "histology" + seen, "another hospital" + seen}, "adapter.params.rank")
	for i := range 5 {
		for seed := range uint64(2) {
			tr.add(fmt.Sprintf("rank=%d", 1<<i), on("adapter.params.rank", float64(int(1)<<i)), seed, 0.5, 0.25, 0.5+float64(seed)/8)
		}
	}
	table, err := Tabulate(tr.exp, tr.results)
	if err != nil {
		t.Fatal(err)
	}
	text := table.Markdown()
	if n := strings.Count(text, seen); n != 1 || !strings.Contains(text, "All domains are seen as") {
		t.Errorf("%s is said %d times:\n%s", seen, n, text)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") && len([]rune(strings.TrimSpace(line))) > 100 {
			t.Errorf("a line is %d columns wide:\n%s", len([]rune(line)), line)
		}
	}
	for _, d := range table.Domains {
		if !strings.HasSuffix(d, seen) {
			t.Errorf("programs get the name %s", d)
		}
	}
	if got := table.Header(); !slices.Contains(got, "another hospital accuracy") || !slices.Contains(got, "histology IoU") {
		t.Errorf("columns %q", got)
	}
}
