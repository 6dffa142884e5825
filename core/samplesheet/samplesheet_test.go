package samplesheet

import (
	"fmt"
	"image"
	"image/color"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
)

// Whoever knows classes and size finds every panel of a sheet.
func TestPanelsAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, w := rapid.IntRange(1, 40).Draw(t, "h"), rapid.IntRange(1, 40).Draw(t, "w")
		classes := rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,30}`), 1, 30).Draw(t, "classes")
		rows := make([]Row, rapid.IntRange(1, 4).Draw(t, "rows"))
		class := func(name string) []byte {
			return rapid.SliceOfN(rapid.OneOf(rapid.ByteRange(0, byte(len(classes)-1)), rapid.Just(byte(raster.Ignored))), h*w, h*w).Draw(t, name)
		}
		for i := range rows {
			rows[i] = Row{Image: make([]byte, 3*h*w), Labels: class("labels"), Classes: make([]byte, h*w), Caption: strings.Repeat("long ", 30)}
			rows[i].Image[0] = byte(i + 1)
		}
		s := Samples(classes, h, w)
		m := s.Draw(rows)
		if got := Samples(classes, h, w).Rows(m); got != len(rows) {
			t.Fatalf("%d rows are found of %d", got, len(rows))
		}
		for i := range rows {
			for column := range 4 {
				if at := s.Panel(i, column); !at.In(m.Bounds()) || at.Dx() < least {
					t.Fatalf("panel %d of row %d is at %v in %v", column, i, at, m.Bounds())
				}
			}
			at := s.Panel(i, Image).Min
			if got := m.RGBAAt(at.X, at.Y); got != (color.RGBA{byte(i + 1), 0, 0, 255}) {
				t.Errorf("row %d begins with %v", i, got)
			}
			at = s.Panel(i, Truth).Min
			if got, want := m.RGBAAt(at.X, at.Y), data.ClassColour(rows[i].Labels[0]); got != want {
				t.Errorf("its truth begins with %v, want %v", got, want)
			}
		}
		if got := Samples(classes, h+1, w).Rows(m); got == len(rows) {
			t.Error("pictures of another size are found in it")
		}
		if got := Masks(classes, h, w).Rows(m); got != 0 {
			t.Error("another form is found in it")
		}
	})
}

// Right pixels have no colour, wrong ones the colour of errors, ignored ones are
// no error whatever was predicted.
func TestErrors(t *testing.T) {
	const h, w = 1, 224
	r := Row{Image: make([]byte, 3*w), Labels: make([]byte, w), Classes: make([]byte, w)}
	r.Image[0], r.Image[w+1] = 200, 90 // something to see
	r.Classes[1] = 1
	r.Labels[2], r.Classes[2] = 1, 1
	r.Labels[3] = raster.Ignored
	r.Labels[4], r.Classes[4] = raster.Ignored, 1
	s := Samples([]string{"a", "b"}, h, w)
	m := s.Draw([]Row{r})
	at := s.Panel(0, Errors)
	kinds := map[color.RGBA]string{wrong: "wrong"}
	var got []string
	for x := range 5 {
		c := m.RGBAAt(at.Min.X+x, at.Min.Y)
		switch kind, ok := kinds[c]; {
		case ok:
			got = append(got, kind)
		case c == hatched(x, 0):
			got = append(got, "ignored")
		case c.R == c.G && c.G == c.B:
			got = append(got, "right")
		default:
			got = append(got, fmt.Sprint(c))
		}
	}
	if want := "right wrong right ignored ignored"; strings.Join(got, " ") != want {
		t.Errorf("pixels are %s, want %s", strings.Join(got, " "), want)
	}
	for class := range raster.Ignored {
		if data.ClassColour(byte(class)) == wrong {
			t.Errorf("class %d has the colour of errors", class)
		}
	}
}

func TestRowsOfAnotherPicture(t *testing.T) {
	s := Samples([]string{"a"}, 10, 10)
	for _, m := range []image.Image{image.NewRGBA(image.Rect(0, 0, 38, 38)), image.NewRGBA(image.Rectangle{})} {
		if n := s.Rows(m); n != 0 {
			t.Errorf("%v has %d rows", m.Bounds(), n)
		}
	}
}
