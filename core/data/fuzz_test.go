package data

import (
	"bytes"
	"runtime"
	"strconv"
	"strings"
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
		if err == nil && (p.H <= 0 || p.W <= 0 || len(p.RGB) != 3*p.H*p.W || int64(p.H*p.W) > mostPixels) {
			t.Errorf("%d×%d pixels in %d bytes", p.W, p.H, len(p.RGB))
		}
		for _, as := range []kind{asIndices, asColors} {
			m, wrong := decodeMask(content, as)
			if wrong == nil && (err != nil || m.H != p.H || m.W != p.W || len(m.values) != m.H*m.W) {
				t.Errorf("a mask of %d×%d values and an image of %d×%d, %v", m.W, m.H, p.W, p.H, err)
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

// FuzzLists holds the readers of divisions to parts that are disjoint and whose
// places are lines of the file.
func FuzzLists(f *testing.F) {
	f.Add([]byte("image,part\nimages/a.png,train\nsub/b,val\n# c\nc,test\n"))
	f.Add([]byte("\ufeffimage,part,image_sha256\n\"a\nb\",train,\n"))
	f.Add([]byte("a\r\nimages/sub/b.png 1 2\n\n#c\n"))
	files := Files{
		Images: []string{"images/a.png", "images/c.png", "images/sub/a.png", "images/sub/b.png"},
		Masks:  []string{"masks/a.png", "masks/c.png", "masks/sub/a.png", "masks/sub/b.png"},
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		lines := bytes.Count(content, []byte("\n")) + 1
		for _, read := range []func(add func(role string, line Line)) error{
			func(add func(role string, line Line)) error { return readCSV("list", content, partsCSV, add) },
			func(add func(role string, line Line)) error {
				readNames("val", "list", content, add)
				return nil
			},
		} {
			out := Listed{}
			err := read(func(role string, line Line) {
				if n, err := strconv.Atoi(strings.TrimPrefix(line.At, "list:")); err != nil || n < 1 || n > lines {
					t.Errorf("line %s of %d", line.At, lines)
				}
				out[role] = append(out[role], line)
			})
			if err != nil {
				continue
			}
			parts, rest, err := files.Divide(out)
			if err != nil {
				continue
			}
			_ = files.Compare(t.Context(), NewIndex(Look{}), out)
			n := rest.Len()
			for _, p := range parts {
				n += p.Len()
			}
			if n != files.Len() {
				t.Errorf("%d images in parts of %d", n, files.Len())
			}
		}
	})
}
