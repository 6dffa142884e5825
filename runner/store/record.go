package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// recordFormat is the version of the form of records and of lists of what was
// asked.
const recordFormat = 1

// fileMost bounds the files that are read whole: records, results, requests.
const fileMost = 256 << 20

// record is the content of rundir.Record: what runner knows of a run and the engine
// does not. docs/help/files.md describes it for other programs.
type record struct {
	Format   int          `json:"format"`
	ID       string       `json:"id"`
	Names    []recordName `json:"names"` // the first is that of the run
	State    State        `json:"state"`
	Reason   string       `json:"reason,omitempty"` // of failing
	Step     uint64       `json:"step"`
	Steps    uint64       `json:"steps"`
	Attempts int          `json:"attempts"`
	Created  time.Time    `json:"created,omitzero"`
	Started  time.Time    `json:"started,omitzero"`
	Ended    time.Time    `json:"ended,omitzero"`
	// Rungs are the validations at which a search paused the run. None is changed
	// once it is there.
	Rungs []recordRung `json:"rungs,omitempty"`
	// Worker is the file of runs/.workers of the process that works on the run.
	Worker string `json:"worker,omitempty"`
	// Generation is the newest that the record knows: see package claim.
	Generation int             `json:"generation,omitempty"`
	Spec       json.RawMessage `json:"spec,omitempty"`
}

type recordRung struct {
	Step    uint64          `json:"step"`
	Metrics json.RawMessage `json:"metrics"`
}

type recordName struct {
	Experiment string    `json:"experiment"`
	Cell       string    `json:"cell"`
	Fold       name.Fold `json:"fold,omitzero"`
	Seed       uint64    `json:"seed"`
	Since      time.Time `json:"since"`
	Position   int       `json:"position"`
}

func (n recordName) label(id string) Label {
	return Label{n.Experiment, n.Cell, n.Fold, n.Seed, id, n.Since, n.Position}
}

func (l Label) recorded() recordName {
	return recordName{l.Experiment, l.Cell, l.Fold, l.Seed, l.Since, l.Position}
}

// now is the time as records have it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// encode writes a record: one line for each field, and the specification on one
// line.
func (r *record) encode() ([]byte, error) {
	head := *r
	head.Spec = nil
	text, err := json.MarshalIndent(head, "", "  ")
	if err != nil {
		return nil, err
	}
	b := bytes.NewBuffer(bytes.TrimSuffix(text, []byte("\n}")))
	if len(r.Spec) > 0 {
		b.WriteString(",\n  \"spec\": ")
		if err := json.Compact(b, r.Spec); err != nil {
			return nil, err
		}
	}
	b.WriteString("\n}\n")
	return b.Bytes(), nil
}

// decodeRecord reads the record of the run in a directory of that name.
func decodeRecord(text []byte, dir string) (*record, error) {
	r := &record{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, err
	}
	switch {
	case r.Format > recordFormat:
		return nil, fmt.Errorf("a newer loralab wrote it (format %d, this one knows %d)", r.Format, recordFormat)
	case r.Format < 1:
		return nil, errors.New("it has no format")
	case !isID(r.ID) || rundir.Short(r.ID) != dir:
		return nil, fmt.Errorf("it is of run %.12q, in the directory of run %s", r.ID, dir)
	case len(r.Names) == 0:
		return nil, errors.New("it has no names")
	case !slices.Contains([]State{Queued, Running, Done, Failed, Stopped, Paused}, r.State):
		return nil, fmt.Errorf("%.20q is no state of a run", r.State)
	}
	return r, r.sound()
}

// sound reports that a record does not agree with itself.
func (r *record) sound() error {
	if _, err := r.rungs(); err != nil {
		return err
	}
	if len(r.Spec) == 0 {
		return nil
	}
	s := &spec.RunSpec{}
	if err := rundir.Unmarshal(r.Spec, s); err != nil {
		return err
	}
	if err := determines(s, r.ID); err != nil {
		return err
	}
	for _, n := range r.Names {
		if l, of := n.label(r.ID), spec.RepeatOf(s); l.Repeat() != of {
			return fmt.Errorf("it has the name %s, and its specification has %s", l.Name(), of.Words())
		}
	}
	return nil
}

// rungs are the validations of pauses.
func (r *record) rungs() (all []Rung, err error) {
	for _, rung := range r.Rungs {
		m := &spec.Metrics{}
		if err := rundir.Unmarshal(rung.Metrics, m); err != nil {
			return nil, fmt.Errorf("the validation of step %d: %w", rung.Step, err)
		}
		if n := len(all); n > 0 && rung.Step <= all[n-1].Step {
			return nil, fmt.Errorf("its validations are not in order: step %d follows step %d", rung.Step, all[n-1].Step)
		}
		all = append(all, Rung{rung.Step, m})
	}
	return all, nil
}

// rung adds the validation of a pause. None is changed once it is there.
func (r *record) rung(step uint64, metrics json.RawMessage) {
	if slices.ContainsFunc(r.Rungs, func(r recordRung) bool { return r.Step == step }) {
		return
	}
	r.Rungs = append(slices.Clone(r.Rungs), recordRung{step, metrics})
	slices.SortFunc(r.Rungs, func(a, b recordRung) int { return cmp.Compare(a.Step, b.Step) })
}

