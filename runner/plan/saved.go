package plan

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// Saved is a plan in a file: what was asked, and what it was to do. Applying it
// asks again and goes on only if the answer is the same.
type Saved struct {
	Format int       `json:"format"`
	Made   time.Time `json:"made"`
	Ask    Ask       `json:"ask"`
	// Actions that have work to do.
	Actions []SavedAction `json:"actions"`
	// Searches that have trials to come.
	Searches []Search `json:"searches,omitempty"`
}

// Ask is all that a plan was made from, besides the files themselves.
type Ask struct {
	Root       string   `json:"root"`  // of the project, absolute
	Files      []string `json:"files"` // absolute
	Tags       []string `json:"tags,omitempty"`
	Set        []string `json:"set,omitempty"`
	DevPlugins []string `json:"dev_plugins,omitempty"`
	Target     []string `json:"target,omitempty"`
	Exclude    []string `json:"exclude,omitempty"`
}

// SavedAction is one line of a saved plan.
type SavedAction struct {
	Name        string          `json:"name"`
	ID          string          `json:"id"`
	Symbol      Symbol          `json:"symbol"`
	Train       bool            `json:"train"`
	Step        uint64          `json:"step,omitempty"`
	Evaluations []string        `json:"evaluations,omitempty"` // identities
	Spec        json.RawMessage `json:"spec"`                  // to tell what moved
}

// The formats of saved plans. One with searches has the second, so that a runner that
// does not know them refuses it.
const (
	savedFormat         = 2
	savedSearchesFormat = 3
)

// Bounds of what is read. A plan of 10,000 runs has some 100 MB of text, which
// gzip makes a tenth of.
const (
	savedMost     = 256 << 20 // bytes of the file
	savedMostText = 1 << 30   // bytes of JSON in it
)

// A saved plan is JSON in gzip, and behind it the SHA-256 of all that: gzip's own
// sum does not see every byte.

// Write saves the plan. The file is replaced in one step.
func (p *Plan) Write(file string, ask Ask) error {
	saved := Saved{Format: savedFormat, Made: time.Now().UTC().Truncate(time.Second), Ask: ask, Actions: []SavedAction{}, Searches: p.Searches}
	if len(p.Searches) > 0 {
		saved.Format = savedSearchesFormat
	}
	for _, a := range p.Work() {
		text, err := rundir.Marshal(a.Run.Spec)
		if err != nil {
			return fmt.Errorf("saving the plan: %w", err)
		}
		saved.Actions = append(saved.Actions, a.saved(text))
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := errors.Join(json.NewEncoder(z).Encode(saved), z.Close()); err != nil {
		return fmt.Errorf("saving the plan: %w", err)
	}
	if err := replacefile.Write(file, seal(b.Bytes())); err != nil {
		return fmt.Errorf("saving the plan: %w", err)
	}
	return nil
}

func seal(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func (a *Action) saved(text []byte) SavedAction {
	s := SavedAction{Name: a.Name, ID: a.Run.ID, Symbol: a.Symbol, Train: a.Train, Step: a.Step, Spec: text}
	for _, e := range a.Evaluations {
		s.Evaluations = append(s.Evaluations, e.ID)
	}
	return s
}

// IsSaved reports whether a file is a saved plan, and not an experiment.
func IsSaved(file string) bool {
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() { // to open another one may take for ever
		return false
	}
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 2)
	_, err = io.ReadFull(f, magic)
	return err == nil && magic[0] == 0x1f && magic[1] == 0x8b // gzip
}

// ReadSaved reads a saved plan. A damaged one is an error, whatever is damaged.
func ReadSaved(file string) (*Saved, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading the plan: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, savedMost+1))
	if err == nil && len(b) > savedMost {
		err = fmt.Errorf("it is larger than %d MiB", savedMost>>20)
	}
	s := &Saved{}
	if err == nil {
		s, err = parseSaved(b)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the plan %s: %w: plan again", file, err)
	}
	return s, nil
}

