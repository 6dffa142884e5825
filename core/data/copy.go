package data

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/stylize"
)

// Copy makes another domain of pictures: a folder of images/ and masks/ with
// each of them resized, styled and damaged, in this order, as a Set has them.
type Copy struct {
	Files      Files
	Size       raster.Size // zero: each image keeps its own
	Style      *spec.Style
	Styles     Files // the images of the style
	Corruption *spec.Corruption
}

// Image is where below the folder the image of a pair goes.
func (c *Copy) Image(i int) string { return path.Join("images", nameOf(c.Files.Images[i])+".png") }

// Write fills dir. Images become PNG, upright; masks are copied byte for byte
// unless they have to be resized, or the damage moves pixels and labels alike.
// Where a network gives the style only masks are written: images are the
// engine's to make, from the files as they are. done is called for each pair,
// from several goroutines. The first file that cannot be read ends it.
func (c *Copy) Write(ctx context.Context, x *Index, dir string, done func()) error {
	files, err := c.Files.Contents(ctx, x)
	if err != nil {
		return err
	}
	styles, err := c.Styles.Contents(ctx, x)
	if err != nil {
		return err
	}
	s, err := newShift(c.Style, styles, c.Corruption)
	if err != nil {
		return err
	}
	keys := files.keys()
	if c.Style.GetKind() == stylize.Network && c.Corruption != nil {
		return errors.New("what a network makes is not damaged here: copy the copy")
	}
	return parallel(ctx, c.Files.Len(), func(i int) error {
		if err := c.pair(s, files, dir, i, keys[i]); err != nil {
			return err
		}
		done()
		return nil
	})
}

func (c *Copy) pair(s *shift, files Contents, dir string, i int, key string) error {
	for _, folder := range []string{"images", "masks"} {
		place := path.Dir(path.Join(folder, nameOf(c.Files.Images[i])))
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(place)), 0o777); err != nil {
			return err
		}
	}
	name, maskFile := nameOf(c.Files.Images[i]), c.Files.path(c.Files.Masks[i])
	release, err := reserve(context.Background(), c.Files.path(c.Files.Images[i]), maskFile)
	if err != nil {
		return err
	}
	defer release()
	p, err := files.pixels(i)
	if err != nil {
		return err
	}
	as := asIndices
	var content []byte
	m, err := files.maskOf(i, func(file []byte) (m mask, err error) {
		content = bytes.Clone(file)
		if m, err = decodeMask(file, as); errors.Is(err, errColors) {
			as = asColors
			m, err = decodeMask(file, as)
		}
		return m, err
	})
	if err != nil {
		return err
	}
	if p.Size != m.Size {
		return fmt.Errorf("mask %s is %s", maskFile, mismatch(m.Size, p.Size))
	}
	size := c.Size
	if size.Area() == 0 {
		size = p.Size
	}
	values := raster.Nearest(m.values, m.Size, size)
	moved := values
	if s.style.GetKind() != stylize.Network {
		var styled raster.Image
		if styled, moved, err = s.applied(p.Resized(size), values, name, key); err != nil {
			return err
		}
		if err := WriteImage(filepath.Join(dir, filepath.FromSlash(c.Image(i))), styled); err != nil {
			return err
		}
	}
	if m.Size == size && slices.Equal(moved, values) {
		return os.WriteFile(filepath.Join(dir, "masks", name+path.Ext(c.Files.Masks[i])), content, 0o666)
	}
	return encodePNG(filepath.Join(dir, "masks", name+".png"), valueImage(moved, size, as, paletteOf(content)))
}

// applied is apply for values of any size: all of their bytes move alike.
func (s *shift) applied(image raster.Image, values []uint32, name, key string) (styled raster.Image, moved []uint32, err error) {
	moved = make([]uint32, len(values))
	part := raster.NewLabels(image.Size)
	for bits := 0; bits == 0 || slices.Max(values)>>bits > 0; bits += 8 {
		for i, v := range values {
			part.Pix[i] = byte(v >> bits)
		}
		l, err := s.apply(raster.Labelled{Image: image, Labels: part}, name, key)
		if err != nil {
			return styled, nil, err
		}
		styled = l.Image
		for i, v := range l.Labels.Pix {
			moved[i] |= uint32(v) << bits
		}
	}
	return styled, moved, nil
}

// paletteOf is the palette of a picture; nil if it has none.
func paletteOf(content []byte) color.Palette {
	about, _, err := image.DecodeConfig(bytes.NewReader(content))
	if err != nil {
		return nil
	}
	palette, _ := about.ColorModel.(color.Palette)
	return palette
}

