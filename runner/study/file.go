package study

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/filename"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/runner/claim"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

// The files of a study. Trials are numbered from 0. The file of a trial is made in
// one step under a number that nobody has, and is never changed: a process that
// asks for the next trial at the same time finds the number taken, reads that trial and
// asks again. No lock is needed, on one machine or on a cluster.

const (
	format   = 1
	fileMost = 1 << 20
)

// file is a trial as its file has it.
type file struct {
	Format int    `json:"format"`
	Number int    `json:"number"`
	Cell   string `json:"cell"`
	// Key is of the cell and the search as the file of the experiment had them.
	Key string `json:"key"`
	// Sampler and Seed are what drew the point, with Number. Start says that it was
	// not drawn but is one of the points to try first.
	Sampler string `json:"sampler"`
	Seed    uint64 `json:"seed"`
	Start   bool   `json:"start,omitempty"`
	Point   Point  `json:"point"`
	Runs    []run  `json:"runs"`
	// Seen is what the sampler had seen, as what is new since the trial before: see
	// [Study.Ask].
	Seen []Seen `json:"seen,omitempty"`
}

// A Point is the values of a trial, in the order of the space. In JSON it is an object.
type Point []experiment.Setting

// run is a run of a trial.
type run struct {
	Seed uint64 `json:"seed"`
	Run  string `json:"run"`
}

// MarshalJSON writes paths and values.
func (p Point) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, s := range p {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(s.Path)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(s.Value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads paths and values in their order.
func (p *Point) UnmarshalJSON(text []byte) error {
	*p = nil
	d := json.NewDecoder(strings.NewReader(string(text)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("the point is no object")
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return err
		}
		*p = append(*p, experiment.Setting{Path: t.(string), Value: value})
	}
	return nil
}

// Dir is where the trials of a cell lie, relative to runs/. No two cells share one.
func Dir(experiment, cell string) string {
	return path.Join(experiment, store.Studies, filename.Distinct(cell, 100))
}

// directory is the directory of a study.
type directory struct {
	root string // of the project
	name string // below runs/
	at   *os.Root
	by   string // see Here
}

// open opens the directory of a study. Without create it is nil where there is none.
func open(root, experiment, cell string, create bool) (*directory, error) {
	d := &directory{root: root, name: Dir(experiment, cell)}
	runs, err := os.OpenRoot(filepath.Join(root, "runs"))
	if errors.Is(err, fs.ErrNotExist) && !create {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the study of %s: %w", cell, err)
	}
	defer runs.Close()
	if create {
		if err := runs.MkdirAll(d.name, 0o777); err != nil {
			return nil, fmt.Errorf("making the directory of the study of %s: %w", cell, err)
		}
	}
	d.at, err = runs.OpenRoot(d.name)
	if errors.Is(err, fs.ErrNotExist) && !create {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the study of %s: %w", cell, err)
	}
	return d, nil
}

func (d *directory) close() error {
	if d == nil {
		return nil
	}
	return d.at.Close()
}

func nameOf(number int) string { return fmt.Sprintf("%06d.json", number) }

// path is the file of a trial as people see it.
func (d *directory) path(number int) string { return path.Join("runs", d.name, nameOf(number)) }

// from goes through the trials from a number on. The directory is listed for number
// 0 alone: what others add later has no gaps.
func (d *directory) from(next int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		if next > 0 {
			for ; d.has(next); next++ {
				if !yield(next, nil) {
					return
				}
			}
			return
		}
		numbers, err := d.numbers()
		if err != nil {
			yield(0, err)
			return
		}
		for _, n := range numbers {
			if !yield(n, nil) {
				return
			}
		}
	}
}

func (d *directory) has(number int) bool {
	_, err := d.at.Lstat(nameOf(number))
	return err == nil
}

// numbers lists the trials that are there.
func (d *directory) numbers() ([]int, error) {
	entries, err := fs.ReadDir(d.at.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("reading the study in runs/%s: %w", d.name, err)
	}
	var all []int
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), ".json")
		if n, err := strconv.Atoi(digits); ok && err == nil && n >= 0 && nameOf(n) == e.Name() {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}

// read reads a trial; it wraps fs.ErrNotExist where there is none.
func (d *directory) read(number int) (*file, error) {
	fail := func(err error) (*file, error) {
		return nil, fmt.Errorf("%s cannot be read: %w; remove it, and the trial is drawn again under another number", d.path(number), err)
	}
	info, err := d.at.Lstat(nameOf(number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("it is no regular file (%s)", info.Mode().Type())
	}
	if err != nil {
		return fail(err)
	}
	f, err := d.at.Open(nameOf(number))
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, fileMost+1))
	if err != nil {
		return fail(err)
	}
	t := &file{}
	switch err := json.Unmarshal(text, t); {
	case err != nil:
		return fail(err)
	case t.Format > format:
		return fail(fmt.Errorf("a newer loralab wrote it (format %d, this one knows %d)", t.Format, format))
	case t.Format < 1 || t.Number != number || len(t.Runs) == 0:
		return fail(fmt.Errorf("it is of trial %d, format %d, with %d runs", t.Number, t.Format, len(t.Runs)))
	}
	return t, nil
}

func prunedName(number int) string { return fmt.Sprintf("%06d.pruned", number) }

// isPruned reports whether a trial has been pruned for good. Others would judge it by
// trials that ended later.
func (d *directory) isPruned(number int) bool {
	_, err := d.at.Lstat(prunedName(number))
	return err == nil
}

// prune records that a trial has been pruned.
func (d *directory) prune(number int) error {
	f, err := d.at.OpenFile(prunedName(number), os.O_WRONLY|os.O_CREATE, 0o666)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("recording that trial %d is pruned: %w", number, err)
	}
	return nil
}

// sweep removes what killed processes left of files that are there by now.
func (d *directory) sweep() {
	if d.by != "" {
		return // whether anybody on another node uses one, nothing says
	}
	entries, _ := fs.ReadDir(d.at.FS(), ".")
	for _, e := range entries {
		name, _, _ := strings.Cut(strings.TrimPrefix(e.Name(), "."), ".tmp-")
		if !replacefile.IsTemporary(e.Name()) {
			continue
		}
		_, err := d.at.Lstat(name)
		if inUse, known := replacefile.InUse(d.at, e.Name()); err == nil && known && !inUse {
			_ = d.at.Remove(e.Name())
		}
	}
}

// errTaken says that another process has made a trial of this number.
var errTaken = errors.New("the number is taken")

// create makes the file of a trial. The whole file appears in one step, or errTaken
// is returned.
func (d *directory) create(t *file) error {
	t.Format = format
	text, err := json.MarshalIndent(t, "", " ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", d.path(t.Number), err)
	}
	text = append(text, '\n')
	if d.by == "" {
		err = replacefile.CreateIn(d.at, nameOf(t.Number), text)
		if errors.Is(err, fs.ErrExist) {
			return errTaken
		}
		return err
	}
	won, err := claim.Create(d.at, nameOf(t.Number), d.by, text)
	if err != nil {
		return fmt.Errorf("writing %s: %w", d.path(t.Number), err)
	}
	if !won {
		return errTaken
	}
	return nil
}
