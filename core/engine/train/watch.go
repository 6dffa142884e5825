package train

import (
	"errors"
	"fmt"

	"github.com/loralab/loralab/core/filehash"
)

// backboneError ends a run whose backbone was written to while the run used it.
// Nothing that was computed since is kept.
type backboneError struct{ err error }

func (e *backboneError) Error() string {
	if errors.Is(e.err, filehash.ErrTouched) {
		return fmt.Sprintf("%v; its content is what it was, but may have been another one in between, so the run resumes at its last checkpoint", e.err)
	}
	return fmt.Sprintf("%v; plan again", e.err)
}

func (e *backboneError) Unwrap() error { return e.err }

// vouch reports whether all that was computed came from the backbone of the run.
// It is called before anything is written that depends on it.
func (s *session) vouch() error {
	if s.net == nil {
		return nil
	}
	for _, n := range s.nets() {
		if err := n.model.Check(); err != nil {
			return &backboneError{err}
		}
	}
	return nil
}

// distrust lets go of all that was made of a backbone that was written to, after
// the run that noticed it.
func (t *Trainer) distrust() error {
	return t.dev.Do(func() error {
		t.cache.drop()
		return t.model.drop()
	})
}
