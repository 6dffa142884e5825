package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/loss"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/optim"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
)

// session is one run while it runs.
type session struct {
	t    *Trainer
	req  *spec.RunRequest
	spec *spec.RunSpec
	dir  *runDir
	emit func(*spec.Event)

	net         *network
	opt         *optim.Optimizer
	probes      map[string]string
	step, total int
	best        int
	bestOf      *spec.Metrics // nil: no validation so far
	seconds     float64       // of training before this process
}

// open builds the network of the run.
func (s *session) open() error {
	clearPeak()
	if err := loss.Check(s.spec.Loss, len(s.spec.Data.Classes)); err != nil {
		return err
	}
	if err := optim.CheckSchedule(s.spec.Optim.Schedule); err != nil {
		return err
	}
	return s.t.dev.Do(func() (err error) {
		s.net, err = newNetwork(s.t, s.req)
		return err
	})
}

func (s *session) close() {
	// The device may have failed; there is nothing more to do about it.
	_ = s.t.dev.Do(func() error {
		s.t.cache.release()
		if s.opt != nil {
			s.opt.Free()
		}
		if s.net != nil {
			s.net.free()
		}
		return nil
	})
}

// train goes from the last checkpoint to the end.
func (s *session) train(ctx context.Context) (*spec.Summary, error) {
	sp := s.spec
	trainSet, err := openSplit(ctx, s.req, sp.Data, "train")
	if err != nil {
		return nil, err
	}
	valSet, err := openSplit(ctx, s.req, sp.Data, "val")
	if err != nil {
		return nil, err
	}
	if trainSet.Len() == 0 || valSet.Len() == 0 {
		return nil, errors.New("split train or val has no images")
	}
	perEpoch := (trainSet.Len() + int(sp.Train.Batch) - 1) / int(sp.Train.Batch)
	s.total = perEpoch * int(sp.Train.Epochs)
	if n := int(sp.Train.MaxSteps); n > 0 {
		s.total = min(s.total, n)
	}

	started := &spec.Started{Steps: uint64(s.total), Epochs: uint32((s.total + perEpoch - 1) / perEpoch), CachedBlocks: uint32(max(0, s.net.prefix))}
	err = s.t.dev.Do(func() error {
		b, a, h := s.net.trained()
		if len(b)+len(a)+len(h) == 0 {
			return errors.New("nothing trains")
		}
		started.BackboneParams, started.AdapterParams, started.HeadParams = numel(b), numel(a), numel(h)
		started.FrozenParams = uint64(s.net.model.Frozen())
		s.opt, err = optim.New(s.t.dev, sp.Optim, s.groups(b, h))
		// Dropout's own stream; a checkpoint goes on in the middle of it.
		s.t.dev.Seed(rng.New(sp.Seed, "dropout").Uint64())
		return err
	})
	if err != nil {
		return nil, err
	}
	p, resumed, err := s.restore(lastCheckpoint, true)
	if err != nil {
		return nil, err
	}
	if resumed {
		s.step, s.best, s.bestOf, s.seconds = p.Step, p.Best, p.BestOf, p.Seconds
	} else if err := s.start(); err != nil {
		return nil, err
	}
	if s.probes, err = s.t.probes(s.net.model, int(sp.Train.Batch), int(sp.Data.Height), int(sp.Data.Width), p.Probes); err != nil {
		return nil, err
	}
	if err := s.dir.openJournal(p.Journal); err != nil {
		return nil, err
	}
	started.Step = uint64(s.step)
	s.emit(&spec.Event{Event: &spec.Event_Started{Started: started}})

	var src *source
	if s.total > 0 {
		if src, err = s.t.newSource(ctx, s.net, sp, sp.Data, "train", trainSet); err != nil {
			return nil, s.orStopped(ctx, err)
		}
	}
	val, err := s.t.newSource(ctx, s.net, sp, sp.Data, "val", valSet)
	if err != nil {
		return nil, s.orStopped(ctx, err)
	}

	clock := newClock(s.seconds)
	if s.total == 0 && !resumed {
		// No epochs: the weights it starts with are the last and the best.
		if err := s.validate(ctx, val, -1); err != nil {
			return nil, s.orStopped(ctx, err)
		}
		if err := s.checkpoint(clock); err != nil {
			return nil, err
		}
	}
	var speeds []float64
	for s.step < s.total {
		epoch := s.step / perEpoch // 0-based
		order := rng.New(sp.Seed, "order", strconv.Itoa(epoch)).Permutation(trainSet.Len())
		batches := cut(order, int(sp.Train.Batch))[s.step%perEpoch:]
		batches = batches[:min(len(batches), s.total-s.step)]
		i := 0
		read := func(ctx context.Context, indices []int) (*data.Batch, error) {
			return trainSet.Augmented(ctx, indices, sp.Seed, epoch)
		}
		err := each(ctx, read, batches, func(b *data.Batch) error {
			indices := batches[i]
			i++
			st, err := s.update(src, b, indices, epoch)
			if err != nil {
				return err
			}
			speeds = append(speeds, st.ImagesPerSecond)
			last := i == len(batches)
			if !last && s.due(clock) {
				return s.checkpoint(clock)
			}
			return nil
		})
		if err != nil {
			if ctx.Err() != nil {
				// Stop: what was done is made safe first.
				if e := s.checkpoint(clock); e != nil {
					return nil, e
				}
				return nil, ErrStopped
			}
			return nil, err
		}
		if end := s.step == s.total; end || sp.Train.EvalEvery <= 1 || (epoch+1)%int(sp.Train.EvalEvery) == 0 {
			if err := s.validate(ctx, val, epoch); err != nil {
				return nil, s.orStopped(ctx, err)
			}
		}
		if err := s.checkpoint(clock); err != nil {
			return nil, err
		}
	}
	if s.bestOf == nil {
		return nil, fmt.Errorf("no validation gave %s a value", sp.Train.Monitor)
	}
	sum := &spec.Summary{
		Id: s.req.Id, Validation: s.bestOf, BestStep: uint64(s.best), Steps: uint64(s.total),
		BackboneParams: started.BackboneParams, AdapterParams: started.AdapterParams, HeadParams: started.HeadParams,
		Seconds: clock.seconds(), PeakMemory: peakMemory(), ImagesPerSecond: median(speeds), Metric: sp.Train.Monitor,
	}
	if err := s.t.dev.Do(func() error {
		b, a, h := s.net.trained()
		sum.WeightsDigest = digest(slices.Concat(b, a, h))
		return nil
	}); err != nil {
		return nil, err
	}
	if err := s.export(); err != nil {
		return nil, err
	}
	return sum, s.dir.replace("result.json", sum)
}

