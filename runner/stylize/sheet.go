package stylize

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/image/font"
	"golang.org/x/image/math/fixed"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/tempdir"
	"github.com/loralab/loralab/core/typeface"
)

// A sheet has so many columns of tiles so many pixels wide, each with a caption
// below.
const (
	columns = 6
	tile    = 96
	caption = 16
	gap     = 4
)

// Sheet draws one image as it is, and as it is in each domain, into a PNG; seed
// decides which. It is brought to the size of a tile before: what shows is what
// a model of that size would see.
func Sheet(ctx context.Context, x *data.Index, file string, domains []Domain, seed uint64) (err error) {
	temp, err := tempdir.New("sheet")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, temp.Remove()) }()
	dir := temp.Path
	one := domains[0].Part.Files.Sample(1, seed)
	im, err := data.ReadImage(filepath.Join(one.Root, filepath.FromSlash(one.Images[0])))
	if err != nil {
		return err
	}
	size := raster.Size{H: max(1, tile*im.H/im.W), W: tile}
	small := make([]Domain, len(domains))
	for i, d := range domains {
		d.Part.Files, d.Height, d.Width = one, size.H, size.W
		small[i] = d
	}
	written, err := Write(ctx, x, dir, small, func(Step) {})
	if err != nil {
		return err
	}
	clean := filepath.Join(dir, "clean.png")
	if err := data.WriteImage(clean, im.Resized(size)); err != nil {
		return err
	}
	files, names := []string{clean}, []string{"clean"}
	for i, w := range written {
		c := data.Copy{Files: small[i].Part.Files}
		files, names = append(files, filepath.Join(w.Dir, filepath.FromSlash(c.Image(0)))), append(names, w.Name)
	}
	sheet, err := drawn(files, names, size.H)
	if err != nil {
		return err
	}
	// It is made once and looked at often.
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := replacefile.WriteFunc(file, func(w io.Writer) error { return encoder.Encode(w, sheet) }); err != nil {
		return fmt.Errorf("writing the sheet: %w", err)
	}
	return nil
}

// drawn puts pictures of the width of a tile into rows, with their names.
func drawn(files, names []string, high int) (image.Image, error) {
	face := typeface.Face(10)
	defer face.Close()
	step := high + caption + gap
	rows := (len(files) + columns - 1) / columns
	sheet := image.NewRGBA(image.Rect(0, 0, min(columns, len(files))*(tile+gap)-gap, rows*step-gap))
	draw.Draw(sheet, sheet.Bounds(), image.White, image.Point{}, draw.Src)
	for i, path := range files {
		at := image.Pt(i%columns*(tile+gap), i/columns*step)
		if err := put(sheet, at, path); err != nil {
			return nil, err
		}
		text := font.Drawer{Dst: sheet, Src: image.NewUniform(color.Gray{Y: 0x30}), Face: face, Dot: fixed.P(at.X, at.Y+high+12)}
		text.DrawString(typeface.Visible(names[i]))
	}
	return sheet, nil
}

func put(sheet *image.RGBA, at image.Point, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		return err
	}
	draw.Draw(sheet, m.Bounds().Add(at), m, m.Bounds().Min, draw.Src)
	return nil
}
