package program

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/loralab/loralab/plugins/protocol"
)

// Text is the readable form of a program, one line a parameter and a node:
//
//	param lora_A [8, 384] = kaiming_uniform(a=2.236068)
//	%0 = x
//	%1 = param lora_A
//	%2 = permute %1 [1, 0]
//	%3 = matmul %0 %2
//
// It works on any program, right or wrong. Typed.Text also has the shapes.
func Text(p *protocol.Program) string { return text(p, nil) }

// Text is the readable form of the program with the shape of every node:
// "%3 = matmul %0 %2 : [T, 8]".
func (t *Typed) Text() string { return text(t.Program, t) }

func text(p *protocol.Program, t *Typed) string {
	var b strings.Builder
	for _, q := range p.GetParams() {
		b.WriteString(paramText(q))
		b.WriteByte('\n')
	}
	writeNodes(&b, p.GetNodes(), func(i int) string {
		if t == nil {
			return ""
		}
		s := " : " + ShapeText(t.Shapes[i])
		if t.DTypes[i] != Float {
			s += " " + t.DTypes[i].String()
		}
		return s
	})
	fmt.Fprintf(&b, "y = %%%d\n", p.GetOutput())
	for _, a := range p.GetAux() {
		fmt.Fprintf(&b, "loss += %s %%%d  # %s\n", number(a.GetWeight()), a.GetNode(), clean(a.GetName()))
	}
	return b.String()
}

// writeNodes writes a line for each node, with what is known of its value.
func writeNodes(b *strings.Builder, nodes []*protocol.Node, known func(i int) string) {
	for i, n := range nodes {
		fmt.Fprintf(b, "%%%d = %s", i, OpName(n.GetOp()))
		if n.GetParam() != "" {
			b.WriteString(" " + clean(n.GetParam()))
		}
		for _, in := range n.GetInputs() {
			fmt.Fprintf(b, " %%%d", in)
		}
		if n.GetText() != "" {
			b.WriteString(" " + clip(n.GetText()))
		}
		if len(n.GetInts()) > 0 {
			b.WriteString(" " + integers(n.GetInts()))
		}
		if len(n.GetFloats()) > 0 {
			b.WriteString(" " + numbers(n.GetFloats()))
		}
		if strings.Contains(ops[n.GetOp()].takes, "number") {
			b.WriteString(" " + number(n.GetNumber()))
		}
		if n.GetKeepdim() {
			b.WriteString(" keepdim")
		}
		b.WriteString(known(i))
		if n.GetName() != "" {
			b.WriteString("  # " + clean(n.GetName()))
		}
		b.WriteByte('\n')
	}
}

// paramText says what differs from the usual: a trainable parameter of one site.
func paramText(q *protocol.Param) string {
	if q == nil {
		return "param nothing"
	}
	s := fmt.Sprintf("param %s %s = %s", clean(q.GetName()), rawShape(q.GetShape()), initText(q.GetInit()))
	if !q.GetTrainable() {
		s += ", frozen"
	}
	if q.GetDerived() {
		s += ", derived"
	}
	switch q.GetScope() {
	case protocol.Param_SITE:
	case protocol.Param_BLOCK:
		s += ", shared by the block"
	case protocol.Param_MODEL:
		s += ", shared by the model"
	default:
		s += fmt.Sprintf(", scope %d", q.GetScope())
	}
	if q.LrMult != nil {
		s += ", lr×" + number(q.GetLrMult())
	}
	if q.DecayMult != nil {
		s += ", decay×" + number(q.GetDecayMult())
	}
	if q.GetStream() != "" {
		s += ", stream " + clean(q.GetStream())
	}
	return s
}

// number has at most seven digits: enough to recognise √5.
func number(v float64) string { return strconv.FormatFloat(v, 'g', 7, 64) }

func numbers(v []float64) string { return list(v, number) }

func integers(v []int64) string {
	return list(v, func(n int64) string { return strconv.FormatInt(n, 10) })
}

// list shows at most eight elements.
func list[E any](v []E, text func(E) string) string {
	const most = 8
	parts := make([]string, 0, most+1)
	for i, e := range v {
		if i == most {
			parts = append(parts, fmt.Sprintf("… %d in all", len(v)))
			break
		}
		parts = append(parts, text(e))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
