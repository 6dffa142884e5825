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
	"maps"
	"os"
	"slices"

	"github.com/bep/imagemeta"
	_ "golang.org/x/image/bmp"
	_ "golang.org/x/image/tiff"
	_ "golang.org/x/image/webp"
)

// pixels are the planes of a decoded image: 3×h×w bytes, RGB.
type pixels struct {
	h, w   int
	planes []byte
}

// decodeImage reads a picture as 8-bit RGB, upright. Grey becomes three equal
// planes, 16-bit is reduced to its upper byte, alpha is dropped (not blended),
// as Pillow's convert("RGB") does.
func decodeImage(content []byte) (pixels, error) {
	img, format, err := image.Decode(bytes.NewReader(content))
	if err != nil {
		return pixels{}, err
	}
	about, err := read(content, format)
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
	if alpha, ok := img.(*image.NYCbCrA); ok { // WebP
		img = &alpha.YCbCr
	}
	switch img := img.(type) {
	case *image.YCbCr:
		rgb := color.YCbCrToRGB
		if format == "webp" {
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
	if about.turn != upright {
		n := h * w
		for c := range 3 {
			copy(p.planes[c*n:], turned(p.planes[c*n:(c+1)*n], h, w, about.turn))
		}
		p.h, p.w = about.turn.size(h, w)
	}
	return p, nil
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
	values []uint32
}

// maskFormats are those that keep numbers as they are.
var maskFormats = map[string]bool{"png": true, "tiff": true, "bmp": true}

// decodeMask reads what a PNG, TIFF or BMP stores, upright. As indices these are
// grey values of any depth or palette indices; colours have no index and are
// refused. As colours they are 0xRRGGBB, through the palette if there is one;
// alpha is dropped.
func decodeMask(content []byte, as kind) (mask, error) {
	img, format, err := image.Decode(bytes.NewReader(content))
	if err != nil {
		return mask{}, err
	}
	if !maskFormats[format] {
		return mask{}, fmt.Errorf("the content is %s, but a mask must be PNG, TIFF or BMP: lossy compression changes indices and colours", format)
	}
	b := img.Bounds()
	m := mask{h: b.Dy(), w: b.Dx(), values: make([]uint32, b.Dx()*b.Dy())}
	if len(m.values) == 0 {
		return mask{}, errors.New("the picture is empty")
	}
	about, err := read(content, format)
	if err != nil {
		return mask{}, err
	}
	if as == asColours {
		m.colours(img)
	} else if err := m.indices(img, about.bits); err != nil {
		return mask{}, err
	}
	if about.turn != upright {
		m.values = turned(m.values, m.h, m.w, about.turn)
		m.h, m.w = about.turn.size(m.h, m.w)
	}
	return m, nil
}

// indices takes grey values, of so many bits in the file, or palette indices.
func (m mask) indices(img image.Image, bits int) error {
	switch img := img.(type) {
	case *image.Paletted:
		m.fill(img.Pix, img.Stride, 1)
	case *image.Gray:
		// The decoders stretch grey of less than 8 bits to 0…255; the stored
		// number is what the mask means.
		step := map[int]byte{1: 0xff, 2: 0x55, 4: 0x11, 8: 1}[bits]
		if step == 0 {
			return fmt.Errorf("grey of %d bits is not read: save the mask as 8-bit grey or palette PNG", bits)
		}
		m.fill(img.Pix, img.Stride, step)
	case *image.Gray16:
		for y := range m.h {
			row := img.Pix[y*img.Stride:]
			for x := range m.w {
				m.values[y*m.w+x] = uint32(row[2*x])<<8 | uint32(row[2*x+1])
			}
		}
	default:
		return errColours
	}
	return nil
}

// errColours is a mask of colours where indices are wanted.
var errColours = errors.New("the mask holds colours, but class indices are wanted: give the class of each colour in data.colours, or save it as 8-bit grey or palette PNG")

// colours takes colours.
func (m mask) colours(img image.Image) {
	if img, ok := img.(*image.Paletted); ok {
		var packed [256]uint32
		for i, c := range img.Palette {
			packed[i] = packColour(c)
		}
		for y := range m.h {
			for x, v := range img.Pix[y*img.Stride:][:m.w] {
				m.values[y*m.w+x] = packed[v]
			}
		}
		return
	}
	b := img.Bounds()
	var pix []byte
	stride := 0
	switch img := img.(type) {
	case *image.NRGBA:
		pix, stride = img.Pix, img.Stride
	case *image.RGBA: // what the PNG decoder returns for RGB without alpha
		if img.Opaque() {
			pix, stride = img.Pix, img.Stride
		}
	}
	for y := range m.h {
		for x := range m.w {
			if pix != nil {
				c := pix[y*stride+4*x:][:3]
				m.values[y*m.w+x] = uint32(c[0])<<16 | uint32(c[1])<<8 | uint32(c[2])
			} else {
				m.values[y*m.w+x] = packColour(img.At(b.Min.X+x, b.Min.Y+y))
			}
		}
	}
}

// packColour is a colour as 0xRRGGBB, without alpha.
func packColour(c color.Color) uint32 {
	n := color.NRGBAModel.Convert(c).(color.NRGBA)
	return uint32(n.R)<<16 | uint32(n.G)<<8 | uint32(n.B)
}

// about is what a file says of its pixels beside them.
type about struct {
	turn turn
	bits int // of a grey value
}

// read finds what a file says of its pixels.
func read(content []byte, format string) (about, error) {
	a := about{turn: upright, bits: 8}
	if format == "png" {
		a.bits = int(content[24]) // in the header, which the decoder has checked
	}
	container, ok := map[string]imagemeta.ImageFormat{
		"jpeg": imagemeta.JPEG, "png": imagemeta.PNG, "webp": imagemeta.WebP, "tiff": imagemeta.TIFF,
	}[format]
	if !ok {
		return a, nil
	}
	inverted := false
	_, err := imagemeta.Decode(imagemeta.Options{
		R: bytes.NewReader(content), ImageFormat: container, Sources: imagemeta.EXIF,
		ShouldHandleTag: func(t imagemeta.TagInfo) bool {
			return t.Namespace == "IFD0" && (t.Tag == "Orientation" || t.Tag == "BitsPerSample" || t.Tag == "PhotometricInterpretation")
		},
		HandleTag: func(t imagemeta.TagInfo) error {
			v, ok := t.Value.(uint16)
			switch {
			case !ok: // the bits of several channels
			case t.Tag == "Orientation" && v >= 1 && v <= 8:
				a.turn = turn(v)
			case t.Tag == "BitsPerSample" && format == "tiff":
				a.bits = int(v)
			case t.Tag == "PhotometricInterpretation" && format == "tiff":
				inverted = v == 0
			}
			return nil
		},
	})
	if err != nil && !imagemeta.IsInvalidFormat(err) {
		return a, fmt.Errorf("reading its EXIF: %w", err)
	}
	if inverted {
		return a, errors.New("a TIFF whose 0 is white is not read: save it as PNG")
	}
	// Damaged EXIF beside sound pixels: viewers show such a picture as stored.
	return a, nil
}

// turn is how a camera was held, as EXIF numbers it: what has to be done with
// the stored picture to see it upright.
type turn int

const upright turn = 1

// size is that of the upright picture.
func (t turn) size(h, w int) (int, int) {
	if t >= 5 { // on its side
		return w, h
	}
	return h, w
}

// turned is a plane of h×w, upright.
func turned[T any](src []T, h, w int, t turn) []T {
	toH, toW := t.size(h, w)
	dst := make([]T, len(src))
	for y := range toH {
		for x := range toW {
			// Where the upright pixel is stored.
			sy, sx := y, x
			switch t {
			case 2: // mirrored left to right
				sx = w - 1 - x
			case 3: // upside down
				sy, sx = h-1-y, w-1-x
			case 4: // mirrored top to bottom
				sy = h - 1 - y
			case 5: // transposed
				sy, sx = x, y
			case 6: // to be turned clockwise
				sy, sx = h-1-x, y
			case 7: // transposed over the other diagonal
				sy, sx = h-1-x, w-1-y
			case 8: // to be turned anticlockwise
				sy, sx = x, w-1-y
			}
			dst[y*toW+x] = src[sy*w+sx]
		}
	}
	return dst
}

func (m mask) fill(pix []byte, stride int, step byte) {
	for y := range m.h {
		row := pix[y*stride:][:m.w]
		out := m.values[y*m.w:][:m.w]
		for x, v := range row {
			out[x] = uint32(v / step)
		}
	}
}

// counted lists the values of the mask in ascending order, and the pixels of
// each.
func (m mask) counted() (values []uint32, pixels []uint64) {
	count := map[uint32]uint64{}
	for i := 0; i < len(m.values); { // neighbours mostly agree
		from, v := i, m.values[i]
		for i < len(m.values) && m.values[i] == v {
			i++
		}
		count[v] += uint64(i - from)
	}
	for _, v := range slices.Sorted(maps.Keys(count)) {
		values, pixels = append(values, v), append(pixels, count[v])
	}
	return values, pixels
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

func readMask(path string, as kind) (mask, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return mask{}, fmt.Errorf("reading mask: %w", err)
	}
	m, err := decodeMask(content, as)
	if err != nil {
		return mask{}, fmt.Errorf("reading mask %s: %w", path, err)
	}
	return m, nil
}
