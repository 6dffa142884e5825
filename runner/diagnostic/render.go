package diagnostic

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/foreign"
)

// Role says what a piece of a rendered line is, so that a view can color it.
type Role int

// The roles of the pieces of a line.
const (
	Plain    Role = iota
	Error         // the word "error", the carets below a mistake
	Warning       // the same of a warning
	Headline      // the first line of a message
	Frame         // line numbers, bars and arrows
	Label         // the name of a footnote, "hint:"
)

// Span is a piece of a line that has one role.
type Span struct {
	Role Role
	Text string
}

// Line is one rendered line.
type Line []Span

// String is the line without roles.
func (l Line) String() string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.Text)
	}
	return b.String()
}

// Lines renders a diagnostic as compilers do. A source line that is wider than
// width columns is cut to an excerpt around the carets; a width of 0 is that of a
// file or a pipe, where only lines beyond longestLine are cut.
// Control characters are shown as text.
//
//	error: unknown field "optm"
//	  --> ablation.cue:12:2
//	12 |     optm: lr: head: 1e-3
//	   |     ^^^^
//	   = hint: did you mean "optim"?
func (d Diagnostic) Lines(width int) []Line {
	kind, role := "error:", Error
	if d.Warning {
		kind, role = "warning:", Warning
	}
	first, rest, _ := strings.Cut(d.Message, "\n")
	lines := []Line{{{role, kind}, {Plain, " "}, {Headline, said(first)}}}
	for line := range strings.Lines(rest) {
		lines = append(lines, Line{{Plain, "  " + said(strings.TrimRight(line, "\r\n"))}})
	}
	number, gutter := "", " "
	if d.At.Line > 0 {
		number = strconv.Itoa(d.At.Line)
		gutter = strings.Repeat(" ", len(number))
	}
	if where := d.At.String(); where != "" {
		lines = append(lines, Line{{Plain, gutter}, {Frame, "-->"}, {Plain, " " + shown(where)}})
	}
	if d.Source != "" && number != "" {
		source, caret := underline(d.Source, d.At.Column, d.At.Width)
		if width == 0 {
			width = longestLine
		}
		source, caret = excerpt(source, caret, width-len(gutter)-len(" | "))
		lines = append(lines, Line{{Frame, number + " |"}, {Plain, " " + source}})
		if caret != "" {
			lines = append(lines, Line{{Plain, gutter}, {Frame, " |"}, {Plain, " "}, {role, caret}})
		}
	}
	if len(d.Cells) > 0 {
		lines = append(lines, footnote(gutter, "in", d.InCells())...)
	}
	if d.Hint != "" {
		lines = append(lines, footnote(gutter, "hint", d.Hint)...)
	}
	return lines
}

// longestLine is the widest source line that is shown whole where nothing else
// bounds it. Generated files have lines of a megabyte.
const longestLine = 240

func footnote(gutter, label, text string) []Line {
	first, rest, _ := strings.Cut(text, "\n")
	lines := []Line{{{Plain, gutter + " "}, {Frame, "="}, {Plain, " "}, {Label, label + ":"}, {Plain, " " + said(first)}}}
	for line := range strings.Lines(rest) {
		lines = append(lines, Line{{Plain, gutter + strings.Repeat(" ", len(" = : ")+len(label)) + said(strings.TrimRight(line, "\r\n"))}})
	}
	return lines
}

// Text is a diagnostic as plain text without a final newline.
func (d Diagnostic) Text() string { return text(d.Lines(0)) }

// mostAlike is how many diagnostics that differ in names and numbers alone are shown.
const mostAlike = 20

