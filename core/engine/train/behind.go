package train

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/engine/loss"
	"github.com/loralab/loralab/core/engine/optim"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/spec"
)

// On a GPU nothing in an update waits for the device: while it computes one update, the
// host prepares the next. What an update says of itself, its loss, the norm of its
// gradients and which tensors had one, is read after the next was begun. An update whose
// loss or norm is not finite moves nothing there either: the optimizer looks at the norm
// on the device.

// behind is an update that the device has, and what is known of it on the host.
type behind struct {
	u       *update
	src     *source
	epoch   int
	st      *spec.Step
	names   []string // of the tensors whose gradients are looked at
	trains  bool     // all of them
	numbers *torch.Later
}

// begun gives an update to the device.
func (s *session) begun(u *update, src *source, epoch int) (*behind, error) {
	u.start = time.Now()
	s.net.drawPaths(s.spec.Seed, s.step)
	b := &behind{u: u, src: src, epoch: epoch, st: s.said(u, epoch)}
	err := s.t.dev.Do(func() error {
		dev := s.t.dev
		total := dev.Zeros(torch.Float32)
		for i, batch := range u.batches {
			total = dev.Yield(func() *torch.Tensor {
				l, _, _ := s.lossOf(u, src, batch, u.indices[i])
				if l == nil {
					return total.Clone()
				}
				l.Backward()
				return total.Add(l.Detach())
			})
		}
		var still []*torch.Tensor
		if !b.st.Uncounted {
			_, adapters, _ := s.net.trained()
			b.names, still, b.trains = s.moves.of(adapters, s.trainsIn(epoch))
		}
		numbers := []*torch.Tensor{}
		if len(still) > 0 {
			numbers = append(numbers, torch.LargestGradsThere(still))
		}
		// A loss that is no number has gradients that are none, but for what it does
		// not depend on.
		norm := s.opt.StepThere(s.factor(), total)
		numbers = append([]*torch.Tensor{total.Reshape(1), norm.Reshape(1)}, numbers...)
		b.numbers = torch.Cat(0, numbers...).Later()
		s.average.add(s.step)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.step++
	return b, nil
}

// settle reads what an update has said of itself, and reports it.
func (s *session) settle(b *behind) error {
	warning := ""
	err := s.t.dev.Do(func() error {
		v := b.numbers.Read()
		b.u.loss, b.st.Loss, b.st.GradNorm = v[0], v[0], v[1]
		at := int(b.st.Step)
		switch {
		case notFinite(v[0]):
			return s.diverged(at, fmt.Sprintf("the loss is %v", v[0]), s.causeAgain(b))
		case s.explodes(v[0]):
			return s.diverged(at, s.explosion(v[0]), imagesOf(b.u))
		case notFinite(v[1]):
			return s.diverged(at, fmt.Sprintf("the norm of the gradients is %v", v[1]), imagesOf(b.u))
		}
		warning = s.moves.seen(b.names, v[2:], b.trains)
		return nil
	})
	if err != nil {
		return err
	}
	return s.report(b.u, b.st, warning)
}

// causeAgain says where a loss came from that is no number. Its outputs are gone, so
// they are computed again, with the weights as they are. It is called on the device's
// thread.
func (s *session) causeAgain(b *behind) (cause string) {
	s.t.dev.NoGrad(func() {
		for i, batch := range b.u.batches {
			s.t.dev.Scope(func() {
				if _, logits, aux := s.lossOf(b.u, b.src, batch, b.u.indices[i]); cause == "" || nonFinite(logits) >= 0 {
					cause = s.cause(b.u, batch, logits, aux)
				}
			})
		}
	})
	return cause
}

func notFinite(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

// lossOf is the loss of a batch of an update, by its part, nil if it has none; the
// logits, and the adapters' own loss.
func (s *session) lossOf(u *update, src *source, b *data.Batch, indices []int) (l, logits, aux *torch.Tensor) {
	logits = s.net.logits(src.tokens(b, indices), b.Size, true)
	l = loss.Compute(s.loss, loss.Masses(s.loss, b.N, b.Pixels), u.masses, logits, s.net.target(b))
	if aux = s.net.adapters.Aux(); aux != nil {
		if b.N != u.images {
			aux = aux.Scale(float64(b.N) / float64(u.images))
		}
		if l != nil {
			l = l.Add(aux)
		} else {
			l = aux
		}
	}
	return l, logits, aux
}

// said begins what is reported of an update.
func (s *session) said(u *update, epoch int) *spec.Step {
	return &spec.Step{Step: uint64(s.step + 1), Epoch: uint32(epoch + 1), Lr: s.rate() * s.factor(), Uncounted: !u.counts()}
}

// factor is that of the schedule for the next update.
func (s *session) factor() float64 {
	if s.forgets() {
		return 1
	}
	return optim.Factor(s.spec.Optim.Schedule, s.step, s.total)
}

// trainsIn reports whether a tensor takes a gradient in an epoch.
func (s *session) trainsIn(epoch int) func(name string) bool {
	return func(name string) bool { return int(s.net.tensors[name].Until) <= epoch }
}

// explodes reports whether a loss is the end of a sensible training.
func (s *session) explodes(v float64) bool {
	m := median(s.recent)
	return len(s.recent) >= lookBack/5 && math.Abs(v) > exploded*math.Abs(m) && m != 0
}

func (s *session) explosion(v float64) string {
	return fmt.Sprintf("the loss explodes: it is %.4g, the median of the last %d was %.4g", v, len(s.recent), median(s.recent))
}

// parted is how many images are computed at once: a batch, or a part of one.
func (s *session) parted() int {
	batch, parts := int(s.spec.Train.Batch), max(1, int(s.req.Parts))
	return (batch + parts - 1) / parts
}

// halves is into how many parts batches may be cut where they have no memory as they
// are, 0 if that would be another training: BatchNorm and losses of a whole batch see
// the images of a batch together.
func (s *session) halves() uint32 {
	parts := 2 * max(1, s.req.Parts)
	if parts > s.spec.Train.Batch || s.spec.Head.Norm || slices.ContainsFunc(s.spec.Loss, func(t *spec.Loss) bool { return !loss.OfPixels(t.Kind) }) {
		return 0
	}
	return parts
}

// exhausted says what a computation that had no memory was.
func (s *session) exhausted(err error) error {
	d := s.spec.Data
	what := fmt.Sprintf("images of %d×%d, %d at a time", d.Height, d.Width, s.parted())
	hint := "set train.batch lower and train.accumulate higher by as much, so that an update has the same images"
	switch parts := s.halves(); {
	case s.spec.Train.Batch == 1:
		hint = "set data.size lower"
	case parts > 0:
		hint = fmt.Sprintf("another try (--retry) computes each batch in %d parts", parts)
	}
	return fmt.Errorf("the memory of %s is exhausted by %s; %s\n%w", s.t.dev, what, hint, err)
}
