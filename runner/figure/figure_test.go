package figure

import (
	"bytes"
	"fmt"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
)

// contrast is that of WCAG 2 with white.
func contrast(c color.NRGBA) float64 {
	linear := func(v uint8) float64 {
		x := float64(v) / 255
		if x <= 0.03928 {
			return x / 12.92
		}
		return math.Pow((x+0.055)/1.055, 2.4)
	}
	return 1.05 / (0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B) + 0.05)
}

// Lines and marks have a contrast of 3:1 at least: trial-language F6.
func TestContrast(t *testing.T) {
	colors := append(slices.Clone(categorical), Ink, Gray, pale)
	for n := 1; n <= 24; n++ {
		for i := range n {
			colors = append(colors, Ordered(i, n))
		}
	}
	for _, c := range colors {
		if got := contrast(c); got < 3 || c.A != 0xff {
			t.Errorf("%v has a contrast of %.2f", c, got)
		}
	}
}

// A mark is at its true value, whatever else is there: trial-language F4.
func TestMarksAreAtTheirValue(t *testing.T) {
	l := &Lines{X: Axis{Log: true, Ticks: []Tick{{1, "1"}, {16, "16"}}}, Panels: []Panel{{}}}
	for i := range 12 {
		l.Panels[0].Series = append(l.Panels[0].Series, Series{
			Look: Look{Color: Category(i)}, Marked: true, Points: []Point{{X: 1, Y: float64(i), Low: float64(i), High: float64(i) + 1}, {X: 16, Y: float64(i)}},
		})
	}
	r, err := Render(l, Screen)
	if err != nil {
		t.Fatal(err)
	}
	// All lines have their ends on two verticals: those of the ticks.
	var ends []string
	for _, m := range regexp.MustCompile(`<path d="M([0-9.]+),[0-9.]+L([0-9.]+),[0-9.]+" style="fill:none;stroke:#0072B2;stroke-width:1.5`).FindAllStringSubmatch(string(r.SVG), -1) {
		ends = append(ends, m[1]+" "+m[2])
	}
	if len(ends) != 2 || ends[0] != ends[1] {
		t.Fatalf("the ends of lines are %v", ends)
	}
	for _, x := range strings.Fields(ends[0]) {
		if tick := regexp.MustCompile(fmt.Sprintf(`M%s,[0-9.]+L%s,[0-9.]+" style="fill:none;stroke:#6E6E6E`, x, x)); !tick.Match(r.SVG) {
			t.Errorf("there is no tick at %s", x)
		}
	}
}

// Numbers along an axis do not touch: trial-language F5 ("0.25400.2545").
func TestNumbersDoNotTouch(t *testing.T) {
	style := sized(tickSize, text.XCenter)
	for _, span := range []float64{1e-5, 0.0007, 0.013, 0.2, 1, 72, 12345} {
		for _, wide := range []vg.Length{60, 150, 440} {
			s := scale{low: 0.254, high: 0.254 + span, from: 10, to: 10 + wide}
			ticks := apartNumbers(s, false, style)
			for i, tick := range ticks {
				if v, err := strconv.ParseFloat(tick.Label, 64); err != nil || math.Abs(v-tick.At) > 1e-9*math.Abs(tick.At)+1e-12 {
					t.Errorf("%v is labelled %s", tick.At, tick.Label)
				}
				if i > 0 && s.at(tick.At)-s.at(ticks[i-1].At) < (style.Width(tick.Label)+style.Width(ticks[i-1].Label))/2+2 {
					t.Errorf("%s and %s touch", ticks[i-1].Label, tick.Label)
				}
			}
		}
	}
}

// What is cut, or has no room or no form, is in the notes: trial-language F5, F8.
func TestNotes(t *testing.T) {
	long := strings.Repeat("a long name ", 20) + "組織学 🚀"
	l := &Lines{
		Title:  long,
		X:      Axis{Ticks: []Tick{{1, "here"}, {1.001, "there"}, {2, "end"}}},
		Panels: []Panel{{Series: []Series{{Name: "日本語", Points: []Point{{X: 1}, {X: 2, Y: 1}}}}}},
	}
	r, err := Render(l, Screen)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Cut to fit: " + long + ".", "Ticks without a label: there.", "No font has some characters: [1F680] is 🚀."}
	if !slices.Equal(r.Notes, want) {
		t.Errorf("notes %q, want %q", r.Notes, want)
	}
	// Names have their ink in the PNG, and stay text in the SVG.
	if !strings.Contains(string(r.SVG), "日本語") {
		t.Error("the SVG lacks a name")
	}
	l.Panels[0].Series[0].Name = " "
	without, err := Render(l, Screen)
	if err != nil {
		t.Fatal(err)
	}
	if ink(t, r.PNG)-ink(t, without.PNG) < 100 {
		t.Error("a Japanese name is blank")
	}
}

