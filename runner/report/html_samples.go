package report

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"slices"

	scaling "golang.org/x/image/draw"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/samplesheet"
	"github.com/loralab/loralab/runner/page"
)

// htmlTile is how wide sample images are on a page, in pixels, where they are not
// smaller.
const htmlTile = 200

// htmlSamples are the samples of the cells, cut out of their sheets, as far as a number
// of bytes allows.
func (s *study) htmlSamples(most int, leave func(string, ...any)) (*page.Samples, error) {
	out := &page.Samples{}
	var sources []*outcome
	for _, c := range s.cells {
		if o := c.first(); o != nil && o.Dir != "" && s.hasSamples(o) {
			sources = append(sources, o)
		}
	}
	if len(sources) == 0 {
		return nil, nil
	}
	var classes []string
	for _, o := range sources {
		for _, c := range o.Run.Spec.GetData().GetClasses() {
			if !slices.Contains(classes, c) {
				classes = append(classes, c)
			}
		}
	}
	for i, c := range classes[:min(len(classes), raster.Ignored)] {
		out.Classes = append(out.Classes, page.Key{Name: c, Color: page.Image("png", swatch(data.ClassColor(byte(i))))})
	}
	domains := s.pictured()
	bytesLeft := most
	left := map[string]bool{}
	for k, d := range domains {
		share := bytesLeft / (len(domains) - k)
		g := page.SampleGroup{Domain: s.short[d]}
		if g.Domain == "" {
			g.Domain = d
		}
		var first []*drawn
		var height, width int
		for _, o := range sources {
			h, w := s.tileSize(o, d)
			if o.Evaluations[d] == nil || h == 0 || w == 0 || len(first) > 0 && (h != height || w != width) {
				continue
			}
			if share <= 0 {
				left[o.Run.Cell] = true
				continue
			}
			sheet, err := readSheet(o.sheet(d), samplesheet.Samples(o.drawnWith(d), raster.Size{H: h, W: w}))
			if err != nil {
				return nil, err
			}
			if sheet == nil || !sameImages(sheet, first) {
				continue
			}
			if len(first) == 0 {
				first, height, width = []*drawn{sheet}, h, w
			}
			size := image.Pt(min(w, htmlTile), max(1, h*min(w, htmlTile)/w))
			larger := max(1, htmlTile*3/4/size.X) // small images are shown larger
			for row := range min(sheet.rows, sampleRows) {
				if row == len(g.Images) {
					if sheet != first[0] {
						break
					}
					picture, err := photo(sheet.cut(row, samplesheet.Image, size, scaling.CatmullRom))
					if err != nil {
						return nil, fmt.Errorf("cutting samples of %s: %w", o.Run.Cell, err)
					}
					truth := flat(sheet.cut(row, samplesheet.Truth, size, scaling.NearestNeighbor))
					share -= len(picture) + len(truth)
					g.Images = append(g.Images, page.Sample{
						Name: fmt.Sprintf("%s, image %d", g.Domain, row+1), Width: size.X * larger, Height: size.Y * larger,
						Image: page.Image("jpeg", picture), Truth: page.Image("png", truth),
					})
				}
				predicted := flat(sheet.cut(row, samplesheet.Prediction, size, scaling.NearestNeighbor))
				wrong := flat(errorsOnly(sheet.cut(row, samplesheet.Errors, size, scaling.NearestNeighbor)))
				share -= len(predicted) + len(wrong)
				g.Images[row].Predictions = append(g.Images[row].Predictions, page.Prediction{
					Cell: o.Run.Cell, Image: page.Image("png", predicted), Errors: page.Image("png", wrong),
				})
			}
		}
		if len(g.Images) > 0 {
			out.Groups = append(out.Groups, g)
		}
		bytesLeft -= most/len(domains) - share
	}
	if len(out.Groups) == 0 {
		return nil, nil
	}
	out.Text = fmt.Sprintf("The first images of each domain, not chosen by result; the predictions are of the first trained run of each cell. Images have at most %d pixels of width here, and %.1f MB in all.", htmlTile, float64(most)/1e6)
	if all := len(s.exp.Domains); len(domains) < all {
		leave("Samples of %d of %d domains: of a family of corruptions the first alone is shown. The directories of the runs have all.", len(domains), all)
	}
	if len(left) > 0 {
		leave("Samples of %d of %d cells that there is no room for. The directories of the runs have them.", len(left), len(sources))
	}
	return out, nil
}

// cut is a panel of a sheet in a size.
func (d *drawn) cut(row, column int, size image.Point, scaler scaling.Scaler) *image.RGBA {
	m := image.NewRGBA(image.Rectangle{Max: size})
	scaler.Scale(m, m.Bounds(), d, d.panel(row, column), scaling.Src, nil)
	return m
}

// errorsOnly keeps what is wrong of a panel of errors.
func errorsOnly(m *image.RGBA) *image.RGBA {
	for i := 0; i < len(m.Pix); i += 4 {
		if (color.RGBA{m.Pix[i], m.Pix[i+1], m.Pix[i+2], m.Pix[i+3]}) != samplesheet.Wrong {
			clear(m.Pix[i : i+4])
		}
	}
	return m
}

func photo(m image.Image) ([]byte, error) {
	var b bytes.Buffer
	err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 82})
	return b.Bytes(), err
}

// flat is an image of few colors as PNG.
func flat(m *image.RGBA) []byte {
	var palette color.Palette
	index := map[color.RGBA]uint8{}
	p := image.NewPaletted(m.Bounds(), nil)
	for y := range m.Bounds().Dy() {
		for x := range m.Bounds().Dx() {
			c := m.RGBAAt(x, y)
			i, known := index[c]
			if !known {
				if len(palette) == 256 {
					return encoded(m)
				}
				i = uint8(len(palette))
				index[c] = i
				palette = append(palette, c)
			}
			p.Pix[y*p.Stride+x] = i
		}
	}
	p.Palette = palette
	return encoded(p)
}

func encoded(m image.Image) []byte {
	var b bytes.Buffer
	e := png.Encoder{CompressionLevel: png.BestCompression}
	_ = e.Encode(&b, m) // a bytes.Buffer takes everything, and the images have a size
	return b.Bytes()
}

// swatch is a small image of one color.
func swatch(c color.Color) []byte {
	m := image.NewRGBA(image.Rect(0, 0, 1, 1))
	m.Set(0, 0, c)
	return flat(m)
}
