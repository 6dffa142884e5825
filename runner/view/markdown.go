package view

import (
	"regexp"
	"strings"

	"github.com/mitchellh/go-wordwrap"
)

// Markdown shows a text written in the few forms that help topics use: a
// title, paragraphs, lists, and blocks of code.
func (v *View) Markdown(text string) {
	const indent = "  "
	color := v.accent.Render("x") != "x"
	block := false
	var paragraph []string
	flush := func() {
		if len(paragraph) == 0 {
			return
		}
		joined := strings.Join(paragraph, " ")
		paragraph = nil
		hang := ""
		if strings.HasPrefix(joined, "- ") {
			hang = "  "
		}
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
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			flush()
			block = !block
		case block:
			printLine(v.out, strings.TrimRight(indent+indent+strings.ReplaceAll(line, "\t", "    "), " "))
		case strings.HasPrefix(line, "# "):
			printLine(v.out, v.bold.Render(strings.TrimPrefix(line, "# ")))
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
