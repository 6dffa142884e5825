package rundir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// DamagedError tells of a file that does not hold what was written into it. Any
// other error is one of reading.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Path, e.Err) }
func (e *DamagedError) Unwrap() error { return e.Err }

// Run is a run as its directory has it.
type Run struct {
	Dir
	ID       string
	Revision uint32
}

// Of is the run of a request.
func Of(r *spec.RunRequest) Run {
	return Run{Dir(r.GetPlaces().GetRunDir()), r.GetId(), r.GetSpec().GetRevision()}
}

// Cure is what to do where a file of a finished run is damaged.
func (r Run) Cure() string {
	return fmt.Sprintf("remove the run with `runner rm %s`, then apply its experiment again", Short(r.ID))
}

// Summary is result.json, nil of a run that is not finished.
func (r Run) Summary() (*spec.Summary, error) {
	s := &spec.Summary{}
	if there, err := readResult(r, Result, s); !there || err != nil {
		return nil, err
	}
	if s.Id != r.ID {
		return nil, fmt.Errorf("%s holds the result of another run, %s", r.Dir, s.Id)
	}
	return s, nil
}

// Evaluation is the evaluation with an identity, nil if there is none.
func (r Run) Evaluation(id string) (*spec.Evaluated, error) {
	e := &spec.Evaluated{}
	if there, err := readResult(r, Evaluation(id), e); !there || err != nil {
		return nil, err
	}
	if err := Belongs(e, r.ID); err != nil {
		return nil, &DamagedError{r.Path(Evaluation(id)), err}
	}
	return e, nil
}

// Belongs reports that an evaluation is of another run than that with an identity, or
// with one that begins so. Of an earlier loralab it does not say which it is of.
func Belongs(e *spec.Evaluated, run string) error {
	if of := e.GetRun(); of != "" && !strings.HasPrefix(of, run) {
		return fmt.Errorf("it is of run %s", Short(of))
	}
	return nil
}

func readResult[R spec.Result](r Run, name string, result R) (there bool, err error) {
	path := r.Path(name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		if err = Unmarshal(text, result); err == nil {
			err = Intact(text, result, r.Revision)
		}
		if err != nil {
			err = &DamagedError{path, err}
		}
	}
	return true, err
}

// Checkpoint opens Last or Best and verifies it. The error is fs.ErrNotExist where
// there is none. The caller closes the file.
func (r Run) Checkpoint(name string) (*safetensors.File, error) {
	path := r.Path(name)
	f, err := safetensors.Open(path)
	var bad *safetensors.FormatError
	if errors.As(err, &bad) {
		return nil, &DamagedError{path, bad}
	}
	if err != nil {
		return nil, err
	}
	err = f.Verify()
	if errors.Is(err, safetensors.ErrNoSeal) && !spec.Sealed(r.Revision) {
		err = nil
	}
	if id := f.Metadata()[idKey]; err == nil && id != r.ID {
		err = fmt.Errorf("it is of another run, %q", id)
	}
	if err != nil {
		f.Close()
		return nil, &DamagedError{path, err}
	}
	return f, nil
}

// Weights opens Last or Best of a finished run, as its summary describes it. The
// error says what to do.
func (r Run) Weights(name string, s *spec.Summary) (*safetensors.File, error) {
	f, err := r.Checkpoint(name)
	var damaged *DamagedError
	switch {
	case errors.Is(err, fs.ErrNotExist) && name == Last:
		return nil, fmt.Errorf("there is no checkpoint %s: `runner gc --checkpoints` removes it where a run is done; use the best one, or train the run again: %s", r.Path(name), r.Cure())
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no checkpoint %s; %s", r.Path(name), r.Cure())
	case errors.As(err, &damaged):
		return nil, fmt.Errorf("%w; %s", err, r.Cure())
	case err != nil:
		return nil, err
	}
	if sum := s.GetFiles()[name]; sum != "" && sum != f.Sum() {
		f.Close()
		return nil, fmt.Errorf("%w; %s", &DamagedError{r.Path(name), errors.New("it is not the one that " + Result + " was written with")}, r.Cure())
	}
	return f, nil
}
