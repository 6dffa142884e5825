// Package tensorboard writes and reads the event files of TensorBoard, in Go alone:
// scalars, images, and what the HPARAMS tab shows.
//
// A directory is one run of TensorBoard. It has one or more event files, which are
// read in the order of their names; a process that continues a run begins a file of
// its own:
//
//	w, err := tensorboard.Create(dir)
//	err = w.Write(tensorboard.Event{Step: 1, Values: []tensorboard.Value{
//		tensorboard.Scalar("train/loss", 0.7),
//	}})
//
// An event file is a sequence of TFRecord frames: the length of the data as uint64 LE,
// the masked CRC-32C of these 8 bytes, the data, and its masked CRC-32C. The data is an
// Event in protobuf (tensorboard/compat/proto/event.proto and summary.proto). An event
// is written by one call of the operating system, so a process that is killed leaves
// whole events and at most one cut tail. Readers wait at a cut tail, and Read leaves it
// out; nothing may be written behind it.
//
// The tests read what this package writes with TensorBoard itself.
package tensorboard

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Event is what happened at one step. The values of one event are written together or
// not at all.
type Event struct {
	Time   time.Time // zero: now
	Step   int64
	Values []Value
	// Start says that a process continues the run at Step: readers drop what
	// earlier files have of this step and later ones.
	Start bool
}

// Value is one value of an event: see Scalar, Image, SessionStart, SessionEnd and
// Experiment.
type Value struct {
	Tag string
	// Description is Markdown about the tag. TensorBoard shows that of the first value.
	Description string

	Scalar *float64 // kept as float32
	Image  *Picture

	hparams []byte // content of plug-in "hparams"
}

// Picture is an encoded image.
type Picture struct {
	Width, Height int
	// Channels is 1 for gray, 3 for RGB, 4 for RGBA.
	Channels int
	PNG      []byte // nil where Read has left it out
}

// Scalar is a number under a tag. Tags with one first element ("train/loss") are
// shown together.
func Scalar(tag string, v float64) Value { return Value{Tag: tag, Scalar: &v} }

// Image is a picture under a tag.
func Image(tag string, p Picture) Value { return Value{Tag: tag, Image: &p} }

// Writer writes one event file. It is for one goroutine.
type Writer struct {
	file *os.File
	buf  []byte
}

// prefix begins the names of event files. Readers take any name with "tfevents" in it.
const prefix = "events.out.tfevents."

// version is the first event of a file.
const version = "brain.Event:2"

// Create begins an event file in a directory of events. Its name sorts behind those of
// the files that are there.
func Create(dir *os.Root) (*Writer, error) {
	names, err := files(dir)
	if err != nil {
		return nil, fmt.Errorf("creating an event file: %w", err)
	}
	// Ten digits of seconds sort as text until the year 2286. Where the newest file has
	// this second or a later one, because of two starts in one second or a clock that
	// was set back, the name has the second after it.
	at := time.Now().Unix()
	if len(names) > 0 {
		at = max(at, second(names[len(names)-1])+1)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	host = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, host)
	name := fmt.Sprintf("%s%010d.%s.%d.0", prefix, at, host, os.Getpid())
	file, err := dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, fmt.Errorf("creating an event file: %w", err)
	}
	w := &Writer{file: file}
	if err := w.write(marshalVersion(time.Now())); err != nil {
		file.Close()
		return nil, err
	}
	return w, nil
}

// Write writes an event. After an error the writer is of no use, since the file may
// end with a cut event.
func (w *Writer) Write(e Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	return w.write(marshal(e))
}

func (w *Writer) write(data []byte) error {
	w.buf = appendFrame(w.buf[:0], data)
	if _, err := w.file.Write(w.buf); err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	return nil
}

// Close closes the file.
func (w *Writer) Close() error { return w.file.Close() }

// Read calls see with the events of all files of a directory, in the order of the
// files; images come without their bytes. What follows a cut or damaged event of a
// file is left out, as TensorBoard does.
func Read(dir *os.Root, see func(Event)) error {
	names, err := files(dir)
	if err != nil {
		return fmt.Errorf("reading event files: %w", err)
	}
	for _, name := range names {
		file, err := dir.Open(name)
		if err != nil {
			return fmt.Errorf("reading event files: %w", err)
		}
		err = readFrames(file, func(data []byte) bool {
			e, err := unmarshal(data)
			if err == nil && (len(e.Values) > 0 || e.Start) {
				see(e)
			}
			return err == nil
		})
		file.Close()
		if err != nil {
			return fmt.Errorf("reading event file %s: %w", name, err)
		}
	}
	return nil
}

// files are the names of the event files of a directory, in their order.
func files(dir *os.Root) ([]string, error) {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// second is the time in the name of an event file, 0 if it has none.
func second(name string) int64 {
	text, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), ".")
	s, _ := strconv.ParseInt(text, 10, 64)
	return s
}
