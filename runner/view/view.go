// Package view is what people see: it renders plans, diagnostics, progress and
// tables for a terminal, for a pipe, or as JSON. Commands decide what to say;
// only this package knows how it looks.
package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/term"
	"github.com/muesli/termenv"

	"github.com/loralab/loralab/core/plural"
)

// View renders to standard output and standard error.
type View struct {
	out, err io.Writer
	progress io.Writer // of runs
	// Live: output is a terminal, so lines may be drawn over.
	live    bool
	liveErr bool // the same of standard error
	width   int  // of the terminal, in columns; 0: not a terminal
	size    func() int
	passing passing

	good, bad, warn, dim, bold, accent style
}

// New makes a view of two files, each with color if it is a terminal and
// neither noColor nor $NO_COLOR says otherwise.
func New(out, err *os.File, noColor bool) *View {
	v := &View{out: &guard{w: out}, err: &guard{w: err}, size: func() int { return 0 }}
	v.progress = v.out
	outTerminal, errTerminal := term.IsTerminal(out.Fd()), term.IsTerminal(err.Fd())
	dumb := os.Getenv("TERM") == "dumb"
	v.liveErr = errTerminal && !dumb
	if outTerminal && !dumb {
		v.live = true
		v.size = func() int {
			width, _, err := term.GetSize(out.Fd())
			if err != nil || width <= 0 {
				return 80
			}
			return width
		}
		v.width = v.size()
	} else if dumb {
		noColor = true
	}
	// One set of styles serves both, so color needs both to show it; the
	// usual case of one being redirected is plain.
	v.style(outTerminal && errTerminal && !noColor && os.Getenv("NO_COLOR") == "")
	return v
}

func (v *View) style(color bool) {
	r := lipgloss.NewRenderer(io.Discard)
	r.SetColorProfile(termenv.Ascii)
	if color {
		r.SetColorProfile(termenv.ANSI)
	}
	// The sixteen colors of the terminal's own theme are legible on any
	// background.
	s := r.NewStyle()
	v.good, v.bad = style{s.Foreground(lipgloss.Color("2"))}, style{s.Foreground(lipgloss.Color("1")).Bold(true)}
	v.warn, v.accent = style{s.Foreground(lipgloss.Color("3"))}, style{s.Foreground(lipgloss.Color("6"))}
	v.dim, v.bold = style{s.Faint(true)}, style{s.Bold(true)}
}

// Error reports what stopped a command, once, on standard error. Further
// lines of the error are indented below the first.
func (v *View) Error(err error) {
	v.passing.end(v)
	v.report(v.bad.Render("error:"), err.Error())
}

// Warn reports what the user should know and need not act on, as Error does.
func (v *View) Warn(text string) { v.report(v.warn.Render("warning:"), text) }

// Printed shows what a plug-in has printed, if it has.
func (v *View) Printed(text string) {
	if text != "" {
		v.report("the plug-in printed:", text)
	}
}

func (v *View) report(kind, text string) {
	v.passing.clear(v)
	first, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	printf(v.err, "%s %s\n", kind, first)
	for line := range strings.Lines(rest) {
		printf(v.err, "  %s\n", strings.TrimRight(line, "\r\n"))
	}
}

// Say writes a line to standard output. What the format does not say itself is
// shown as text, see printf.
func (v *View) Say(format string, args ...any) {
	v.passing.clear(v)
	printf(v.out, format+"\n", args...)
}

// Aside writes a line to standard error: what happens on the way to an answer,
// which may be for a program.
func (v *View) Aside(format string, args ...any) {
	v.passing.clear(v)
	printf(v.err, format+"\n", args...)
}

// ProgressToError shows runs as they go on standard error, line by line: what
// is written to standard output is for a program.
func (v *View) ProgressToError() { v.progress, v.live = v.err, false }

// JSON writes a value for programs.
func (v *View) JSON(value any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(value); err != nil {
		return err
	}
	_, err := v.out.Write(escapedJSON(b.Bytes()))
	return err
}

// Raw copies what a program wrote.
func (v *View) Raw(r io.Reader) error {
	_, err := io.Copy(v.out, r)
	return err
}

// count writes "1 run", "2 runs".
var count = plural.Of[int]

// span writes a duration as people say it: "850 ms", "12 s", "3 min 05 s".
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
}

// amount writes a number of parameters: "55,298", "1.2 M".
func amount(n uint64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f G", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.2f M", float64(n)/1e6)
	}
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
