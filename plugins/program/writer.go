package program

import "github.com/loralab/loralab/plugins/protocol"

// Writer types a program while it is written, one parameter and one node at a
// time, so that whoever writes it knows every shape and hears of a mistake
// where it is made. The finished program still has to pass Check.
type Writer struct {
	k *checker
	p *protocol.Program
}

// NewWriter starts an empty program for a site.
func NewWriter(s *protocol.Site) *Writer {
	return &Writer{k: newChecker(s), p: &protocol.Program{}}
}

// Param declares a parameter. Its error is an Errors.
func (w *Writer) Param(q *protocol.Param) error {
	w.k.errs = nil
	w.k.declare(q)
	w.p.Params = append(w.p.Params, q)
	return w.problem()
}

// Node appends a node and returns its index and what is known of it. Its error
// is an Errors.
func (w *Writer) Node(n *protocol.Node) (uint32, Value, error) {
	w.k.errs = nil
	w.k.node(n)
	w.p.Nodes = append(w.p.Nodes, n)
	i := len(w.k.nodes) - 1
	if err := w.problem(); err != nil || w.k.nodes[i] == nil {
		return uint32(i), Value{}, err
	}
	return uint32(i), *w.k.nodes[i], nil
}

// Aux adds a scalar node to the loss.
func (w *Writer) Aux(a *protocol.Aux) { w.p.Aux = append(w.p.Aux, a) }

// Finish returns the program with the given node as its output. With nodes taken out
// of it, its version has to be set again; see VersionOf.
func (w *Writer) Finish(output uint32) *protocol.Program {
	w.p.Output, w.p.Version = output, VersionOf(w.p)
	return w.p
}

func (w *Writer) problem() error {
	if len(w.k.errs) == 0 {
		return nil
	}
	return w.k.errs
}
