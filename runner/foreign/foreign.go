// Package foreign shows text that somebody else wrote: names and labels of a
// project or an archive, file names, the words of plug-ins and engines. A terminal,
// a spreadsheet or a browser takes some of it for orders. Here it stays text.
package foreign

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Hidden reports whether a character is not shown by itself, or may not be:
// control characters, what changes the direction of writing, ends of lines, and
// bytes that are no UTF-8 (utf8.RuneError).
func Hidden(r rune) bool {
	return r < ' ' || r >= 0x7f && unicode.In(r, unicode.Cc, unicode.Bidi_Control, unicode.Zl, unicode.Zp) || r == utf8.RuneError
}

// Rune is how the hidden character that a text begins with is shown, \x1b for
// example, and how many bytes of the text it is.
func Rune(s string) (shown string, length int) {
	r, n := utf8.DecodeRuneInString(s)
	switch {
	case r == utf8.RuneError && n > 1:
		return s[:n], n
	case r == utf8.RuneError && n == 1:
		return fmt.Sprintf(`\x%02x`, s[0]), n
	case r == '\n':
		return `\n`, n
	case r == '\t':
		return `\t`, n
	case r == '\r':
		return `\r`, n
	case r < 0x100:
		return fmt.Sprintf(`\x%02x`, r), n
	}
	return fmt.Sprintf(`\u%04x`, r), n
}

// Line is a text on one line, with hidden characters shown.
func Line(s string) string {
	if strings.IndexFunc(s, Hidden) < 0 {
		return s
	}
	var b strings.Builder
	for s != "" {
		if r, n := utf8.DecodeRuneInString(s); !Hidden(r) {
			b.WriteString(s[:n])
			s = s[n:]
			continue
		}
		shown, n := Rune(s)
		b.WriteString(shown)
		s = s[n:]
	}
	return b.String()
}

// Command is words as a shell takes them, each as one word.
func Command(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Word(w)
	}
	return strings.Join(quoted, " ")
}

// Word is a text as one word of a shell.
func Word(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

var plainWord = regexp.MustCompile(`^[\p{L}\p{N}_./@%+=:,-]+$`)

// CSV is a text for a cell of a spreadsheet, which would compute what begins like
// a formula. An apostrophe in front, as in LibreOffice and Excel, says that it is
// text. Numbers stay numbers.
func CSV(s string) string {
	s = Line(s)
	if s == "" || !strings.ContainsRune("=+-@", rune(s[0])) {
		return s
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return s
	}
	return "'" + s
}

// Markdown is a text within Markdown, without HTML, links and pictures of its own.
// Lines stay.
func Markdown(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = markdown.Replace(Line(line))
	}
	return strings.Join(lines, "\n")
}

var markdown = strings.NewReplacer("<", "&lt;", "](", `]\(`)

// MarkdownCell is a text in a cell of a table in Markdown.
func MarkdownCell(s string) string {
	return strings.ReplaceAll(markdown.Replace(Line(s)), "|", `\|`)
}
