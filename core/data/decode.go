package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"maps"
	"slices"

	"github.com/loralab/loralab/core/raster"
)

// pixels are a decoded image.
type pixels struct {
	raster.Image
	pages int // images in the file
}

// decode reads the header and the picture of a file.
func decode(content []byte) (image.Image, header, error) {
	h, err := readHeader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, h, err
	}
	if h.transparency > 0 {
		// The decoder of GIF takes the transparent color out of the palette. Alpha is
		// dropped here, whatever the format.
		content = bytes.Clone(content)
		content[h.transparency] &^= 1
	}
	img, err := section{bytes.NewReader(content), int64(len(content))}.picture()
	if err != nil {
		return nil, h, err
	}
	if size := img.Bounds().Size(); size.X != h.W || size.Y != h.H {
		return nil, h, fmt.Errorf("the file is damaged: it says %v pixels and holds %d×%d", h.Size, size.X, size.Y)
	}
	return img, h, nil
}

// decodeImage reads a picture as 8-bit RGB, upright. Grey becomes three equal
// planes and alpha is dropped (not blended), as Pillow's convert("RGB") does. 16-bit
// is reduced to its upper byte, as Pillow does for colors; gray of 16 bits Pillow
// clips at 255 instead.
func decodeImage(content []byte) (pixels, error) {
	img, about, err := decode(content)
	if err != nil {
		return pixels{}, err
	}
	b, h, w := img.Bounds(), about.H, about.W
	p := pixels{raster.NewImage(about.Size), about.pages}
	red, green, blue := p.Plane(0), p.Plane(1), p.Plane(2)
	if alpha, ok := img.(*image.NYCbCrA); ok { // WebP
		img = &alpha.YCbCr
	}
	switch img := img.(type) {
	case *image.YCbCr:
		rgb := color.YCbCrToRGB
		if about.format == "webp" {
			rgb = studioToRGB
		}
		for y := range h {
			for x := range w {
				yi, ci := img.YOffset(b.Min.X+x, b.Min.Y+y), img.COffset(b.Min.X+x, b.Min.Y+y)
				red[y*w+x], green[y*w+x], blue[y*w+x] = rgb(img.Y[yi], img.Cb[ci], img.Cr[ci])
			}
		}
	case *image.Gray:
		for y := range h {
			copy(red[y*w:(y+1)*w], img.Pix[y*img.Stride:])
		}
		copy(green, red)
		copy(blue, red)
	case *image.Gray16:
		for y := range h {
			row := img.Pix[y*img.Stride:]
			for x := range w {
				red[y*w+x] = row[2*x]
			}
		}
		copy(green, red)
		copy(blue, red)
	case *image.Paletted:
		table := packedPalette(img.Palette)
		for y := range h {
			for x, v := range img.Pix[y*img.Stride:][:w] {
				i, c := y*w+x, table[v]
				red[i], green[i], blue[i] = byte(c>>16), byte(c>>8), byte(c)
			}
		}
	case *image.CMYK:
		for y := range h {
			for x := range w {
				c := packColor(img.CMYKAt(b.Min.X+x, b.Min.Y+y))
				i := y*w + x
				red[i], green[i], blue[i] = byte(c>>16), byte(c>>8), byte(c)
			}
		}
	default:
		of, ok := channelsOf(img)
		if !ok {
			return pixels{}, fmt.Errorf("pixels of the kind %T are not read: save it as PNG", img)
		}
		for y := range h {
			for x := range w {
				i, c := y*w+x, of.at(y, x)
				r, g, b := c[0], c[of.bytes], c[2*of.bytes]
				if about.premultiplied {
					r, g, b = straight(r, c[3]), straight(g, c[3]), straight(b, c[3])
				}
				red[i], green[i], blue[i] = r, g, b
			}
		}
	}
	if about.turn != upright {
		for c := range 3 {
			copy(p.Plane(c), turned(p.Plane(c), p.Size, about.turn))
		}
		p.Size = about.turn.size(p.Size)
	}
	return p, nil
}

