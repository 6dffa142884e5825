package report

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"html"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gonum.org/v1/plot/vg"

	"github.com/loralab/loralab/runner/figure"
)

var drawnText = regexp.MustCompile(`(?s)<g[^>]*>|</g>|<text x="([-0-9.]+)" y="([-0-9.]+)"[^>]*font-size:([0-9.]+)px[^>]*>([^<]*)</text>`)

// label is a text where an SVG has it, without those that are turned.
type label struct {
	text                     string
	left, right, bottom, top float64
}

func labelsOf(svg []byte) (list []label) {
	var turned []bool
	for _, m := range drawnText.FindAllStringSubmatch(string(svg), -1) {
		switch {
		case strings.HasPrefix(m[0], "<g"):
			turned = append(turned, strings.Contains(m[0], "rotate") || len(turned) > 0 && turned[len(turned)-1])
			continue
		case m[0] == "</g>":
			turned = turned[:len(turned)-1]
			continue
		}
		text := html.UnescapeString(m[4])
		if turned[len(turned)-1] || strings.TrimSpace(text) == "" {
			continue
		}
		var at [3]float64
		for i := range at {
			at[i], _ = strconv.ParseFloat(m[i+1], 64)
		}
		size := at[2]
		wide := float64(figure.Text(vg.Points(size), figure.Ink).Width(text))
		list = append(list, label{text, at[0], at[0] + wide, -at[1] - 0.15*size, -at[1] + 0.65*size})
	}
	return list
}

// In the widths of papers no label lies on another or leaves the figure, and programs
// find the resolution.
func TestFiguresOfPapers(t *testing.T) {
	for kind, k := range kinds {
		if k.name == samplesName {
			continue // has the size of its pictures
		}
		for _, long := range []bool{false, true} {
			for _, width := range []float64{3.5, 7.16} {
				n := 3
				if long {
					n = 12
				}
				e := newExample("e", long)
				kinds[kind].make(e, n)
				s := e.study(t)
				for _, d := range append(s.searchFigures(), s.figures()...) {
					if d.name != k.name && !strings.HasSuffix(d.name, "_"+k.name) {
						continue
					}
					r, err := figure.Render(d.figure, figure.Size{Width: width, DPI: 20})
					if err != nil {
						t.Fatal(err)
					}
					labels := labelsOf(r.SVG)
					if len(labels) < 3 {
						t.Errorf("%s has %d labels", d.name, len(labels))
					}
					where := fmt.Sprintf("%s of %d %s, %g inches", d.name, n, k.name, width)
					for i, a := range labels {
						if a.left < 0 || a.right > width*72+1 || a.bottom < 0 {
							t.Errorf("%s: %q is from %.0f to %.0f, the figure is %.0f wide", where, a.text, a.left, a.right, width*72)
						}
						for _, b := range labels[:i] {
							if math.Min(a.right, b.right)-math.Max(a.left, b.left) > 0.5 && math.Min(a.top, b.top)-math.Max(a.bottom, b.bottom) > 0.5 {
								t.Errorf("%s: %q lies on %q", where, a.text, b.text)
							}
						}
					}
				}
			}
		}
	}
}

func TestResolutionOfFigures(t *testing.T) {
	e := newExample("e", false)
	e.exp.FigureWidth = 3.5
	kinds[0].make(e, 3)
	for _, d := range e.study(t).figures() {
		if d.figure == nil {
			continue
		}
		r, err := d.render()
		if err != nil {
			t.Fatal(err)
		}
		content := r.files[0].content
		if m := decoded(t, content); m.Bounds().Dx() != 1050 {
			t.Errorf("%s is %d pixels wide", d.name, m.Bounds().Dx())
		}
		at := bytes.Index(content, []byte("pHYs"))
		if at < 0 || binary.BigEndian.Uint32(content[at+4:]) != 11811 || binary.BigEndian.Uint32(content[at+8:]) != 11811 || content[at+12] != 1 {
			t.Errorf("%s does not say that it has 300 dots an inch", d.name)
		}
		if !bytes.Contains(r.files[1].content, []byte("<text ")) || !bytes.Contains(r.files[1].content, []byte(`width="252pt"`)) {
			t.Errorf("the SVG of %s is not 3.5 inches wide, or has no text: %.300s", d.name, r.files[1].content)
		}
	}
}
