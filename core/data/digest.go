package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/loralab/loralab/core/filesum"
)

// Digest is the identity of the content: SHA-256 over the SHA-256 of every
// image and mask, in order. Names do not count, nor does where the files lie.
//
// Sums are cached by path, size and modification time in the user's cache
// directory, so that asking again costs a stat for each file.
func (f Files) Digest(ctx context.Context) (string, error) {
	ix := openIndex(f.Root)
	paths := f.pairs()
	sums := make([]string, len(paths))
	err := parallel(ctx, len(paths), func(i int) error {
		fact, err := ix.lookup(f, paths[i])
		if err != nil {
			return err
		}
		if fact.Sum == "" {
			if fact.Sum, err = filesum.Of(f.path(paths[i])); err != nil {
				return err
			}
			ix.store(paths[i], fact)
		}
		sums[i] = fact.Sum
		return nil
	})
	ix.save()
	if err != nil {
		return "", fmt.Errorf("digest of the data in %s: %w", f.Root, err)
	}
	all := sha256.New()
	for _, s := range sums {
		b, err := hex.DecodeString(s)
		if err != nil {
			return "", fmt.Errorf("digest of the data in %s: a cached sum is damaged: %w", f.Root, err)
		}
		all.Write(b)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// pairs lists image, mask, image, mask, …, or images alone.
func (f Files) pairs() []string {
	list := make([]string, 0, 2*f.Len())
	for i := range f.Images {
		list = append(list, f.Images[i])
		if len(f.Masks) > 0 { // style images have none
			list = append(list, f.Masks[i])
		}
	}
	return list
}
