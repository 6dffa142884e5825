package filehash

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/loralab/loralab/core/regular"
)

// Held is an open file whose content is known and can be compared again later:
// the file of a mapping, whose pages show what others write into it. A file that
// another one replaces by renaming stays open and keeps its content.
type Held struct {
	file    *os.File
	sum     string
	state   state
	settled bool // a write from now on moves the stamp
}

// state is what fstat says of a file.
type state struct {
	device, inode, links uint64
	stamp                Stamp
}

// Sums remembers the sums of files by device, inode and stamp, within one
// process. The zero value is ready. It may be used from several goroutines.
type Sums struct {
	mu    sync.Mutex
	known map[state]string
}

// ErrTouched is the result of Check where the content is what it was, although
// the file may have had another one in between.
var ErrTouched = errors.New("the file was written to while it was in use")

// ChangedError is the result of Check where the content is another one.
type ChangedError struct {
	Path     string
	Was, Now string // SHA-256
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("the content of %s changed while it was in use: its SHA-256 was %.12s, it is %.12s", e.Path, e.Was, e.Now)
}

// Hold opens a file and hashes it, unless known has the sum of this very file.
// known may be nil.
func Hold(path string, known *Sums) (*Held, error) {
	file, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	h := &Held{file: file}
	if h.state, err = stateOf(file); err == nil {
		if h.sum = known.lookup(h.state); h.sum != "" {
			h.settled = true
			return h, nil
		}
		if err = h.hash(); err == nil {
			known.remember(h)
			return h, nil
		}
	}
	return nil, errors.Join(err, file.Close())
}

// File is the open file. It is Held's to close.
func (h *Held) File() *os.File { return h.file }

// Sum is the SHA-256 of the content, in hex.
func (h *Held) Sum() string { return h.sum }

// Close closes the file.
func (h *Held) Close() error { return h.file.Close() }

// Check reports whether the content is still that of Sum, and was at every
// moment since. It costs one stat, unless the file was written to. The error is
// ErrTouched, a *ChangedError, or one of reading.
func (h *Held) Check() error {
	before := h.state
	now, err := stateOf(h.file)
	if err != nil {
		return err
	}
	if now == before && h.settled {
		return nil
	}
	sum := h.sum
	if err := h.hash(); err != nil {
		return err
	}
	if h.sum != sum {
		err := &ChangedError{h.file.Name(), sum, h.sum}
		h.sum = sum
		h.settled = false
		return err
	}
	// Links to a file that are made or removed move its change time.
	a, b := before.stamp, h.state.stamp
	if a != b && (a.Size != b.Size || a.Modified != b.Modified || before.links == h.state.links) {
		return fmt.Errorf("%s: %w", h.file.Name(), ErrTouched)
	}
	return nil
}

// hash reads the file from its beginning.
func (h *Held) hash() error {
	start := time.Now()
	before, err := stateOf(h.file)
	if err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, struct{ io.Reader }{io.NewSectionReader(h.file, 0, before.stamp.Size)}, make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("hashing %s: %w", h.file.Name(), err)
	}
	after, err := stateOf(h.file)
	if err != nil {
		return err
	}
	h.sum, h.state = hex.EncodeToString(sum.Sum(nil)), before
	h.settled = before == after && before.stamp.Settled(start)
	return nil
}

func stateOf(f *os.File) (state, error) {
	info, err := f.Stat()
	if err != nil {
		return state{}, err
	}
	s := state{stamp: StampOf(info)}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return state{}, &fs.PathError{Op: "stat", Path: f.Name(), Err: errors.ErrUnsupported}
	}
	s.device, s.inode, s.links = uint64(sys.Dev), sys.Ino, uint64(sys.Nlink)
	return s, nil
}

func (s *Sums) lookup(of state) string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[of]
}

func (s *Sums) remember(h *Held) {
	if s == nil || !h.settled {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[state]string{}
	}
	s.known[h.state] = h.sum
}
