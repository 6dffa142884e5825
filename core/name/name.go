// Package name says what experiments, cells and domains may be called. Their
// names become parts of paths, arguments of commands, columns of tables and
// lines on a terminal, so one rule serves all of them.
//
// Experiment, Case and Domain are for names that a user gives. Runs that are
// done have further names, which runner makes of these: Recorded, Cell and Column
// are for what is read from a run directory, a database or an archive.
package name

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Smoke is the end of the names of experiments that "apply --smoke" makes.
const Smoke = ".smoke"

// Most is the number of bytes that a name has at most.
const Most = 100

const (
	rule     = `a name has 1 to 100 bytes of letters, digits, "_", "-" and ".", and begins with neither "." nor "-"`
	caseRule = `a name has 1 to 100 bytes without "/", "\" and control characters, and begins with neither ".", "-" nor a space`
)

// An Error is a name that cannot be used.
type Error struct {
	Kind  string // what it names: "experiment"
	Name  string
	Fault string // what is wrong with it: `it contains "/"`
	Rule  string // what names are; empty where Fault says all
}

// Message is the error without the rule.
func (e *Error) Message() string {
	if e.Name == "" {
		return fmt.Sprintf("the name of %s %s is empty", article(e.Kind), e.Kind)
	}
	return fmt.Sprintf("%s cannot be the name of %s %s: %s", Quoted(e.Name), article(e.Kind), e.Kind, e.Fault)
}

func (e *Error) Error() string {
	if e.Rule == "" {
		return e.Message()
	}
	return e.Message() + "; " + e.Rule
}

func article(noun string) string {
	if strings.ContainsAny(noun[:1], "aeiou") {
		return "an"
	}
	return "a"
}

// Quoted is a name for a message: in quotes, without anything that a terminal
// would obey, and cut where it is long.
func Quoted(name string) string {
	const most = 60
	if runes := []rune(name); len(runes) > most {
		name = string(runes[:most]) + "…"
	}
	return fmt.Sprintf("%q", name)
}

// Experiment says whether an experiment can be called so.
func Experiment(s string) error {
	if err := plain("experiment", s); err != nil {
		return err
	}
	if strings.HasSuffix(s, Smoke) {
		return &Error{Kind: "experiment", Name: s, Fault: fmt.Sprintf(`names that end in %q are those of "apply --smoke"`, Smoke)}
	}
	return nil
}

// Domain says whether a domain can be called so.
func Domain(s string) error { return plain("domain", s) }

// Case says whether a case can be called so. What separates the parts of the
// names of other cells, "rank=4,alpha=8", is allowed.
func Case(s string) error {
	return check("case", s, caseRule, func(r rune) bool { return r != '/' && r != '\\' && Printable(r) })
}

// Recorded says whether a run can belong to an experiment of this name.
func Recorded(s string) error {
	if base, smoke := strings.CutSuffix(s, Smoke); smoke && base != "" {
		s = base
	}
	return plain("experiment", s)
}

// Column says whether a domain can have this name in scores: the name that a user
// gives, or that name with how images are seen, "test@window-126".
func Column(s string) error {
	base, how, ok := strings.Cut(s, "@")
	if err := plain("domain", base); err != nil {
		return err
	}
	if ok {
		return plain("domain", how)
	}
	return nil
}

// Cell says whether a cell can be called so. Names of cells are made of paths
// and values, which may contain a slash: they are never parts of a path as they
// are.
func Cell(s string) error {
	switch bad := strings.IndexFunc(s, func(r rune) bool { return !Printable(r) }); {
	case s == "", s == ".", s == "..":
		return &Error{Kind: "cell", Name: s, Fault: "it is the name of a directory"}
	case !utf8.ValidString(s):
		return &Error{Kind: "cell", Name: s, Fault: "it is not valid UTF-8"}
	case bad >= 0:
		return &Error{Kind: "cell", Name: s, Fault: contains(s[bad:])}
	}
	return nil
}

// Printable says whether a character may be part of the name of a case: a
// terminal shows it and does not obey it.
func Printable(r rune) bool { return r == ' ' || unicode.IsGraphic(r) && !unicode.Is(unicode.Zs, r) }

func plain(kind, s string) error {
	return check(kind, s, rule, func(r rune) bool {
		return r == '_' || r == '-' || r == '.' || unicode.In(r, unicode.L, unicode.M, unicode.N)
	})
}

// check looks at a name of which each character has to be allowed.
func check(kind, s, rule string, allowed func(rune) bool) error {
	e := &Error{Kind: kind, Name: s, Rule: rule}
	switch bad := strings.IndexFunc(s, func(r rune) bool { return !allowed(r) }); {
	case s == "":
	case !utf8.ValidString(s):
		e.Fault = "it is not valid UTF-8"
	case bad >= 0:
		e.Fault = contains(s[bad:])
	case strings.ContainsAny(s[:1], ".- "):
		e.Fault = fmt.Sprintf("it begins with %q", s[:1])
	case strings.HasSuffix(s, " "):
		e.Fault = `it ends with " "`
	case len(s) > Most:
		e.Fault = fmt.Sprintf("it has %d bytes", len(s))
	default:
		return nil
	}
	return e
}

// contains says that a name has its first character.
func contains(s string) string {
	r, _ := utf8.DecodeRuneInString(s)
	if !Printable(r) {
		return fmt.Sprintf("it contains the character U+%04X", r)
	}
	return fmt.Sprintf("it contains %q", string(r))
}
