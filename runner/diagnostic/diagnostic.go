// Package diagnostic holds what is wrong with a user's files as data: what,
// where, and what to do about it. Views render it for people or as JSON;
// nothing here prints.
package diagnostic

import (
	"cmp"
	"slices"
)

// Position is a place in a file of the user. Line and Column count from 1;
// zero means unknown.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	// Width is how many characters the caret underlines, at least 1.
	Width int `json:"width,omitempty"`
}

// CommandLine is the File of what is wrong with options of the command line.
const CommandLine = "command line"

// Kind says what a program can do about a diagnostic. Most have none: a user has
// to change a file.
type Kind string

// MissingBackbone is a backbone that is not on this machine and that may be
// downloaded.
const MissingBackbone Kind = "missing-backbone"

// Diagnostic is one mistake.
type Diagnostic struct {
	Kind Kind `json:"kind,omitempty"`
	// Path is the CUE path of the value, "ablation_rank.optim.lr.adapter".
	Path    string   `json:"path,omitempty"`
	Message string   `json:"message"`
	Hint    string   `json:"hint,omitempty"`
	At      Position `json:"at"`
	// Source is the line of the file that At points to.
	Source string `json:"source,omitempty"`
	// Cells names the cells of the matrix that the mistake hits, if not all.
	Cells []string `json:"cells,omitempty"`
	// Of is how many cells the matrix has.
	Of int `json:"of,omitempty"`
	// Warning marks what is worth saying but stops nothing.
	Warning bool `json:"warning,omitempty"`
}

// List is all that was found, in the order of the files.
type List []Diagnostic

// HasErrors reports whether anything but warnings was found.
func (l List) HasErrors() bool {
	return slices.ContainsFunc(l, func(d Diagnostic) bool { return !d.Warning })
}

// OnlyErrorsAre reports whether there are errors and all are of a kind.
func (l List) OnlyErrorsAre(kind Kind) bool {
	return l.HasErrors() && !slices.ContainsFunc(l, func(d Diagnostic) bool { return !d.Warning && d.Kind != kind })
}

// Sort orders by file, line and column, and keeps the order of finding within.
func (l List) Sort() {
	slices.SortStableFunc(l, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.At.File, b.At.File),
			cmp.Compare(a.At.Line, b.At.Line),
			cmp.Compare(a.At.Column, b.At.Column),
		)
	})
}
