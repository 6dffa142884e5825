package launch

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"sync"
)

// tailWriter passes on what an engine writes and remembers what tells why it
// ended: the message of a panic or of a C++ exception with the lines behind it,
// or else the last lines.
type tailWriter struct {
	mu    sync.Mutex
	w     io.Writer
	cause string   // the message
	lines []string // from the message on, or the last
	part  []byte   // of a line
}

// cause begins the last words of a Go program, of a C++ one, and of a signal such
// as "SIGSEGV: segmentation violation".
var cause = regexp.MustCompile(`panic: |fatal error: |what\(\): |terminate called|^SIG[A-Z]+: `)

func (t *tailWriter) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.part = append(t.part, p...)
	for {
		line, rest, found := bytes.Cut(t.part, []byte("\n"))
		if !found {
			return t.w.Write(p)
		}
		t.line(string(line))
		t.part = rest
	}
}

func (t *tailWriter) line(line string) {
	switch {
	case strings.TrimSpace(line) == "":
	case t.cause != "":
		if len(t.lines) < tailLines {
			t.lines = append(t.lines, line)
		}
	default:
		if cause.MatchString(line) {
			t.cause = line
			t.lines = t.lines[max(0, len(t.lines)-tailLines/4):]
		}
		t.lines = append(t.lines, line)
		t.lines = t.lines[max(0, len(t.lines)-tailLines):]
	}
}

func (t *tailWriter) tail() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(append(t.lines[:len(t.lines):len(t.lines)], string(t.part)), "\n")
}

// forget starts over: what follows is said by another process.
func (t *tailWriter) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cause, t.lines, t.part = "", nil, nil
}

// reason is the line that says most.
func (t *tailWriter) reason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause != "" || len(t.lines) == 0 {
		return oneLine(t.cause)
	}
	return oneLine(t.lines[len(t.lines)-1])
}

// saidError is an error with what an engine said before.
type saidError struct {
	err          error
	reason, tail string
}

func withTail(err error, log *tailWriter) error {
	if tail := strings.TrimSpace(log.tail()); tail != "" {
		return &saidError{err, log.reason(), tail}
	}
	return err
}

func (e *saidError) Error() string { return e.err.Error() + "; it said:\n" + e.tail }

func (e *saidError) Unwrap() error { return e.err }

// inOneLine is an error with the line that says most, of all that an engine said.
func inOneLine(err error) string {
	var said *saidError
	if errors.As(err, &said) {
		return oneLine(said.err.Error() + "; it said: " + said.reason)
	}
	return oneLine(err.Error())
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	const most = 300
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
