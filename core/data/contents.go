package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/loralab/loralab/core/filehash"
)

// Contents are files and the SHA-256 of each. Whatever reads them checks that a
// file still has that sum, so that what was planned is what is used.
type Contents struct {
	Files
	sums [][sha256.Size]byte // of pairs()
}

// Contents hashes the files that x does not know.
func (f Files) Contents(ctx context.Context, x *Index) (Contents, error) {
	if f.Len() == 0 {
		return Contents{Files: f}, nil
	}
	sums, err := f.sums(ctx, x, f.pairs())
	if err != nil {
		return Contents{}, fmt.Errorf("digest of the data in %s: %w", f.Root, err)
	}
	return Contents{f, sums}, nil
}

// Digest is the identity of the content: SHA-256 over the SHA-256 of every
// image and mask, in order. Names do not count, nor does where the files lie.
func (c Contents) Digest() string {
	all := sha256.New()
	for _, s := range c.sums {
		all.Write(s[:])
	}
	return hex.EncodeToString(all.Sum(nil))
}

// each is how many of sums belong to an image: itself and its mask.
func (c Contents) each() int {
	if len(c.Masks) > 0 {
		return 2
	}
	return 1
}

// pixels decodes the image of pair i.
func (c Contents) pixels(i int) (p pixels, err error) {
	err = verified(c.path(c.Images[i]), c.sums[c.each()*i], func(content []byte) error {
		p, err = decodeImage(content)
		return err
	})
	if err != nil {
		return pixels{}, fmt.Errorf("reading image %w", c.changed(c.Images[i], err))
	}
	return p, nil
}

// mask decodes the mask of pair i.
func (c Contents) mask(i int, as kind) (mask, error) {
	return c.maskOf(i, func(content []byte) (mask, error) { return decodeMask(content, as) })
}

func (c Contents) maskOf(i int, decode func(content []byte) (mask, error)) (m mask, err error) {
	err = verified(c.path(c.Masks[i]), c.sums[c.each()*i+1], func(content []byte) error {
		m, err = decode(content)
		return err
	})
	if err != nil {
		return mask{}, fmt.Errorf("reading mask %w", c.changed(c.Masks[i], err))
	}
	return m, nil
}

// errChanged is a file whose content is not what was planned.
var errChanged = errors.New("the file changed after it was planned; plan again")

// ChangedError reports a file whose content is not what was planned.
type ChangedError struct {
	Root, File string // as in Files
	err        error
}

func (e *ChangedError) Error() string { return e.err.Error() }

func (e *ChangedError) Unwrap() error { return e.err }

// changed makes an error of reading a file a ChangedError, if it is one.
func (c Contents) changed(file string, err error) error {
	if errors.Is(err, errChanged) {
		return &ChangedError{c.Root, file, err}
	}
	return err
}

// verified loads a file whose content is known. It is decoded from the memory that
// was hashed, so it cannot change in between.
func verified(path string, want [sha256.Size]byte, decode func(content []byte) error) error {
	err := load(context.Background(), path, func(content []byte) error {
		if sha256.Sum256(content) != want {
			return errChanged
		}
		return decode(content)
	})
	if err == nil || errors.Is(err, errChanged) {
		return err
	}
	// A file that was cut or replaced may fail before it is hashed.
	if sum, fault := filehash.Sum(path); fault == nil && sum != want {
		return at(path, errChanged)
	}
	return err
}

// keys name what random changes of a picture draw from: the SHA-256 of its file
// and, of copies within the set, the number of those before it. The identity of a
// set covers contents and order, so it covers these; names it does not cover.
func (c Contents) keys() []string {
	keys := make([]string, c.Len())
	before := map[[sha256.Size]byte]int{}
	for i := range keys {
		sum := c.sums[c.each()*i]
		keys[i] = hex.EncodeToString(sum[:])
		if n := before[sum]; n > 0 {
			keys[i] += " " + strconv.Itoa(n)
		}
		before[sum]++
	}
	return keys
}
