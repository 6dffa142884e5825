package launch

import (
	"bytes"
	"fmt"
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

// reason is the line that says most.
func (t *tailWriter) reason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause != "" || len(t.lines) == 0 {
		return oneLine(t.cause)
	}
	return oneLine(t.lines[len(t.lines)-1])
}

func withTail(err error, log *tailWriter) error {
	if tail := strings.TrimSpace(log.tail()); tail != "" {
		return fmt.Errorf("%w; it said:\n%s", err, tail)
	}
	return err
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	const most = 300
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
