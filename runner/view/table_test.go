package view

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"pgregory.net/rapid"
)

// A table is never wider than its terminal, cuts no character in two, and shows
// every cell in full, cut with an ellipsis, or in a column of which it says that
// it does not fit. Numbers are never cut.
func TestTablesFit(t *testing.T) {
	word := rapid.StringOfN(rapid.SampledFrom([]rune("ab=, 漢é👩\u0301\u200d\x1b")), 0, 40, -1)
	omitted := regexp.MustCompile(`^ *(\d+) columns? do(es)? not fit`)
	rapid.Check(t, func(t *rapid.T) {
		v, _ := terminal(80)
		n := rapid.IntRange(1, 6).Draw(t, "columns")
		of := table{indent: rapid.SampledFrom([]int{0, 2}).Draw(t, "indent"), stack: rapid.Bool().Draw(t, "stack")}
		for i := range n {
			of.columns = append(of.columns, column{
				name: fmt.Sprintf("c%d%s", i, word.Draw(t, "name")), number: rapid.Bool().Draw(t, "number"), spare: rapid.IntRange(0, 2).Draw(t, "spare"),
			})
		}
		plain := make([][]string, rapid.IntRange(1, 3).Draw(t, "rows"))
		for r := range plain {
			var row []string
			for i := range n {
				cell := fmt.Sprintf("r%dc%d%s", r, i, word.Draw(t, "cell"))
				plain[r] = append(plain[r], strings.TrimRight(visible(cell, false, false), " "))
				if i%2 == 1 {
					cell = v.good.Render(cell)
				}
				row = append(row, cell)
			}
			of.add(row...)
		}
		width := rapid.SampledFrom([]int{0, rapid.IntRange(5, 160).Draw(t, "width")}).Draw(t, "terminal")
		lines := of.lines(width)
		for i, line := range lines {
			if width > 0 && ansi.StringWidth(line) > width {
				t.Fatalf("%d columns in %d: %q", ansi.StringWidth(line), width, line)
			}
			if !utf8.ValidString(line) {
				t.Fatalf("a divided character: %q", line)
			}
			lines[i] = ansi.Strip(line)
		}
		text := strings.Join(lines, "\n")
		if width > 0 && width < 32 {
			return // too narrow to tell columns apart by what is left of them
		}
		header, body := lines[0], lines[1:]
		left := 0
		if m := omitted.FindStringSubmatch(body[len(body)-1]); m != nil {
			left, _ = strconv.Atoi(m[1])
			body = body[:len(body)-1]
		}
		each := len(body) / len(plain)
		if each*len(plain) != len(body) || each > 2 || each == 2 && !of.stack {
			t.Fatalf("%d lines for %d rows:\n%s", len(body), len(plain), text)
		}
		missing := 0
		for i, c := range of.columns {
			if !strings.Contains(header, fmt.Sprintf("C%d", i)) && (i > 0 || each == 1) {
				missing++
				continue
			}
			for r, row := range plain {
				line := strings.Join(body[each*r:each*(r+1)], "\n")
				if !strings.Contains(line, row[i]) && (c.number && i > 0 && left < n-each || !cutIn(line, row[i])) {
					t.Fatalf("cell %q is not in\n%s", row[i], text)
				}
			}
		}
		if missing != left || width == 0 && left > 0 {
			t.Fatalf("%d columns miss, it says %d:\n%s", missing, left, text)
		}
	})
}

// cutIn reports whether a line has the begin of a cell and an ellipsis.
func cutIn(line, cell string) bool {
	for cut := range cell {
		if cut >= len("r0c0") && strings.Contains(line, cell[:cut]+"…") {
			return true
		}
	}
	return false
}

// What gives way first: the label moves up, spare columns are left out, text is
// cut, the last columns are left out.
func TestHowTablesGiveWay(t *testing.T) {
	of := table{columns: append(texts("name", "what"), numbers("n", "dice/mean")...)}
	of.add("rank=8, lr=0.001, a long name", "漢字 and some text", "3", "0.9123")
	spare, stacked := of, of
	spare.columns = slices.Clone(of.columns)
	spare.columns[2].spare = 1
	stacked.stack, stacked.indent = true, 2
	for _, c := range []struct {
		of    table
		width int
		want  string
	}{
		{of, 0, `
NAME                           WHAT                N  DICE/MEAN
rank=8, lr=0.001, a long name  漢字 and some text  3     0.9123`},
		{of, 55, `
NAME                   WHAT                N  DICE/MEAN
rank=8, lr=0.001, a …  漢字 and some text  3     0.9123`},
		{of, 48, `
NAME              WHAT              N  DICE/MEAN
rank=8, lr=0.00…  漢字 and some t…  3     0.9123`},
		{of, 40, `
NAME               WHAT                N
rank=8, lr=0.001…  漢字 and some text  3
1 column does not fit: DICE/MEAN`},
		{spare, 60, `
NAME                           WHAT                DICE/MEAN
rank=8, lr=0.001, a long name  漢字 and some text     0.9123
1 column does not fit: N`},
		{stacked, 60, `
    WHAT                N  DICE/MEAN
  rank=8, lr=0.001, a long name
    漢字 and some text  3     0.9123`},
		{of, 8, `
NAME
rank=8,…
3 colum…`},
	} {
		if got := "\n" + strings.Join(c.of.lines(c.width), "\n"); got != c.want {
			t.Errorf("%d columns: got%s\nwant%s", c.width, got, c.want)
		}
	}
}