// channels are the bytes of a picture of four channels. image.Image.At cannot be
// used for them: it loses the colors under transparent pixels.
type channels struct {
	pix    []byte
	stride int
	bytes  int // of a channel, the upper one first
}

func channelsOf(img image.Image) (channels, bool) {
	switch img := img.(type) {
	case *image.NRGBA:
		return channels{img.Pix, img.Stride, 1}, true
	case *image.RGBA: // what decoders return for RGB without alpha
		return channels{img.Pix, img.Stride, 1}, true
	case *image.NRGBA64:
		return channels{img.Pix, img.Stride, 2}, true
	case *image.RGBA64:
		return channels{img.Pix, img.Stride, 2}, true
	}
	return channels{}, false
}

// at is a pixel from its first channel on.
func (c channels) at(y, x int) []byte { return c.pix[y*c.stride+4*c.bytes*x:] }

// straight is a color that was multiplied by alpha, as Pillow undoes it.
func straight(c, alpha byte) byte {
	if alpha == 0 || alpha == 0xff {
		return c
	}
	return byte(min(0xff*int(c)/int(alpha), 0xff))
}

// studioToRGB is for lossy WebP, whose luma lies in 16…235 (BT.601), while the
// decoder's type stands for JPEG's 0…255. In fixed point, as libwebp has it.
func studioToRGB(y, cb, cr uint8) (uint8, uint8, uint8) {
	high := func(v uint8, by int) int { return int(v) * by >> 8 }
	clip := func(v int) uint8 { return uint8(min(max(v>>6, 0), 255)) }
	luma := high(y, 19077)
	return clip(luma + high(cr, 26149) - 14234),
		clip(luma - high(cb, 6419) - high(cr, 13320) + 8708),
		clip(luma + high(cb, 33050) - 17685)
}

// mask holds the stored values of a mask, not yet classes.
type mask struct {
	raster.Size
	values []uint32
	pages  int // images in the file
}

// maskFormats are those that keep numbers as they are.
var maskFormats = map[string]bool{"png": true, "tiff": true, "bmp": true}

// decodeMask reads what a PNG, TIFF or BMP stores, upright. As indices these are
// grey values of any depth or palette indices; colors have no index and are
// refused. As colors they are 0xRRGGBB, through the palette if there is one.
// Alpha is dropped.
func decodeMask(content []byte, as kind) (mask, error) {
	img, about, err := decode(content)
	if err == nil && !maskFormats[about.format] {
		err = fmt.Errorf("the content is %s, but a mask must be PNG, TIFF or BMP: lossy compression changes indices and colors", about.format)
	}
	if err != nil {
		return mask{}, err
	}
	m := mask{Size: about.Size, values: make([]uint32, about.Size.Area()), pages: about.pages}
	if as == asColors {
		err = m.colors(img, about)
	} else {
		err = m.indices(img, about)
	}
	if err != nil {
		return mask{}, err
	}
	if about.turn != upright {
		m.values = turned(m.values, m.Size, about.turn)
		m.Size = about.turn.size(m.Size)
	}
	return m, nil
}

// indices takes gray values or palette indices.
func (m mask) indices(img image.Image, about header) error {
	// The decoders stretch gray of less than 8 bits to 0…255; the stored number is
	// what the mask means.
	step := map[int]byte{1: 0xff, 2: 0x55, 4: 0x11}[about.bits]
	if step == 0 {
		step = 1
	}
	switch img := img.(type) {
	case *image.Paletted:
		m.fill(img.Pix, img.Stride, 1)
	case *image.Gray:
		m.fill(img.Pix, img.Stride, step)
	case *image.Gray16:
		for y := range m.H {
			row := img.Pix[y*img.Stride:]
			for x := range m.W {
				m.values[y*m.W+x] = uint32(row[2*x])<<8 | uint32(row[2*x+1])
			}
		}
	default:
		of, ok := channelsOf(img)
		if !ok || !about.gray {
			return errColors
		}
		// Gray with alpha, or with a transparent value.
		for y := range m.H {
			for x := range m.W {
				c := of.at(y, x)
				if of.bytes == 2 {
					m.values[y*m.W+x] = uint32(c[0])<<8 | uint32(c[1])
				} else {
					m.values[y*m.W+x] = uint32(c[0] / step)
				}
			}
		}
	}
	return nil
}

