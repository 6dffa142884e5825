package rundir

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/spec"
)

// journalMost bounds the journal that is read: ten million steps.
const journalMost = 4 << 30

// ReadJournal reads the journal at a path. Fault says what is wrong with it, "" for
// nothing; then the text is not to be used. The result of the run, nil while it is not
// trained, has the digest of the file. A run that is not trained may have none.
func ReadJournal(path string, result *spec.Summary) (text []byte, fault string) {
	text, err := regular.Read(path, journalMost)
	switch want := result.GetFiles()[Journal]; {
	case errors.Is(err, fs.ErrNotExist) && result == nil:
		return nil, ""
	case errors.Is(err, fs.ErrNotExist):
		return nil, Journal + " is missing"
	case err != nil:
		return nil, fmt.Sprintf("%s cannot be read (%v)", Journal, err)
	case want != "":
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != want {
			return text, Journal + " was changed or cut after the run ended"
		}
	}
	return text, ""
}

// JournalFault says what is wrong with the journal at a path, "" for nothing. Where the
// result has no digest of the file, as those of earlier versions, its steps are counted.
func JournalFault(path string, result *spec.Summary) string {
	text, fault := ReadJournal(path, result)
	if fault != "" || result.GetFiles()[Journal] != "" {
		return fault
	}
	seen := map[uint64]bool{}
	for line := range bytes.Lines(text) {
		event, err := UnmarshalEvent(line)
		if step := event.GetStep(); err == nil && step != nil {
			seen[step.Step] = true
		}
	}
	if missing := int(result.GetSteps()) - len(seen); missing > 0 {
		return fmt.Sprintf("%d of %s %s missing from %s", missing, plural.Of(result.GetSteps(), "step"), plural.Form(missing, "is", "are"), Journal)
	}
	return ""
}
