package report

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/color/palette"
	"image/draw"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	scaling "golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/math/fixed"

	"github.com/loralab/loralab/core/corrupt"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/samplesheet"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/typeface"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/figure"
	"github.com/loralab/loralab/runner/search/space"
	tuned "github.com/loralab/loralab/runner/study"
)

// example makes an experiment with results that are the same on every machine.
type example struct {
	exp     *experiment.Experiment
	results []Result
	long    bool

	searches []Search
}

func newExample(name string, long bool, axes ...string) *example {
	domains := []string{"test", "histology"}
	if long {
		name = "名前の長い実験 " + name + " 🚀 with a name that says what is compared, and with what, and why"
		domains = []string{"test@window-252-scale-1.96875", "组织学 stained at another hospital with another microscope@window-252-scale-1.96875"}
	}
	return &example{&experiment.Experiment{Name: name, Metric: "dice/nucleus", Axes: axes, Domains: domains}, nil, long, nil}
}

// add adds a cell with three seeds.
func (e *example) add(name string, values []experiment.AxisValue, dice float64) {
	n := len(e.exp.Runs)
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		run := &experiment.Run{Experiment: e.exp.Name, Cell: name, Values: values, Seed: seed + 1, Spec: &spec.RunSpec{
			Loss: []*spec.Loss{{Kind: "cross_entropy"}, {Kind: "dice"}},
		}}
		e.exp.Runs = append(e.exp.Runs, run)
		r := Result{Run: run, Summary: &spec.Summary{}, Evaluations: map[string]*spec.Metrics{}}
		for k, d := range e.exp.Domains {
			x := dice - 0.25*float64(k) + 0.012*rng.NormFloat64()*float64(k+1)
			r.Evaluations[d] = &spec.Metrics{Pixels: 1, Classes: []*spec.ClassMetrics{{Name: "background"}, {Name: "nucleus", Dice: &x}}}
		}
		e.results = append(e.results, r)
	}
}

// study has curves as well.
func (e *example) study(t *testing.T) *study {
	t.Helper()
	s, err := newStudy(e.exp, e.results, e.searches)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range s.cells {
		for k, o := range c.runs {
			rng := rand.New(rand.NewPCG(uint64(k), uint64(i)))
			o.curve = &curve{}
			for step := range 72 {
				x := float64(step) / 72
				loss := 0.25 + 0.03*float64(i) + 1.1*math.Exp(-4*x) + 0.06*rng.NormFloat64()*math.Exp(-2*x)
				o.curve.steps = append(o.curve.steps, point{float64(step + 1), loss})
				if step%12 == 11 {
					score := (0.8 + 0.01*float64(i)) * (1 - 0.5*math.Exp(-5*x) + 0.01*rng.NormFloat64())
					o.curve.scores = append(o.curve.scores, scored{float64(step + 1), float64(step/12 + 1), score})
				}
			}
		}
	}
	return s
}

func (e *example) name(short string) string {
	if e.long {
		return "学習率 of the adapter and of the head, as it was in the paper=" + short
	}
	return short
}

func on(pairs ...any) (values []experiment.AxisValue) {
	for i := 0; i < len(pairs); i += 2 {
		values = append(values, experiment.AxisValue{Path: pairs[i].(string), Value: pairs[i+1]})
	}
	return values
}

