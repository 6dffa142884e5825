package view

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/mitchellh/go-wordwrap"
)

// Markdown shows a text written in the few forms that help topics use: a
// title, paragraphs, lists, and blocks of code.
func (v *View) Markdown(text string) {
	const indent = "  "
	code := false
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
		// Wrapped as it will be read: without the marks, whose place is kept.
		plain := inline.ReplaceAllStringFunc(joined, func(s string) string {
			return strings.ReplaceAll(strings.Trim(s, "`"), " ", "\u00a0")
		})
		wrapped := wordwrap.WrapString(plain, uint(v.column(len(indent)+len(hang))))
		for i, line := range strings.Split(wrapped, "\n") {
			if i > 0 {
				line = hang + line
			}
			for _, s := range inline.FindAllString(joined, -1) {
				s = strings.ReplaceAll(strings.Trim(s, "`"), " ", "\u00a0")
				line = strings.Replace(line, s, v.accent.Render(s), 1)
			}
			fmt.Fprintln(v.out, indent+strings.ReplaceAll(line, "\u00a0", " "))
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			flush()
			code = !code
		case code:
			fmt.Fprintln(v.out, strings.TrimRight(indent+indent+strings.ReplaceAll(line, "\t", "    "), " "))
		case strings.HasPrefix(line, "# "):
			fmt.Fprintln(v.out, v.bold.Render(strings.TrimPrefix(line, "# ")))
		case line == "":
			flush()
			fmt.Fprintln(v.out)
		case strings.HasPrefix(line, "- "):
			flush()
			paragraph = []string{line}
		default:
			paragraph = append(paragraph, line)
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
