package data

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/gif" // some ".jpg" of public sets are GIF or BMP: decoded by content, not by name
	_ "image/jpeg"
	_ "image/png"
	"io"
	"strings"

	_ "golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
	_ "golang.org/x/image/webp"

	"github.com/loralab/loralab/core/raster"
)

// header is what a file says of its picture before the pixels.
type header struct {
	raster.Size        // as stored, before the image is turned
	format      string // as the package image calls it
	turn        turn
	bits        int  // of a sample
	gray        bool // one channel, and perhaps alpha
	// pages is how many pictures the file holds, of which the first is read. All
	// beyond the first thousands count as one.
	pages int
	// transparency is where in a GIF the flag of a transparent color is; 0 if
	// there is none.
	transparency int64
	// premultiplied: colors of a TIFF are multiplied by alpha.
	premultiplied bool
	// decoder bounds the memory that decoding takes beyond the file and what is
	// made of it, in bytes.
	decoder int64
}

// readHeader reads what a file of size bytes says of its picture, and refuses
// what is not read as it is meant: every error says what to do.
func readHeader(r io.ReaderAt, size int64) (header, error) {
	file := section{r, size}
	config, format, err := file.config()
	h := header{format: format, Size: raster.Size{H: config.Height, W: config.Width}, turn: upright, bits: 8, pages: 1}
	if err != nil {
		return h, file.unreadable(err)
	}
	if h.W <= 0 || h.H <= 0 {
		return h, errors.New("the picture is empty")
	}
	if area := int64(h.W) * int64(h.H); area > mostPixels {
		return h, fmt.Errorf("the picture has %v pixels, %d in all, and at most %d are read: cut it into tiles", h.Size, area, mostPixels)
	}
	switch format {
	case "jpeg":
		err = h.jpeg(file, config.ColorModel)
	case "png":
		err = h.png(file)
	case "webp":
		err = h.webp(file)
	case "gif":
		err = h.gif(file)
	case "tiff":
		err = h.tiff(file)
	case "bmp":
		h.decoder = 4 * int64(h.W) * int64(h.H)
		_, palette := config.ColorModel.(color.Palette)
		h.gray = palette
	}
	return h, err
}

// section is a file of a known size. What lies outside reads as its end.
type section struct {
	r    io.ReaderAt
	size int64
}

// at are n bytes; fewer where the file ends.
func (s section) at(off int64, n int) []byte {
	if n <= 0 || off < 0 || off >= s.size {
		return nil
	}
	b := make([]byte, min(int64(n), s.size-off))
	got, err := s.r.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	return b[:got]
}

// isTIFF tells what TIFF begins with. Its decoder is called by its name: through
// the package image it would copy the whole file, as it goes to and fro in it.
func (s section) isTIFF() bool {
	head := string(s.at(0, 4))
	return head == "II*\x00" || head == "MM\x00*"
}

func (s section) config() (image.Config, string, error) {
	whole := io.NewSectionReader(s.r, 0, s.size)
	if s.isTIFF() {
		config, err := tiff.DecodeConfig(whole)
		return config, "tiff", err
	}
	return image.DecodeConfig(bufio.NewReader(whole))
}

func (s section) picture() (image.Image, error) {
	whole := io.NewSectionReader(s.r, 0, s.size)
	if s.isTIFF() {
		return tiff.Decode(whole)
	}
	img, _, err := image.Decode(bufio.NewReader(whole))
	return img, err
}

// unreadable is an error of the decoders in words, for contents that they do not
// know.
func (s section) unreadable(err error) error {
	head := s.at(0, 16)
	switch is := func(at int, magic string) bool {
		return len(head) >= at+len(magic) && string(head[at:at+len(magic)]) == magic
	}; {
	case is(0, "II+\x00"), is(0, "MM\x00+"):
		return errors.New("a BigTIFF is not read: save it as PNG or as TIFF of less than 4 GB")
	case is(4, "ftyp"):
		return errors.New("the content is HEIF or AVIF, which is not read: save it as PNG")
	case is(0, "\x00\x00\x00\x0cjP  "), is(0, "\xff\x4f\xff\x51"):
		return errors.New("the content is JPEG 2000, which is not read: save it as PNG")
	case s.isTIFF():
		var h header
		if err := h.tiff(s); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	case is(0, "RIFF") && is(8, "WEBP") && !errors.Is(err, io.ErrUnexpectedEOF):
		var h header
		if err := h.webp(s); err != nil {
			return err
		}
	case errors.Is(err, image.ErrFormat):
		return errors.New("the content is none of JPEG, PNG, WebP, TIFF, BMP and GIF: save it as PNG")
	}
	return err
}