// kinds are all kinds of figures, with n cells.
var kinds = []struct {
	name string
	make func(e *example, n int)
}{
	{lossName, ranked},
	{validationName, ranked},
	{"rank", func(e *example, n int) {
		ranked(e, n)
		if n > 1 {
			e.add(e.name("head_only"), nil, 0.72)
		}
	}},
	{"rank_alpha", func(e *example, n int) { // zip
		e.exp.Axes = []string{"adapter.params.rank", "adapter.params.alpha"}
		e.exp.Zipped = e.exp.Axes
		for i := range n {
			rank := float64(int(1) << i)
			e.add(e.name(fmt.Sprint(rank)), on(e.exp.Axes[0], rank, e.exp.Axes[1], 2*rank), 0.7+0.02*float64(i))
		}
	}},
	{"adapter", func(e *example, n int) { // two axes
		e.exp.Axes = []string{"optim.lr.adapter", "optim.lr.head"}
		heads := map[bool]int{false: 4, true: 6}[e.long]
		if n < 12 {
			heads = 1
		}
		for i := range n / heads {
			for k := range heads {
				a, h := []float64{1e-4, 3e-4, 1e-3}[i], 1e-3*float64(k+1)
				e.add(e.name(fmt.Sprint(a, h)), on(e.exp.Axes[0], a, e.exp.Axes[1], h), 0.7+0.02*float64(i)+0.01*float64(k))
			}
		}
	}},
	{ablationName, func(e *example, n int) {
		paths := []string{"adapter.targets", "head.kind", "optim.lr.adapter", "train.epochs"}
		base := []any{[]any{"query", "value"}, "conv", 1e-3, 10.0}
		e.exp.Axes, e.exp.Ablated = paths, paths
		at := func(path int, value any) []experiment.AxisValue {
			values := on(paths[0], base[0], paths[1], base[1], paths[2], base[2], paths[3], base[3])
			if path >= 0 {
				values[path].Value = value
			}
			return values
		}
		e.add("base", at(-1, nil), 0.8)
		for i := range n {
			path := i % 4
			value := []any{[]any{"query", "key", "value", "output"}, "linear", 1e-3 * float64(i), float64(i) * 3}[path]
			if e.long && path == 1 {
				value = "ヘッド, which is a plug-in with a name of many words"
			}
			if path < 2 && i > 3 {
				value = fmt.Sprintf("%v %d", value, i)
			}
			e.add(e.name(fmt.Sprint(i)), at(path, value), 0.8+0.02*math.Sin(float64(i)*2))
		}
	}},
	{cellsName, func(e *example, n int) {
		e.exp.Axes = []string{"adapter.variant"}
		for i := range n {
			name := e.name([]string{"lora", "dora", "vera", "bitfit"}[i%4] + strings.Repeat("+", i/4))
			e.add(name, on("adapter.variant", name), 0.75+0.02*math.Sin(float64(i)))
		}
	}},
	{strengthName, strong},
	{severityName, func(e *example, n int) { damaged(e, n, "fog", "gaussian_noise") }},
	{"tuned", func(e *example, n int) {
		for i := range n {
			searchOf(e, e.name([]string{"lora", "dora", "vera", "bitfit"}[i%4]+strings.Repeat("+", i/4)), 2, 0.75+0.03*math.Sin(float64(i)), 3000<<i)
		}
	}},
	{"history", searchedOne},
	{"parallel", searchedOne},
	{"slices", searchedOne},
	{"rungs", searchedOne},
	{"importance", searchedOne},
	{samplesName, ranked},
}

// strong has cells at several strengths of their adapters, and one without an adapter
// if there is room.
func strong(e *example, n int) {
	ranked(e, n)
	e.exp.Strengths = []float64{0, 0.25, 0.5, 0.75, 1}
	for _, r := range e.results {
		r.Run.Spec.Adapter = &spec.Adapter{Placements: []*spec.Placement{{}}}
		for k, d := range e.exp.Domains {
			full := *r.Evaluations[d].Classes[1].Dice
			for _, t := range e.exp.Strengths {
				x := full*t + (full-0.2+0.25*float64(k))*(1-t) + 0.1*t*(1-t)
				r.Evaluations[spec.AtStrength(d, t)] = &spec.Metrics{Pixels: 1, Classes: []*spec.ClassMetrics{{Name: "background"}, {Name: "nucleus", Dice: &x}}}
			}
		}
	}
	if n == 3 {
		e.add(e.name("head_only"), nil, 0.72)
	}
}

