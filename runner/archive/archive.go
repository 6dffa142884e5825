// Package archive carries a run from one project to another as one file: a tar
// archive compressed with zstd. Its first entry, loralab-run.json, lists the
// files that follow with their SHA-256, so a damaged archive is noticed, and an
// archive of the same run is the same file, byte for byte.
//
// A run is taken in under its identity, which is computed again from its
// specification. It takes the place of nothing.
package archive

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/exactjson"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/store"
)

const (
	format       = 1
	manifestName = "loralab-run.json"
	// Bounds for what a damaged or malicious archive may ask for.
	manifestMost = 16 << 20
)

// Manifest is what an archive says of itself.
type Manifest struct {
	Format     int       `json:"format"`
	ID         string    `json:"id"`
	Experiment string    `json:"experiment"`
	Cell       string    `json:"cell"`
	Fold       name.Fold `json:"fold,omitzero"`
	Seed       uint64    `json:"seed"`
	Trained    bool      `json:"trained"` // a result is among the files
	Files      []File    `json:"files"`
	// LeftOut are files of the run that were kept back.
	LeftOut []string `json:"left_out,omitempty"`
}

// Name is how people refer to the run.
func (m *Manifest) Name() string {
	return name.Run(m.Experiment, m.Cell, m.repeat())
}

func (m *Manifest) repeat() name.Repeat { return name.Repeat{Fold: m.Fold, Seed: m.Seed} }

// File is one file of the run directory.
type File struct {
	Path   string `json:"path"` // with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Options say how a run is exported.
type Options struct {
	// Patches says that what was not committed when the run was made goes with it.
	// It is of no use for the run, and the person who made it may not know of it.
	Patches bool
	// Replace says that an existing file is replaced.
	Replace bool
}

// Ending is how the name of an archive ends.
const Ending = ".tar.zst"

// Export writes the run, whose directory lies in dir, to the file at path, in one
// step. An existing file stays, and is an error, unless it is to be replaced. Nobody
// may work on the run.
func Export(dir string, run *store.Run, to string, o Options) (*Manifest, error) {
	if !strings.HasSuffix(to, Ending) {
		return nil, fmt.Errorf("writing archive %s: an archive is a tar file compressed with zstd: name it %s%s", to, strings.TrimSuffix(to, filepath.Ext(to)), Ending)
	}
	switch there, err := os.Stat(to); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("writing archive %s: %w", to, err)
	case !there.Mode().IsRegular():
		return nil, fmt.Errorf("writing archive %s: it is a directory or a device: name a file", to)
	case !o.Replace:
		return nil, fmt.Errorf("writing archive %s: %w", to, fs.ErrExist)
	}
	m := &Manifest{Format: format, ID: run.ID, Experiment: run.Experiment, Cell: run.Cell, Fold: run.Fold, Seed: run.Seed, Trained: run.Summary != nil}
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		// The lock is of the place, and names with a dot are of files half
		// written.
		if d.Name() == rundir.Lock || strings.HasPrefix(d.Name(), ".") || !d.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		if !o.Patches && rundir.IsPatch(rel) {
			m.LeftOut = append(m.LeftOut, rel)
			return nil
		}
		file, err := os.Open(at)
		if err != nil {
			return err
		}
		defer file.Close()
		h := sha256.New()
		n, err := io.Copy(h, file)
		m.Files = append(m.Files, File{filepath.ToSlash(rel), n, hex.EncodeToString(h.Sum(nil))})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading run %s: %w", run.Name(), err)
	}
	if !slices.ContainsFunc(m.Files, func(f File) bool { return f.Path == rundir.Request }) {
		return nil, fmt.Errorf("run %s was never begun: there is nothing to export", run.Name())
	}
	if err := m.whole(run.Summary); err != nil {
		cure := rundir.Run{Dir: rundir.Dir(dir), ID: run.ID}.Cure()
		return nil, fmt.Errorf("exporting run %s: %w; %s", run.Name(), err, cure)
	}
	s, err := run.Spec()
	if err != nil {
		return nil, err
	}
	if err := m.checkpoints(dir, s.GetRevision()); err != nil {
		cure := "the next apply of its experiment makes it again"
		if m.Trained { // the best one is whole
			cure = "`runner gc --checkpoints` removes the last checkpoint of a run that is done"
		}
		return nil, fmt.Errorf("exporting run %s: %w; %s", run.Name(), err, cure)
	}
	return m, replacefile.WriteFunc(to, func(w io.Writer) error { return write(w, dir, m) })
}

// whole compares the weights with the result of the run, if it has one: those that
// were lost or changed since are of no use for anybody. A journal that was is: what
// is left of it is drawn.
func (m *Manifest) whole(result *spec.Summary) error {
	sums := map[string]string{}
	for _, f := range m.Files {
		sums[f.Path] = f.SHA256
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(result.GetFiles())) {
		switch sum, there := sums[name]; {
		case name == rundir.Journal:
		case !there:
			errs = append(errs, fmt.Errorf("%s is missing", name))
		case sum != result.Files[name]:
			errs = append(errs, fmt.Errorf("%s is damaged: it is not the one that %s was written with", name, rundir.Result))
		}
	}
	return errors.Join(errs...)
}

