package report

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// levelLine is a line of a table whose columns are levels: the scores of a cell over the
// strength of its adapter, or over the severity of a corruption.
type levelLine struct {
	cell, of string
	scores   map[float64]Stat
}

// levelTable has a column for every level of any line, in ascending order. A line without
// a score at a level has "–" there. The column of is called what lines are of.
func levelTable(of string, lines []levelLine) [][]string {
	seen := map[float64]bool{}
	for _, l := range lines {
		for level := range l.scores {
			seen[level] = true
		}
	}
	levels := slices.Sorted(maps.Keys(seen))
	head := []string{"cell", of, "n"}
	for _, level := range levels {
		head = append(head, strconv.FormatFloat(level, 'g', -1, 64))
	}
	table := [][]string{head}
	for _, l := range lines {
		var n []int
		for _, score := range l.scores {
			n = append(n, score.N)
		}
		row := []string{l.cell, l.of, rangeOf(slices.Min(n), slices.Max(n))}
		for _, level := range levels {
			text := "–"
			if score, ok := l.scores[level]; ok {
				text = score.String()
			}
			row = append(row, text)
		}
		table = append(table, row)
	}
	return table
}

// rangeOf is "3", or "2 to 3".
func rangeOf(low, high int) string {
	if low == high {
		return strconv.Itoa(low)
	}
	return fmt.Sprintf("%d to %d", low, high)
}
