package variant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/plugins/protocol"
)

// LockFile is the name of the file that pins plug-ins, in the root of the
// experiments. It belongs into version control.
const LockFile = "runner.lock"

// Lock says which of the plug-ins that the user trusts may be started. Without
// one, all of them.
type Lock struct {
	Variants map[string]Pin // by name
}

// Pin is what one variant has to be.
type Pin struct {
	Version  string   `json:"version"`
	Protocol int      `json:"protocol"`
	SHA256   []string `json:"sha256"` // hex, one for each platform it is used on
}

// lockFormat is how the file looks: JSON with sorted keys, one sum a line.
type lockFormat struct {
	Lock     int            `json:"lock"` // version of the format
	Variants map[string]Pin `json:"variants"`
}

// maxLock bounds the bytes of a lock file.
const maxLock = 4 << 20

// ReadLock reads a lock file; nil without an error if there is none.
func ReadLock(path string) (*Lock, error) {
	raw, err := regular.Read(path, maxLock)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the lock: %w", err)
	}
	var f lockFormat
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("reading %s: %w; restore it from version control", path, err)
	}
	if f.Lock != 1 {
		return nil, fmt.Errorf("reading %s: it has format %d, this runner knows 1; use a newer runner", path, f.Lock)
	}
	l := &Lock{Variants: f.Variants}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("reading %s: %w; restore it from version control", path, err)
	}
	return l, nil
}

// WriteLock replaces a lock file.
func WriteLock(path string, l *Lock) error {
	if err := l.check(); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	f := lockFormat{Lock: 1, Variants: map[string]Pin{}}
	for name, pin := range l.Variants {
		pin.SHA256 = slices.Compact(slices.Sorted(slices.Values(pin.SHA256)))
		f.Variants[name] = pin
	}
	raw, err := json.MarshalIndent(f, "", "\t")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := replacefile.Write(path, append(raw, '\n')); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func (l *Lock) check() error {
	for name, pin := range l.Variants {
		if !nameRule.MatchString(name) {
			return fmt.Errorf("%q cannot be the name of a variant", name)
		}
		if pin.Version == "" || len(pin.SHA256) == 0 {
			return fmt.Errorf("variant %s needs a version and a sum", name)
		}
		if pin.Protocol != protocol.Version {
			return fmt.Errorf("variant %s has protocol %d, want %d", name, pin.Protocol, protocol.Version)
		}
		for _, sum := range pin.SHA256 {
			if !isSum(sum) {
				return fmt.Errorf("variant %s: %q is no SHA-256", name, sum)
			}
		}
	}
	return nil
}