// checkpoints compares the checkpoints, in the directory of the run, with the digests
// that they carry.
func (m *Manifest) checkpoints(dir string, revision uint32) error {
	run := rundir.Run{Dir: rundir.Dir(dir), ID: m.ID, Revision: revision}
	for _, name := range []string{rundir.Best, rundir.Last} {
		f, err := run.Checkpoint(name)
		var damaged *rundir.DamagedError
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.As(err, &damaged):
			return fmt.Errorf("%s is damaged: %w", name, damaged.Err)
		case err != nil:
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

func write(w io.Writer, dir string, m *Manifest) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) // the same bytes on any machine
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	head, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	head = append(head, '\n')
	if err := entry(t, manifestName, int64(len(head)), bytes.NewReader(head)); err != nil {
		return err
	}
	for _, f := range m.Files {
		file, err := os.Open(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil {
			return err
		}
		// As long as it was when it was hashed: a log may grow.
		err = entry(t, f.Path, f.Size, io.LimitReader(file, f.Size))
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func entry(t *tar.Writer, name string, size int64, content io.Reader) error {
	// No owner, no time: they say nothing of the run.
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err := io.Copy(t, content)
	return err
}

// KnownError says that a project has a run already.
type KnownError struct{ Run *store.Run }

func (e *KnownError) Error() string {
	return fmt.Sprintf("run %s (%s) is in this project already, as %s; it was left as it is", e.Run.Name(), rundir.Short(e.Run.ID), e.Run.Dir)
}

// Most is how much a run may hold that is taken in without being asked for: more
// than any run of a usual backbone leaves, and less than what fills a disk
// unnoticed.
const Most = 8 << 30

// filesMost bounds how many files a run has.
const filesMost = 100_000

// LargeError says that an archive holds more than Import takes in unasked.
type LargeError struct{ Bytes int64 }

func (e *LargeError) Error() string {
	return fmt.Sprintf("it unpacks to %.1f GB", float64(e.Bytes)/1e9)
}

// Import takes the run in an archive into the project at root, whose lock the
// caller holds. Where the project has it, the error is a *KnownError; where it
// holds more than most bytes, a *LargeError. A run appears whole and readable or
// not at all.
func Import(ctx context.Context, root string, runs *store.Store, from string, most int64) (*Manifest, error) {
	m, err := importFile(ctx, root, runs, from, most)
	if err != nil {
		return nil, fmt.Errorf("importing %s: %w", from, err)
	}
	return m, nil
}

func importFile(ctx context.Context, root string, runs *store.Store, from string, most int64) (_ *Manifest, err error) {
	file, err := os.Open(from)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if at, err := file.Stat(); err != nil || at.IsDir() {
		return nil, cmp.Or(err, errors.New("it is a directory and no archive: runner evaluate and predict take one that runner export has written as it is, and an experiment starts from an adapter in one with adapter: from"))
	}
	t, done, err := reader(file)
	if err != nil {
		return nil, err
	}
	defer done()
	m, err := readManifest(t)
	if err != nil {
		return nil, err
	}
	known, err := runs.Reconcile(ctx)
	if err != nil {
		return nil, err
	}
	if run := known.Runs[m.ID]; run != nil {
		return nil, &KnownError{run}
	}
	into, err := os.OpenRoot(filepath.Join(root, "runs"))
	if err != nil {
		return nil, err
	}
	defer into.Close()
	to := path.Join(m.Experiment, rundir.Short(m.ID))
	if _, err := into.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is in the way; see: runner gc", filepath.Join(into.Name(), to))
	}
	if err := room(into, m, most); err != nil {
		return nil, err
	}
	temp := ".import-" + rundir.Short(m.ID)
	if err := into.RemoveAll(temp); err != nil { // of one that was interrupted
		return nil, err
	}
	defer func() { err = errors.Join(err, into.RemoveAll(temp)) }()
	at := path.Join(temp, rundir.Short(m.ID))
	if err := into.MkdirAll(at, 0o777); err != nil {
		return nil, err
	}
	dir, err := into.OpenRoot(at)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := unpack(ctx, t, m, dir); err != nil {
		return nil, err
	}
	if err := verify(dir, m); err != nil {
		return nil, err
	}
	if err := into.MkdirAll(m.Experiment, 0o777); err != nil {
		return nil, err
	}
	if err := into.Rename(at, to); err != nil {
		return nil, err
	}
	_, err = runs.Reconcile(ctx)
	return m, err
}

// windowMost bounds the memory that a frame asks its reader for.
const windowMost = 64 << 20

// reader reads the entries of an archive.
func reader(r io.Reader) (*tar.Reader, func(), error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(windowMost))
	if err != nil {
		return nil, nil, err
	}
	return tar.NewReader(z), z.Close, nil
}

// room compares what an archive holds with the space that there is.
func room(into *os.Root, m *Manifest, most int64) error {
	var sum int64
	for _, f := range m.Files {
		if f.Size < 0 || f.Size > math.MaxInt64-sum {
			return fmt.Errorf("the sizes of its files are no sizes (%s: %d)", f.Path, f.Size)
		}
		sum += f.Size
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(into.Name(), &disk); err == nil {
		if free := float64(disk.Bavail) * float64(disk.Bsize); float64(sum) > free {
			return fmt.Errorf("it unpacks to %.1f GB, and %s has %.1f GB free", float64(sum)/1e9, into.Name(), free/1e9)
		}
	}
	if sum > most {
		return &LargeError{sum}
	}
	return nil
}

// unpack writes the files of an archive below dir.
func unpack(ctx context.Context, t *tar.Reader, m *Manifest, dir *os.Root) error {
	for _, f := range m.Files {
		if err := extract(ctx, t, f, dir); err != nil {
			return err
		}
	}
	if _, err := t.Next(); !errors.Is(err, io.EOF) {
		return errors.New("it holds more than it lists")
	}
	return nil
}

func readManifest(t *tar.Reader) (*Manifest, error) {
	head, err := t.Next()
	if err != nil || head.Name != manifestName || head.Size > manifestMost {
		return nil, errors.New("it is no archive of a run; see: runner export -h")
	}
	text, err := io.ReadAll(t)
	if err != nil {
		return nil, err
	}
	m := &Manifest{}
	if err := exactjson.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("reading its %s: %w", manifestName, err)
	}
	if m.Format != format {
		return nil, fmt.Errorf("it has format %d, this runner knows %d; use a newer runner", m.Format, format)
	}
	if len(m.ID) != 64 || strings.Trim(m.ID, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("%q is no identity of a run", m.ID)
	}
	// The name of the experiment becomes a directory.
	if err := errors.Join(name.Recorded(m.Experiment), name.Cell(m.Cell)); err != nil {
		return nil, err
	}
	if len(m.Files) > filesMost {
		return nil, fmt.Errorf("it lists %d files, and a run has at most %d", len(m.Files), filesMost)
	}
	seen := map[string]bool{}
	for _, f := range m.Files {
		if !fs.ValidPath(f.Path) || strings.HasPrefix(path.Base(f.Path), ".") || name.Cell(f.Path) != nil || seen[f.Path] {
			return nil, fmt.Errorf("%.100q is no file of a run", f.Path)
		}
		seen[f.Path] = true
	}
	return m, nil
}

// extract writes the next entry, which has to be f, below dir.
func extract(ctx context.Context, t *tar.Reader, f File, dir *os.Root) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	head, err := t.Next()
	if err != nil {
		return fmt.Errorf("it ends before %s: %w", f.Path, err)
	}
	switch {
	case head.Name != f.Path:
		return fmt.Errorf("it lists %s next and holds %.100q", f.Path, head.Name)
	case head.Typeflag != tar.TypeReg:
		return fmt.Errorf("%s is no file in it, but a link or a directory", f.Path)
	case head.Size != f.Size:
		return fmt.Errorf("%s has %d bytes, and it lists %d", f.Path, head.Size, f.Size)
	}
	if err := dir.MkdirAll(path.Dir(f.Path), 0o777); err != nil {
		return err
	}
	file, err := dir.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(file, h), contextReader{ctx, t})
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("reading %s: %w", f.Path, err)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != f.SHA256 {
		return fmt.Errorf("%s is damaged: its SHA-256 is %s and not %.12s", f.Path, sum[:12], f.SHA256)
	}
	return nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// verify compares what the run says of itself with the manifest, and reads all