// index is where a run has a name, -1 where it has not.
func (r *record) index(l Label) int {
	return slices.IndexFunc(r.Names, func(n recordName) bool {
		return n.Experiment == l.Experiment && n.Cell == l.Cell && n.Fold == l.Fold && n.Seed == l.Seed
	})
}

// readRecord reads the record of a run; it wraps fs.ErrNotExist where there is
// none.
func readRecord(dir *os.Root) (*record, error) {
	text, err := readFile(dir, rundir.Record)
	if err != nil {
		return nil, err
	}
	return decodeRecord(text, filepath.Base(dir.Name()))
}

// writeRecord replaces the record of a run.
func writeRecord(dir *os.Root, r *record) error { return r.write(dir, replacefile.WriteIn) }

func (r *record) write(dir *os.Root, write func(*os.Root, string, []byte) error) error {
	r.Format = recordFormat
	text, err := r.encode()
	if err != nil {
		return fmt.Errorf("recording run %s: %w", rundir.Short(r.ID), err)
	}
	return write(dir, rundir.Record, text)
}

// askedFile of the directory of an experiment says what the newest apply asked
// for.
const askedFile = ".asked.json"

// Studies of the directory of an experiment has the trials of its searches: see package
// study.
const Studies = "studies"

// Ensembles of the directory of an experiment has the scores of its ensembles: see package
// ensemble.
const Ensembles = "ensembles"

// Asked is what the newest apply of an experiment asked for: all runs of the
// file in its order, those included that it was not to do.
type Asked struct {
	Experiment string
	When       time.Time
	Runs       []Wanted
}

// Wanted is one run that was asked for under a name.
type Wanted struct {
	Label
	Evaluations []string // identities
	Domains     []string // of the evaluations; none: an earlier version asked
}

type askedRecord struct {
	Format     int         `json:"format"`
	Experiment string      `json:"experiment"`
	Asked      time.Time   `json:"asked"`
	Cells      []askedCell `json:"cells"` // in the order of the file
}

type askedCell struct {
	Cell string     `json:"cell"`
	Runs []askedRun `json:"runs"`
}

type askedRun struct {
	Fold        name.Fold `json:"fold,omitzero"`
	Seed        uint64    `json:"seed"`
	Run         string    `json:"run"`
	Evaluations []string  `json:"evaluations,omitempty"` // names of their files
	Domains     []string  `json:"domains,omitempty"`     // in the same order
}

func readAsked(dir *os.Root) (*Asked, error) {
	text, err := readFile(dir, askedFile)
	if err != nil {
		return nil, err
	}
	r := askedRecord{}
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	if r.Format != recordFormat || r.Experiment != filepath.Base(dir.Name()) {
		return nil, fmt.Errorf("it is of experiment %.20q, format %d", r.Experiment, r.Format)
	}
	a := &Asked{Experiment: r.Experiment, When: r.Asked}
	for _, c := range r.Cells {
		for _, run := range c.Runs {
			label := Label{r.Experiment, c.Cell, run.Fold, run.Seed, run.Run, r.Asked, len(a.Runs)}
			a.Runs = append(a.Runs, Wanted{label, run.Evaluations, run.Domains})
		}
	}
	return a, nil
}

func (a *Asked) encode() ([]byte, error) {
	r := askedRecord{Format: recordFormat, Experiment: a.Experiment, Asked: a.When, Cells: []askedCell{}}
	for _, l := range a.Runs {
		if n := len(r.Cells); n == 0 || r.Cells[n-1].Cell != l.Cell {
			r.Cells = append(r.Cells, askedCell{Cell: l.Cell})
		}
		c := &r.Cells[len(r.Cells)-1]
		run := askedRun{Fold: l.Fold, Seed: l.Seed, Run: l.Run, Domains: l.Domains}
		for _, e := range l.Evaluations {
			run.Evaluations = append(run.Evaluations, rundir.Short(e))
		}
		c.Runs = append(c.Runs, run)
	}
	text, err := json.MarshalIndent(r, "", " ")
	return append(text, '\n'), err
}

// readFile reads a file of a run whole: what is no regular file, a link say, is
// not followed and not waited for.
func readFile(dir *os.Root, name string) ([]byte, error) {
	info, err := dir.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is no regular file (%s)", info.Mode().Type())
	}
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, fileMost+1))
	if err == nil && len(text) > fileMost {
		err = fmt.Errorf("it is larger than %d bytes", fileMost)
	}
	return text, err
}

// isID reports whether s is the identity of a run.
func isID(s string) bool { return len(s) == 64 && isHex(s) }

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// isRunDir reports whether dir, relative to the project, is where a run may lie:
// "runs/<experiment>/<first 12 digits of its identity>".
func isRunDir(dir, id string) bool {
	parent, hex := path.Split(dir)
	experiment, ok := strings.CutPrefix(parent, "runs/")
	return ok && hex == rundir.Short(id) && isElement(strings.TrimSuffix(experiment, "/"))
}

// isElement reports whether a name can be that of a directory of an experiment.
// It takes more than name.Recorded does, because older versions did.
func isElement(name string) bool {
	return name != "" && name[0] != '.' && len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}

// absent reports whether an error says that a file is not there.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }
