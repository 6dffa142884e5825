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
)

// memory is shared by goroutines, which wait for each other.
type memory struct {
	size int64
	free *semaphore.Weighted
}

func newMemory(bytes int64) memory { return memory{bytes, semaphore.NewWeighted(bytes)} }

// load reads the files of pictures and hands their contents to do. It holds the
// memory that decoding them takes until do returns, which therefore keeps nothing
// of their size, and calls load for no other pictures: memory for all is taken at
// once, since goroutines that hold some and wait for more would wait for each
// other. Files of other kinds than regular ones are refused unread.
func load(ctx context.Context, paths []string, do func(contents [][]byte) error) error {
	files := make([]*os.File, len(paths))
	defer func() {
		for _, f := range files {
			if f != nil {
				_ = f.Close() // nothing was written
			}
		}
	}()
	var need int64
	sizes := make([]int64, len(paths))
	for i, path := range paths {
		f, err := regular.Open(path)
		if err != nil {
			return at(path, err)
		}
		files[i] = f
		info, err := f.Stat()
		if err != nil {
			return at(path, err)
		}
		sizes[i] = info.Size()
		if sizes[i] == 0 {
			return at(path, errors.New("the file is empty"))
		}
		takes, err := demand(f, sizes[i])
		if err != nil {
			return at(path, err)
		}
		if need += takes; need > decoding.size {
			return at(path, fmt.Errorf("decoding it may take %s of memory, and %s is the most: cut it into tiles, or save it as PNG without interlacing", gigabytes(need), gigabytes(decoding.size)))
		}
	}
	if err := decoding.free.Acquire(ctx, need); err != nil {
		return err
	}
	defer decoding.free.Release(need)
	contents := make([][]byte, len(paths))
	for i, f := range files {
		content := make([]byte, sizes[i])
		if _, err := io.ReadFull(f, content); err != nil {
			return at(paths[i], cutOff(err))
		}
		// The header that memory was taken for is the one that is decoded.
		if takes, err := demand(bytes.NewReader(content), sizes[i]); err != nil || takes > need {
			return at(paths[i], errors.New("the file changes while it is read"))
		}
		contents[i] = content
	}
	return do(contents)
}

// demand is what a picture takes while it is decoded, with its file and with what
// is made of it: an image, or a mask of four bytes a value, and either once more
// while it is turned.
func demand(r io.ReaderAt, size int64) (int64, error) {
	h, err := readHeader(r, size)
	if err != nil {
		return 0, cutOff(err)
	}
	return size + h.decoder + 8*int64(h.w)*int64(h.h), nil
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