// that other commands read.
func verify(dir *os.Root, m *Manifest) error {
	run, names, err := store.ReadDir(dir)
	if err != nil {
		return err
	}
	if run.ID != m.ID {
		return fmt.Errorf("it holds run %.12s, not %s", run.ID, rundir.Short(m.ID))
	}
	for _, l := range names {
		if err := errors.Join(name.Recorded(l.Experiment), name.Cell(l.Cell)); err != nil {
			return err
		}
	}
	s, err := run.Spec()
	if err != nil {
		return err
	}
	request, err := run.Request(filepath.Dir(dir.Name()))
	if err != nil {
		return err
	}
	for _, s := range []*spec.RunSpec{s, request.GetSpec()} {
		if id := spec.Identity(s); id != m.ID || request.GetId() != m.ID {
			return fmt.Errorf("its specification is that of run %s, not of %s", rundir.Short(id), rundir.Short(m.ID))
		}
		if of := spec.RepeatOf(s); of != m.repeat() {
			return fmt.Errorf("its specification has %s, not %s", of.Words(), m.repeat().Words())
		}
	}
	if trained := run.Summary != nil; trained != m.Trained {
		return fmt.Errorf("it says trained: %v, and there is a result: %v", m.Trained, trained)
	}
	if err := errors.Join(m.whole(run.Summary), m.checkpoints(dir.Name(), s.GetRevision())); err != nil {
		return err
	}
	return fs.WalkDir(dir.FS(), ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || path.Ext(file) != ".safetensors" {
			return err
		}
		tensors, err := safetensors.Open(filepath.Join(dir.Name(), file))
		if err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		return tensors.Close()
	})
}
