package train

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/saved"
	"github.com/loralab/loralab/core/spec"
)

// lockWait is how long to wait for an engine that is just dying.
const lockWait = 10 * time.Second

// runDir is the directory of a run, locked for this process.
type runDir struct {
	saved.Run
	lock    *os.File
	journal *os.File
	sum     hash.Hash // of the journal
}

func openDir(ctx context.Context, req *spec.RunRequest) (*runDir, error) {
	d := &runDir{Run: saved.Of(req)}
	if err := d.own(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.file("checkpoints"), 0o755); err != nil {
		return nil, fmt.Errorf("making the run's directory: %w", err)
	}
	var err error
	if d.lock, err = os.OpenFile(d.file("lock"), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o644); err != nil {
		return nil, fmt.Errorf("locking the run's directory: %w", err)
	}
	for deadline := time.Now().Add(lockWait); ; {
		err = unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) || ctx.Err() != nil {
			d.close()
			return nil, fmt.Errorf("locking %s: another engine works on this run: %w", d.Dir, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	before := &spec.RunRequest{}
	if b, err := os.ReadFile(d.file("request.json")); err != nil || protojson.Unmarshal(b, before) != nil {
		before = nil // of a run that begins, or by another version of loralab
	}
	if err := d.replace("request.json", spec.Remembered(before, req)); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// own refuses a directory that leads elsewhere: a project that somebody else made
// may hold links, and a run is written in its directory and nowhere else.
func (d *runDir) own() error {
	for _, name := range []string{".", "checkpoints", "evaluations", "samples"} {
		info, err := os.Lstat(d.file(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no directory but a link or a file; put the directory itself there", d.file(name))
		}
		if err != nil {
			return fmt.Errorf("opening the run's directory: %w", err)
		}
	}
	return nil
}

func (d *runDir) close() {
	if d.journal != nil {
		d.journal.Close()
	}
	if d.lock != nil {
		d.lock.Close() // and with it goes the lock
	}
}

func (d *runDir) file(name ...string) string {
	return filepath.Join(append([]string{d.Dir}, name...)...)
}

// there reports whether the directory is the one that was locked. Writers make
// directories that are missing, so that of a run that somebody has removed would
// come back with a part of its files.
func (d *runDir) there() error {
	now, err := os.Stat(d.file("lock"))
	if err == nil {
		var locked fs.FileInfo
		if locked, err = d.lock.Stat(); err == nil && os.SameFile(now, locked) {
			return nil
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("the run's directory %s was removed while the run was in progress", d.Dir)
}

// replace writes a message as JSON, in one step.
func (d *runDir) replace(name string, m proto.Message) error {
	if err := d.there(); err != nil {
		return err
	}
	b, err := compactJSON(m)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	out.WriteByte('\n')
	return replacefile.Write(d.Path(name), out.Bytes())
}

// compactJSON is protojson without the white space that it varies.
func compactJSON(m proto.Message) ([]byte, error) {
	b, err := marshal.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Compact(&out, b)
	return out.Bytes(), err
}

// clear removes what an earlier training of the run has left, before it begins
// from the start: scores of other weights must not count for the new ones.
func (d *runDir) clear() error {
	if err := d.there(); err != nil {
		return err
	}
	evaluations, err := filepath.Glob(filepath.Join(escaped(d.Dir), "evaluations", "*.json"))
	if err != nil {
		return err
	}
	left := append(evaluations, d.Path(saved.Best), d.Path(nextBest), d.Path(saved.Last), d.Path(saved.Adapter), d.Path(saved.Head), d.Path("program.json"))
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing what an earlier attempt left: %w", err)
		}
	}
	return nil
}

// escaped makes a path match itself in a pattern.
func escaped(path string) string {
	var b []byte
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			b = append(b, '\\')
		}
		b = append(b, path[i])
	}
	return string(b)
}

// nextBest is the best checkpoint until the last one is written, which names it by
// its seal. So there is at any moment a pair that belongs together.
const nextBest = "checkpoints/best.next.safetensors"

// promote puts a best checkpoint that waits into its place.
func (d *runDir) promote() error {
	err := os.Rename(d.Path(nextBest), d.Path(saved.Best))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keeping the best checkpoint: %w", err)
	}
	return nil
}

// setAside is the name of a journal that cannot be continued.
const setAside = "metrics.damaged.jsonl"

// openJournal opens metrics.jsonl as a checkpoint describes it and cuts it to that
// length: lines after the checkpoint are of steps that are about to be taken
// again. If what is left has another SHA-256, somebody has changed, cut or removed
// it. It is set aside then, and the journal begins empty; damaged says why.
func (d *runDir) openJournal(length int64, want string) (damaged string, err error) {
	path := d.Path(saved.Journal)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return "", fmt.Errorf("opening the journal: %w", err)
	}
	d.journal, d.sum = f, sha256.New()
	n, err := io.Copy(d.sum, io.NewSectionReader(f, 0, length))
	if err != nil {
		return "", fmt.Errorf("reading the journal: %w", err)
	}
	switch {
	case n < length:
		damaged = fmt.Sprintf("it has %d bytes, and the checkpoint was written after %d", n, length)
	case length > 0 && hex.EncodeToString(d.sum.Sum(nil)) != want:
		damaged = "its content was changed after it was written"
	}
	if damaged != "" {
		if err := os.Rename(path, d.Path(setAside)); err != nil {
			return "", fmt.Errorf("setting a damaged journal aside: %w", err)
		}
		if err := f.Close(); err != nil {
			return "", fmt.Errorf("setting a damaged journal aside: %w", err)
		}
		if d.journal, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o644); err != nil {
			return "", fmt.Errorf("opening the journal: %w", err)
		}
		d.sum.Reset()
		return damaged, nil
	}
	if err := f.Truncate(length); err != nil {
		return "", fmt.Errorf("cutting the journal: %w", err)
	}
	_, err = f.Seek(0, io.SeekEnd)
	return "", err
}

// note writes a line of the journal, {"type": kind, …fields of m}.
func (d *runDir) note(kind string, m proto.Message) error {
	b, err := compactJSON(m)
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	line := append([]byte(`{"type":"`+kind+`"`), ',')
	if len(b) == 2 {
		line = line[:len(line)-1]
	}
	line = append(append(line, b[1:]...), '\n')
	if _, err := d.journal.Write(line); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	d.sum.Write(line)
	return nil
}

// closeJournal ends the journal, and returns its SHA-256.
func (d *runDir) closeJournal() (sum string, err error) {
	if _, sum, err = d.journalState(); err != nil {
		return "", err
	}
	err = d.journal.Close()
	d.journal = nil
	return sum, err
}

// journalState makes the journal safe and returns its length and SHA-256.
func (d *runDir) journalState() (length int64, sum string, err error) {
	if err := d.journal.Sync(); err != nil {
		return 0, "", fmt.Errorf("writing the journal: %w", err)
	}
	length, err = d.journal.Seek(0, io.SeekCurrent)
	return length, hex.EncodeToString(d.sum.Sum(nil)), err
}