// errColors is a mask of colors where indices are wanted.
var errColors = errors.New("the mask holds colors, but class indices are wanted: give the class of each color in data.colors, or save it as 8-bit grey or palette PNG")

// colors takes colors.
func (m mask) colors(img image.Image, about header) error {
	if about.premultiplied {
		return errors.New("the colors of the mask are multiplied by alpha: save it as RGB")
	}
	if img, ok := img.(*image.Paletted); ok {
		table := packedPalette(img.Palette)
		for y := range m.H {
			for x, v := range img.Pix[y*img.Stride:][:m.W] {
				m.values[y*m.W+x] = table[v]
			}
		}
		return nil
	}
	of, straight := channelsOf(img)
	b := img.Bounds()
	for y := range m.H {
		for x := range m.W {
			if straight {
				c := of.at(y, x)
				m.values[y*m.W+x] = uint32(c[0])<<16 | uint32(c[of.bytes])<<8 | uint32(c[2*of.bytes])
			} else { // gray
				m.values[y*m.W+x] = packColor(img.At(b.Min.X+x, b.Min.Y+y))
			}
		}
	}
	return nil
}

// packColor is a color as 0xRRGGBB, without alpha.
func packColor(c color.Color) uint32 {
	n := color.NRGBAModel.Convert(c).(color.NRGBA)
	return uint32(n.R)<<16 | uint32(n.G)<<8 | uint32(n.B)
}

// packedPalette are the colors of a palette as 0xRRGGBB, without alpha.
func packedPalette(p color.Palette) (table [256]uint32) {
	for i, c := range p[:min(len(p), len(table))] {
		table[i] = packColor(c)
	}
	return table
}

func (m mask) fill(pix []byte, stride int, step byte) {
	for y := range m.H {
		row := pix[y*stride:][:m.W]
		out := m.values[y*m.W:][:m.W]
		for x, v := range row {
			out[x] = uint32(v / step)
		}
	}
}

// mostValues is how many values a mask may hold. Indices have no more, and a mask
// of more colors is a photograph, or was resized smoothly.
const mostValues = 1 << 16

// counted lists the values of the mask in ascending order, and the pixels of
// each.
func (m mask) counted() (values []uint32, pixels []uint64, err error) {
	count := map[uint32]uint64{}
	for i := 0; i < len(m.values); { // neighbours mostly agree
		from, v := i, m.values[i]
		for i < len(m.values) && m.values[i] == v {
			i++
		}
		if count[v] += uint64(i - from); len(count) > mostValues {
			return nil, nil, fmt.Errorf("the mask holds more than %d colors: it is a photograph, or was resized smoothly or compressed with losses", mostValues)
		}
	}
	for _, v := range slices.Sorted(maps.Keys(count)) {
		values, pixels = append(values, v), append(pixels, count[v])
	}
	return values, pixels, nil
}

// readImage reads an image alone. The memory that it takes counts while it is
// decoded; what is returned is the caller's.
func readImage(path string) (p pixels, err error) {
	err = load(context.Background(), path, func(content []byte) error {
		p, err = decodeImage(content)
		return err
	})
	if err != nil {
		return pixels{}, fmt.Errorf("reading image %w", err)
	}
	return p, nil
}

// readMask is readImage of a mask.
func readMask(path string, as kind) (m mask, err error) {
	err = load(context.Background(), path, func(content []byte) error {
		m, err = decodeMask(content, as)
		return err
	})
	if err != nil {
		return mask{}, fmt.Errorf("reading mask %w", err)
	}
	return m, nil
}
