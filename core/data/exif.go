package data

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"regexp"

	"github.com/loralab/loralab/core/raster"
)

// turn is how a camera was held, as EXIF numbers it: what has to be done with
// the stored picture to see it upright.
type turn int

const upright turn = 1

// size is that of the upright image.
func (t turn) size(stored raster.Size) raster.Size {
	if t >= 5 { // on its side
		return raster.Size{H: stored.W, W: stored.H}
	}
	return stored
}

// turned is a stored plane, upright.
func turned[T any](src []T, stored raster.Size, t turn) []T {
	h, w, to := stored.H, stored.W, t.size(stored)
	dst := make([]T, len(src))
	for y := range to.H {
		for x := range to.W {
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
			dst[y*to.W+x] = src[sy*w+sx]
		}
	}
	return dst
}

// Tags of TIFF directories. EXIF is such a directory.
const (
	tagWidth        = 256
	tagHeight       = 257
	tagBits         = 258
	tagCompression  = 259
	tagPhotometric  = 262
	tagFillOrder    = 266
	tagOrientation  = 274
	tagSamples      = 277
	tagRows         = 278
	tagPlanar       = 284
	tagPredictor    = 317
	tagTileWidth    = 322
	tagTileHeight   = 323
	tagExtraSamples = 338
	tagSampleFormat = 339
	tagXMP          = 700
)

// directory holds the entries of a TIFF directory by tag.
type directory struct {
	r       io.ReaderAt
	order   binary.ByteOrder
	entries map[uint16][12]byte
	next    int64 // where the next directory lies; 0: there is none
}

var errNoTIFF = errors.New("it does not begin as a TIFF")

// firstDirectory reads the first directory of a TIFF file, or of EXIF.
func firstDirectory(r io.ReaderAt) (directory, error) {
	var head [8]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return directory{}, err
	}
	var order binary.ByteOrder
	switch string(head[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return directory{}, errNoTIFF
	}
	return readDirectory(r, order, int64(order.Uint32(head[4:])))
}

func readDirectory(r io.ReaderAt, order binary.ByteOrder, at int64) (directory, error) {
	d := directory{r: r, order: order, entries: map[uint16][12]byte{}}
	var count [2]byte
	if _, err := r.ReadAt(count[:], at); err != nil {
		return d, err
	}
	n := int(order.Uint16(count[:]))
	// What is missing at the end of a directory that was cut off is left out.
	raw := make([]byte, 12*n+4)
	got, err := r.ReadAt(raw, at+2)
	if err != nil && !errors.Is(err, io.EOF) {
		return d, err
	}
	for i := range min(n, got/12) {
		entry := [12]byte(raw[12*i:])
		tag := order.Uint16(entry[:])
		if _, twice := d.entries[tag]; !twice {
			d.entries[tag] = entry
		}
	}
	if got == len(raw) {
		d.next = int64(order.Uint32(raw[12*n:]))
	}
	return d, nil
}

// mostNumbers is how many numbers of one entry are looked at.
const mostNumbers = 64

// numbers are the whole numbers of an entry, at most mostNumbers; none if the
// entry is missing or holds something else.
func (d directory) numbers(tag uint16) []uint32 {
	entry, ok := d.entries[tag]
	if !ok {
		return nil
	}
	kind, n := d.order.Uint16(entry[2:]), int(min(d.order.Uint32(entry[4:]), mostNumbers))
	size, ok := map[uint16]int{1: 1, 3: 2, 4: 4}[kind] // bytes, shorts, longs
	if !ok {
		return nil
	}
	raw := entry[8:]
	if int64(d.order.Uint32(entry[4:]))*int64(size) > 4 {
		raw = make([]byte, n*size)
		if _, err := d.r.ReadAt(raw, int64(d.order.Uint32(entry[8:]))); err != nil {
			return nil
		}
	}
	list := make([]uint32, n)
	for i := range list {
		switch size {
		case 1:
			list[i] = uint32(raw[i])
		case 2:
			list[i] = uint32(d.order.Uint16(raw[2*i:]))
		case 4:
			list[i] = d.order.Uint32(raw[4*i:])
		}
	}
	return list
}

// number is the first number of an entry, or what it is where there is none.
func (d directory) number(tag uint16, otherwise uint32) uint32 {
	if list := d.numbers(tag); len(list) > 0 {
		return list[0]
	}
	return otherwise
}

// bytes are those of an entry of at most limit bytes.
func (d directory) bytes(tag uint16, limit uint32) []byte {
	entry, ok := d.entries[tag]
	n := d.order.Uint32(entry[4:])
	if kind := d.order.Uint16(entry[2:]); !ok || kind != 1 && kind != 7 || n <= 4 || n > limit {
		return nil
	}
	raw := make([]byte, n)
	if _, err := d.r.ReadAt(raw, int64(d.order.Uint32(entry[8:]))); err != nil {
		return nil
	}
	return raw
}

// turn is what the directory says of the camera; 0 if nothing.
func (d directory) turn() turn {
	if v := d.number(tagOrientation, 0); v >= 1 && v <= 8 {
		return turn(v)
	}
	return 0
}

// metadata is what a picture carries about itself in addition to its pixels.
type metadata struct{ exif, xmp []byte }

// mostMetadata bounds what is read of EXIF and of XMP. The orientation is in the
// first directory of the one, and the other is small.
const mostMetadata = 1 << 20

var xmpTurn = regexp.MustCompile(`tiff:Orientation(="|>)([0-9])`)

// turn is how the picture has to be turned. As for Pillow, XMP counts where EXIF
// does not say. Damaged metadata of sound pixels counts for nothing, and viewers
// show such a picture as stored.
func (m metadata) turn() turn {
	if d, err := firstDirectory(bytes.NewReader(bytes.TrimPrefix(m.exif, []byte("Exif\x00\x00")))); err == nil {
		// EXIF that has the entry counts, even where its value means nothing.
		if _, says := d.entries[tagOrientation]; says {
			return max(d.turn(), upright)
		}
	}
	return m.turnOfXMP()
}

func (m metadata) turnOfXMP() turn {
	found := xmpTurn.FindSubmatch(m.xmp)
	if found == nil {
		return upright
	}
	if v := turn(found[2][0] - '0'); v >= 1 && v <= 8 {
		return v
	}
	return upright
}
