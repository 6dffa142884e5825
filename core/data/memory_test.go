package data

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// claims are files of a few bytes that ask for gigabytes: trial-reliability 17.
func claims() map[string][]byte {
	jpeg := []byte("\xff\xd8\xff\xc0\x00\x11\x08\xff\xdc\xff\xdc\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xda\x00\x02")
	bmp := make([]byte, 54)
	copy(bmp, "BM")
	for at, v := range map[int]uint32{10: 54, 14: 40, 18: 60000, 22: ^uint32(60000) + 1, 26: 24<<16 | 1} {
		binary.LittleEndian.PutUint32(bmp[at:], v)
	}
	header := []byte("IHDR\x00\x00\xc3\x50\x00\x00\xc3\x50\x01\x00\x00\x00\x00")
	png := binary.BigEndian.AppendUint32(append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), header...), crc32.ChecksumIEEE(header))
	tiff := []byte("II*\x00\x08\x00\x00\x00\x04\x00" +
		"\x00\x01\x04\x00\x01\x00\x00\x00\x00\x00\x01\x00" + "\x01\x01\x04\x00\x01\x00\x00\x00\x00\x00\x01\x00" +
		"\x02\x01\x03\x00\x01\x00\x00\x00\x08\x00\x00\x00" + "\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00\x00\x00" + "\x00\x00\x00\x00")
	gif := []byte("GIF89a\xff\xff\xff\xff\x00\x00\x00")
	webp := []byte("RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\xff\x7f\x00\xff\x7f\x00")
	return map[string][]byte{"a.jpg": jpeg, "b.bmp": bmp, "c.png": png, "d.tif": tiff, "e.gif": gif, "f.webp": webp}
}

func TestPicturesThatClaimToBeLarge(t *testing.T) {
	dir := t.TempDir()
	for name, content := range claims() {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o666); err != nil {
			t.Fatal(err)
		}
		for what, read := range map[string]func() error{
			"image": func() error { _, err := readImage(path); return err },
			"mask":  func() error { _, err := readMask(path, asIndices); return err },
		} {
			err := read()
			if err == nil || !strings.Contains(err.Error(), "reading "+what+" "+path+": the picture has ") || !strings.Contains(err.Error(), "at most 268435456 are read") {
				t.Errorf("%v", err)
			}
		}
	}
}

// A picture of few enough pixels may still take too much.
func TestMemoryIsBounded(t *testing.T) {
	limit(t, 1<<28, 1<<20)
	path := filepath.Join(t.TempDir(), "p.png")
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 400, 300))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := readImage(path); err == nil || !strings.Contains(err.Error(), "GB of memory") {
		t.Errorf("12 bytes for each of 120,000 pixels, where one MiB is allowed: %v", err)
	}
	// What several pictures take is taken at once and given back.
	limit(t, 1<<28, 4<<20)
	release, err := reserve(context.Background(), path, path)
	if err != nil {
		t.Fatal(err)
	}
	if serving.free.TryAcquire(4<<20 - 2*12*120_000) {
		t.Error("less is held than both pictures take")
	}
	if _, err := readImage(path); err != nil {
		t.Errorf("a reservation keeps pictures from being decoded: %v", err)
	}
	release()
	if !serving.free.TryAcquire(4 << 20) {
		t.Error("a reservation is not given back")
	}
	if !decoding.free.TryAcquire(4 << 20) {
		t.Error("memory is not given back")
	}
}

// limit sets the bounds on pictures for a test.
func limit(t testing.TB, pixels, bytes int64) {
	before, one, other := mostPixels, decoding, serving
	mostPixels, decoding, serving = pixels, newMemory(bytes), newMemory(bytes)
	t.Cleanup(func() { mostPixels, decoding, serving = before, one, other })
}

// trial-reliability 24: a pipe among pictures is refused and not waited for.
func TestWhatIsNoFileIsNoPicture(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe.png")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readImage(pipe); err == nil || err.Error() != "reading image "+pipe+": it is a named pipe, not a regular file" {
		t.Errorf("got %v", err)
	}
	if _, err := readMask(filepath.Join(dir, "none.png"), asIndices); err == nil || err.Error() != "reading mask "+filepath.Join(dir, "none.png")+": no such file or directory" {
		t.Errorf("got %v", err)
	}
}
