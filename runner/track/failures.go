package track

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/wandb"
)

// Failures are runs that sinks do not show. A person reads of the first ones of each
// sink, and how many more there are.
type Failures struct {
	// Most is how many are named for each sink; 0 is one.
	Most  int
	sinks []*troubled
}

// troubled is a sink with failures.
type troubled struct {
	sink  Sink
	said  []string // reasons
	more  int      // runs
	lacks int      // runs whose log was not sent
	why   error    // of the first of them
}

func (f *Failures) of(sink Sink) *troubled {
	for _, s := range f.sinks {
		if s.sink == sink {
			return s
		}
	}
	s := &troubled{sink: sink}
	f.sinks = append(f.sinks, s)
	return s
}

// Any reports whether there are failures.
func (f *Failures) Any() bool { return len(f.sinks) > 0 }

// Add keeps a failure. The line is for people, "" where its reason was said of another
// run, or where More says it.
func (f *Failures) Add(s Shown, err error) (line string) {
	of := f.of(s.Sink)
	if not := new(wandb.NotSentError); errors.As(err, &not) {
		if of.lacks++; of.lacks == 1 {
			of.why = not.Why
		}
		return ""
	}
	reason := oneLine(err)
	if slices.Contains(of.said, reason) || len(of.said) >= max(f.Most, 1) {
		of.more++
		return ""
	}
	of.said = append(of.said, reason)
	return fmt.Sprintf("%s does not show %s: %s", s.Sink.Name(), s.Run.Name(), reason)
}

// More is what Add has left out, a line for each sink.
func (f *Failures) More() (lines []string) {
	for _, s := range f.sinks {
		if s.more > 0 {
			lines = append(lines, fmt.Sprintf("%s does not show %d more %s either", s.sink.Name(), s.more, plural.Form(s.more, "run", "runs")))
		}
		if s.lacks > 0 {
			lines = append(lines, fmt.Sprintf("%s lacks a part of %s (%s); it is logged, and \"runner track sync\" sends it", s.sink.Name(), plural.Of(s.lacks, "run"), oneLine(s.why)))
		}
	}
	return lines
}

// oneLine is the text of an error, of joined ones without those that say the same.
func oneLine(err error) string {
	var lines []string
	seen := map[string]bool{}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" && !seen[line] {
			seen[line] = true
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
