// Package data turns folders of pictures and index masks into batches of bytes.
//
// A data set is a folder with images/ and masks/, paired by the paths below them
// without endings, or lies as it was published, which FindLayout recognises. Scan and
// Layout.Parts find the pairs, Split and Sample choose among them by hashing
// names (so that neither the order of the file system nor adding a domain moves
// a picture from one split to another), Digest gives the content an identity,
// Check finds every file that would stop a training before it starts, and Open
// serves batches: decoded and resized in parallel, kept as bytes, so that later
// epochs cost a copy.
//
// Images (JPEG, PNG, WebP, TIFF, BMP, GIF) become 3 planes of 8-bit RGB, upright by
// their EXIF orientation, resized bilinearly with antialias like Pillow up to 12,
// byte for byte. Masks (PNG, TIFF, BMP) hold class indices, as gray values or
// palette indices, or a color for each class; they are resized to the nearest
// pixel. Normalizing to floats is left to the device.
//
// The procedural set needs no file and serves tests and smoke runs.
package data

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// parallel calls do for 0 … n-1 on at most GOMAXPROCS goroutines and waits for
// them. After an error or the end of ctx it starts no more and returns the
// error of the smallest index, so that it does not depend on timing more than
// it must.
func parallel(ctx context.Context, n int, do func(i int) error) error {
	var (
		next   atomic.Int64
		failed atomic.Bool
		mu     sync.Mutex
		at     = n
		first  error
		wg     sync.WaitGroup
	)
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || failed.Load() || ctx.Err() != nil {
					return
				}
				if err := do(i); err != nil {
					failed.Store(true)
					mu.Lock()
					if i < at {
						at, first = i, err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if first == nil {
		return ctx.Err()
	}
	return first
}
