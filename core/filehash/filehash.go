// Package filehash names contents by their SHA-256.
package filehash

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/loralab/loralab/core/regular"
)

// Of is the SHA-256 of a file's content, in hex. The error of a missing file
// is fs.ErrNotExist. What is no regular file is refused.
func Of(path string) (string, error) {
	sum, err := Sum(path)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(sum[:]), nil
}

// Sum is Of in bytes.
func Sum(path string) (sum [sha256.Size]byte, err error) {
	f, err := regular.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	// Hidden from io.Copy, the file is read in pieces that suit SHA-256; a small one
	// at once.
	piece := min(max(info.Size(), 512), 1<<20)
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, piece)); err != nil {
		return sum, fmt.Errorf("hashing %s: %w", path, err)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
