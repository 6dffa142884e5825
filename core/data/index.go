package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/replacefile"
)

// fact is what is known about a file as long as its stamp stays.
type fact struct {
	stamp filehash.Stamp
	sum   [sha256.Size]byte
	// The picture was decoded once as this, to this size and, for a mask, these
	// values in so many pixels each.
	as            kind
	width, height int
	values        []uint32
	pixels        []uint64
	pages         int  // pictures in the file, of which the first is read
	peak          byte // of an image: its brightest value of a color

	read bool // by this Index
}

// kind is how a file is read; each tells more than those before it.
type kind byte

const (
	bytesAlone kind = iota // not decoded
	asImage
	asIndices
	asColors
)

// Look is how an Index looks at files.
type Look struct {
	// Read is called with how many files were read, of those that have to be: none
	// where the cache knows them all. It is not called by two goroutines at once.
	// May be nil.
	Read func(done, of int)
	// Afresh reads every file, once for an Index, whatever is cached.
	Afresh bool
	// Unlike is called with files whose content is not what was read before although
	// size and times are the same. May be nil; not called by two goroutines at once.
	Unlike func(file string)
}

// Index knows the files of data sets: their SHA-256, and what was found when they
// were decoded. What is known is kept in the user's cache directory by path, size
// and times, so that asking again costs a stat for each file, and is shared with
// other processes. Losing it costs time only, so nothing about it is an error:
// without a cache directory an Index remembers nothing. It is safe for concurrent
// use.
type Index struct {
	how   Look
	clock func() time.Time // replaced in tests

	mu    sync.Mutex
	roots map[string]*rootIndex // by the path of their file
}

// NewIndex is an index that looks at files as how says.
func NewIndex(how Look) *Index {
	return &Index{how: how, clock: time.Now, roots: map[string]*rootIndex{}}
}

// rootIndex is what is known of the files below one root, in one file of the cache.
// It stays in memory: a command looks at the same files for several reasons, and
// reading 100,000 facts takes longer than asking for the stamp of one file.
type rootIndex struct {
	path  string // "" without a cache directory
	clock func() time.Time

	mu    sync.Mutex
	file  filehash.Stamp // of path, when facts were read from it or written to it
	facts map[string]fact
	moved bool // facts has what the file has not
}

// at is what is known below a root.
func (x *Index) at(root string) *rootIndex {
	abs, err := filepath.Abs(root)
	if err != nil {
		return &rootIndex{clock: x.clock, facts: map[string]fact{}}
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return &rootIndex{clock: x.clock, facts: map[string]fact{}}
	}
	sum := sha256.Sum256([]byte(abs))
	path := filepath.Join(cache, "loralab", "digests", hex.EncodeToString(sum[:8])+".files")
	x.mu.Lock()
	ix := x.roots[path]
	if ix == nil {
		ix = &rootIndex{path: path, clock: x.clock}
		x.roots[path] = ix
	}
	x.mu.Unlock()
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.reload()
	return ix
}

// reload reads what other processes have written, unless that is known.
func (ix *rootIndex) reload() {
	info, err := os.Stat(ix.path)
	if err != nil {
		if ix.facts == nil || ix.file != (filehash.Stamp{}) { // removed meanwhile
			ix.file, ix.facts = filehash.Stamp{}, map[string]fact{}
		}
		return
	}
	now := filehash.StampOf(info)
	if ix.facts != nil && now == ix.file {
		return
	}
	ours := ix.facts
	content, err := os.ReadFile(ix.path)
	if err == nil {
		ix.facts, err = decodeFacts(content)
	}
	if err != nil { // written by another version, or damaged: start over
		ix.facts = map[string]fact{}
	}
	ix.file = now
	for name, f := range ours {
		if f.read {
			ix.facts[name] = f
		}
	}
}

// lookup is what is known of a file as it is now, if it was read as what it is
// wanted as; otherwise its stamp alone. Afresh trusts only what this Index has
// read.
func (ix *rootIndex) lookup(path, name string, as kind, afresh bool) (f fact, known bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return fact{}, false, err
	}
	if err := regular.Check(path, info); err != nil {
		return fact{}, false, err
	}
	stamp := filehash.StampOf(info)
	ix.mu.Lock()
	f, known = ix.facts[name]
	ix.mu.Unlock()
	if known && f.stamp == stamp && (as == bytesAlone || as == f.as) && (f.read || !afresh) {
		return f, true, nil
	}
	return fact{stamp: stamp}, false, nil
}