func parseSaved(b []byte) (*Saved, error) {
	n := len(b) - sha256.Size
	if n < 0 || !bytes.Equal(seal(bytes.Clone(b[:n])), b) {
		return nil, errors.New("the file is damaged, or was written by another version of runner")
	}
	z, err := gzip.NewReader(bytes.NewReader(b[:n]))
	if err != nil {
		return nil, err
	}
	// To its end: only there gzip compares its sum.
	text, err := io.ReadAll(io.LimitReader(z, savedMostText+1))
	if err != nil {
		return nil, err
	}
	if len(text) > savedMostText {
		return nil, fmt.Errorf("it has more than %d MiB of text", savedMostText>>20)
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, err
	}
	if head.Format < savedFormat || head.Format > savedSearchesFormat {
		return nil, fmt.Errorf("it has format %d, this runner knows %d and %d", head.Format, savedFormat, savedSearchesFormat)
	}
	s := &Saved{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, err
	}
	return s, s.check()
}

// check reports what no plan has that was written here.
func (s *Saved) check() error {
	if len(s.Ask.Files) == 0 || !filepath.IsAbs(s.Ask.Root) {
		return errors.New("it names no file or no project")
	}
	for _, file := range s.Ask.Files {
		if !filepath.IsAbs(file) {
			return fmt.Errorf("the file %q has no absolute path", file)
		}
	}
	seen := map[string]bool{}
	for _, a := range s.Actions {
		if seen[a.Name] {
			return fmt.Errorf("it has two actions for %q", a.Name)
		}
		seen[a.Name] = true
	}
	return nil
}

// Selection is the part of the plan that was asked for.
func (s *Saved) Selection() Selection { return Selection{s.Ask.Target, s.Ask.Exclude} }

// DriftError says that a saved plan is no longer what would be done.
type DriftError struct {
	Moved []string // a line each
}

func (e *DriftError) Error() string {
	const most = 20
	lines := e.Moved
	if more := len(lines) - most; more > 0 {
		lines = append(slices.Clone(lines[:most]), fmt.Sprintf("and %d more", more))
	}
	return "the saved plan is no longer what would be done; nothing was run. Plan again.\n" + strings.Join(lines, "\n")
}

// Holds compares the saved plan with one made now from the same files. The
// error is a *DriftError with what moved, by run and field, and by search.
func (s *Saved) Holds(now *Plan) error {
	fresh := map[string]*Action{}
	for _, a := range now.Actions {
		if a.Run != nil {
			fresh[a.Name] = a
		}
	}
	e := &DriftError{}
	planned := map[string]bool{}
	for _, was := range s.Actions {
		planned[was.Name] = true
		a := fresh[was.Name]
		if a == nil {
			e.Moved = append(e.Moved, was.Name+": no file asks for it any more")
			continue
		}
		text, err := was.differs(a)
		if err != nil {
			return err
		}
		if text != "" {
			e.Moved = append(e.Moved, was.Name+": "+text)
		}
	}
	for _, a := range now.Work() {
		if !planned[a.Name] {
			text := a.Name + ": not in the saved plan"
			if a.Reason != "" {
				text += "; " + a.Reason
			}
			e.Moved = append(e.Moved, text)
		}
	}
	e.Moved = append(e.Moved, searchesMoved(s.Searches, now.Searches)...)
	if len(e.Moved) > 0 {
		return e
	}
	return nil
}

// differs says what moved since an action was saved, "" if nothing did.
func (s *SavedAction) differs(a *Action) (string, error) {
	switch {
	case s.ID != a.Run.ID:
		was := &spec.RunSpec{}
		if err := rundir.Unmarshal(s.Spec, was); err != nil {
			return "", fmt.Errorf("reading the saved plan: %s: %w", s.Name, err)
		}
		if changes := spec.Diff(was, a.Run.Spec); len(changes) > 0 {
			return moved(changes), nil
		}
		return "its specification moved", nil
	case !a.Works():
		return "was done meanwhile", nil
	case s.Train != a.Train:
		return "was trained meanwhile", nil
	case s.Step != a.Step:
		return fmt.Sprintf("stood at step %d, now at step %d", s.Step, a.Step), nil
	}
	now := a.saved(nil).Evaluations
	if !slices.Equal(s.Evaluations, now) {
		return fmt.Sprintf("was to be scored on %s, now on %s", plural.Of(len(s.Evaluations), "domain"), domains(a.Evaluations)), nil
	}
	return "", nil
}
