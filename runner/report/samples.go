package report

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	scaling "golang.org/x/image/draw"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/samplesheet"
	"github.com/loralab/loralab/runner/figure"
)

// Bounds of the sample pictures: more is unreadable on a page.
const (
	sampleRows    = 3 // of each domain
	sampleColumns = 8 // predictions
	sampleTile    = 168
)

// sampleGroup is one domain of the sample pictures.
type sampleGroup struct {
	domain string
	h, w   int
	sheets []*drawn // one for each shown cell, nil where there is none
}

// drawn is a sheet of samples with its form, by which its panels are found.
type drawn struct {
	*samplesheet.Sheet
	image.Image
	rows int
}

// panel is the place of a panel.
func (d *drawn) panel(row, column int) image.Rectangle {
	return d.Panel(row, column).Add(d.Bounds().Min)
}

// samplesFigure sets the predictions of the cells next to image and truth, each
// from the first trained run.
func (s *study) samplesFigure() (drawing, bool) {
	type source struct {
		cell *cell
		run  *outcome
	}
	var sources []source
	for _, c := range s.cells {
		if o := c.first(); o != nil && o.Dir != "" && s.hasSamples(o) {
			sources = append(sources, source{c, o})
		}
	}
	if len(sources) == 0 {
		return drawing{}, false
	}
	left := sources[min(len(sources), sampleColumns):]
	sources = sources[:len(sources)-len(left)]
	var repeats []name.Repeat
	for _, src := range sources {
		if r := src.run.Run.Repeat(); !slices.Contains(repeats, r) {
			repeats = append(repeats, r)
		}
	}
	caption := "Image, truth and the prediction of each cell"
	if len(repeats) == 1 {
		caption += fmt.Sprintf(" (%s)", repeats[0].Words())
	}
	caption += "; the first images of each domain, not chosen by result."
	var more []string
	for _, src := range left {
		more = append(more, src.cell.name)
	}
	caption += leftOut(more)
	if s.shared != "" {
		caption += " " + s.sharedText()
	}
	return drawing{name: samplesName, title: "Samples", caption: caption, render: func() (*rendered, error) {
		var groups []sampleGroup
		names := make([]string, len(sources))
		var classes []string
		for i, src := range sources {
			names[i] = src.cell.name
			for _, c := range src.run.Run.Spec.GetData().GetClasses() {
				if !slices.Contains(classes, c) {
					classes = append(classes, c)
				}
			}
		}
		for _, d := range s.pictured() {
			g := sampleGroup{domain: s.short[d], sheets: make([]*drawn, len(sources))}
			found := false
			for i, src := range sources {
				h, w := s.tileSize(src.run, d)
				if src.run.Evaluations[d] == nil || h == 0 || w == 0 {
					continue
				}
				sheet, err := readSheet(src.run.sheet(d), samplesheet.Samples(src.run.drawnWith(d), raster.Size{H: h, W: w}))
				if err != nil {
					return nil, err
				}
				if sheet == nil {
					continue
				}
				if !found {
					g.h, g.w, found = h, w, true
				}
				// A sheet of other images cannot stand in the same rows.
				if h == g.h && w == g.w && sameImages(sheet, g.sheets[:i]) {
					g.sheets[i] = sheet
				}
			}
			if found {
				groups = append(groups, g)
			}
		}
		return drawSamples(s.exp.Name, groups, names, classes)
	}}, true
}

// drawnWith are the names of classes in the legend of a domain's samples.
func (o *outcome) drawnWith(domain string) []string {
	if classes := o.SampleClasses[domain]; len(classes) > 0 {
		return classes
	}
	return o.Run.Spec.GetData().GetClasses()
}

