package view

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/mattn/go-runewidth"

	"github.com/loralab/loralab/runner/diagnostic"
)

// Diagnostics shows every mistake with its place, like a compiler, on standard
// error. Files are named relative to dir where they lie below it.
func (v *View) Diagnostics(list diagnostic.List, dir string) {
	errors, files := 0, map[string]bool{}
	for i, d := range list {
		if i > 0 {
			fmt.Fprintln(v.err)
		}
		v.diagnostic(d, dir)
		if !d.Warning {
			errors++
			files[d.At.File] = true
		}
	}
	if errors > 0 {
		fmt.Fprintf(v.err, "\n%s in %s\n", v.bad.Render(count(errors, "error")), count(len(files), "file"))
	}
}

func (v *View) diagnostic(d diagnostic.Diagnostic, dir string) {
	kind, style := "error:", v.bad
	if d.Warning {
		kind, style = "warning:", v.warn
	}
	message := d.Message
	if d.Path != "" {
		message = d.Path + ": " + message
	}
	fmt.Fprintf(v.err, "%s %s\n", style.Render(kind), v.bold.Render(message))
	gutter := "  "
	if d.At.Line > 0 {
		gutter = strings.Repeat(" ", len(strconv.Itoa(d.At.Line))+1)
	}
	if d.At.File != "" {
		place := Relative(dir, d.At.File)
		if d.At.Line > 0 {
			place += ":" + strconv.Itoa(d.At.Line)
			if d.At.Column > 0 {
				place += ":" + strconv.Itoa(d.At.Column)
			}
		}
		fmt.Fprintf(v.err, "%s%s %s\n", gutter[1:], v.dim.Render("-->"), place)
	}
	if d.Source != "" && d.At.Line > 0 {
		source, caret := underline(d.Source, d.At.Column, d.At.Width)
		fmt.Fprintf(v.err, "%s%s\n", gutter, v.dim.Render("|"))
		fmt.Fprintf(v.err, "%s %s\n", v.dim.Render(strconv.Itoa(d.At.Line)+" |"), source)
		if caret != "" {
			fmt.Fprintf(v.err, "%s%s %s\n", gutter, v.dim.Render("|"), style.Render(caret))
		}
	}
	if len(d.Cells) > 0 {
		v.footnote(gutter, "in", cells(d.Cells))
	}
	if d.Hint != "" {
		v.footnote(gutter, "hint", d.Hint)
	}
}

func (v *View) footnote(gutter, kind, text string) {
	fmt.Fprintf(v.err, "%s%s %s %s\n", gutter, v.dim.Render("="), v.accent.Render(kind+":"), text)
}

// cells names the cells that a mistake hits, as many as are worth reading.
func cells(names []string) string {
	const most = 4
	if len(names) > most {
		return strings.Join(names[:most], "; ") + fmt.Sprintf("; and %d more", len(names)-most)
	}
	return strings.Join(names, "; ")
}

// underline sets tabs in a source line and draws carets below the characters
// from column on. Column counts bytes from 1, like CUE's positions.
func underline(source string, column, width int) (line, caret string) {
	const tab = "    "
	line = strings.ReplaceAll(strings.TrimRight(source, "\r\n"), "\t", tab)
	if column <= 0 {
		return line, ""
	}
	start := min(column-1, len(source))
	before, marked := source[:start], []rune(source[start:])
	marked = marked[:min(max(width, 1), len(marked))]
	columns := runewidth.StringWidth(strings.ReplaceAll(string(marked), "\t", tab))
	indent := lipgloss.Width(strings.ReplaceAll(before, "\t", tab))
	return line, strings.Repeat(" ", indent) + strings.Repeat("^", max(columns, 1))
}

// Relative names a file relative to a directory if it lies below it.
func Relative(dir, file string) string {
	if rel, err := filepath.Rel(dir, file); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return file
}