// damaged has cells on corruptions at five severities each.
func damaged(e *example, n int, kinds ...string) {
	ranked(e, n)
	asked := []experiment.Evaluation{{Spec: &spec.Evaluation{Domain: "test", Data: &spec.Data{}}}}
	for k, kind := range kinds {
		for level := 1; level <= corrupt.Severities; level++ {
			d := fmt.Sprintf("%s-%d", kind, level)
			e.exp.Domains = append(e.exp.Domains, d)
			asked = append(asked, experiment.Evaluation{Spec: &spec.Evaluation{Domain: d, Data: &spec.Data{Corruption: &spec.Corruption{Kind: kind, Severity: uint32(level)}}}})
			for i, r := range e.results {
				r.Run.Evaluations = asked
				x := *r.Evaluations[e.exp.Domains[0]].Classes[1].Dice - 0.02*float64(level*level)*(1+0.3*float64(k)-0.04*float64(i/3))
				r.Evaluations[d] = &spec.Metrics{Pixels: 1, Classes: []*spec.ClassMetrics{{Name: "background"}, {Name: "nucleus", Dice: &x}}}
			}
		}
	}
	for _, r := range e.results {
		r.Run.Evaluations = asked
	}
}

func ranked(e *example, n int) {
	e.exp.Axes = []string{"adapter.params.rank"}
	for i := range n {
		rank := float64(int(1) << i)
		e.add(e.name(fmt.Sprintf("rank=%.0f", rank)), on("adapter.params.rank", rank), 0.7+0.02*float64(i))
	}
}

// searchedOne has the search of one cell over n parameters.
func searchedOne(e *example, n int) { searchOf(e, e.name("lora"), n, 0.8, 6144) }

// searchOf adds a cell with its search, which has drawn 60 trials.
func searchOf(e *example, name string, n int, dice float64, trained uint64) {
	var params []space.Param
	for i := range n {
		p := []space.Param{
			{Name: "optim.lr.adapter", Low: 1e-5, High: 1e-1, Log: true},
			{Name: "optim.schedule.kind", Kind: space.Choice, Choices: []any{"constant", "cosine"}},
			{Name: "adapter.params.rank", Kind: space.Int, Low: 2, High: 64},
		}[i%3]
		if i >= 3 {
			p.Name += fmt.Sprint(i)
		}
		if e.long && p.Kind == space.Choice {
			p.Choices = []any{e.name("constant"), e.name("cosine")}
		}
		params = append(params, p)
	}
	in, err := space.New(params...)
	if err != nil {
		panic(err)
	}
	rng := rand.New(rand.NewPCG(uint64(n), trained))
	of := Search{Space: in, Retest: name, Seeds: []uint64{101}, Progress: tuned.Progress{
		Experiment: e.exp.Name, Cell: name, Pruner: "asha", Objective: "dice/nucleus", Over: true, Best: &tuned.Best{},
	}}
	for k := range 60 {
		at := in.Draw(rng.Float64)
		u := in.Param(0).ToUnit(at[0])
		t := &tuned.Trial{Number: k, Value: dice - (u-0.6)*(u-0.6) + 0.02*rng.NormFloat64(), State: tuned.Complete, Steps: 72, Runs: make([]tuned.Member, 1)}
		for i, x := range at {
			t.Point = append(t.Point, experiment.Setting{Path: in.Param(i).Name, Value: in.Param(i).Decode(x)})
		}
		t.Rungs = []tuned.Rung{{Step: 8, Value: t.Value - 0.2}, {Step: 24, Value: t.Value - 0.1}}
		if k%6 == 5 {
			t.State, t.Steps, t.Rungs, t.Value = tuned.Paused, 8, t.Rungs[:1], t.Rungs[0].Value
		} else if b := of.Progress.Best; b.Value < t.Value {
			b.Trial, b.Value = k, t.Value
		}
		of.Trials = append(of.Trials, t)
	}
	was := len(e.results)
	e.add(name, nil, dice)
	for i := range e.results[was:] {
		e.results[was+i].Summary.AdapterParams, e.results[was+i].Summary.Seconds = trained, 10+float64(trained%977)
	}
	plain := newExample(e.exp.Name, e.long)
	plain.exp.Domains = e.exp.Domains
	plain.add(name, nil, dice-0.05)
	of.Untuned = plain.results
	e.searches = append(e.searches, of)
}