// orStopped turns the failure of something that the context interrupted into
// ErrStopped: the last checkpoint is on disk and the rest is done again.
func (s *session) orStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ErrStopped
	}
	return err
}

// groups gives backbone, adapters and head their rates.
func (s *session) groups(backbone, heads []named) []optim.Group {
	o := s.spec.Optim
	params := func(ns []named) (out []optim.Param) {
		for _, n := range ns {
			out = append(out, optim.Param{Name: n.name, T: n.t})
		}
		return out
	}
	groups := []optim.Group{
		{Name: "backbone", LR: o.LrBackbone, Decay: o.WeightDecay, Params: params(backbone)},
		{Name: "head", LR: o.LrHead, Decay: o.WeightDecay, Params: params(heads)},
	}
	// Adapters may ask for multiples of rate and decay, parameter by parameter.
	for _, p := range s.net.adapters.Params {
		if !p.Trainable {
			continue
		}
		name := fmt.Sprintf("adapter ×%g ×%g", p.LRMult, p.DecayMult)
		i := slices.IndexFunc(groups, func(g optim.Group) bool { return g.Name == name })
		if i < 0 {
			i = len(groups)
			groups = append(groups, optim.Group{Name: name, LR: o.LrAdapter * p.LRMult, Decay: o.WeightDecay * p.DecayMult})
		}
		groups[i].Params = append(groups[i].Params, optim.Param{Name: "adapter." + p.Name, T: p.T})
	}
	return groups
}