// ink counts dark pixels.
func ink(t *testing.T, content []byte) (n int) {
	t.Helper()
	m, err := png.Decode(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for y := range m.Bounds().Dy() {
		for x := range m.Bounds().Dx() {
			if r, _, _, _ := m.At(x, y).RGBA(); r < 0x8000 {
				n++
			}
		}
	}
	return n
}

// The title begins where the axes do, and an axis that is tight begins at the first
// value: trial-language F6, F7.
func TestTitleAndTightAxis(t *testing.T) {
	l := &Lines{Title: "title", X: Axis{Whole: true, Tight: true}, Panels: []Panel{{Series: []Series{{Name: "one", Look: Look{Color: Category(0)}, Points: []Point{{X: 1, Y: 1e6}, {X: 72, Y: 0}}}}}}}
	r, err := Render(l, Screen)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`<path d="M([0-9.]+),[0-9.]+L[0-9.]+,[0-9.]+" style="fill:none;stroke:#[0-9A-F]+;stroke-width:1.5`).FindAllStringSubmatch(string(r.SVG), -1)
	title := regexp.MustCompile(`(?s)<text x="([0-9.]+)"[^>]*>title<`).FindStringSubmatch(string(r.SVG))
	if len(line) == 0 || title == nil || line[len(line)-1][1] != title[1] {
		t.Errorf("the line begins at %v, the title at %v", line, title)
	}
}

// Marks of a scatter are at their values, each panel on its own X, and an axis of
// parallel coordinates is where its ends say.
func TestScatterAndParallelAreAtTheirValues(t *testing.T) {
	look := Look{Color: Category(0)}
	s := &Scatter{Panels: []Plot{
		{X: Axis{Log: true}, Marks: []Mark{{Look: look, X: 1e-5, Y: 0.1}, {Look: look, X: 1e-3, Y: 0.5}, {Look: look, X: 1e-1, Y: 0.9}}},
		{X: Axis{Title: "x"}, Marks: []Mark{{Name: "a", Look: look, X: 1, Y: 0.1, Ring: true}}, Lines: []Series{{Look: look, Points: []Point{{X: 0, Y: 0.1}, {X: 2, Y: 0.9}}}}},
	}}
	f := &Parallel{Axes: []Vertical{{Title: "low", Low: 1, High: 100, Log: true}, {Title: "high", Low: 0, High: 1}, {Title: "value", Low: 0, High: 1}}, Courses: []Course{
		{Look: look, At: []float64{10, 0.5, 0.5}}, {Look: look, At: []float64{1, math.NaN(), 1}}, {Look: look, At: []float64{1, 0, math.NaN()}, Pale: true},
	}}
	numbers := func(text string) (list []float64) {
		for _, m := range regexp.MustCompile(`[0-9.]+`).FindAllString(text, -1) {
			v, err := strconv.ParseFloat(m, 64)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, v)
		}
		return list
	}
	paths := func(f Figure, style string) (all [][]float64) {
		r, err := Render(f, Screen)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`<path d="([^"]*)" style="`+style).FindAllStringSubmatch(string(r.SVG), -1) {
			all = append(all, numbers(strings.Split(m[1], "A")[0]))
		}
		return all
	}
	// Circles begin at the right of their middle.
	marks := paths(s, "fill:#0072B2")
	if len(marks) < 3 || math.Abs(marks[1][0]-(marks[0][0]+marks[2][0])/2) > 0.02 || math.Abs(marks[1][1]-(marks[0][1]+marks[2][1])/2) > 0.02 {
		t.Errorf("the marks are at %v", marks)
	}
	courses := paths(f, "fill:none;stroke:#0072B2;stroke-width:0.9")
	if len(courses) != 2 || len(courses[0]) != 6 || math.Abs(courses[0][1]-courses[0][3]) > 0.02 || math.Abs(courses[0][3]-courses[0][5]) > 0.02 {
		t.Errorf("the middles of axes are at %v", courses)
	} else if below := courses[1][3] - courses[1][1]; math.Abs(math.Abs(below)-16) > 0.02 {
		t.Errorf("no value is %v below the axis", below)
	}
	for v, want := range map[float64]string{1e-5: "1e-5", 0.0001: "0.0001", 2e4: "20,000", 1234567: "1,230,000", -12345: "\u221212,300", 0.25: "0.25", 100: "100"} {
		if got := Short(v); got != want {
			t.Errorf("Short(%v) = %q, want %q", v, got, want)
		}
	}
}

// Panels of many cells fit a page of a paper in one of its columns.
func TestPanelsFitAPage(t *testing.T) {
	for _, n := range []int{1, 5, 8, 12} {
		l := &Lines{Title: "nuclei", X: Axis{Title: "step"}, Y: Axis{Title: "Dice (nucleus)", Unit: true}}
		for i := range n {
			l.Panels = append(l.Panels, Panel{Title: fmt.Sprint("rank=", i), Scale: "all", Series: []Series{{Points: []Point{{X: 100, Y: 0.2}, {X: 1000, Y: 0.8}}}}})
		}
		r, err := Render(l, Paper(3.5))
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.DecodeConfig(bytes.NewReader(r.PNG))
		if err != nil {
			t.Fatal(err)
		}
		if most := 11 * 300; picture.Width != 1050 || picture.Height > most {
			t.Errorf("%d panels take %d × %d pixels, more than 1050 × %d", n, picture.Width, picture.Height, most)
		}
		if dir := os.Getenv("LORALAB_FIGURES"); dir != "" {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("narrow-%d.png", n)), r.PNG, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
