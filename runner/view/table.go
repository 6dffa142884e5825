package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/loralab/loralab/core/plural"
)

// table is rows of cells in aligned columns. All tables on the terminal are
// made with it.
//
// On a terminal that is too narrow a table gives way in this order: the first
// column moves to lines of its own if stack is set; spare columns are left out;
// text is cut, the widest column first, down to leastText columns of the
// terminal; the last columns are left out. Numbers are whole or left out. A cut
// ends with an ellipsis, and a line below the table names what is left out.
type table struct {
	columns []column
	rows    [][]string
	indent  int // blank columns of the terminal at the left
	stack   bool
}

// column is one of a table. Its name is shown in upper case.
type column struct {
	name   string
	number bool // aligned at the right, never cut
	// spare is above 0 for what a reader misses least: the highest is left out
	// first, and the last of equal ones.
	spare int
}

func texts(names ...string) []column { return columnsOf(names, false) }

func numbers(names ...string) []column { return columnsOf(names, true) }

func columnsOf(names []string, number bool) []column {
	columns := make([]column, len(names))
	for i, name := range names {
		columns[i] = column{name: name, number: number}
	}
	return columns
}

const (
	columnGap = 2
	leastText = 16
)

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (v *View) table(t table) { v.tableIn(t, v.width) }

func (v *View) tableIn(t table, width int) {
	for i, line := range t.lines(width) {
		if i == 0 {
			line = v.dim.Render(line)
		}
		printLine(v.out, line)
	}
}

// lines are the header, the rows and what is left out, none wider than width
// unless that is 0.
func (t table) lines(width int) []string {
	t.columns, t.rows = slices.Clone(t.columns), slices.Clone(t.rows)
	for i := range t.columns {
		t.columns[i].name = visible(strings.ToUpper(t.columns[i].name), false, false)
	}
	for i, row := range t.rows {
		t.rows[i] = make([]string, len(row))
		for j, cell := range row {
			t.rows[i][j] = visible(cell, false, false)
		}
	}
	var labels []string
	if t.stack && width > 0 && t.width(t.widths()) > width && len(t.columns) > 1 {
		for i, row := range t.rows {
			labels = append(labels, strings.Repeat(" ", t.indent)+row[0])
			t.rows[i] = row[1:]
		}
		t.columns, t.indent = t.columns[1:], t.indent+columnGap
	}
	widths, left := t.fit(width)
	lines := []string{t.line(t.names(), widths)}
	for i, row := range t.rows {
		if labels != nil {
			lines = append(lines, labels[i])
		}
		lines = append(lines, t.line(row, widths))
	}
	if len(left) > 0 {
		lines = append(lines, strings.Repeat(" ", t.indent)+leftOut(left))
	}
	for i, line := range lines {
		lines[i] = clip(line, width)
	}
	return lines
}

// without is the width of a table without its spare columns.
func (t table) without() int {
	widths := t.widths()
	var kept []int
	for i, c := range t.columns {
		if c.spare == 0 {
			kept = append(kept, widths[i])
		}
	}
	return t.width(kept)
}

func (t table) names() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return names
}

// widths of the columns where there is room for all.
func (t table) widths() []int {
	widths := make([]int, len(t.columns))
	for _, row := range append([][]string{t.names()}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], ansi.StringWidth(cell))
		}
	}
	return widths
}

// width of a table with columns of these widths.
func (t table) width(widths []int) int {
	sum := t.indent + columnGap*(len(widths)-1)
	for _, width := range widths {
		sum += width
	}
	return sum
}

// fit takes columns out of a table that is wider than width, and returns the
// widths of the others and the names of those.
func (t *table) fit(width int) (widths []int, left []string) {
	for widths = t.widths(); width > 0 && t.width(widths) > width; widths = t.widths() {
		out := -1
		for i, c := range t.columns {
			if c.spare > 0 && (out < 0 || c.spare >= t.columns[out].spare) {
				out = i
			}
		}
		if out < 0 {
			if t.shrink(widths, width, leastText); t.width(widths) <= width {
				break
			}
			if out = len(t.columns) - 1; out == 0 {
				widths[0] = max(width-t.indent, 1)
				break
			}
		}
		left = append(left, t.columns[out].name)
		t.columns = slices.Delete(t.columns, out, out+1)
		for i := range t.rows {
			t.rows[i] = slices.Delete(t.rows[i], out, out+1)
		}
	}
	slices.Reverse(left) // in the order of the table
	return widths, left
}

// shrink narrows columns of text, the widest first, until the table fits or
// all have the least width.
func (t table) shrink(widths []int, width, least int) {
	for over := t.width(widths) - width; over > 0; over-- {
		widest := -1
		for i, c := range t.columns {
			if !c.number && widths[i] > least && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

func (t table) line(row []string, widths []int) string {
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", t.indent))
	for i, cell := range row {
		cell = clip(cell, widths[i])
		gap := strings.Repeat(" ", max(0, widths[i]-ansi.StringWidth(cell)))
		if t.columns[i].number {
			cell = gap + cell
		} else {
			cell += gap
		}
		if i > 0 {
			b.WriteString(strings.Repeat(" ", columnGap))
		}
		b.WriteString(cell)
	}
	return strings.TrimRight(b.String(), " ")
}

// leftOut names columns that do not fit; some have no name.
func leftOut(names []string) string {
	text := plural.Form(len(names), "1 column does not fit", fmt.Sprintf("%d columns do not fit", len(names)))
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "" })
	if len(names) > 0 {
		text += ": " + some(names, 4)
	}
	return text
}

// clip cuts text, which may be colored, to a width in columns of the terminal;
// a cut ends with an ellipsis. A width of 0 is that of no terminal.
func clip(s string, width int) string {
	if width <= 0 {
		return s
	}
	return ansi.Truncate(s, width, "…")
}
