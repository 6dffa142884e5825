package program

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/loralab/loralab/plugins/protocol"
)

// Error is one mistake in a program.
type Error struct {
	Site    string // "query of block 6"
	Of      string // part it is about, "PEFT" for what PEFT stores; "" the program
	Node    int    // index, -1 if it is not about a node
	Op      string // of the node, "matmul"
	Name    string // of the node, may be empty
	Param   string // name of the parameter it is about, may be empty
	Message string // what was expected and what came
}

// Error says it in one line: `query of block 6: node %4 matmul "delta": …`.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Site != "" {
		b.WriteString(e.Site + ": ")
	}
	if e.Of != "" {
		b.WriteString(e.Of + ": ")
	}
	if e.Node >= 0 {
		b.WriteString("node " + nodeText(e.Node, e.Op, e.Name) + ": ")
	}
	if e.Param != "" {
		b.WriteString("parameter " + e.Param + ": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// Errors is everything wrong with a program, in the order of parameters, nodes
// and results.
type Errors []*Error

// Error has one line for each mistake; after twenty it only counts.
func (e Errors) Error() string {
	const most = 20
	lines := make([]string, 0, min(len(e), most+1))
	for i, one := range e {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more", len(e)-most))
			break
		}
		lines = append(lines, one.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes each mistake visible to errors.As.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, one := range e {
		out[i] = one
	}
	return out
}

// SiteName is how people refer to a site: "query of block 6", "patch".
func SiteName(s *protocol.Site) string {
	switch {
	case s == nil:
		return ""
	case s.GetKind() == protocol.Site_PATCH:
		return clean(s.GetName())
	}
	return fmt.Sprintf("%s of block %d", clean(s.GetName()), s.GetBlock())
}

// clean keeps what a foreign plug-in says from breaking out of a line.
func clean(s string) string {
	if len(s) > maxName || !nodeName.MatchString(s) {
		return clip(s)
	}
	return s
}

func clip(s string) string {
	if len(s) > maxName {
		s = s[:maxName] + "…"
	}
	return strconv.Quote(s)
}

func nodeText(i int, op, name string) string {
	s := fmt.Sprintf("%%%d %s", i, op)
	if name != "" {
		s += " " + clip(name)
	}
	return s
}

// ShapeText is a shape as messages show it: "[T, 8]".
func ShapeText(shape []int64) string {
	parts := make([]string, len(shape))
	for i, d := range shape {
		if d == T {
			parts[i] = "T"
		} else {
			parts[i] = strconv.FormatInt(d, 10)
		}
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// rawShape shows a shape that came wrong, so that -1 stays -1.
func rawShape(shape []int64) string {
	if len(shape) > 2*MaxRank {
		return fmt.Sprintf("of %d dimensions", len(shape))
	}
	return strings.ReplaceAll(fmt.Sprint(shape), " ", ", ")
}
