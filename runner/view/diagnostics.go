package view

import (
	"strconv"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/loralab/loralab/runner/diagnostic"
)

// Diagnostics shows every mistake with its place, like a compiler, on standard
// error.
func (v *View) Diagnostics(list diagnostic.List) {
	errors, files := 0, map[string]bool{}
	for i, d := range list {
		if i > 0 {
			printLine(v.err, "")
		}
		v.diagnostic(d)
		if !d.Warning {
			errors++
			files[d.At.File] = true
		}
	}
	if errors > 0 {
		printf(v.err, "\n%s in %s\n", v.bad.Render(count(errors, "error")), count(len(files), "file"))
	}
}

func (v *View) diagnostic(d diagnostic.Diagnostic) {
	kind, look := "error:", v.bad
	if d.Warning {
		kind, look = "warning:", v.warn
	}
	// Only the first line is set off: a style would pad the others to one width.
	first, rest, _ := strings.Cut(d.Message, "\n")
	printf(v.err, "%s %s\n", look.Render(kind), v.bold.Render(first))
	for line := range strings.Lines(rest) {
		printf(v.err, "  %s\n", strings.TrimRight(line, "\n"))
	}
	gutter := " "
	if d.At.Line > 0 {
		gutter = strings.Repeat(" ", len(strconv.Itoa(d.At.Line)))
	}
	bar := gutter + v.dim.Render(" |")
	if where := d.At.String(); where != "" {
		printf(v.err, "%s%s %s\n", gutter, v.dim.Render("-->"), where)
	}
	if d.Source != "" && d.At.Line > 0 {
		source, caret := underline(d.Source, d.At.Column, d.At.Width)
		if v.width > 0 {
			source, caret = excerpt(source, caret, v.width-len(gutter)-len(" | "))
		}
		printf(v.err, "%s %s\n", v.dim.Render(strconv.Itoa(d.At.Line)+" |"), source)
		if caret != "" {
			printf(v.err, "%s %s\n", bar, look.Render(caret))
		}
	}
	if len(d.Cells) > 0 {
		v.footnote(gutter, "in", d.InCells())
	}
	if d.Hint != "" {
		v.footnote(gutter, "hint", d.Hint)
	}
}

func (v *View) footnote(gutter, kind, text string) {
	first, rest, _ := strings.Cut(text, "\n")
	printf(v.err, "%s %s %s %s\n", gutter, v.dim.Render("="), v.accent.Render(kind+":"), first)
	for line := range strings.Lines(rest) {
		printf(v.err, "%s   %s %s\n", gutter, strings.Repeat(" ", len(kind)+1), strings.TrimRight(line, "\n"))
	}
}

// underline sets tabs in a source line and draws carets below width characters
// from column on, which counts from 1.
func underline(source string, column, width int) (line, caret string) {
	set := func(s []rune) string { return strings.ReplaceAll(string(s), "\t", "    ") }
	runes := []rune(strings.TrimRight(source, "\r\n"))
	if column <= 0 {
		return set(runes), ""
	}
	start := min(column-1, len(runes))
	end := min(start+max(width, 1), len(runes))
	carets := max(runewidth.StringWidth(set(runes[start:end])), 1)
	return set(runes), strings.Repeat(" ", runewidth.StringWidth(set(runes[:start]))) + strings.Repeat("^", carets)
}

// excerpt cuts a line that is wider than width to what stands around the
// carets, which stay below it.
func excerpt(line, caret string, width int) (string, string) {
	const before = 16 // columns kept in front of the carets
	if runewidth.StringWidth(line) <= width || width < 2*before {
		return line, caret
	}
	start := strings.IndexByte(caret, '^')
	if start < 0 {
		start = 0
	}
	if from := start - before; start+before > width {
		line = "…" + runewidth.TruncateLeft(line, from, "")
		caret = strings.Repeat(" ", 1+before) + strings.TrimLeft(caret, " ")
	}
	return runewidth.Truncate(line, width, "…"), runewidth.Truncate(caret, width, "")
}
