// Package backbone finds pretrained backbones: in loralab's cache, in a directory,
// or in the cache that Hugging Face's tools share. Finding never uses the
// network; Fetch downloads what is not there.
//
// A backbone is a model.safetensors with the config.json of Hugging Face
// beside it. It is identified by the SHA-256 of its weights, which is part of
// every run's identity. Hashing takes as long as reading, so the result is
// remembered as long as size, time and place of the file stay.
package backbone

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/runner/backbone/huggingface"
	"github.com/loralab/loralab/runner/cache"
)

// Backbone is a pretrained encoder on this machine.
type Backbone struct {
	Name   string // as the user wrote it
	Path   string // of the weights, absolute
	Digest string // SHA-256 of the weights, hex
	Source string // where they come from, for people
	Arch   *spec.Architecture
	// Mean and Std normalize RGB in 0..1.
	Mean, Std []float64
}

// Finder knows where to look.
type Finder struct {
	// Cache is loralab's cache directory.
	Cache string
	// HuggingFace is the cache that transformers and huggingface_hub fill, and
	// the server that both download from.
	HuggingFace *huggingface.Client
	// Root is what relative directories start from; empty: the current one.
	Root string
}

// Default is the hub of this user, by the environment.
func Default() (*Finder, error) {
	dir, err := cache.Dir()
	if err != nil {
		return nil, err
	}
	return &Finder{Cache: dir, HuggingFace: huggingface.Default()}, nil
}

// Known lists the backbones that have a short name.
func Known() []string { return []string{dinov2Small.name} }

// MissingError says that a backbone is not on this machine, or not known.
type MissingError struct {
	Name string
	// Reason ends a sentence that begins with the name: "is not on this
	// machine".
	Reason string
	// Cure is what to do, "run `…`".
	Cure string
	// Here: the name means something on this machine, so no server is asked for it.
	Here bool
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("backbone %q %s: %s", e.Name, e.Reason, e.Cure)
}

// scheme may stand before org/name, to say where it is from.
const scheme = "hf:"

// Resolve finds a backbone by the name of a known one, by a directory with
// model.safetensors and config.json, or by org/name, hf:org/name or
// hf:org/name@revision in the cache of Hugging Face. It never uses the network.
// What is not there is a *MissingError.
func (h *Finder) Resolve(name string) (*Backbone, error) {
	if name == dinov2Small.name {
		return h.resolveKnown()
	}
	if rest, ok := strings.CutPrefix(name, scheme); ok {
		m, ok := huggingface.Parse(rest)
		if !ok {
			return nil, &MissingError{Name: name, Reason: "is no name of a model", Cure: "write " + scheme + "org/name, or " + scheme + "org/name@revision"}
		}
		return h.resolveHuggingFace(name, m)
	}
	dir := name
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("backbone %q: %w", name, err)
		}
		dir = filepath.Join(home, rest)
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(h.Root, dir)
	}
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return h.read(name, dir, "directory")
	case err == nil:
		return nil, &MissingError{Name: name, Reason: "is a file", Cure: "name the directory that holds model.safetensors and config.json", Here: true}
	}
	if m, ok := huggingface.Parse(name); ok && !strings.HasPrefix(name, ".") {
		b, err := h.resolveHuggingFace(name, m)
		var missing *MissingError
		// A name whose first part is a directory here is more likely to be mistyped
		// than to be of a model elsewhere.
		if first, _, _ := strings.Cut(name, "/"); errors.As(err, &missing) && isDir(filepath.Join(h.Root, first)) {
			return nil, &MissingError{
				Name: name, Reason: fmt.Sprintf("is no directory here, although %s/ is one", first),
				Cure: "name one that holds model.safetensors and config.json; a model of Hugging Face is " + scheme + name, Here: true,
			}
		}
		return b, err
	}
	if strings.ContainsRune(name, filepath.Separator) {
		return nil, &MissingError{Name: name, Reason: "is no directory here", Cure: "name one that holds model.safetensors and config.json"}
	}
	return nil, &MissingError{
		Name: name, Reason: "is not known",
		Cure: "use one of " + strings.Join(Known(), ", ") + ", a directory with model.safetensors and config.json (./name), or hf:org/name of Hugging Face",
	}
}

