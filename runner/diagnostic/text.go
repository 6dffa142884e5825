package diagnostic

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// InCells says in which cells of the matrix the mistake is:
// "12 of 40 cells: rank=64,lr=0.01; …".
func (d Diagnostic) InCells() string {
	text := Some(d.Cells, 4, "; ") // names of cells have commas
	switch n := len(d.Cells); {
	case d.Of == 0 || n == 1:
		return text
	case n == d.Of:
		return fmt.Sprintf("all %d cells: %s", n, text)
	default:
		return fmt.Sprintf("%d of %d cells: %s", n, d.Of, text)
	}
}

// Some lists names with a separator, ", " or "; ". Of more than most it lists the
// first: "a, b and 3 more", "a; b; and 3 more". It does not replace a single name.
func Some(names []string, most int, separator string) string {
	if more := len(names) - most; more > 1 {
		return fmt.Sprintf("%s%sand %d more", strings.Join(names[:most], separator), strings.TrimPrefix(separator, ","), more)
	}
	return strings.Join(names, separator)
}

// String is FILE:LINE:COLUMN, without what is unknown.
func (p Position) String() string {
	switch {
	case p.File == "":
		return ""
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// DidYouMean is the known word that is nearest to what was written, by the
// number of letters to insert, delete, replace or swap, or else the only one that begins
// with what was written; "" if there is none.
func DidYouMean(word string, known []string) string {
	best, bestDistance := "", max(2, utf8.RuneCountInString(word)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	// With short words nearly everything is near.
	if bestDistance >= utf8.RuneCountInString(word) && !strings.EqualFold(best, word) {
		best = ""
	}
	if best == "" && utf8.RuneCountInString(word) > 2 {
		for _, k := range known {
			if !strings.HasPrefix(strings.ToLower(k), strings.ToLower(word)) {
				continue
			}
			if best != "" {
				return ""
			}
			best = k
		}
	}
	return best
}

// Suggest is a hint for a word that is not known: the nearest, or all of them
// after what, as in `variants: lora, dora`.
func Suggest(word, what string, known []string) string {
	if near := DidYouMean(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(known) == 0 {
		return ""
	}
	const most = 16
	if len(known) > most {
		known = append(slices.Clone(known[:most]), "…")
	}
	return what + ": " + strings.Join(known, ", ")
}

// distance is the optimal string alignment distance.
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	rows := make([][]int, len(s)+1)
	for i := range rows {
		rows[i] = make([]int, len(t)+1)
		rows[i][0] = i
	}
	for j := range t {
		rows[0][j+1] = j + 1
	}
	for i := 1; i <= len(s); i++ {
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(s)][len(t)]
}