// valueImage is a mask of these values. Indices have the colors of a palette,
// or else those of classes, or are grey of 16 bits where they are too many.
func valueImage(values []uint32, size raster.Size, as kind, palette color.Palette) image.Image {
	w, area := size.W, image.Rect(0, 0, size.W, size.H)
	switch {
	case as == asColors:
		out := image.NewRGBA(area)
		for i, v := range values {
			out.SetRGBA(i%w, i/w, color.RGBA{byte(v >> 16), byte(v >> 8), byte(v), 0xff})
		}
		return out
	case slices.Max(values) > 0xff:
		out := image.NewGray16(area)
		for i, v := range values {
			out.SetGray16(i%w, i/w, color.Gray16{Y: uint16(v)})
		}
		return out
	}
	indices := raster.NewLabels(size)
	for i, v := range values {
		indices.Pix[i] = byte(v)
	}
	out := MaskImage(indices, 256)
	if palette != nil {
		out.Palette = palette
	}
	return out
}

// WriteImage writes an image as PNG.
func WriteImage(path string, im raster.Image) error {
	out := image.NewRGBA(image.Rect(0, 0, im.W, im.H))
	red, green, blue := im.Plane(0), im.Plane(1), im.Plane(2)
	for i := range red {
		p := out.Pix[4*i:]
		p[0], p[1], p[2], p[3] = red[i], green[i], blue[i], 0xff
	}
	return encodePNG(path, out)
}

func encodePNG(path string, m image.Image) error {
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	return os.WriteFile(path, b.Bytes(), 0o666)
}

// Origin is what a folder that Copy has written was made of: origin.json in it.
type Origin struct {
	Loralab string `json:"loralab"` // version that wrote it
	// Revision of the arithmetic that drew random changes.
	Revision int    `json:"revision,omitempty"`
	Source   string `json:"source"` // as it was named
	Layout   string `json:"layout"` // whose masks hold such values
	Part     string `json:"part"`   // "test"; "all" of a source that is not divided
	Digest   string `json:"digest"` // of the pairs it was made of
	// Size in pixels, absent where each image has kept its own.
	Height     int               `json:"height,omitempty"`
	Width      int               `json:"width,omitempty"`
	Corruption *OriginCorruption `json:"corruption,omitempty"`
	Style      *OriginStyle      `json:"style,omitempty"`
	// Images are the SHA-256 of what each was made of, by name without ending.
	Images map[string]string `json:"images"`
}

// OriginCorruption is how pictures were damaged.
type OriginCorruption struct {
	Kind     string `json:"kind"`
	Severity uint32 `json:"severity"`
	Seed     uint64 `json:"seed"`
}

// OriginStyle is what look pictures were given.
type OriginStyle struct {
	Kind     string  `json:"kind"`
	Strength float64 `json:"strength"`
	Seed     uint64  `json:"seed"`
	From     string  `json:"from"`   // images or weights, as they were named
	Digest   string  `json:"digest"` // theirs
}

const originFile = "origin.json"

// NewOrigin is the origin of what c writes.
func NewOrigin(ctx context.Context, x *Index, c *Copy) (*Origin, error) {
	o := &Origin{Loralab: spec.Version(), Revision: spec.Revision, Height: c.Size.H, Width: c.Size.W, Images: make(map[string]string, c.Files.Len())}
	if k := c.Corruption; k != nil {
		o.Corruption = &OriginCorruption{Kind: k.Kind, Severity: k.Severity, Seed: k.Seed}
	}
	if k := c.Style; k != nil {
		o.Style = &OriginStyle{Kind: k.Kind, Strength: k.Strength, Seed: k.Seed, Digest: k.Digest + k.Weights}
	}
	var err error
	if o.Digest, err = c.Files.Digest(ctx, x); err != nil {
		return nil, err
	}
	// What was made of a copy was made of the copy's origin.
	sums, err := c.Files.Fingerprints(ctx, x)
	if err != nil {
		return nil, err
	}
	for i, of := range sums {
		o.Images[nameOf(c.Files.Images[i])] = of[len(of)-1]
	}
	return o, nil
}

// Write puts the origin into the folder.
func (o *Origin) Write(dir string) error {
	content, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, originFile), append(content, '\n'), 0o666)
}

// ReadOrigin reads what a folder was made of; of any other it is empty.
func ReadOrigin(dir string) (*Origin, error) {
	content, err := regular.Read(filepath.Join(dir, originFile), mostList)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Origin{}, nil
	case err != nil:
		return nil, err
	}
	o := &Origin{}
	if err := json.Unmarshal(content, o); err != nil {
		return nil, fmt.Errorf("%s does not say what the folder was made of: %w", filepath.Join(dir, originFile), err)
	}
	return o, nil
}