// resolveHuggingFace looks a repository up in the shared cache.
func (h *Finder) resolveHuggingFace(name string, m huggingface.Model) (*Backbone, error) {
	missing := func(reason string) (*Backbone, error) {
		return nil, &MissingError{Name: name, Reason: reason, Cure: "download it with `runner models fetch " + name + "`, or name a directory that holds its files"}
	}
	snapshot, commit, ok := h.HuggingFace.Snapshot(m)
	if !ok {
		return missing("is not in the Hugging Face cache")
	}
	if _, err := os.Stat(filepath.Join(snapshot, configFile)); errors.Is(err, fs.ErrNotExist) {
		return missing("lacks " + configFile + " in the Hugging Face cache")
	}
	// A snapshot may hold other forms of the weights that Python has fetched.
	if _, err := os.Stat(filepath.Join(snapshot, weightFile)); errors.Is(err, fs.ErrNotExist) && !hasOtherWeights(snapshot) {
		return missing("lacks " + weightFile + " in the Hugging Face cache")
	}
	b, err := h.read(name, snapshot, "Hugging Face "+m.Repo+" at "+commit)
	if known := (*MissingError)(nil); err != nil && !errors.As(err, &known) {
		return nil, fmt.Errorf("%w; if the download is damaged, remove %s and run `runner models fetch %s`", err, h.HuggingFace.Folder(m), name)
	}
	return b, err
}

// The files of a backbone.
const (
	weightFile = "model.safetensors"
	configFile = "config.json"
	// How images are prepared; not every model has one.
	preprocessorFile = "preprocessor_config.json"
)

// read takes a directory as a backbone.
func (h *Finder) read(name, dir, source string) (*Backbone, error) {
	fail := func(err error) (*Backbone, error) { return nil, fmt.Errorf("backbone %q: %w", name, err) }
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fail(err)
	}
	b := &Backbone{Name: name, Path: filepath.Join(dir, weightFile), Source: source}
	info, err := os.Stat(b.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, noWeights(name, dir)
	case err != nil:
		return fail(err)
	}
	if err := regular.Check(b.Path, info); err != nil {
		return fail(err)
	}
	config := filepath.Join(dir, configFile)
	if b.Arch, err = readArchitecture(config); errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingError{Name: name, Reason: "has no " + configFile, Cure: "put the one that came with the weights into " + dir, Here: true}
	} else if err != nil {
		return fail(err)
	}
	row, err := design.Of(b.Arch)
	if err != nil {
		return fail(err)
	}
	if b.Mean, b.Std, err = readNormalization(dir, row); err != nil {
		return fail(err)
	}
	if err := checkTensors(b); err != nil {
		return fail(err)
	}
	if b.Digest, err = h.digest(b.Path); err != nil {
		return fail(err)
	}
	return b, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// otherWeights are the files that hold weights in a form that is not read.
var otherWeights = []string{weightFile + ".index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"}

func hasOtherWeights(dir string) bool {
	return slices.ContainsFunc(otherWeights, func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	})
}

// noWeights says how to get a directory's weights into the form that is read.
func noWeights(name, dir string) error {
	what := "has no " + weightFile
	for _, other := range otherWeights {
		if _, err := os.Stat(filepath.Join(dir, other)); err == nil {
			what = "has " + other + " and no " + weightFile
			break
		}
	}
	return &MissingError{Name: name, Reason: what, Cure: "convert it to safetensors in one piece, like this: " + conversion(dir) + ", and name the directory converted", Here: true}
}

// conversion is the command that saves a model in the form that is read.
func conversion(from string) string {
	return fmt.Sprintf(`python3 -c 'from transformers import AutoModel; AutoModel.from_pretrained(%q).save_pretrained("converted", max_shard_size="100GB")'`, from)
}

// checkTensors compares what the file holds with config.json, so that a mix-up
// shows before anything starts. The one tensor whose shape most often differs
// comes first, as it says what to look at.
func checkTensors(b *Backbone) error {
	f, err := safetensors.Open(b.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	row, err := design.Of(b.Arch)
	if err != nil {
		return err
	}
	for _, name := range f.Names() {
		if !strings.HasSuffix(name, row.Positions) {
			continue
		}
		t, _ := f.Get(name)
		if want := row.PositionShape(b.Arch); !slices.Equal(t.Shape, want) {
			return fmt.Errorf("%s has the shape %v, by image_size, patch_size and hidden_size of %s it should be %v",
				name, t.Shape, configFile, want)
		}
		_, err := design.Match(b.Path, f, b.Arch)
		return err
	}
	return fmt.Errorf("%s has no %s: it is not a %s model of Hugging Face", b.Path, row.Positions, design.Titles())
}

// known is what is remembered of a file that was hashed.
type known struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	MTime  int64  `json:"mtime_ns"`
	CTime  int64  `json:"ctime_ns"`
	Inode  uint64 `json:"inode"`
	SHA256 string `json:"sha256"`
	// Read is when the file began to be hashed. Only where nothing had changed it
	// for a while does the same stamp mean the same content.
	Read int64 `json:"read_ns"`
	// Check is the SHA-256 of all before. A damaged note is not believed.
	Check string `json:"check"`
}