// store notes what was read of a file that had the stamp of f before. It reports
// whether the content is another than what was read before under the same stamp.
func (ix *rootIndex) store(name string, f fact) (unlike bool) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	before, known := ix.facts[name]
	if known && before.stamp == f.stamp {
		unlike = before.sum != f.sum
		if !unlike && f.as == bytesAlone { // what it was decoded as stays true
			f = before
		}
	}
	if !f.stamp.Settled(ix.clock()) {
		return unlike
	}
	f.read = true
	ix.facts[name], ix.moved = f, true
	return unlike
}

// save writes new facts next to those that others have written meanwhile.
func (ix *rootIndex) save() {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.path == "" || !ix.moved {
		return
	}
	ix.reload()
	// Losing the cache costs time, not results.
	if replacefile.Write(ix.path, encodeFacts(ix.facts)) != nil {
		return
	}
	ix.moved = false
	if info, err := os.Stat(ix.path); err == nil {
		ix.file = filehash.StampOf(info)
	}
}

// Mistook reports whether a file has another content than x knows under the size and
// times that the file has now. It reads the file.
func (x *Index) Mistook(root, name string) bool {
	path := Files{Root: root}.path(name)
	f, known, err := x.at(root).lookup(path, name, bytesAlone, false)
	if err != nil || !known {
		return false
	}
	sum, err := filehash.Sum(path)
	return err == nil && sum != f.sum
}

// Forget drops all that is known of the files below root, also for other processes.
func (x *Index) Forget(root string) {
	ix := x.at(root)
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.file, ix.facts, ix.moved = filehash.Stamp{}, map[string]fact{}, false
	if ix.path != "" {
		// What stays is found again to be wrong.
		_ = os.Remove(ix.path)
	}
}

// The file is a line, numbers and texts as below, and the CRC-32 of all before.
// JSON takes ten times as long to read.
const factsHeader = "loralab files 2\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeFacts(facts map[string]fact) []byte {
	b := append(make([]byte, 0, 96*len(facts)), factsHeader...)
	b = binary.AppendUvarint(b, uint64(len(facts)))
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		f := facts[name]
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
		b = binary.AppendVarint(b, f.stamp.Size)
		b = binary.AppendVarint(b, f.stamp.Modified)
		b = binary.AppendVarint(b, f.stamp.Changed)
		b = append(b, f.sum[:]...)
		b = append(b, byte(f.as))
		b = binary.AppendUvarint(b, uint64(f.width))
		b = binary.AppendUvarint(b, uint64(f.height))
		b = binary.AppendUvarint(b, uint64(f.pages))
		b = append(b, f.peak)
		b = binary.AppendUvarint(b, uint64(len(f.values)))
		for i, v := range f.values {
			b = binary.AppendUvarint(b, uint64(v))
			b = binary.AppendUvarint(b, f.pixels[i])
		}
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeFacts(content []byte) (map[string]fact, error) {
	end := len(content) - crc32.Size
	if end < len(factsHeader) || string(content[:len(factsHeader)]) != factsHeader ||
		crc32.Checksum(content[:end], castagnoli) != binary.LittleEndian.Uint32(content[end:]) {
		return nil, fmt.Errorf("not a list of facts, or damaged")
	}
	text := string(content[:end]) // names share it
	r := bytes.NewReader(content[len(factsHeader):end])
	var fault error
	number := func() uint64 {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			fault = err
		}
		return n
	}
	signed := func() int64 {
		n, err := binary.ReadVarint(r)
		if err != nil {
			fault = err
		}
		return n
	}
	n := number()
	facts := make(map[string]fact, min(n, uint64(end)))
	for range n {
		var f fact
		size, at := number(), end-r.Len()
		if fault != nil || size > uint64(r.Len()) {
			break
		}
		name := text[at : at+int(size)]
		_, _ = r.Seek(int64(size), 1)
		f.stamp = filehash.Stamp{Size: signed(), Modified: signed(), Changed: signed()}
		if _, err := r.Read(f.sum[:]); err != nil {
			fault = err
		}
		as, err := r.ReadByte()
		if err != nil {
			fault = err
		}
		f.as, f.width, f.height, f.pages = kind(as), int(number()), int(number()), int(number())
		if f.peak, err = r.ReadByte(); err != nil {
			fault = err
		}
		count := number()
		if fault != nil || count > uint64(r.Len()) {
			break
		}
		if count > 0 {
			f.values, f.pixels = make([]uint32, count), make([]uint64, count)
		}
		for i := range f.values {
			f.values[i], f.pixels[i] = uint32(number()), number()
		}
		facts[name] = f
	}
	return facts, fault
}
