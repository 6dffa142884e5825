package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sync/semaphore"

	"github.com/loralab/loralab/core/regular"
)

// What a picture says of its size costs nothing to say: a file of 100 bytes can
// ask for gigabytes. So its header is read first, and memory is taken before the
// pixels are.
var (
	// mostPixels bounds a picture: 16,384 by 16,384.
	mostPixels int64 = 1 << 28
	// decoding is what all pictures together may take that are decoded at one time.
	decoding = newMemory(4 << 30)
	// serving is what images and masks may take, until they have the size that the
	// model sees, of all pairs that are read at one time.
	serving = newMemory(4 << 30)
)

// memory is shared by goroutines, which wait for each other.
type memory struct {
	size int64
	free *semaphore.Weighted
}

func newMemory(bytes int64) memory { return memory{bytes, semaphore.NewWeighted(bytes)} }

// reserve takes the memory that an image and its mask take, by their headers, and
// waits until there is as much. It is taken for both at once, and nothing more is
// reserved before release: goroutines that hold some and wait for more would wait
// for each other. Decoding takes memory of another account, so it may be waited
// for.
func reserve(ctx context.Context, paths ...string) (release func(), err error) {
	var need int64
	for _, path := range paths {
		takes, err := demandOf(path)
		if err != nil {
			continue // reading it says what is wrong
		}
		if need += takes; need > serving.size {
			return nil, at(path, tooMuch(need))
		}
	}
	return serving.take(ctx, need)
}

func (m memory) take(ctx context.Context, need int64) (release func(), err error) {
	if err := m.free.Acquire(ctx, need); err != nil {
		return nil, err
	}
	return func() { m.free.Release(need) }, nil
}

func demandOf(path string) (int64, error) {
	f, size, err := open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return demand(f, size)
}

func open(path string) (*os.File, int64, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// small is the size up to which a file is read before its header is looked at: it
// takes less time than reading it in pieces.
const small = 1 << 20

// load reads the file of a picture and hands its content to do, with the memory
// that decoding it takes. do keeps nothing of that size, or counts for it itself.
func load(ctx context.Context, path string, do func(content []byte) error) error {
	if err := loaded(ctx, path, do); err != nil {
		return at(path, cutOff(err))
	}
	return nil
}

func loaded(ctx context.Context, path string, do func(content []byte) error) error {
	f, size, err := open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	content := make([]byte, min(size, small))
	if _, err := io.ReadFull(f, content); err != nil {
		return err
	}
	if size <= small {
		return within(ctx, bytes.NewReader(content), size, func() error { return do(content) })
	}
	return within(ctx, f, size, func() error {
		content = append(make([]byte, 0, size), content...)[:size]
		if _, err := io.ReadFull(f, content[small:]); err != nil {
			return err
		}
		return do(content)
	})
}

// within takes the memory that decoding the picture of r takes while do runs.
func within(ctx context.Context, r io.ReaderAt, size int64, do func() error) error {
	need, err := demand(r, size)
	if err != nil {
		return err
	}
	if need > decoding.size {
		return tooMuch(need)
	}
	release, err := decoding.take(ctx, need)
	if err != nil {
		return err
	}
	defer release()
	return do()
}

func tooMuch(need int64) error {
	return fmt.Errorf("decoding it may take %s of memory, and %s is the most: cut it into tiles, or save it as PNG without interlacing", gigabytes(need), gigabytes(decoding.size))
}

// demand is what a picture takes while it is decoded, with its file and with what
// is made of it: an image, or a mask of four bytes a value, and either once more
// while it is turned.
func demand(r io.ReaderAt, size int64) (int64, error) {
	if size == 0 {
		return 0, errors.New("the file is empty")
	}
	h, err := readHeader(r, size)
	if err != nil {
		return 0, err
	}
	return size + h.decoder + 8*int64(h.W)*int64(h.H), nil
}

func gigabytes(n int64) string { return fmt.Sprintf("%.1f GB", float64(n)/1e9) }

// at is an error of a file, with its path before it and nowhere else.
func at(path string, err error) error {
	var system *fs.PathError
	var kind *regular.Error
	switch {
	case strings.HasPrefix(err.Error(), path+": "):
		return err
	case errors.As(err, &system):
		err = system.Err
	case errors.As(err, &kind):
		err = fmt.Errorf("it is %s, not a regular file", kind.Kind)
	}
	return fmt.Errorf("%s: %w", path, err)
}