// sealed is the note with its Check.
func (k known) sealed() known {
	k.Check = ""
	text, err := json.Marshal(k)
	if err != nil {
		panic(err) // numbers and texts have a form
	}
	sum := sha256.Sum256(text)
	k.Check = hex.EncodeToString(sum[:])
	return k
}

// readNote is what a file of the cache remembers; not ok if it is damaged.
func readNote(path string) (k known, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &k) != nil {
		return known{}, false
	}
	return k, k.Check == k.sealed().Check
}

// of reports whether the note is about a file as it is now.
func (k known) of(now known) bool {
	stamp := filehash.Stamp{Size: k.Size, Modified: k.MTime, Changed: k.CTime}
	settled := stamp.Settled(time.Unix(0, k.Read))
	k.SHA256, k.Read, k.Check = now.SHA256, now.Read, now.Check
	return settled && k == now
}

// clock is replaced in tests.
var clock = time.Now

// digest is the SHA-256 of a file, remembered until the file changes.
func (h *Finder) digest(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	now, err := describe(real)
	if err != nil {
		return "", err
	}
	key := sha256.Sum256([]byte(real))
	note := filepath.Join(h.Cache, "digests", hex.EncodeToString(key[:16])+".json")
	if then, ok := readNote(note); ok && then.of(now) {
		return then.SHA256, nil
	}
	now.Read = clock().UnixNano()
	if now.SHA256, err = filehash.Of(real); err != nil {
		return "", err
	}
	after, err := describe(real)
	if err != nil {
		return "", err
	}
	after.SHA256, after.Read = now.SHA256, now.Read
	if after != now {
		return "", fmt.Errorf("%s changes while it is read", real)
	}
	// A cache that cannot be written costs time on the next call, no more.
	if text, err := json.Marshal(now.sealed()); err == nil {
		_ = replacefile.Write(note, text)
	}
	return now.SHA256, nil
}

func describe(path string) (known, error) {
	info, err := os.Stat(path)
	if err != nil {
		return known{}, err
	}
	stamp := filehash.StampOf(info)
	k := known{Path: path, Size: stamp.Size, MTime: stamp.Modified, CTime: stamp.Changed}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		k.Inode = s.Ino
	}
	return k, nil
}

// Fetch brings a backbone onto this machine unless it is there, and returns
// it: one with a short name, or one of Hugging Face. Two processes may fetch at
// once. progress is told what happens, a line at a time; it may be nil.
func (h *Finder) Fetch(ctx context.Context, name string, progress func(string)) (*Backbone, error) {
	if progress == nil {
		progress = func(string) {}
	}
	b, err := h.Resolve(name)
	if err == nil { // what is there needs no fetching
		return b, nil
	}
	var missing *MissingError
	if !errors.As(err, &missing) {
		return nil, err
	}
	if name == dinov2Small.name {
		return h.fetchDinov2Small(ctx, progress)
	}
	m, ok := huggingface.Parse(strings.TrimPrefix(name, scheme))
	if !ok || missing.Here {
		return nil, missing
	}
	if snapshot, _, ok := h.HuggingFace.Snapshot(m); ok && hasOtherWeights(snapshot) {
		return nil, missing // which says how to convert them
	}
	if err := h.download(ctx, m, progress); err != nil {
		return nil, fmt.Errorf("fetching backbone %s: %w", name, err)
	}
	return h.Resolve(name)
}

// download brings a model of Hugging Face into its cache.
func (h *Finder) download(ctx context.Context, m huggingface.Model, progress func(string)) error {
	_, _, err := h.HuggingFace.Fetch(ctx, m, []huggingface.File{
		{Name: configFile}, {Name: preprocessorFile, Optional: true}, {Name: weightFile},
	}, progress)
	var e *huggingface.Error
	if errors.As(err, &e) && e.File == weightFile && errors.Is(err, fs.ErrNotExist) {
		e.Cure = "models that have only PyTorch files must be converted first, like this: " + conversion(m.Repo) + ", then name the directory converted"
		e.Err = nil
	}
	return err
}