// jpeg reads the segments before the first scan.
func (h *header) jpeg(f section, model color.Model) error {
	var m metadata
	progressive := false
	for at := int64(2); ; {
		head := f.at(at, 4)
		if len(head) < 4 || head[0] != 0xff {
			break // the decoder says what is wrong
		}
		if head[1] == 0xff || head[1] == 0x01 || head[1] >= 0xd0 && head[1] <= 0xd8 { // fill, or alone
			at += map[bool]int64{true: 1, false: 2}[head[1] == 0xff]
			continue
		}
		if head[1] == 0xda || head[1] == 0xd9 { // pixels, or the end
			break
		}
		length := int64(binary.BigEndian.Uint16(head[2:]))
		switch body := f.at(at+4, int(length)-2); {
		case length < 2:
		case head[1] == 0xc2:
			progressive = true
		case head[1] != 0xe1:
		case bytes.HasPrefix(body, []byte("Exif\x00\x00")):
			// A long one is spread over several segments.
			if m.exif == nil {
				m.exif = body
			} else if len(m.exif) < mostMetadata {
				m.exif = append(m.exif, body[6:]...)
			}
		case bytes.HasPrefix(body, []byte("http://ns.adobe.com/xap/1.0/\x00")):
			m.xmp = body
		}
		at += 2 + max(length, 2)
	}
	h.turn = m.turn()
	// Blocks are whole, of up to 32 pixels, and a progressive picture keeps the
	// coefficients of every pixel until its end.
	area := up(h.W, 32) * up(h.H, 32)
	switch {
	case model == color.GrayModel:
		h.decoder = area
		if progressive {
			h.decoder += 4 * area
		}
	case model == color.YCbCrModel:
		h.decoder = 3 * area
		if progressive {
			h.decoder += 12 * area
		}
	default: // CMYK, or RGB: converted once more
		h.decoder = 8 * area
		if progressive {
			h.decoder += 16 * area
		}
	}
	return nil
}

// up is n rounded up to a multiple.
func up(n, multiple int) int64 { return int64((n + multiple - 1) / multiple * multiple) }

// png reads the chunks of a PNG but those of pixels. Metadata may lie behind
// them.
func (h *header) png(f section) error {
	var m metadata
	start := f.at(0, 33)
	if len(start) < 33 {
		return io.ErrUnexpectedEOF
	}
	kind := start[25]
	h.bits = int(start[24])
	h.gray = kind == 0 || kind == 4
	pixel := int64(4) // a palette or gray takes less, but gray may have a transparent value
	if h.bits == 16 {
		pixel = 8
	}
	if start[28] != 0 { // interlaced: passes are pictures of their own
		pixel *= 2
	}
	h.decoder = pixel * int64(h.W) * int64(h.H)
	for at := int64(8); ; {
		head := f.at(at, 8)
		if len(head) < 8 || string(head[4:]) == "IEND" {
			break
		}
		length := int64(binary.BigEndian.Uint32(head))
		body := func() []byte { return f.at(at+8, int(min(length, mostMetadata))) }
		switch string(head[4:]) {
		case "eXIf":
			m.exif = body()
		case "acTL":
			if b := body(); len(b) >= 4 {
				h.pages = int(max(1, binary.BigEndian.Uint32(b)))
			}
		case "iTXt", "tEXt", "zTXt":
			keyword, text := pngText(string(head[4:]), body())
			switch {
			case keyword == "XML:com.adobe.xmp":
				m.xmp = text
			case keyword == "Raw profile type exif" && m.exif == nil:
				m.exif = rawProfile(text)
			}
		}
		at += 12 + length
	}
	h.turn = m.turn()
	return nil
}

