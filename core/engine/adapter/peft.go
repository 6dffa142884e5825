package adapter

import (
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// Store computes what PEFT stores of placement i, in the order of q's tensors,
// in the set's type. q is checked: it depends on parameters and the frozen
// layer alone. The tensors belong to the current scope.
func (s *Set) Store(i int, q *program.Stored) []*torch.Tensor {
	l := *s.layers[i]
	l.typed = &program.Typed{Site: l.typed.Site, Program: &protocol.Program{Nodes: q.Tensors.GetNodes()}}
	l.folded, l.held = tensors(len(q.Tensors.GetNodes())), nil
	return s.dev.YieldAll(func() []*torch.Tensor {
		c := l.call(nil, l.pretrained)
		var values []*torch.Tensor
		for _, t := range q.Tensors.GetTensors() {
			// A copy: parameters themselves live longer than the scope.
			values = append(values, c.node(t.GetNode()).Contiguous().Clone())
		}
		return values
	})
}