// picture draws one figure at a size.
func picture(t *testing.T, kind int, n int, long bool, size figure.Size) (image.Image, string) {
	t.Helper()
	e := newExample("e", long)
	kinds[kind].make(e, n)
	s := e.study(t)
	if kinds[kind].name == samplesName {
		content, err := sampled(s)
		if err != nil {
			t.Fatal(err)
		}
		return decoded(t, content.files[0].content), strings.Join(content.notes, " ")
	}
	for _, d := range append(s.searchFigures(), s.figures()...) {
		if d.name != kinds[kind].name && !strings.HasSuffix(d.name, "_"+kinds[kind].name) && !(n == 1 && d.name == cellsName) {
			continue
		}
		r, err := figure.Render(d.figure, size)
		if err != nil {
			t.Fatal(err)
		}
		return decoded(t, r.PNG), d.caption + " " + strings.Join(r.Notes, " ")
	}
	t.Fatalf("%d cells have no figure %s", n, kinds[kind].name)
	return nil, ""
}

func decoded(t *testing.T, content []byte) image.Image {
	t.Helper()
	m, err := png.Decode(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sampled is the figure of samples, of disks that are found worse and worse.
func sampled(s *study) (*rendered, error) {
	size := raster.Size{H: 56, W: 56}
	classes := []string{"background", "nucleus"}
	var groups []sampleGroup
	var names []string
	shown := s.cells[:min(len(s.cells), sampleColumns)]
	for _, c := range shown {
		names = append(names, c.name)
	}
	for k, d := range s.domains() {
		g := sampleGroup{domain: s.short[d], h: size.H, w: size.W}
		for i := range shown {
			var rows []samplesheet.Row
			for r := range 2 {
				row := samplesheet.Row{Labelled: raster.Labelled{Image: raster.NewImage(size), Labels: raster.NewLabels(size)}, Predicted: raster.NewLabels(size), Caption: "a"}
				for p := range size.Area() {
					x, y := p%size.W, p/size.W
					far := math.Hypot(float64(x-20-8*r), float64(y-28+4*r))
					if far < 14 {
						row.Labels.Pix[p] = 1
					}
					if far < 12+float64(i)/3+2*math.Sin(float64(x+k*5)/3) {
						row.Predicted.Pix[p] = 1
					}
					for channel := range 3 {
						row.Image.Plane(channel)[p] = byte(min(255, 60+40*k+int(160/(1+far/6))))
					}
				}
				rows = append(rows, row)
			}
			form := samplesheet.Samples(classes, size)
			g.sheets = append(g.sheets, &drawn{form, form.Draw(d, rows), len(rows)})
		}
		groups = append(groups, g)
	}
	return drawSamples(s.exp.Name, groups, names, classes)
}

// Every kind of figure is drawn with 1, 3 and 12 cells, with short and with long
// names. docs/images/figures.png has all of them; LORALAB_UPDATE=1 makes it.
func TestSheetOfFigures(t *testing.T) {
	const (
		wide   = 525 // 70 dots an inch
		gap    = 12
		header = 22
	)
	counts := []int{1, 3, 12}
	columns := 2 * len(counts)
	var rows [][]image.Image
	height := gap
	for kind := range kinds {
		var row []image.Image
		tall := 0
		for i := range columns {
			m, _ := picture(t, kind, counts[i%3], i >= 3, figure.Size{Width: 7.5, DPI: 70})
			size := m.Bounds().Size()
			h := min(size.Y*wide/size.X, wide)
			w := size.X * h / size.Y
			tile := image.NewRGBA(image.Rect(0, 0, w, h)) // samples have their own size
			scaling.CatmullRom.Scale(tile, tile.Bounds(), m, m.Bounds(), draw.Src, nil)
			row = append(row, tile)
			tall = max(tall, h)
		}
		rows = append(rows, row)
		height += header + tall + gap
	}
	sheet := image.NewRGBA(image.Rect(0, 0, columns*(wide+gap)+gap, height))
	draw.Draw(sheet, sheet.Bounds(), image.NewUniform(color.Gray{0xd0}), image.Point{}, draw.Src)
	y := gap
	face := typeface.Face(15)
	for kind, row := range rows {
		tall := 0
		for i, tile := range row {
			x := gap + i*(wide+gap)
			title := fmt.Sprintf("%s, %d cells, short names", kinds[kind].name, counts[i%3])
			if i >= 3 {
				title = strings.Replace(title, "short", "long", 1)
			}
			d := font.Drawer{Dst: sheet, Src: image.Black, Face: face, Dot: fixed.P(x, y+14)}
			d.DrawString(title)
			draw.Draw(sheet, tile.Bounds().Add(image.Pt(x, y+header)), tile, image.Point{}, draw.Src)
			tall = max(tall, tile.Bounds().Dy())
		}
		y += header + tall + gap
	}
	flat := image.NewPaletted(sheet.Bounds(), palette.Plan9)
	known := map[color.RGBA]byte{}
	for i := range flat.Pix {
		p := sheet.Pix[4*i:]
		c := color.RGBA{p[0], p[1], p[2], p[3]}
		nearest, ok := known[c]
		if !ok {
			nearest = byte(flat.Palette.Index(c))
			known[c] = nearest
		}
		flat.Pix[i] = nearest
	}
	const shown = "../../docs/images/figures.png"
	if os.Getenv("LORALAB_UPDATE") != "" {
		var b bytes.Buffer
		encoder := png.Encoder{CompressionLevel: png.BestCompression}
		if err := encoder.Encode(&b, flat); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(shown, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(shown)
	if err != nil {
		t.Fatal(err)
	}
	if len(content) > 1<<20 {
		t.Errorf("the sheet has %d bytes", len(content))
	}
	was, ok := decoded(t, content).(*image.Paletted)
	if !ok || was.Bounds() != flat.Bounds() {
		t.Fatalf("the sheet has bounds %v, want %v; LORALAB_UPDATE=1 replaces it", was.Bounds(), flat.Bounds())
	}
	other := 0
	for i := range flat.Pix {
		if flat.Pix[i] != was.Pix[i] {
			other++
		}
	}
	// Processors differ in how they round.
	if part := float64(other) / float64(len(flat.Pix)); part > 0.001 {
		t.Errorf("%.1f %% of the sheet's pixels are others; LORALAB_UPDATE=1 replaces it", 100*part)
	}
}

// With LORALAB_FIGURES=DIR, every kind of figure is written there at 800 and at 1600
// pixels, and at both widths of papers, to be looked at.
func TestFiguresToLookAt(t *testing.T) {
	dir := os.Getenv("LORALAB_FIGURES")
	if dir == "" {
		t.Skip("LORALAB_FIGURES is not set")
	}
	for kind, k := range kinds {
		for _, n := range []int{1, 3, 12} {
			for _, long := range []bool{false, true} {
				sizes := []figure.Size{{Width: 7.5, DPI: 800 * 2 / 15}, {Width: 7.5, DPI: 1600 * 2 / 15}, figure.Paper(3.5), figure.Paper(7.16)}
				for _, size := range sizes {
					m, caption := picture(t, kind, n, long, size)
					name := fmt.Sprintf("%s-%d-%t-%gx%d", k.name, n, long, size.Width, size.DPI)
					var b bytes.Buffer
					if err := png.Encode(&b, m); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(dir, name+".png"), b.Bytes(), 0o666); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(dir, name+".txt"), []byte(caption+"\n"), 0o666); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}
