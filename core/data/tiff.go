package data

import (
	"errors"
	"fmt"
	"slices"
)

// Compressions of TIFF that are read: none, LZW, deflate under both numbers,
// PackBits.
var tiffCompressions = []uint32{1, 5, 8, 32946, 32773}

// Compressions that errors name.
var tiffForeign = map[uint32]string{
	2: "CCITT", 3: "CCITT group 3", 4: "CCITT group 4", 6: "JPEG", 7: "JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000",
	34712: "JPEG 2000", 34925: "LZMA", 50000: "zstd", 50001: "WebP", 50002: "JPEG XL",
}

// tiff refuses the forms of TIFF that the decoder takes for others than they are,
// or does not know. Without these checks it reads group 3 and 4 inverted, ignores
// the order of planes and of bits, and takes samples that it does not expect for
// pixels.
func (h *header) tiff(f section) error {
	d, err := firstDirectory(f.r)
	if err != nil {
		return err
	}
	bits := d.numbers(tagBits)
	if len(bits) == 0 {
		bits = []uint32{1} // what TIFF says
	}
	depth, samples := bits[0], d.number(tagSamples, 1)
	// A missing entry counts as 0 for the decoder, and for Pillow.
	photometric := d.number(tagPhotometric, 0)
	compression := d.number(tagCompression, 1)
	predictor := d.number(tagPredictor, 1)
	extra := d.number(tagExtraSamples, 0)
	other := func(v uint32) bool { return v != 1 }
	deflateOrLZW := compression == 5 || compression == 8 || compression == 32946
	const cure = ": save it as PNG, or as TIFF with deflate"
	switch {
	case !slices.Contains(tiffCompressions, compression) && tiffForeign[compression] != "":
		return fmt.Errorf("a TIFF with %s compression is not read%s", tiffForeign[compression], cure)
	case !slices.Contains(tiffCompressions, compression):
		return fmt.Errorf("a TIFF with compression %d is not read%s", compression, cure)
	case photometric == 0:
		return errors.New("a TIFF whose 0 is white is not read: save it as PNG")
	case photometric > 3:
		return fmt.Errorf("a TIFF whose colors are %s is not read: save it as RGB", tiffColors(photometric))
	case slices.ContainsFunc(d.numbers(tagSampleFormat), other):
		return errors.New("a TIFF of signed, floating-point or complex numbers is not read: scale it to 8 or 16 bits without sign")
	case uint32(len(bits)) != samples || slices.ContainsFunc(bits, func(b uint32) bool { return b != depth }):
		return fmt.Errorf("a TIFF of %d channels with %v bits is not read%s", samples, bits, cure)
	case samples > 1 && d.number(tagPlanar, 1) != 1:
		return errors.New("a TIFF that keeps channels apart (planar) is not read: save it as PNG, or as TIFF with interleaved channels")
	case d.number(tagFillOrder, 1) != 1:
		return errors.New("a TIFF with reversed bits (FillOrder 2) is not read" + cure)
	case predictor > 2, predictor == 2 && (!deflateOrLZW || depth < 8):
		return fmt.Errorf("a TIFF with predictor %d, compression %d and %d bits is not read%s", predictor, compression, depth, cure)
	case photometric == 2 && (samples < 3 || samples > 4 || depth != 8 && depth != 16):
		return fmt.Errorf("a color TIFF of %d channels with %d bits is not read: save it as RGB with 8 or 16 bits", samples, depth)
	case photometric == 2 && samples == 4 && extra != 1 && extra != 2:
		return errors.New("a TIFF with a fourth channel that is not alpha is not read: save it as RGB")
	case photometric == 2 && samples == 4 && extra == 1 && depth == 16:
		return errors.New("a TIFF of 16 bits whose colors are multiplied by alpha is not read: save it as RGB")
	case photometric != 2 && samples > 1:
		return fmt.Errorf("a TIFF of gray or a palette with %d channels is not read: save it with one", samples)
	case photometric == 1 && depth != 1 && depth != 8 && depth != 16:
		return fmt.Errorf("a gray TIFF of %d bits is not read: save it as 8-bit gray", depth)
	case photometric == 3 && depth != 1 && depth != 8:
		return fmt.Errorf("a palette TIFF of %d bits is not read: save it with 8 bits", depth)
	}
	h.bits, h.gray = int(depth), photometric == 1
	h.premultiplied = extra == 1 && samples == 4
	if h.turn = d.turn(); h.turn == 0 {
		h.turn = upright
		if _, says := d.entries[tagOrientation]; !says {
			h.turn = metadata{xmp: d.bytes(tagXMP, mostMetadata)}.turnOfXMP()
		}
	}
	// A block, which is a strip or a tile, may hold up to eight bytes a pixel, and
	// its buffer grows by doubling.
	blockW, blockH := int64(h.W), int64(h.H)
	if w := int64(d.number(tagTileWidth, 0)); w > 0 {
		blockW, blockH = w, int64(d.number(tagTileHeight, 0))
	} else if rows := int64(d.number(tagRows, 0)); rows > 0 {
		blockH = min(blockH, rows)
	}
	if blockW > mostPixels || blockH > mostPixels || blockW*blockH > mostPixels {
		return fmt.Errorf("a TIFF with tiles of %d×%d pixels is not read%s", blockW, blockH, cure)
	}
	pixel := map[uint32]int64{1: 1, 2: 4, 3: 1}[photometric]
	if depth == 16 {
		pixel *= 2
	}
	h.decoder = pixel*int64(h.W)*int64(h.H) + 24*blockW*blockH
	h.pages = d.chain(f)
	return nil
}

func tiffColors(photometric uint32) string {
	names := map[uint32]string{4: "a mask of transparency", 5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32803: "raw"}
	if name := names[photometric]; name != "" {
		return name
	}
	return fmt.Sprintf("of kind %d", photometric)
}

// chain counts the directories of a file from the first on.
func (d directory) chain(f section) int {
	const most = 10_000
	n, seen := 1, map[int64]bool{}
	for next := d.next; next != 0 && !seen[next] && n < most; n++ {
		seen[next] = true
		count := f.at(next, 2)
		if len(count) < 2 || d.order.Uint16(count) == 0 {
			break
		}
		link := f.at(next+2+12*int64(d.order.Uint16(count)), 4)
		if len(link) < 4 {
			return n + 1
		}
		next = int64(d.order.Uint32(link))
	}
	return n
}
