package data

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/loralab/loralab/core/filehash"
)

// look is what is known of files, each decoded as as(i) unless that is known
// already, by all processors, and what is wrong with each. The error is that of an
// ended context.
func (x *Index) look(ctx context.Context, f Files, names []string, as func(i int) kind) ([]fact, []error, error) {
	how, ix := x.how, x.at(f.Root)
	facts, faults, known := make([]fact, len(names)), make([]error, len(names)), make([]bool, len(names))
	err := parallel(ctx, len(names), func(i int) error {
		facts[i], known[i], faults[i] = ix.lookup(f.path(names[i]), names[i], as(i), how.Afresh)
		return nil
	})
	if err != nil {
		return facts, faults, err
	}
	var missing []int
	for i := range names {
		if !known[i] && faults[i] == nil {
			missing = append(missing, i)
		}
	}
	if len(missing) == 0 {
		return facts, faults, nil
	}
	defer ix.save()
	var mu sync.Mutex
	done := 0
	err = parallel(ctx, len(missing), func(k int) error {
		i := missing[k]
		path := f.path(names[i])
		unlike := false
		if faults[i] = facts[i].learn(ctx, path, as(i)); faults[i] == nil {
			unlike = ix.store(names[i], facts[i])
		}
		mu.Lock()
		defer mu.Unlock()
		done++
		if how.Read != nil {
			how.Read(done, len(missing))
		}
		if unlike && how.Unlike != nil {
			how.Unlike(path)
		}
		return nil
	})
	return facts, faults, err
}

// learn reads a file.
func (f *fact) learn(ctx context.Context, path string, as kind) error {
	if as == bytesAlone {
		sum, err := filehash.Sum(path)
		f.sum = sum
		return err
	}
	err := load(ctx, path, func(content []byte) error {
		f.sum = sha256.Sum256(content)
		if as == asImage {
			p, err := decodeImage(content)
			if err != nil {
				return err
			}
			f.width, f.height, f.pages, f.peak = p.W, p.H, p.pages, slices.Max(p.RGB)
			return nil
		}
		m, err := decodeMask(content, as)
		if err != nil {
			return err
		}
		f.width, f.height, f.pages = m.W, m.H, m.pages
		f.values, f.pixels, err = m.counted()
		return err
	})
	switch {
	case err == nil:
		f.as = as
		return nil
	case as == asImage:
		return fmt.Errorf("reading image %w", err)
	}
	return fmt.Errorf("reading mask %w", err)
}

// cutOff says in plain words that a file ends too early.
func cutOff(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || strings.Contains(err.Error(), "not enough pixel data") {
		return fmt.Errorf("the file is cut off: %w", err)
	}
	return err
}

// problem tells what is wrong with a file, which stands before it.
func problem(path string, err error) Problem {
	return Problem{path, -1, strings.ReplaceAll(err.Error(), " "+path, "")}
}
