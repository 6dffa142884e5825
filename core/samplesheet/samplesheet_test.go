package samplesheet

import (
	"fmt"
	"image"
	"image/color"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
)

// Whoever knows classes and size finds every panel of a sheet.
func TestPanelsAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := raster.Size{H: rapid.IntRange(1, 40).Draw(t, "h"), W: rapid.IntRange(1, 40).Draw(t, "w")}
		classes := rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,30}`), 1, 30).Draw(t, "classes")
		rows := make([]Row, rapid.IntRange(1, 4).Draw(t, "rows"))
		class := func(name string) raster.Labels {
			pix := rapid.SliceOfN(rapid.OneOf(rapid.ByteRange(0, byte(len(classes)-1)), rapid.Just(byte(raster.Ignored))), size.Area(), size.Area()).Draw(t, name)
			return raster.Labels{Size: size, Pix: pix}
		}
		for i := range rows {
			rows[i] = Row{Labelled: raster.Labelled{Image: raster.NewImage(size), Labels: class("labels")}, Predicted: class("predicted"), Caption: strings.Repeat("long ", 30)}
			rows[i].Image.RGB[0] = byte(i + 1)
		}
		s := Samples(classes, size)
		m := s.Draw("test of run 0", rows)
		if got := Samples(classes, size).Rows(m); got != len(rows) {
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
			parts, ok := s.Parts(m, i, len(classes))
			if !ok {
				t.Fatalf("row %d cannot be taken apart", i)
			}
			back, ok := parts.Row(rows[i].Caption)
			if !ok || !reflect.DeepEqual(back, rows[i]) {
				t.Errorf("row %d taken apart is\n%v, want\n%v", i, back, rows[i])
			}
			at = s.Panel(i, Truth).Min
			if got, want := m.RGBAAt(at.X, at.Y), data.ClassColor(rows[i].Labels.Pix[0]); got != want {
				t.Errorf("its truth begins with %v, want %v", got, want)
			}
		}
		if got := Samples(classes, raster.Size{H: size.H + 1, W: size.W}).Rows(m); got == len(rows) {
			t.Error("pictures of another size are found in it")
		}
		if got := Masks(classes, size).Rows(m); got != 0 {
			t.Error("another form is found in it")
		}
	})
}

// Right pixels have no color, wrong ones the color of errors, ignored ones are
// no error whatever was predicted.
func TestErrors(t *testing.T) {
	size := raster.Size{H: 1, W: 224}
	r := Row{Labelled: raster.Labelled{Image: raster.NewImage(size), Labels: raster.NewLabels(size)}, Predicted: raster.NewLabels(size)}
	r.Image.Plane(0)[0], r.Image.Plane(1)[1] = 200, 90 // something to see
	labels, predicted := r.Labels.Pix, r.Predicted.Pix
	predicted[1] = 1
	labels[2], predicted[2] = 1, 1
	labels[3] = raster.Ignored
	labels[4], predicted[4] = raster.Ignored, 1
	s := Samples([]string{"a", "b"}, size)
	m := s.Draw("", []Row{r})
	at := s.Panel(0, Errors)
	kinds := map[color.RGBA]string{Wrong: "wrong"}
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
		if data.ClassColor(byte(class)) == Wrong {
			t.Errorf("class %d has the color of errors", class)
		}
	}
}

func TestRowsOfAnotherPicture(t *testing.T) {
	s := Samples([]string{"a"}, raster.Size{H: 10, W: 10})
	for _, m := range []image.Image{image.NewRGBA(image.Rect(0, 0, 38, 38)), image.NewRGBA(image.Rectangle{})} {
		if n := s.Rows(m); n != 0 {
			t.Errorf("%v has %d rows", m.Bounds(), n)
		}
	}
}

// Sheets that were drawn before are still found: their form is what it was when Go
// Regular was their type.
func TestFormStays(t *testing.T) {
	for _, c := range []struct {
		classes []string
		size    raster.Size
		want    string
	}{
		{[]string{"background", "nucleus"}, raster.Size{H: 32, W: 32}, "(947,328)"},
		{[]string{"background", "Größe", "a name of many words", "road marking", "sidewalk", "traffic light", "ж"}, raster.Size{H: 252, W: 252}, "(1059,356)"},
		{strings.Fields(strings.Repeat("class of many ", 20)), raster.Size{H: 512, W: 384}, "(1608,766)"},
	} {
		m := Samples(c.classes, c.size).Draw("", []Row{{
			Labelled: raster.Labelled{Image: raster.NewImage(c.size), Labels: raster.NewLabels(c.size)}, Predicted: raster.NewLabels(c.size),
		}})
		if got := m.Bounds().Size().String(); got != c.want {
			t.Errorf("%d classes: a sheet of a row is %s, want %s", len(c.classes), got, c.want)
		}
	}
}

// A sheet says of what it is, and its legend has what occurs (trial-language F8).
func TestSheetNamesWhatItIsOf(t *testing.T) {
	size := raster.Size{H: 32, W: 32}
	row := Row{Labelled: raster.Labelled{Image: raster.NewImage(size), Labels: raster.NewLabels(size)}, Predicted: raster.NewLabels(size), Caption: "病理.png 🚀"}
	s := Samples([]string{"background", "核"}, size)
	legend := func(rows ...Row) string {
		var names []string
		for _, line := range s.shown(rows) {
			for _, e := range line {
				names = append(names, e.name)
			}
		}
		return strings.Join(names, " ")
	}
	if got, want := legend(row), "background 核 right wrong"; got != want {
		t.Errorf("the legend has %s, want %s", got, want)
	}
	other := row
	other.Labels = raster.NewLabels(size)
	other.Labels.Pix[7] = raster.Ignored
	if got, want := legend(row, other), "background 核 ignored right wrong"; got != want {
		t.Errorf("the legend has %s, want %s", got, want)
	}
	named, without := s.Draw("histology of run 0123456789ab", []Row{row}), s.Draw("", []Row{row})
	differ := image.Rectangle{}
	for y := range named.Bounds().Dy() {
		for x := range named.Bounds().Dx() {
			if named.RGBAAt(x, y) != without.RGBAAt(x, y) {
				differ = differ.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	if differ.Empty() || differ.Min.Y < named.Bounds().Max.Y-2*s.em {
		t.Errorf("what a sheet is of is written in %v of %v", differ, named.Bounds())
	}
}
