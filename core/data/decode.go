package data

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/gif" // some ".jpg" of public sets are GIF or BMP: decoded by content, not by name
	_ "image/jpeg"
	_ "image/png"
	"os"

	_ "golang.org/x/image/bmp"
)

// pixels are the planes of a decoded image: 3×h×w bytes, RGB.
type pixels struct {
	h, w   int
	planes []byte
}

// decodeImage reads a picture as 8-bit RGB. Grey becomes three equal planes,
// 16-bit is reduced to its upper byte, alpha is dropped (not blended), as
// Pillow's convert("RGB") does.
func decodeImage(content []byte) (pixels, error) {
	img, _, err := image.Decode(bytes.NewReader(content))
	if err != nil {
		return pixels{}, err
	}
	b := img.Bounds()
	h, w := b.Dy(), b.Dx()
	if h == 0 || w == 0 {
		return pixels{}, errors.New("the picture is empty")
	}
	n := h * w
	p := pixels{h: h, w: w, planes: make([]byte, 3*n)}
	red, green, blue := p.planes[:n], p.planes[n:2*n], p.planes[2*n:]
	switch img := img.(type) {
	case *image.YCbCr:
		for y := range h {
			for x := range w {
				yi, ci := img.YOffset(b.Min.X+x, b.Min.Y+y), img.COffset(b.Min.X+x, b.Min.Y+y)
				red[y*w+x], green[y*w+x], blue[y*w+x] = color.YCbCrToRGB(img.Y[yi], img.Cb[ci], img.Cr[ci])
			}
		}
	case *image.Gray:
		for y := range h {
			copy(red[y*w:(y+1)*w], img.Pix[y*img.Stride:])
		}
		copy(green, red)
		copy(blue, red)
	case *image.NRGBA:
		interleaved(p, img.Pix, img.Stride)
	case *image.RGBA: // what the PNG decoder returns for RGB without alpha
		if img.Opaque() {
			interleaved(p, img.Pix, img.Stride)
			break
		}
		general(p, img)
	default:
		general(p, img)
	}
	return p, nil
}

func interleaved(p pixels, pix []byte, stride int) {
	n := p.h * p.w
	for y := range p.h {
		row := pix[y*stride:]
		for x := range p.w {
			i := y*p.w + x
			p.planes[i], p.planes[n+i], p.planes[2*n+i] = row[4*x], row[4*x+1], row[4*x+2]
		}
	}
}

func general(p pixels, img image.Image) {
	b, n := img.Bounds(), p.h*p.w
	for y := range p.h {
		for x := range p.w {
			c := color.NRGBAModel.Convert(img.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA)
			i := y*p.w + x
			p.planes[i], p.planes[n+i], p.planes[2*n+i] = c.R, c.G, c.B
		}
	}
}

// mask holds the stored values of a mask, not yet classes.
type mask struct {
	h, w   int
	values []uint16
}

// decodeMask reads a PNG's stored numbers: grey values of any depth or palette
// indices. Colours have no index and are refused.
func decodeMask(content []byte) (mask, error) {
	img, format, err := image.Decode(bytes.NewReader(content))
	if err != nil {
		return mask{}, err
	}
	if format != "png" {
		return mask{}, fmt.Errorf("the content is %s, but a mask must be PNG", format)
	}
	b := img.Bounds()
	m := mask{h: b.Dy(), w: b.Dx(), values: make([]uint16, b.Dx()*b.Dy())}
	if len(m.values) == 0 {
		return mask{}, errors.New("the picture is empty")
	}
	switch img := img.(type) {
	case *image.Paletted:
		m.fill(img.Pix, img.Stride, 1)
	case *image.Gray:
		// The decoder stretches grey of 1, 2 and 4 bits to 0…255; the stored
		// number is what the mask means. The bit depth stands in the header.
		m.fill(img.Pix, img.Stride, [...]byte{1: 0xff, 2: 0x55, 4: 0x11, 8: 1}[content[24]])
	case *image.Gray16:
		for y := range m.h {
			row := img.Pix[y*img.Stride:]
			for x := range m.w {
				m.values[y*m.w+x] = uint16(row[2*x])<<8 | uint16(row[2*x+1])
			}
		}
	default:
		return mask{}, errors.New("the mask holds colours, but class indices are wanted: save it as 8-bit grey or palette PNG")
	}
	return m, nil
}

func (m mask) fill(pix []byte, stride int, step byte) {
	for y := range m.h {
		row := pix[y*stride:][:m.w]
		out := m.values[y*m.w:][:m.w]
		for x, v := range row {
			out[x] = uint16(v / step)
		}
	}
}

// occurring lists the values of the mask in ascending order.
func (m mask) occurring() []uint32 {
	var seen [1 << 16]bool
	for _, v := range m.values {
		seen[v] = true
	}
	var list []uint32
	for v, ok := range seen {
		if ok {
			list = append(list, uint32(v))
		}
	}
	return list
}

func readImage(path string) (pixels, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return pixels{}, fmt.Errorf("reading image: %w", err)
	}
	p, err := decodeImage(content)
	if err != nil {
		return pixels{}, fmt.Errorf("reading image %s: %w", path, err)
	}
	return p, nil
}

func readMask(path string) (mask, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return mask{}, fmt.Errorf("reading mask: %w", err)
	}
	m, err := decodeMask(content)
	if err != nil {
		return mask{}, fmt.Errorf("reading mask %s: %w", path, err)
	}
	return m, nil
}
