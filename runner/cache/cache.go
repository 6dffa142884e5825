// Package cache is loralab's folder in the user's cache directory: what is
// downloaded or built once and shared by all clones, libtorch and backbones
// above all. Everything in it can be deleted at any time; it comes back.
//
// An entry is a directory that is there whole or not at all. It is filled
// beside its place and renamed into it, under a lock, so that neither a crash
// nor two processes at once leave half an entry.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the folder, whether or not it exists: $XDG_CACHE_HOME/loralab or
// ~/.cache/loralab on Linux.
func Dir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the user's cache directory: %w; set HOME or XDG_CACHE_HOME to a directory you can write to", err)
	}
	return filepath.Join(base, "loralab"), nil
}

// Entry says how to recognise and to make one directory of the cache.
type Entry struct {
	Dir string
	// Complete reports whether the directory, which exists, is as Fill leaves
	// it. Nil: any is.
	Complete func() bool
	// Fill puts the content into an empty directory on the same file system.
	Fill func(ctx context.Context, temp string) error
	// Waiting is called once when another process holds the lock. May be nil.
	Waiting func()
}

// Ensure fills the entry unless it is there.
func Ensure(ctx context.Context, e Entry) error {
	present := func() bool {
		info, err := os.Stat(e.Dir)
		return err == nil && info.IsDir() && (e.Complete == nil || e.Complete())
	}
	if present() {
		return nil
	}
	parent, name := filepath.Dir(e.Dir), filepath.Base(e.Dir)
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return fmt.Errorf("making the cache directory: %w", err)
	}
	unlock, err := Lock(ctx, filepath.Join(parent, "."+name+".lock"), e.Waiting)
	if err != nil {
		return err
	}
	defer unlock()
	if present() { // filled by the process that held the lock
		return nil
	}

	// What a killed process left is in nobody's use: we have the lock.
	stale, err := filepath.Glob(filepath.Join(parent, "."+name+".tmp-*"))
	if err != nil {
		return err
	}
	for _, dir := range stale {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing an unfinished download: %w", err)
		}
	}
	temp, err := os.MkdirTemp(parent, "."+name+".tmp-")
	if err != nil {
		return fmt.Errorf("making a directory in the cache: %w", err)
	}
	if err := errors.Join(os.Chmod(temp, 0o755), e.Fill(ctx, temp)); err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	// An incomplete entry that stands in the way is moved off first: a rename
	// cannot replace a directory with something in it.
	broken := temp + "-broken"
	if err := os.Rename(e.Dir, broken); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("moving a damaged entry of the cache away: %w", err), os.RemoveAll(temp))
	}
	if err := os.Rename(temp, e.Dir); err != nil {
		return errors.Join(fmt.Errorf("putting the entry into the cache: %w", err), os.RemoveAll(temp))
	}
	return os.RemoveAll(broken)
}

// Lock takes an exclusive lock on a file, which stays. The lock ends with the
// process at the latest. waiting is called once when another process holds it;
// it may be nil.
func Lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the cache: %w", err)
	}
	for first := true; ; first = false {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil // closing unlocks
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("waiting for another process that fills the cache: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Free is how many bytes a user may still write at path, or at its nearest
// parent that exists.
func Free(path string) (uint64, error) {
	for {
		var s unix.Statfs_t
		err := unix.Statfs(path, &s)
		if err == nil {
			return s.Bavail * uint64(s.Bsize), nil
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, unix.ENOENT) || parent == path {
			return 0, fmt.Errorf("asking for the free space at %s: %w", path, err)
		}
		path = parent
	}
}

// NoSpaceError says that a disk lacks room for something.
type NoSpaceError struct {
	Dir  string
	For  string // "libtorch 2.11.0"
	Need uint64 // bytes
	Free uint64
}

func (e *NoSpaceError) Error() string {
	return fmt.Sprintf("%s needs %s of disk in %s, where %s are free: make room, or set XDG_CACHE_HOME to a directory on a larger disk",
		e.For, Bytes(e.Need), e.Dir, Bytes(e.Free))
}

// Require returns a NoSpaceError where less than need bytes are free.
func Require(dir, what string, need uint64) error {
	free, err := Free(dir)
	if err != nil {
		return err
	}
	if free < need {
		return &NoSpaceError{Dir: dir, For: what, Need: need, Free: free}
	}
	return nil
}

// Size is the sum of the files below dir in bytes, 0 if there is none.
func Size(dir string) (uint64, error) {
	var sum uint64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // deleted while we walk
			return nil
		case err != nil:
			return err
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		sum += uint64(info.Size())
		return nil
	})
	return sum, err
}

// Bytes writes a size for people, in decimal units: "530 MB".
func Bytes(n uint64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, u := float64(n)/1000, 0
	for f >= 999.5 && u < len(units)-1 {
		f, u = f/1000, u+1
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %cB", f, units[u])
	}
	return fmt.Sprintf("%.0f %cB", f, units[u])
}