// update is one step: forward, backward, clip, AdamW.
func (s *session) update(src *source, b *data.Batch, indices []int, epoch int) (*spec.Step, error) {
	start := time.Now()
	factor := optim.Factor(s.spec.Optim.Schedule, s.step, s.total)
	st := &spec.Step{Step: uint64(s.step + 1), Epoch: uint32(epoch + 1), Lr: s.rate() * factor}
	err := s.t.dev.Do(func() error {
		logits := s.net.logits(src.tokens(b, indices), b.H, b.W, true)
		l := loss.Compute(s.spec.Loss, logits, s.net.target(b))
		if aux := s.net.adapters.Aux(); aux != nil {
			l = l.Add(aux)
		}
		st.Loss = l.Item()
		if math.IsNaN(st.Loss) || math.IsInf(st.Loss, 0) {
			return fmt.Errorf("the loss is %v at step %d; the last good state is in the checkpoint; images of the batch: %s",
				st.Loss, st.Step, strings.Join(b.Names, ", "))
		}
		l.Backward()
		st.GradNorm = s.opt.Step(factor)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.step++
	st.ImagesPerSecond = float64(b.N) / time.Since(start).Seconds()
	s.emit(&spec.Event{Event: &spec.Event_Step{Step: st}})
	return st, s.dir.note("step", st)
}

// rate is the learning rate that logs show: the adapter's, or the head's.
func (s *session) rate() float64 {
	if s.net.adapters.Sites > 0 {
		return s.spec.Optim.LrAdapter
	}
	return s.spec.Optim.LrHead
}

// validate scores the validation split after an epoch (0-based, -1 before the
// first) and keeps the weights if they are the best so far.
func (s *session) validate(ctx context.Context, val *source, epoch int) error {
	m, err := s.score(ctx, val, nil)
	if err != nil {
		return fmt.Errorf("validating: %w", err)
	}
	v := &spec.Validation{Step: uint64(s.step), Epoch: uint32(epoch + 1), Metrics: m}
	now, ok := metric.Value(m, s.spec.Train.Monitor)
	before, had := 0.0, false
	if s.bestOf != nil {
		before, had = metric.Value(s.bestOf, s.spec.Train.Monitor)
	}
	if ok && (!had || metric.Better(s.spec.Train.Monitor, now, before)) {
		v.Best = true
		s.best, s.bestOf = s.step, m
		if err := s.save(bestCheckpoint, false, s.progress(0, 0)); err != nil {
			return err
		}
	}
	s.emit(&spec.Event{Event: &spec.Event_Validation{Validation: v}})
	return s.dir.note("validation", v)
}

func (s *session) progress(journal int64, seconds float64) progress {
	return progress{Step: s.step, Journal: journal, Seconds: seconds, Best: s.best, BestOf: s.bestOf, Probes: s.probes}
}

func (s *session) due(c *clock) bool {
	return s.req.CheckpointSeconds > 0 && c.sinceCheckpoint() >= time.Duration(s.req.CheckpointSeconds)*time.Second
}

// checkpoint makes the journal and the state safe.
func (s *session) checkpoint(c *clock) error {
	at, err := s.dir.journalLength()
	if err != nil {
		return err
	}
	if err := s.save(lastCheckpoint, true, s.progress(at, c.seconds())); err != nil {
		return err
	}
	c.checkpointed()
	s.emit(&spec.Event{Event: &spec.Event_Checkpoint{Checkpoint: &spec.Checkpoint{Step: uint64(s.step)}}})
	return nil
}

// clock counts the seconds of training over all processes.
type clock struct {
	before     float64
	start      time.Time
	checkpoint time.Time
}

func newClock(before float64) *clock {
	now := time.Now()
	return &clock{before: before, start: now, checkpoint: now}
}

func (c *clock) seconds() float64               { return c.before + time.Since(c.start).Seconds() }
func (c *clock) sinceCheckpoint() time.Duration { return time.Since(c.checkpoint) }
func (c *clock) checkpointed()                  { c.checkpoint = time.Now() }

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// clearPeak starts the count of the process's peak memory anew. Where the
// kernel does not let us, the peak is that of the process so far.
func clearPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peakMemory is the most memory that the process held since clearPeak, bytes.
func peakMemory() uint64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}
