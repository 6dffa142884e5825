package diagnostic

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

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

// trial-language M24: 600 wrong keys on one long line are 20 errors, a count and
// pieces of the line.
func TestManyAlikeAreCounted(t *testing.T) {
	var l List
	source := strings.Repeat("x", 100_000)
	for i := range 600 {
		l = append(l, Diagnostic{
			Message: fmt.Sprintf("train has no field %q", fmt.Sprint("wrong", i)), Source: source,
			At: Position{File: "a.cue", Line: 3, Column: 10 + 100*i, Width: 6},
		})
	}
	l = append(l, Diagnostic{Message: "seeds is missing", At: Position{File: "a.cue", Line: 4, Column: 1}})
	text := l.Text()
	if n := strings.Count(text, "error: "); n != 21 {
		t.Errorf("%d errors are shown", n)
	}
	if !strings.HasSuffix(text, "seeds is missing\n --> a.cue:4:1\n\nand 580 more like: train has no field \"wrong19\"\n\n601 errors in 1 file") {
		t.Errorf("it ends with\n%s", text[max(0, len(text)-400):])
	}
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(line); n > 250 {
			t.Errorf("a line of %d characters", n)
		}
	}
}