// sheets links to the sheets of samples with captions and errors that runs have
// left, each from the trained run of its cell with the smallest seed.
func (s *study) sheets(from string) string {
	var b strings.Builder
	for _, c := range s.cells {
		o := c.first()
		if o == nil || o.Dir == "" {
			continue
		}
		var links []string
		for _, d := range s.pictured() {
			path := o.sheet(d)
			if path == "" || o.Evaluations[d] == nil {
				continue
			}
			// Where there is no way from the one to the other, no link leads there.
			if to, err := filepath.Rel(from, path); err == nil {
				links = append(links, fmt.Sprintf("[%s](<%s>)", escape(s.short[d]), escape(filepath.ToSlash(to))))
			}
		}
		if len(links) > 0 {
			fmt.Fprintf(&b, "- %s, %s: %s\n", escape(c.name), o.Run.Repeat().Words(), strings.Join(links, ", "))
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n## Sheets\n\nThe first images of each domain with truth, prediction, errors and the Dice of the image:\n\n" + b.String()
}

func (s *study) hasSamples(o *outcome) bool {
	return slices.ContainsFunc(s.pictured(), func(d string) bool { return o.sheet(d) != "" })
}

// sheet is the file of the samples of a domain, "" if the run left none.
func (o *outcome) sheet(domain string) string {
	for _, e := range o.Run.Evaluations {
		if e.Spec.GetDomain() == domain {
			return o.Dir.FindSample(domain, e.ID)
		}
	}
	return ""
}

// tileSize is the size in which the run saw the images of a domain.
func (s *study) tileSize(o *outcome, domain string) (h, w int) {
	for _, e := range o.Run.Evaluations {
		if e.Spec.GetDomain() == domain && e.Spec.GetData() != nil {
			return int(e.Spec.GetData().GetHeight()), int(e.Spec.GetData().GetWidth())
		}
	}
	d := o.Run.Spec.GetData()
	return int(d.GetHeight()), int(d.GetWidth())
}

// readSheet reads a sheet of samples; nil where there is none, or one of another
// form, which was left by an evaluation that no longer counts.
func readSheet(path string, form *samplesheet.Sheet) (*drawn, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading sample pictures: %w", err)
	}
	m, err := png.Decode(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("reading sample pictures %s: %w", path, err)
	}
	d := &drawn{form, m, form.Rows(m)}
	if d.rows == 0 {
		return nil, nil
	}
	return d, nil
}

// sameImages compares the first image of a sheet with that of the sheets
// before it.
func sameImages(d *drawn, before []*drawn) bool {
	for _, b := range before {
		if b == nil {
			continue
		}
		p, q := d.panel(0, samplesheet.Image), b.panel(0, samplesheet.Image)
		for y := range p.Dy() {
			for x := range p.Dx() {
				if color.RGBAModel.Convert(d.At(p.Min.X+x, p.Min.Y+y)) != color.RGBAModel.Convert(b.At(q.Min.X+x, q.Min.Y+y)) {
					return false
				}
			}
		}
		return true
	}
	return true
}

func drawSamples(title string, groups []sampleGroup, names, classes []string) (*rendered, error) {
	const (
		gap    = 6
		margin = 16
		header = 46 // two lines
		label  = 34 // for the name of the domain, turned
		line   = 26 // of the legend
	)
	columns := 2 + len(names)
	width := margin*2 + label + columns*(sampleTile+gap) - gap
	var notes figure.Notes
	left := figure.Text(15, figure.Ink)
	// Where each class stands in the legend.
	type key struct {
		x    vg.Length
		line int
	}
	keys := make([]key, min(len(classes), raster.Ignored))
	x, footer := vg.Length(margin+label), 40
	classes = slices.Clone(classes)
	for k := range keys {
		classes[k] = notes.Fit(left, classes[k], vg.Length(width-2*margin-label-23))
		wide := 23 + left.Width(classes[k])
		if x > margin+label && x+wide > vg.Length(width-margin) {
			x = margin + label
			footer += line
		}
		keys[k] = key{x, (footer - 40) / line}
		x += wide + 28
	}
	height := margin*2 + header + footer
	rows := make([]int, len(groups))
	tall := make([]int, len(groups)) // of a tile, in its own proportions
	for i, g := range groups {
		for _, sheet := range g.sheets {
			if sheet != nil {
				rows[i] = max(rows[i], min(sampleRows, sheet.rows))
			}
		}
		tall[i] = max(1, sampleTile*g.h/g.w)
		height += rows[i]*(tall[i]+gap) + gap
	}

	// At 72 dots an inch a point of text is a pixel of the tiles.
	raster := vgimg.NewWith(vgimg.UseWH(vg.Length(width), vg.Length(height)), vgimg.UseDPI(72), vgimg.UseBackgroundColor(color.White))
	canvas := raster.Image()
	tile := func(src *drawn, row, column int, at image.Rectangle, smooth bool) {
		var scaler scaling.Scaler = scaling.NearestNeighbor // colors of classes do not mix
		if smooth {
			scaler = scaling.CatmullRom
		}
		scaler.Scale(canvas, at, src, src.panel(row, column), scaling.Src, nil)
	}
	type band struct{ top, bottom int }
	var bands []band
	y := margin + header
	for i, g := range groups {
		top := y
		for r := range rows[i] {
			for column := range columns {
				x := margin + label + column*(sampleTile+gap)
				at := image.Rect(x, y, x+sampleTile, y+tall[i])
				if column >= 2 {
					if src := g.sheets[column-2]; src != nil && r < src.rows {
						tile(src, r, samplesheet.Prediction, at, false)
					} else {
						scaling.Draw(canvas, at, image.NewUniform(figure.Rule), image.Point{}, scaling.Src)
					}
					continue
				}
				for _, src := range g.sheets {
					if src != nil && r < src.rows {
						tile(src, r, column, at, column == samplesheet.Image)
						break
					}
				}
			}
			y += tall[i] + gap
		}
		bands = append(bands, band{top, y - gap})
		y += gap
	}

	c := draw.New(raster)
	up := func(y int) vg.Length { return vg.Length(height - y) }
	centered := figure.Text(15, figure.Ink)
	centered.XAlign = draw.XCenter
	for column, name := range append([]string{"image", "truth"}, names...) {
		x := vg.Length(margin + label + column*(sampleTile+gap) + sampleTile/2)
		lines := figure.Wrap(centered, notes.Fit(centered, name, 1.8*sampleTile), sampleTile)
		for i, line := range lines {
			line, _ = figure.Fit(centered, line, sampleTile)
			c.FillText(centered, vg.Point{X: x, Y: up(margin + header - 12 - 18*(len(lines)-1-i))}, line)
		}
	}
	turned := centered
	turned.Rotation = 3.141592653589793 / 2
	for i, b := range bands {
		c.FillText(turned, vg.Point{X: margin + label/2 - 4, Y: up((b.top + b.bottom) / 2)},
			notes.Fit(turned, groups[i].domain, vg.Length(b.bottom-b.top)))
	}
	for k, key := range keys {
		x, base := key.x, up(height-margin-footer+26+key.line*line)
		c.FillPolygon(data.ClassColor(byte(k)), []vg.Point{{X: x, Y: base - 8}, {X: x + 16, Y: base - 8}, {X: x + 16, Y: base + 8}, {X: x, Y: base + 8}})
		c.FillText(left, vg.Point{X: x + 23, Y: base}, classes[k])
	}
	var b bytes.Buffer
	if err := png.Encode(&b, raster.Image()); err != nil {
		return nil, fmt.Errorf("drawing the samples of %s: %w", title, err)
	}
	return &rendered{[]file{{".png", b.Bytes()}}, notes.Sentences()}, nil
}
