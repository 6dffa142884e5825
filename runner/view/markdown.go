package view

import (
	"regexp"
	"strings"

	"github.com/mitchellh/go-wordwrap"
)

// Markdown shows a text written in the few forms that help topics use: a
// titles, paragraphs, lists, tables, and blocks of code. A row of a table is its first
// cell, and below it the others, with their titles where there are several.
func (v *View) Markdown(text string) {
	const indent = "  "
	color := v.accent.Render("x") != "x"
	block := false
	var titles []string // of the table
	show := func(joined, indent, hang string) {
		// Code is colored, or stays in its marks where there are no colors. It is
		// not broken, and the text is wrapped as it will be read.
		code := func(s string) string {
			if color {
				s = strings.Trim(s, "`")
			}
			return strings.ReplaceAll(s, " ", "\u00a0")
		}
		plain := inline.ReplaceAllStringFunc(joined, code)
		wrapped := wordwrap.WrapString(plain, uint(v.column(len(indent)+len(hang))))
		for i, line := range strings.Split(wrapped, "\n") {
			if i > 0 {
				line = hang + line
			}
			for _, s := range inline.FindAllString(joined, -1) {
				line = strings.Replace(line, code(s), v.accent.Render(code(s)), 1)
			}
			printLine(v.out, indent+strings.ReplaceAll(line, "\u00a0", " "))
		}
	}
	var paragraph []string
	flush := func() {
		titles = nil
		if len(paragraph) == 0 {
			return
		}
		joined := strings.Join(paragraph, " ")
		paragraph = nil
		hang := ""
		if strings.HasPrefix(joined, "- ") {
			hang = "  "
		}
		show(joined, indent, hang)
	}
	row := func(cells []string) {
		show(cells[0], indent, indent)
		var rest []string
		for i, cell := range cells[1:] {
			if cell != "" && len(cells) > 2 && i+1 < len(titles) && titles[i+1] != "" {
				cell = titles[i+1] + ": " + cell
			}
			if cell != "" {
				rest = append(rest, cell)
			}
		}
		if len(rest) > 0 {
			show(strings.Join(rest, "; "), indent+indent+indent, "")
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			flush()
			block = !block
		case block:
			printLine(v.out, strings.TrimRight(indent+indent+strings.ReplaceAll(line, "\t", "    "), " "))
		case strings.HasPrefix(line, "# "), strings.HasPrefix(line, "## "):
			printLine(v.out, v.bold.Render(strings.TrimLeft(line, "# ")))
		case strings.HasPrefix(line, "|---"):
		case strings.HasPrefix(line, "|") && titles == nil:
			flush()
			titles = tableCells(line)
		case strings.HasPrefix(line, "|"):
			row(tableCells(line))
		case line == "":
			flush()
			printLine(v.out, "")
		case strings.HasPrefix(line, "- "):
			flush()
			paragraph = []string{line}
		default:
			paragraph = append(paragraph, strings.TrimSpace(line)) // lines of a list are indented
		}
	}
	flush()
}

// tableCells are the cells of a row of a table.
func tableCells(line string) []string {
	cells := strings.Split(strings.Trim(line, "|"), "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

var inline = regexp.MustCompile("`[^`]+`")

// column is how wide text may be beside an indent: 80 at most, as more is hard
// to read.
func (v *View) column(indent int) int {
	width := 80
	if v.width > 0 {
		width = min(width, v.width)
	}
	return max(20, width-indent)
}
