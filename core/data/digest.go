package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest is that of the files' Contents.
func (f Files) Digest(ctx context.Context, x *Index) (string, error) {
	c, err := f.Contents(ctx, x)
	if err != nil {
		return "", err
	}
	return c.Digest(), nil
}

// Fingerprints are for each image the SHA-256 of its file and, in a folder that
// Copy has written, that of the image it was made of.
func (f Files) Fingerprints(ctx context.Context, x *Index) ([][]string, error) {
	sums, err := f.sums(ctx, x, f.Images)
	if err != nil {
		return nil, fmt.Errorf("comparing the images in %s: %w", f.Root, err)
	}
	origin, err := ReadOrigin(f.Root)
	if err != nil {
		return nil, err
	}
	list := make([][]string, len(sums))
	for i, sum := range sums {
		list[i] = []string{hex.EncodeToString(sum[:])}
		if of := origin.Images[nameOf(f.Images[i])]; of != "" {
			list[i] = append(list[i], of)
		}
	}
	return list, nil
}

// Repeated lists the images of f that are, or were made of, one of other's, each
// with the one there, as where they lie.
func (f Files) Repeated(ctx context.Context, x *Index, other Files) ([][2]string, error) {
	theirs, err := other.Fingerprints(ctx, x)
	if err != nil {
		return nil, err
	}
	first := map[string]string{}
	for i, sums := range theirs {
		for _, sum := range sums {
			if _, ok := first[sum]; !ok {
				first[sum] = other.path(other.Images[i])
			}
		}
	}
	ours, err := f.Fingerprints(ctx, x)
	if err != nil {
		return nil, err
	}
	var list [][2]string
	for i, sums := range ours {
		for _, sum := range sums {
			if at, ok := first[sum]; ok {
				list = append(list, [2]string{f.path(f.Images[i]), at})
				break
			}
		}
	}
	return list, nil
}

// sums are the SHA-256 of files.
func (f Files) sums(ctx context.Context, x *Index, paths []string) ([][sha256.Size]byte, error) {
	facts, faults, err := x.look(ctx, f, paths, func(int) kind { return bytesAlone })
	if err != nil {
		return nil, err
	}
	sums := make([][sha256.Size]byte, len(paths))
	for i := range facts {
		if faults[i] != nil {
			return nil, faults[i]
		}
		sums[i] = facts[i].sum
	}
	return sums, nil
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
