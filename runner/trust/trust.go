// Package trust remembers which plug-ins a user lets a project start. A plug-in
// is a program that runs with the user's rights, and a project that was cloned may
// bring any. So a file in a project's plugins.d is started only if the user has
// trusted its content: what a project says of itself, its runner.lock for example,
// gives no trust.
package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/replacefile"
)

// Entry is one trusted content.
type Entry struct {
	SHA256 string    `json:"sha256"` // hex
	Name   string    `json:"name"`   // of the variant
	Path   string    `json:"path"`   // of the file when it was trusted
	Date   time.Time `json:"date"`
}

// List is what a user trusts, in a file of the user's data directory. The zero
// value trusts nothing and is in no file.
type List struct {
	path    string
	Entries []Entry
}

// format is the file.
type format struct {
	Format  int     `json:"format"`
	Trusted []Entry `json:"trusted"`
}

const version = 1

// Open reads the list in a file. Without the file the list is empty.
func Open(path string) (*List, error) {
	l := &List{path: path}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading which plug-ins are trusted: %w", err)
	}
	var f format
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("reading which plug-ins are trusted: %s: %w; remove the file and trust them again", path, err)
	}
	if f.Format != version {
		return nil, fmt.Errorf("reading which plug-ins are trusted: %s has format %d, this runner knows %d; use a newer runner", path, f.Format, version)
	}
	l.Entries = f.Trusted
	return l, nil
}

// Path is the file of the list.
func (l *List) Path() string { return l.path }

// Has reports whether a content is trusted.
func (l *List) Has(sha256 string) bool {
	return l != nil && sha256 != "" && slices.ContainsFunc(l.Entries, func(e Entry) bool { return e.SHA256 == sha256 })
}

// Add puts an entry on the list, in place of one with the same content.
func (l *List) Add(e Entry) error {
	return l.change(func(entries []Entry) []Entry {
		entries = slices.DeleteFunc(entries, func(other Entry) bool { return other.SHA256 == e.SHA256 })
		return append(entries, e)
	})
}

// Revoke takes the entries off the list that a text names: a variant, a path, or
// at least eight digits of a sum. It returns them.
func (l *List) Revoke(text string) (revoked []Entry, err error) {
	abs, err := filepath.Abs(text)
	if err != nil {
		return nil, fmt.Errorf("revoking the trust in %s: %w", text, err)
	}
	err = l.change(func(entries []Entry) []Entry {
		return slices.DeleteFunc(entries, func(e Entry) bool {
			named := e.Name == text || e.Path == abs || len(text) >= 8 && strings.HasPrefix(e.SHA256, strings.ToLower(text))
			if named {
				revoked = append(revoked, e)
			}
			return named
		})
	})
	if err != nil {
		return nil, err
	}
	return revoked, nil
}

// change replaces the file in one step, and no other process changes it meanwhile.
func (l *List) change(with func([]Entry) []Entry) error {
	fail := func(err error) error { return fmt.Errorf("writing down which plug-ins are trusted: %w", err) }
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return fail(err)
	}
	lock, err := os.OpenFile(filepath.Join(filepath.Dir(l.path), ".trusted.lock"), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fail(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fail(err)
	}
	now, err := Open(l.path)
	if err != nil {
		return err
	}
	entries := with(now.Entries)
	slices.SortFunc(entries, func(a, b Entry) int {
		return strings.Compare(a.Name+"\x00"+a.SHA256, b.Name+"\x00"+b.SHA256)
	})
	raw, err := json.MarshalIndent(format{version, append([]Entry{}, entries...)}, "", "\t")
	if err != nil {
		return fail(err)
	}
	err = replacefile.WritePrivate(l.path, func(w io.Writer) error {
		_, err := w.Write(append(raw, '\n'))
		return err
	})
	if err != nil {
		return fail(err)
	}
	l.Entries = entries
	return nil
}
