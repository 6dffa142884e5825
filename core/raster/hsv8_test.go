package raster

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// All colors there and back are those of OpenCV 4.10, byte for byte. The digests are
// of what these lines of Python make:
//
//	of = lambda n: np.stack(np.meshgrid(np.arange(n), np.arange(256), np.arange(256), indexing="ij"), -1).astype(np.uint8).reshape(n, 65536, 3)
//	hashlib.sha256(cv2.cvtColor(of(256), cv2.COLOR_RGB2HSV).tobytes()).hexdigest()
//	hashlib.sha256(cv2.cvtColor(of(180), cv2.COLOR_HSV2RGB).tobytes()).hexdigest()
func TestHSV8(t *testing.T) {
	for _, c := range []struct {
		name, sum string
		first     int
		convert   func(a, b, c byte) (byte, byte, byte)
	}{
		{"ToHSV8", "a5b38b214f65aed9d382cc07bf40311aff2e3e324c98da86df77bef285f224eb", 256, ToHSV8},
		{"FromHSV8", "cf2763d893cfed37873c3062fb3b644ac3d2c35a59299550e0e82c8f6874eb48", Hues, FromHSV8},
	} {
		h, row := sha256.New(), make([]byte, 3*256)
		for a := range c.first {
			for b := range 256 {
				for i := range 256 {
					row[3*i], row[3*i+1], row[3*i+2] = c.convert(byte(a), byte(b), byte(i))
				}
				h.Write(row)
			}
		}
		if sum := hex.EncodeToString(h.Sum(nil)); sum != c.sum {
			t.Errorf("%s: %s, want %s", c.name, sum, c.sum)
		}
	}
}
