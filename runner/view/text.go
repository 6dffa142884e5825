package view

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/charmbracelet/lipgloss"

	"github.com/loralab/loralab/runner/foreign"
)

// Names, labels, file names, the words of plug-ins and engines: most of what is
// shown was written by somebody else. A terminal takes some characters for orders,
// to set its title or to hide a line, and a new line may look like one of ours. So
// all that is shown goes through this file, which shows such characters as text.
// Orders of our own carry a mark that nobody can know.

// mark is a number that our own orders end with. It stays in this process.
var mark = func() string {
	n, err := rand.Int(rand.Reader, big.NewInt(9e8))
	if err != nil {
		return "0" // never: package rand does not fail
	}
	return fmt.Sprint(1e8 + n.Int64())
}()

// order is one of our own, as it is written to a writer: a control sequence with
// parameters, "1;31", and the character that ends it.
func order(parameters string, final byte) string {
	return "\x1b[" + parameters + ";" + mark + string(final)
}

// ordered is the length of one of our own orders that a text begins with, and
// what it becomes for the terminal; 0 without one.
func ordered(s string) (length int, sent string) {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0, ""
	}
	end := len("\x1b[")
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == ';') {
		end++
	}
	parameters, ours := strings.CutSuffix(s[:end], ";"+mark)
	if !ours || end == len(s) || !strings.ContainsRune("mAGJK", rune(s[end])) {
		return 0, ""
	}
	return end + 1, parameters + s[end:end+1]
}

// style is how words look. What it renders is shown as text but for the style.
type style struct{ lipgloss.Style }

func (s style) Render(words ...string) string {
	const plain = "\x1b["
	text := visible(strings.Join(words, " "), true, false)
	rendered := s.Style.Render(text)
	if rendered == text {
		return text
	}
	var b strings.Builder
	for rendered != "" {
		at := strings.Index(rendered, plain)
		if at < 0 {
			break
		}
		b.WriteString(rendered[:at])
		rendered = rendered[at:]
		if n, _ := ordered(rendered); n > 0 { // of a part that had a style
			b.WriteString(rendered[:n])
			rendered = rendered[n:]
			continue
		}
		end := strings.IndexByte(rendered, 'm')
		b.WriteString(order(rendered[len(plain):end], 'm'))
		rendered = rendered[end+1:]
	}
	return b.String() + rendered
}

// visible shows what a terminal would take for an order, and what changes the
// direction of writing, as text: \x1b. Lines and tabs stay if lines is set. Our own
// orders stay; send makes them what the terminal knows.
func visible(s string, lines, send bool) string {
	if strings.IndexFunc(s, foreign.Hidden) < 0 {
		return s
	}
	var b strings.Builder
	for s != "" {
		if n, sent := ordered(s); n > 0 {
			if !send {
				sent = s[:n]
			}
			b.WriteString(sent)
			s = s[n:]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		text := s[:n]
		if foreign.Hidden(r) && !(lines && (r == '\n' || r == '\t')) {
			text, n = foreign.Rune(s)
		}
		b.WriteString(text)
		s = s[n:]
	}
	return b.String()
}

// block is text of more lines than one, which are ours or may look as they do.
type block string

// printf writes a text whose arguments are shown as text, each on one line unless
// it is a block.
func printf(w io.Writer, format string, args ...any) {
	texts := make([]any, len(args))
	for i, arg := range args {
		texts[i] = shown(arg)
	}
	fmt.Fprintf(w, format, texts...)
}

// printLine writes a line.
func printLine(w io.Writer, line string) { printf(w, "%s\n", line) }

func shown(arg any) any {
	text := ""
	switch a := arg.(type) {
	case block:
		return visible(string(a), true, false)
	case []byte:
		text = string(a)
	case error:
		text = a.Error()
	default:
		switch v := reflect.ValueOf(arg); v.Kind() {
		case reflect.String:
			text = v.String()
		case reflect.Struct, reflect.Pointer:
			text = fmt.Sprint(arg)
		default:
			return arg // a number
		}
	}
	return visible(text, false, false)
}

// guard is a writer in front of what may be a terminal: only our own orders pass.
type guard struct {
	mu   sync.Mutex
	w    io.Writer
	part []byte // of a character that is not whole yet
}

func (g *guard) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := append(g.part, p...)
	whole := len(b)
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-i:]) {
				whole -= i
			}
			break
		}
	}
	g.part = bytes.Clone(b[whole:])
	_, err := io.WriteString(g.w, visible(string(b[:whole]), true, true))
	return len(p), err
}

// escapedJSON is JSON in which everything that a terminal might take for an order
// is written as \u001b.
func escapedJSON(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) {
		if foreign.Hidden(r) && r != '\n' && r != utf8.RuneError {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}
