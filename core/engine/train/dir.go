package train

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// lockWait is how long to wait for an engine that is just dying.
const lockWait = 10 * time.Second

// runDir is the directory of a run, locked for this process.
type runDir struct {
	rundir.Run
	lock    *os.File
	journal *os.File
	sum     hash.Hash // of the journal
}

func openDir(ctx context.Context, req *spec.RunRequest) (*runDir, error) {
	d := &runDir{Run: rundir.Of(req)}
	if err := d.own(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.Path(rundir.Checkpoints), 0o755); err != nil {
		return nil, fmt.Errorf("making the run's directory: %w", err)
	}
	if err := d.take(ctx, lockWait); err != nil {
		return nil, err
	}
	before := &spec.RunRequest{}
	if b, err := os.ReadFile(d.Path(rundir.Request)); err != nil || rundir.Unmarshal(b, before) != nil {
		before = nil // of a run that begins
	}
	if err := d.replace(rundir.Request, spec.Remembered(before, req)); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// take locks the directory, and waits for another engine as long as wait.
func (d *runDir) take(ctx context.Context, wait time.Duration) (err error) {
	if d.lock, err = os.OpenFile(d.Path(rundir.Lock), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o644); err != nil {
		return fmt.Errorf("locking the run's directory: %w", err)
	}
	for deadline := time.Now().Add(wait); ; {
		err = unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) || ctx.Err() != nil {
			d.close()
			return fmt.Errorf("locking %s: another engine works on this run: %w", d.Dir, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// own refuses a directory that leads elsewhere: a project that somebody else made
// may hold links, and a run is written in its directory and nowhere else.
func (d *runDir) own() error {
	for _, name := range []string{".", rundir.Checkpoints, rundir.Evaluations, rundir.Samples} {
		info, err := os.Lstat(d.Path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no directory but a link or a file; put the directory itself there", d.Path(name))
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

// there reports whether the directory is the one that was locked. Writers make
// directories that are missing, so that of a run that somebody has removed would
// come back with a part of its files.
func (d *runDir) there() error {
	now, err := os.Stat(d.Path(rundir.Lock))
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
	text, err := rundir.MarshalFile(m)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	return replacefile.Write(d.Path(name), text)
}

// clear removes what an earlier training of the run has left, before it begins
// from the start: scores of other weights must not count for the new ones.
func (d *runDir) clear() error {
	if err := d.there(); err != nil {
		return err
	}
	evaluations, err := filepath.Glob(filepath.Join(escaped(d.Path(rundir.Evaluations)), "*.json"))
	if err != nil {
		return err
	}
	left := evaluations
	for _, name := range []string{rundir.Best, rundir.NextBest, rundir.Last, rundir.Adapter, rundir.Head, rundir.Program} {
		left = append(left, d.Path(name))
	}
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

// promote puts a best checkpoint that waits into its place.
func (d *runDir) promote() error {
	err := os.Rename(d.Path(rundir.NextBest), d.Path(rundir.Best))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keeping the best checkpoint: %w", err)
	}
	return nil
}

// openJournal opens metrics.jsonl as a checkpoint describes it and cuts it to that
// length: lines after the checkpoint are of steps that are about to be taken
// again. If what is left has another SHA-256, somebody has changed, cut or removed
// it. It is set aside then, and the journal begins empty; damaged says why. An empty
// one is not: it may be that of a process that was killed after it had set the
// damaged one aside.
func (d *runDir) openJournal(length int64, want string) (damaged string, err error) {
	path := d.Path(rundir.Journal)
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
	if damaged != "" && n == 0 {
		return damaged, nil
	}
	if damaged != "" {
		damaged += "; it was kept as " + rundir.DamagedJournal
		if err := os.Rename(path, d.Path(rundir.DamagedJournal)); err != nil {
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

// note writes a line of the journal.
func (d *runDir) note(e *spec.Event) error {
	line, err := rundir.MarshalEvent(e)
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
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
