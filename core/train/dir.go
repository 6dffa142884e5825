package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/spec"
)

// lockWait is how long to wait for an engine that is just dying.
const lockWait = 10 * time.Second

// runDir is the directory of a run, locked for this process.
type runDir struct {
	path    string
	lock    *os.File
	journal *os.File
}

func openDir(ctx context.Context, req *spec.RunRequest) (*runDir, error) {
	d := &runDir{path: req.Places.RunDir}
	if err := os.MkdirAll(filepath.Join(d.path, "checkpoints"), 0o755); err != nil {
		return nil, fmt.Errorf("making the run's directory: %w", err)
	}
	var err error
	if d.lock, err = os.OpenFile(d.file("lock"), os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return nil, fmt.Errorf("locking the run's directory: %w", err)
	}
	for deadline := time.Now().Add(lockWait); ; {
		err = unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) || ctx.Err() != nil {
			d.close()
			return nil, fmt.Errorf("locking %s: another engine works on this run: %w", d.path, err)
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

func (d *runDir) close() {
	if d.journal != nil {
		d.journal.Close()
	}
	if d.lock != nil {
		d.lock.Close() // and with it goes the lock
	}
}

func (d *runDir) file(name ...string) string {
	return filepath.Join(append([]string{d.path}, name...)...)
}

// replace writes a message as JSON, in one step.
func (d *runDir) replace(name string, m proto.Message) error {
	b, err := compactJSON(m)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	out.WriteByte('\n')
	return replacefile.Write(d.file(name), out.Bytes())
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

// summary is what a finished training left, nil if it is not finished.
func (d *runDir) summary(id string) (*spec.Summary, error) {
	b, err := os.ReadFile(d.file("result.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	s := &spec.Summary{}
	if err == nil {
		err = protojson.Unmarshal(b, s)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the result of an earlier run: %w", err)
	}
	if s.Id != id {
		return nil, fmt.Errorf("%s holds the result of another run, %s", d.path, s.Id)
	}
	return s, nil
}

// openJournal opens metrics.jsonl and cuts it to the given length: lines after
// a checkpoint are of steps that are about to be taken again. One that somebody
// has removed or cut begins where it ends.
func (d *runDir) openJournal(length int64) error {
	f, err := os.OpenFile(d.file("metrics.jsonl"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("opening the journal: %w", err)
	}
	d.journal = f
	info, err := f.Stat()
	if err == nil {
		err = f.Truncate(min(length, info.Size()))
	}
	if err != nil {
		return fmt.Errorf("cutting the journal: %w", err)
	}
	_, err = f.Seek(0, io.SeekEnd)
	return err
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
	return nil
}

// journalLength makes the journal safe and returns its length.
func (d *runDir) journalLength() (int64, error) {
	if err := d.journal.Sync(); err != nil {
		return 0, fmt.Errorf("writing the journal: %w", err)
	}
	return d.journal.Seek(0, io.SeekCurrent)
}
