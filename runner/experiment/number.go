package experiment

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/runner/diagnostic"
)

// Numbers of CUE have no bounds, those that are computed with have. A number is
// computed with as it is written, or it is a mistake.

// numberErrors are the numbers of a value that cannot be computed with, as
// errors at their paths.
func numberErrors(t *tree, schema cue.Value, path []string) (found errors.Error) {
	for _, name := range t.names {
		at := append(slices.Clone(path), quoteLabel(name))
		found = errors.Append(found, numberErrors(t.members[name], lookup(schema, at[len(path):]), at))
	}
	if t.members == nil {
		found = errors.Append(found, errorsInList(t.leaf, schema, path))
	}
	return found
}

// errorsInList looks at a number, or at those in a list.
func errorsInList(text json.RawMessage, schema cue.Value, path []string) (found errors.Error) {
	switch {
	case len(text) == 0 || strings.ContainsRune(`"tfn`, rune(text[0])):
	case text[0] == '[':
		var list []json.RawMessage
		_ = json.Unmarshal(text, &list) // it is what CUE has written
		all, each := elements(schema)
		for i, element := range list {
			of := all
			if i < len(each) {
				of = each[i]
			}
			found = errors.Append(found, errorsInList(element, of, append(slices.Clone(path), strconv.Itoa(i))))
		}
	case text[0] == '{':
		if t, err := parseTree(text); err == nil {
			found = numberErrors(t, schema, path)
		}
	default:
		if problem := numberProblem(string(text), schema.IncompleteKind()); problem != "" {
			found = &movedError{errors.Newf(token.NoPos, "%s", problem), path}
		}
	}
	return found
}

// elements is what a schema says of the elements of a list: of all, or else of
// each.
func elements(list cue.Value) (all cue.Value, each []cue.Value) {
	_, terms := list.Expr()
	for _, term := range append(terms, list) {
		if v := term.LookupPath(cue.MakePath(cue.AnyIndex)); v.Exists() {
			return v, nil
		}
		if it, err := term.List(); err == nil {
			var of []cue.Value
			for it.Next() && !it.Value().IsConcrete() {
				of = append(of, it.Value())
			}
			if len(of) > len(each) {
				each = of
			}
		}
	}
	return cue.Value{}, each
}

// numberProblem says why a number cannot be computed with; "" if it can. It is
// read as one of the kinds of the schema, of which some are not known.
func numberProblem(text string, kind cue.Kind) string {
	const smallest = 0x1p-1022 // of full precision
	f, err := strconv.ParseFloat(text, 64)
	if n, ok := new(big.Int).SetString(text, 10); ok {
		switch {
		case kind&cue.NumberKind == cue.IntKind && !n.IsUint64() && !n.IsInt64():
			return "must be a whole number of 64 bits"
		case kind&cue.FloatKind != 0 && err == nil && !isExact(text):
			return fmt.Sprintf("must be a number of 53 bits; the nearest is %.0f", f)
		}
	}
	digits, _, _ := strings.Cut(strings.ToLower(text), "e")
	switch {
	case err != nil:
		return "must be at most 1.8e308, as it is computed with"
	case math.Abs(f) < smallest && strings.ContainsAny(digits, "123456789"):
		return "must be 0 or at least 2.2e-308, as it is computed with"
	}
	return ""
}

// isExact says that a whole number is one of 64-bit floats.
func isExact(text string) bool {
	n, ok := new(big.Int).SetString(text, 10)
	if !ok {
		return false
	}
	_, accuracy := new(big.Float).SetInt(n).Float64()
	return accuracy == big.Exact
}

// farthest is how far exponents go in CUE. It reads a number beyond that as one
// without the exponent.
const farthest = 100_000

var exponent = regexp.MustCompile(`^[0-9._]*[eE]([+-]?[0-9]+)$`)

// misread says that CUE reads another number than a literal says.
func misread(lit *ast.BasicLit) bool {
	m := exponent.FindStringSubmatch(lit.Value)
	if m == nil || lit.Kind != token.FLOAT && lit.Kind != token.INT {
		return false
	}
	n, err := strconv.Atoi(m[1])
	return err != nil || n > farthest-len(lit.Value) || n < len(lit.Value)-farthest
}

// checkLiterals reports numbers that CUE misreads, anywhere in the user's files.
func (d *document) checkLiterals() {
	for _, f := range append([]*ast.File{d.syntax}, d.imported...) {
		if f == nil {
			continue
		}
		if lit := misreadIn(f); lit != nil {
			d.report(d.mark(diagnostic.Diagnostic{
				Message: lit.Value + " is no number that can be computed with",
				Hint:    "numbers go from 2.2e-308 to 1.8e308",
			}, lit.Pos()))
		}
	}
}

// misreadIn is the first literal of a node that CUE misreads.
func misreadIn(n ast.Node) (found *ast.BasicLit) {
	ast.Walk(n, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && found == nil && misread(lit) {
			found = lit
		}
		return found == nil
	}, nil)
	return found
}
