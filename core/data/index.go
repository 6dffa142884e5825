package data

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/loralab/loralab/core/replacefile"
)

// fact is what is known about a file as long as its size and modification time
// stay.
type fact struct {
	Size int64  `json:"size"`
	Time int64  `json:"time"` // of modification, nanoseconds
	Sum  string `json:"sum,omitempty"`
	// Checked says that the picture was decoded once, to this size and, for a
	// mask, these values in so many pixels each.
	Checked bool     `json:"checked,omitempty"`
	Width   int      `json:"width,omitempty"`
	Height  int      `json:"height,omitempty"`
	Values  []uint32 `json:"values,omitempty"`
	Pixels  []uint64 `json:"pixels,omitempty"`
}

// index caches facts about the files below one root, in one file of the user's
// cache directory. Losing it costs time only, so nothing about it is an error:
// without a cache directory it just remembers nothing.
type index struct {
	path string // "" without a cache directory
	mu   sync.Mutex
	old  map[string]fact
	new  map[string]fact
}

// settled is how old a file must be before its facts are kept: on a coarse
// clock, a file written twice within a tick looks unchanged.
const settled = 2 * time.Second

func openIndex(root string) *index {
	ix := &index{new: map[string]fact{}}
	abs, err := filepath.Abs(root)
	if err != nil {
		return ix
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ix
	}
	sum := sha256.Sum256([]byte(abs))
	ix.path = filepath.Join(cache, "loralab", "digests", hex.EncodeToString(sum[:8])+".json")
	ix.old = ix.load()
	return ix
}

func (ix *index) load() map[string]fact {
	content, err := os.ReadFile(ix.path)
	if err != nil {
		return nil
	}
	var facts map[string]fact
	if json.Unmarshal(content, &facts) != nil {
		return nil // written by another version, or damaged: start over
	}
	return facts
}

// lookup returns what is known about a file as it is now; without knowledge,
// only its size and time.
func (ix *index) lookup(f Files, name string) (fact, error) {
	info, err := os.Stat(f.path(name))
	if err != nil {
		return fact{}, err
	}
	if !info.Mode().IsRegular() {
		return fact{}, fmt.Errorf("%s is not a file", f.path(name))
	}
	now := fact{Size: info.Size(), Time: info.ModTime().UnixNano()}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	for _, facts := range []map[string]fact{ix.new, ix.old} {
		if known, ok := facts[name]; ok && known.Size == now.Size && known.Time == now.Time {
			return known, nil
		}
	}
	return now, nil
}

func (ix *index) store(name string, f fact) {
	if time.Since(time.Unix(0, f.Time)) < settled {
		return
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.new[name] = f
}

// save writes new facts beside those that others have written meanwhile.
func (ix *index) save() {
	if ix.path == "" || len(ix.new) == 0 {
		return
	}
	facts := ix.load()
	if facts == nil {
		facts = map[string]fact{}
	}
	maps.Copy(facts, ix.new)
	content, err := json.Marshal(facts)
	if err != nil {
		return
	}
	// Losing the cache costs time, not results.
	_ = replacefile.Write(ix.path, content)
}
