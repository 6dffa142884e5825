package data

import (
	"bytes"
	"runtime"
	"testing"
)

// FuzzDecode holds decoders to their promises for any content: no panic, no more
// memory than was asked for, and images and masks of one size. Seeds are the
// storage forms of testdata/forms.json and files that claim to be large.
func FuzzDecode(f *testing.F) {
	for _, form := range loadForms(f) {
		f.Add(form.File)
	}
	for _, content := range claims() {
		f.Add(content)
	}
	limit(f, 1<<20, 1<<28)
	f.Fuzz(func(t *testing.T, content []byte) {
		demanded, err := demand(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			demanded = 0
		} else if demanded > decoding.size {
			t.Skip("load refuses it")
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p, err := decodeImage(content)
		runtime.ReadMemStats(&after)
		// What was allocated in all bounds what was held at once. Buffers and tables,
		// such as a directory of TIFF with 65,535 entries, take some more.
		if took := int64(after.TotalAlloc - before.TotalAlloc); took > demanded+16*int64(len(content))+4<<20 {
			t.Errorf("decoding allocated %d bytes where %d were asked for", took, demanded)
		}
		if err == nil && (p.h <= 0 || p.w <= 0 || len(p.planes) != 3*p.h*p.w || int64(p.h*p.w) > mostPixels) {
			t.Errorf("%d×%d pixels in %d bytes", p.w, p.h, len(p.planes))
		}
		for _, as := range []kind{asIndices, asColours} {
			m, wrong := decodeMask(content, as)
			if wrong == nil && (err != nil || m.h != p.h || m.w != p.w || len(m.values) != m.h*m.w) {
				t.Errorf("a mask of %d×%d values beside an image of %d×%d, %v", m.w, m.h, p.w, p.h, err)
			}
		}
	})
}

// FuzzMetadata holds the readers of what pictures say of themselves to an
// orientation that there is.
func FuzzMetadata(f *testing.F) {
	f.Add([]byte("II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"), []byte(`tiff:Orientation="6"`))
	f.Add([]byte("Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x04\x00\x00\x00\x01\x00\x00\x00\x08"), []byte("XML:com.adobe.xmp\x00\x00\x00en\x00\x00tiff:Orientation>3<"))
	f.Add([]byte{}, []byte("Raw profile type exif\x00\nexif\n       4\n49492a00\n"))
	f.Fuzz(func(t *testing.T, exif, text []byte) {
		for _, chunk := range []string{"tEXt", "zTXt", "iTXt"} {
			_, xmp := pngText(chunk, text)
			for _, m := range []metadata{{exif, xmp}, {rawProfile(xmp), nil}, {nil, text}} {
				if turn := m.turn(); turn < 1 || turn > 8 {
					t.Errorf("orientation %d", turn)
				}
			}
		}
	})
}
