package variant

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// cache keeps the sums of plug-in files and what they answered. It is only
// ever a shortcut: what cannot be read is worked out again.
type cache struct {
	dir string // "" keeps all in memory

	mu      sync.Mutex
	sums    map[string]summed // by path
	replies map[string][]byte // by sum/key
}

// summed is the sum of a file as it was.
type summed struct {
	filehash.Stamp
	Inode  uint64
	SHA256 string
}

// sum is the SHA-256 of a file, read again only if its stamp or inode has
// changed since it was read, or if fresh. The time of change is part of the stamp
// and no program can put it back, so a file that was written to is always read
// again, whatever its time of modification says.
func (c *cache) sum(path string, fresh bool) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	file := filepath.Join(c.dir, "variants", "sums.json")
	if c.sums == nil {
		c.sums = map[string]summed{}
		if raw, err := os.ReadFile(file); c.dir != "" && err == nil {
			if !unsealJSON(raw, &c.sums) || c.sums == nil {
				c.sums = map[string]summed{}
			}
		}
	}
	f, err := regular.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	now, err := stamp(f)
	if err != nil {
		return "", err
	}
	was, ok := c.sums[path]
	now.SHA256 = was.SHA256
	if ok && !fresh && now == was && isSum(was.SHA256) {
		return was.SHA256, nil
	}
	begun := time.Now()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	now.SHA256 = hex.EncodeToString(h.Sum(nil))
	if !now.Settled(begun) {
		delete(c.sums, path) // a change from now on might not show in the stamp
		return now.SHA256, nil
	}
	c.sums[path] = now
	if c.dir != "" {
		maps.DeleteFunc(c.sums, func(path string, _ summed) bool {
			_, err := os.Stat(path)
			return errors.Is(err, fs.ErrNotExist)
		})
		if raw, err := sealJSON(c.sums); err == nil {
			_ = replacefile.Write(file, raw) // next time it is read in full again
		}
	}
	return now.SHA256, nil
}

// stamp is what the file system says of an open file.
func stamp(f *os.File) (summed, error) {
	info, err := f.Stat()
	if err != nil {
		return summed{}, err
	}
	s := summed{Stamp: filehash.StampOf(info)}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Inode = sys.Ino
	}
	return s, nil
}

// isSum reports whether a text is a SHA-256 in hex.
func isSum(text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == sha256.Size
}

// name of a reply: other rules of checking or another op list are another key.
func (c *cache) name(sum, key string) string {
	return filepath.Join(sum, fmt.Sprintf("v%d.%d-%s.pb", protocol.Version, program.Version, key))
}

// get fills reply and reports whether it was kept.
func (c *cache) get(sum, key string, reply proto.Message) bool {
	name := c.name(sum, key)
	c.mu.Lock()
	raw, ok := c.replies[name]
	c.mu.Unlock()
	if !ok && c.dir != "" {
		sealed, err := os.ReadFile(filepath.Join(c.dir, "variants", name))
		raw, ok = unseal(sealed)
		ok = ok && err == nil
	}
	if !ok {
		return false
	}
	if proto.Unmarshal(raw, reply) != nil {
		return false
	}
	c.remember(name, raw)
	return true
}

func (c *cache) remember(name string, raw []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.replies == nil {
		c.replies = map[string][]byte{}
	}
	c.replies[name] = raw
}

// put keeps a reply.
func (c *cache) put(sum, key string, reply proto.Message) error {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(reply)
	if err != nil {
		return err
	}
	name := c.name(sum, key)
	c.remember(name, raw)
	if c.dir == "" {
		return nil
	}
	return replacefile.Write(filepath.Join(c.dir, "variants", name), seal(raw))
}

// seal puts the sum of a reply before it: a file cut short by a full disk may
// still be a valid message.
func seal(raw []byte) []byte {
	h := sha256.Sum256(raw)
	return append(h[:], raw...)
}

func unseal(b []byte) ([]byte, bool) {
	if len(b) < sha256.Size {
		return nil, false
	}
	h := sha256.Sum256(b[sha256.Size:])
	return b[sha256.Size:], string(h[:]) == string(b[:sha256.Size])
}

// sealedJSON is a value with the SHA-256 of its text, which a flipped bit does not
// leave as it is.
type sealedJSON struct {
	Check string          `json:"check"`
	Value json.RawMessage `json:"value"`
}

func sealJSON(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	h := sha256.Sum256(raw)
	return json.Marshal(sealedJSON{hex.EncodeToString(h[:]), raw})
}

func unsealJSON(b []byte, v any) bool {
	var s sealedJSON
	if json.Unmarshal(b, &s) != nil {
		return false
	}
	h := sha256.Sum256(s.Value)
	return s.Check == hex.EncodeToString(h[:]) && json.Unmarshal(s.Value, v) == nil
}
