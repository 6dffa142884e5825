package train

import "github.com/loralab/loralab/core/engine/torch"

// average is a running mean of the weights that train, which is scored and kept
// in their place: it changes less from step to step and often scores better
// (Polyak averaging, with exponential weights).
type average struct {
	decay float64
	live  []named
	mean  []*torch.Tensor
}

// newAverage starts at the weights as they are, nil for no decay. It is called
// on the device's thread.
func newAverage(decay float64, live []named) *average {
	if decay == 0 {
		return nil
	}
	a := &average{decay: decay, live: live}
	for _, p := range live {
		a.mean = append(a.mean, p.t.Detach().Clone().Keep())
	}
	return a
}

// restart begins anew at the weights as they are.
func (a *average) restart() {
	if a == nil {
		return
	}
	for i, p := range a.live {
		a.mean[i].Assign(p.t)
	}
}

// add takes the weights after update step (0-based) into the mean. In the
// beginning the mean follows faster, or it would be of the start for long.
func (a *average) add(step int) {
	if a == nil {
		return
	}
	decay := min(a.decay, float64(1+step)/float64(10+step))
	torch.Lerp(a.mean, a.tensors(), 1-decay)
}

func (a *average) tensors() []*torch.Tensor {
	out := make([]*torch.Tensor, len(a.live))
	for i, p := range a.live {
		out[i] = p.t
	}
	return out
}

// swap exchanges the weights and their mean; a second time puts them back.
func (a *average) swap() {
	for i, p := range a.live {
		weights := p.t.Detach().Clone()
		p.t.Assign(a.mean[i])
		a.mean[i].Assign(weights)
	}
}

// state is what a checkpoint holds of the mean.
func (a *average) state() []named {
	if a == nil {
		return nil
	}
	out := make([]named, len(a.live))
	for i, p := range a.live {
		out[i] = named{averageOf(p.name), a.mean[i]}
	}
	return out
}

// averageOf is the name of a weight's mean in a checkpoint.
func averageOf(name string) string { return "average." + name }

func (a *average) free() {
	if a == nil {
		return
	}
	for _, t := range a.mean {
		t.Free()
	}
	a.mean = nil
}

// averaged does something with the mean of the weights, if there is one.
func (s *session) averaged(do func(*average)) error {
	if s.average == nil {
		return nil
	}
	return s.t.dev.Do(func() error {
		s.t.dev.NoGrad(func() { do(s.average) })
		s.net.adapters.Changed()
		return nil
	})
}
