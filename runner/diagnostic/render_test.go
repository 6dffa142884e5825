package diagnostic

import (
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
	"pgregory.net/rapid"
)

// The caret is below what it points at, whatever is in front of it.
func TestCaret(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.StringMatching(`[\t a漢é"{\x1b]{0,20}`).Draw(t, "before")
		line, caret := underline(before+"wrong, and more", len([]rune(before))+1, 5)
		at := strings.Index(line, "wrong")
		if want := strings.Repeat(" ", ansi.StringWidth(line[:at])) + "^^^^^"; caret != want {
			t.Fatalf("%q\n%q, want\n%q", line, caret, want)
		}
	})
	for _, c := range []struct{ column, width int }{{0, 0}, {1, 0}, {99, 3}, {5, 99}} {
		underline("four", c.column, c.width) // a position outside the line shows what it can
	}
}

// A long line is cut to what the carets point at, however wide the terminal.
func TestExcerpt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.StringOfN(rapid.SampledFrom([]rune("ab 数\t\x01")), 0, 120, -1).Draw(t, "before")
		after := rapid.StringOfN(rapid.SampledFrom([]rune("xy 数")), 0, 120, -1).Draw(t, "after")
		width := rapid.IntRange(32, 140).Draw(t, "width")
		line, caret := underline(before+"wrong"+after, len([]rune(before))+1, 5)
		line, caret = excerpt(line, caret, width)
		if ansi.StringWidth(line) > width || ansi.StringWidth(caret) > width {
			t.Fatalf("wider than %d:\n%s\n%s", width, line, caret)
		}
		at := ansi.StringWidth(line[:max(0, strings.Index(line, "wrong"))])
		if !strings.Contains(line, "wrong") || caret != strings.Repeat(" ", at)+"^^^^^" {
			t.Fatalf("\n%s\n%s", line, caret)
		}
	})
}