// pngText is the keyword of a chunk of text, and the text of those that may say
// something of the orientation.
func pngText(chunk string, body []byte) (keyword string, text []byte) {
	key, rest, ok := bytes.Cut(body, []byte{0})
	keyword = string(key)
	if !ok || keyword != "XML:com.adobe.xmp" && keyword != "Raw profile type exif" {
		return keyword, nil
	}
	var compressed bool
	switch chunk {
	case "iTXt": // two flags, the language, the keyword in it, the text
		if len(rest) < 2 {
			return keyword, nil
		}
		parts := bytes.SplitN(rest[2:], []byte{0}, 3)
		if len(parts) < 3 {
			return keyword, nil
		}
		compressed, rest = rest[0] == 1, parts[2]
	case "zTXt": // a flag, the text
		if len(rest) < 1 {
			return keyword, nil
		}
		compressed, rest = true, rest[1:]
	}
	if !compressed {
		return keyword, rest
	}
	inflate, err := zlib.NewReader(bytes.NewReader(rest))
	if err != nil {
		return keyword, nil
	}
	// What is damaged at its end may say enough at its beginning.
	text, _ = io.ReadAll(io.LimitReader(inflate, mostMetadata))
	return keyword, text
}

// rawProfile is EXIF as ImageMagick writes it into text: a name, a length, and
// hexadecimal digits.
func rawProfile(text []byte) []byte {
	lines := strings.Split(string(text), "\n")
	if len(lines) < 4 {
		return nil
	}
	b, err := hex.DecodeString(strings.Join(lines[3:], ""))
	if err != nil {
		return nil
	}
	return b
}

// webp reads the chunks of a WebP, each of which begins at an even byte.
func (h *header) webp(f section) error {
	var m metadata
	var says struct{ exif, xmp bool }
	lossless := false
	for at := int64(12); ; {
		head := f.at(at, 8)
		if len(head) < 8 {
			break
		}
		length := int64(binary.LittleEndian.Uint32(head[4:]))
		if at+8+length > f.size { // the decoder takes memory for what is not there
			return io.ErrUnexpectedEOF
		}
		body := func() []byte { return f.at(at+8, int(min(length, mostMetadata))) }
		switch string(head[:4]) {
		case "VP8X":
			if b := body(); len(b) > 0 {
				says.exif, says.xmp = b[0]&8 != 0, b[0]&4 != 0
			}
		case "ANIM", "ANMF":
			return errors.New("an animated WebP is not read: save one picture of it as PNG")
		case "VP8L", "ALPH":
			lossless = true
		case "EXIF":
			if says.exif && m.exif == nil {
				m.exif = body()
			}
		case "XMP ":
			if says.xmp && m.xmp == nil {
				m.xmp = body()
			}
		}
		at += 8 + length + length&1
	}
	h.turn = m.turn()
	area := up(h.W, 16) * up(h.H, 16)
	h.decoder = 4 * area
	if lossless {
		// Pixels before and after transforms, and codes for blocks of four by four,
		// each of which the file has to spell out.
		h.decoder += 8*area + min(min(area/16, 1<<16)*codesOfBlock, 256*f.size)
	}
	return nil
}

// codesOfBlock is what the prefix codes of a lossless WebP take at most for one
// group of blocks.
const codesOfBlock = 16 * (256 + 24 + 1<<11 + 3*256 + 40)

// gif finds the pictures of a GIF.
func (h *header) gif(f section) error {
	h.decoder = 2*int64(h.W)*int64(h.H) + f.size
	h.pages = 0
	head := f.at(0, 13)
	if len(head) < 13 {
		return io.ErrUnexpectedEOF
	}
	table := func(fields byte) int64 {
		if fields&0x80 == 0 {
			return 0
		}
		return 3 << (fields&7 + 1)
	}
	// blocks is what follows blocks of data.
	blocks := func(at int64) int64 {
		for {
			n := f.at(at, 1)
			if len(n) == 0 || n[0] == 0 {
				return at + 1
			}
			at += 1 + int64(n[0])
		}
	}
	const most = 10_000
	for at := 13 + table(head[10]); h.pages < most; {
		b := f.at(at, 10)
		if len(b) == 0 || b[0] != 0x21 && b[0] != 0x2c {
			break
		}
		if b[0] == 0x21 { // an extension
			if len(b) >= 4 && b[1] == 0xf9 && b[3]&1 != 0 && h.pages == 0 {
				h.transparency = at + 3
			}
			at = blocks(at + 2)
			continue
		}
		if len(b) < 10 {
			break
		}
		number := func(i int) int { return int(binary.LittleEndian.Uint16(b[i:])) }
		if h.pages == 0 && (number(1) != 0 || number(3) != 0 || number(5) != h.W || number(7) != h.H) {
			return errors.New("the first picture of the GIF covers a part of it only: save it as PNG")
		}
		h.pages++
		at = blocks(at + 10 + table(b[9]) + 1)
	}
	h.pages = max(h.pages, 1)
	return nil
}
