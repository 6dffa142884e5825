package variant

import (
	"fmt"
	"strings"

	"github.com/loralab/loralab/runner/diagnostic"
)

// Error is what went wrong with one plug-in.
type Error struct {
	Variant string
	Path    string // of its file, "" if that is not known
	Doing   string // "start", "Describe", "Build", "Adopt"; "" before it was started
	Message string
	Hint    string // what to do
	// Unknown says that the plug-in does not have the call.
	Unknown bool
	// Untrusted says that the file came with the project and that the user has not
	// trusted it. It was not started.
	Untrusted bool
	// Crashed says that it panicked, ended or hung instead of answering.
	Crashed bool
	// killed says that a signal ended it while it started.
	killed bool
	// Stack is what the plug-in printed when it crashed.
	Stack string
	// Err adds to Message what the system or the check of a program said; may
	// be nil.
	Err error
}

// Error is one line, or more if programs are wrong or the plug-in left a stack.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("variant " + e.Variant)
	if e.Path != "" {
		b.WriteString(" (" + e.Path + ")")
	}
	if e.Doing != "" {
		b.WriteString(", " + e.Doing)
	}
	b.WriteString(": " + e.Message)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Hint != "" {
		b.WriteString("\n" + e.Hint)
	}
	if e.Stack != "" {
		b.WriteString("\nwhat the plug-in printed:\n" + e.Stack)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// UnknownError is a variant without a plug-in.
type UnknownError struct {
	Name  string
	Known []string // the variants there are
	Dirs  []string // where plug-ins were searched for
}

func (e *UnknownError) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("there is no variant %q; no plug-in was found in %s", e.Name, strings.Join(e.Dirs, ", "))
	}
	return fmt.Sprintf("there is no variant %q; %s", e.Name, diagnostic.Suggest(e.Name, "variants", e.Known))
}