// Lines renders the diagnostics, with a blank line between two and the number of
// errors at the end. Of more than mostAlike that differ in names and numbers alone it
// counts the rest.
func (l List) Lines(width int) []Line {
	var lines []Line
	errors, files, commandLine := 0, map[string]bool{}, false
	type alike struct {
		n    int
		last Diagnostic // of those that are shown
	}
	forms := map[string]*alike{}
	var order []*alike
	for i, d := range l {
		if !d.Warning {
			errors++
			switch d.At.File {
			case "":
			case CommandLine:
				commandLine = true
			default:
				files[d.At.File] = true
			}
		}
		form := forms[d.form()]
		if form == nil {
			form = &alike{}
			forms[d.form()] = form
			order = append(order, form)
		}
		if form.n++; form.n > mostAlike {
			continue
		}
		form.last = d
		if i > 0 {
			lines = append(lines, nil)
		}
		lines = append(lines, d.Lines(width)...)
	}
	for _, form := range order {
		if more := form.n - mostAlike; more > 0 {
			what, _, _ := strings.Cut(form.last.Message, "\n")
			lines = append(lines, nil, Line{{Plain, fmt.Sprintf("and %d more like: %s", more, said(what))}})
		}
	}
	if errors > 0 {
		var where []string
		if len(files) > 0 {
			where = append(where, " in "+plural.Of(len(files), "file"))
		}
		if commandLine {
			where = append(where, " on the command line")
		}
		lines = append(lines, nil, Line{{Error, plural.Of(errors, "error")}, {Plain, strings.Join(where, " and")}})
	}
	return lines
}

// form is what diagnostics have in common that differ in names and numbers alone.
func (d Diagnostic) form() string {
	return strconv.FormatBool(d.Warning) + d.At.File + namesAndNumbers.ReplaceAllString(d.Message, "#")
}

var namesAndNumbers = regexp.MustCompile(`"[^"]*"|[0-9]+`)

// Text is the list as plain text without a final newline, as a user sees it
// where nothing is colored or cut.
func (l List) Text() string { return text(l.Lines(0)) }

func text(lines []Line) string {
	all := make([]string, len(lines))
	for i, line := range lines {
		all[i] = line.String()
	}
	return strings.Join(all, "\n")
}

// shown is text on one line. A tab is four columns wide on every terminal, and
// other control characters are visible, so that carets are below what they mark.
func shown(s string) string { return foreign.Line(strings.ReplaceAll(s, "\t", "    ")) }

// said is a line of a message, shown as far as longestText.
func said(s string) string {
	if len(s) > longestText {
		s = strings.ToValidUTF8(s[:longestText], "") + "…"
	}
	return shown(s)
}

// longestText bounds the bytes of a line of a message: names and values of generated
// files have a megabyte.
const longestText = 2000

// underline is a source line as it is shown, and carets below the width
// characters from column, which counts from 1.
func underline(source string, column, width int) (line, caret string) {
	runes := []rune(strings.TrimRight(source, "\r\n"))
	line = shown(string(runes))
	if column <= 0 {
		return line, ""
	}
	start := min(column-1, len(runes))
	end := min(start+max(width, 1), len(runes))
	carets := max(ansi.StringWidth(shown(string(runes[start:end]))), 1)
	return line, strings.Repeat(" ", ansi.StringWidth(shown(string(runes[:start])))) + strings.Repeat("^", carets)
}

// excerpt cuts a line that is wider than width to the part around the carets,
// which stay below what they mark.
func excerpt(line, caret string, width int) (string, string) {
	const before = 16 // columns kept in front of the carets
	if ansi.StringWidth(line) <= width || width < 2*before {
		return line, caret
	}
	start := max(strings.IndexByte(caret, '^'), 0)
	if start+before > width {
		// A wide character that the cut divides is left out as a whole.
		kept := ansi.TruncateLeft(line, start-before, "")
		from := ansi.StringWidth(line) - ansi.StringWidth(kept)
		line = "…" + kept
		caret = strings.Repeat(" ", 1+start-from) + strings.TrimLeft(caret, " ")
	}
	return ansi.Truncate(line, width, "…"), ansi.Truncate(caret, width, "")
}
