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

	"google.golang.org/protobuf/proto"

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
	average     *average     // nil: none
	loss        []*spec.Loss // with the weights of classes
	pixels      []uint64     // of each class in the training split, if they weigh
	probes      map[string]string
	step, total int
	kept        int // step of the last checkpoint, 0: there is none
	best        int
	bestOf      *spec.Metrics // nil: no validation so far
	stale       int           // validations since the best
	recent      []float64     // losses of the last steps
	seconds     float64       // of training before this process
}

// open looks at what the run is asked to do before anything is read for it.
func (s *session) open() error {
	clearPeak()
	if err := loss.Check(s.spec.Loss, len(s.spec.Data.Classes)); err != nil {
		return err
	}
	s.loss = s.spec.Loss
	return optim.CheckSchedule(s.spec.Optim.Schedule)
}

// compute builds the network, to compute in a precision, in place of one that
// computes in another. Its weights are those of the start.
func (s *session) compute(precision string) error {
	if s.net != nil && s.net.precision == precision {
		return nil
	}
	return s.t.dev.Do(func() (err error) {
		if s.net != nil {
			s.t.cache.release()
			s.net.free()
			s.net = nil
		}
		s.net, err = newNetwork(s.t, s.req, precision)
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
		s.average.free()
		if s.net != nil {
			s.net.free()
		}
		return nil
	})
}

// train goes from the last checkpoint to the end.
func (s *session) train(ctx context.Context) (*spec.Summary, error) {
	sp := s.spec
	if err := s.compute(sp.Train.Precision); err != nil {
		return nil, err
	}
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
	group := max(1, int(sp.Train.Accumulate)) // batches in an update
	perEpoch := (trainSet.Len() + group*int(sp.Train.Batch) - 1) / (group * int(sp.Train.Batch))
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
		if s.opt, err = optim.New(s.t.dev, sp.Optim, s.groups()); err != nil {
			return err
		}
		if s.forgets() {
			s.opt.Default()
		}
		s.average = newAverage(sp.Train.Ema, slices.Concat(b, a, h))
		// Dropout's own stream; a checkpoint goes on in the middle of it.
		s.t.dev.Seed(rng.New(sp.Seed, "dropout").Uint64())
		return nil
	})
	if err != nil {
		return nil, err
	}
	p, resumed, err := s.restore(lastCheckpoint, true)
	if err != nil {
		return nil, err
	}
	if resumed {
		s.kept = p.Step
		s.step, s.best, s.bestOf, s.stale, s.recent, s.seconds = p.Step, p.Best, p.BestOf, p.Stale, p.Recent, p.Seconds
	} else {
		if err := s.start(); err != nil {
			return nil, err
		}
		if err := s.weigh(ctx, trainSet); err != nil {
			return nil, s.orStopped(ctx, err)
		}
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
	for s.step < s.total && !s.early() {
		epoch := s.step / perEpoch // 0-based
		order := rng.New(sp.Seed, "order", strconv.Itoa(epoch)).Permutation(trainSet.Len())
		batches := cut(order, int(sp.Train.Batch))[s.step%perEpoch*group:]
		batches = batches[:min(len(batches), (s.total-s.step)*group)]
		if err := s.t.dev.Do(func() error {
			s.net.thaw(epoch)
			if s.forgets() && s.step%perEpoch == 0 && slices.Contains(s.net.thaws(), epoch) {
				s.opt.Forget()
			}
			return nil
		}); err != nil {
			return nil, err
		}
		i := 0
		var u *update
		err := ctx.Err()
		if err == nil {
			// A stop waits for the update in progress: one that is half done
			// cannot be gone on with.
			err = each(context.WithoutCancel(ctx), func(ctx context.Context, indices []int) (*data.Batch, error) {
				return trainSet.Augmented(ctx, indices, sp.Seed, epoch)
			}, batches, func(b *data.Batch) error {
				if i%group == 0 {
					u = newUpdate(batches[i:min(i+group, len(batches))])
				}
				if err := s.gradients(u, src, b, batches[i]); err != nil {
					return err
				}
				i++
				last := i == len(batches)
				if i%group != 0 && !last {
					return nil
				}
				st, err := s.update(u, epoch)
				if err != nil {
					return err
				}
				speeds = append(speeds, st.ImagesPerSecond)
				switch {
				case ctx.Err() != nil && !last:
					return ctx.Err()
				case !last && s.due(clock):
					return s.checkpoint(clock)
				}
				return nil
			})
		}
		if err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
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
		Id: s.req.Id, Validation: s.bestOf, BestStep: uint64(s.best), Steps: uint64(s.step), Early: s.step < s.total,
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

// forgets reports whether freezing and thawing cost the optimiser its decay,
// its schedule and its state, as in the original.
func (s *session) forgets() bool { return s.spec.Optim.ForgetAtUnfreezing && len(s.net.thaws()) > 0 }

// groups gives every tensor that trains its rate and decay, as planned.
func (s *session) groups() []optim.Group {
	var groups []optim.Group
	b, a, h := s.net.trained()
	for _, p := range slices.Concat(b, a, h) {
		t := s.net.tensors[p.name]
		name := fmt.Sprintf("%s lr %g decay %g", t.Part, t.LR, t.Decay)
		i := slices.IndexFunc(groups, func(g optim.Group) bool { return g.Name == name })
		if i < 0 {
			i = len(groups)
			groups = append(groups, optim.Group{Name: name, LR: t.LR, Decay: t.Decay})
		}
		groups[i].Params = append(groups[i].Params, optim.Param{Name: p.name, T: p.t})
	}
	return groups
}

// update is one step of the optimiser over one batch or more.
type update struct {
	start  time.Time
	images int     // in all its batches
	loss   float64 // mean over the batches so far, by their images
	names  []string
}

func newUpdate(batches [][]int) *update {
	u := &update{start: time.Now()}
	for _, b := range batches {
		u.images += len(b)
	}
	return u
}

// gradients adds those of a batch, by its share of the update's images.
func (s *session) gradients(u *update, src *source, b *data.Batch, indices []int) error {
	u.names = append(u.names, b.Names...)
	return s.t.dev.Do(func() error {
		logits := s.net.logits(src.tokens(b, indices), b.H, b.W, true)
		l := loss.Compute(s.loss, logits, s.net.target(b))
		if aux := s.net.adapters.Aux(); aux != nil {
			l = l.Add(aux)
		}
		if b.N != u.images {
			l = l.Scale(float64(b.N) / float64(u.images))
		}
		v := l.Item()
		u.loss += v
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return s.diverged(u, fmt.Sprintf("the loss is %v", v))
		}
		l.Backward()
		return nil
	})
}

// exploded is the multiple of the median of the last losses, so many at most,
// above which a loss is taken for the end of a sensible training. Spikes of
// ordinary runs stay far below.
const (
	exploded = 1000
	lookBack = 50
)

// update clips, moves the weights and reports.
func (s *session) update(u *update, epoch int) (*spec.Step, error) {
	factor := 1.0
	if !s.forgets() {
		factor = optim.Factor(s.spec.Optim.Schedule, s.step, s.total)
	}
	st := &spec.Step{Step: uint64(s.step + 1), Epoch: uint32(epoch + 1), Lr: s.rate() * factor, Loss: u.loss}
	if m := median(s.recent); len(s.recent) >= lookBack/5 && math.Abs(u.loss) > exploded*math.Abs(m) && m != 0 {
		return nil, s.diverged(u, fmt.Sprintf("the loss explodes: it is %.4g, the median of the last %d was %.4g", u.loss, len(s.recent), m))
	}
	err := s.t.dev.Do(func() error {
		var ok bool
		if st.GradNorm, ok = s.opt.Step(factor); !ok {
			return s.diverged(u, fmt.Sprintf("the norm of the gradients is %v", st.GradNorm))
		}
		s.average.add(s.step)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.recent = append(s.recent, u.loss)
	s.recent = s.recent[max(0, len(s.recent)-lookBack):]
	s.step++
	st.ImagesPerSecond = float64(u.images) / time.Since(u.start).Seconds()
	s.emit(&spec.Event{Event: &spec.Event_Step{Step: st}})
	return st, s.dir.note("step", st)
}

// namesTold is how many images the first line about an update names.
const namesTold = 4

// diverged is the end of a run whose numbers make no sense any more. The first
// line says what users need, the second has more if there is.
func (s *session) diverged(u *update, what string) error {
	names := strings.Join(u.names[:min(namesTold, len(u.names))], ", ")
	if more := len(u.names) - namesTold; more > 0 {
		names += fmt.Sprintf(" and %d more\nall images of the update: %s", more, strings.Join(u.names, ", "))
	}
	return fmt.Errorf("%s at step %d; %s; images of the update: %s", what, s.step+1, s.lastGood(), names)
}

// lastGood says where a run that fails goes on.
func (s *session) lastGood() string {
	if s.kept == 0 {
		return "there is no checkpoint yet"
	}
	return fmt.Sprintf("the last good state, after step %d, is in the checkpoint", s.kept)
}

// early reports whether patience is at its end.
func (s *session) early() bool {
	p := int(s.spec.Train.Patience)
	return p > 0 && s.stale >= p
}

// weigh turns the frequencies of classes in the training split into weights of
// the losses that ask for them.
func (s *session) weigh(ctx context.Context, set *data.Set) error {
	if !slices.ContainsFunc(s.spec.Loss, func(t *spec.Loss) bool { return t.Weighting != "" }) {
		return nil
	}
	pixels, err := set.ClassPixels(ctx)
	if err != nil {
		return fmt.Errorf("counting the pixels of each class: %w", err)
	}
	return s.weighed(pixels)
}

// weighed takes the pixels of each class for the weights of losses.
func (s *session) weighed(pixels []uint64) error {
	s.loss, s.pixels = nil, pixels
	for _, t := range s.spec.Loss {
		if t.Weighting != "" {
			w, err := loss.Weights(t.Weighting, pixels)
			if err != nil {
				return err
			}
			t = proto.CloneOf(t)
			t.ClassWeights = w
		}
		s.loss = append(s.loss, t)
	}
	return nil
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
	if err := s.averaged((*average).swap); err != nil {
		return err
	}
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
	s.stale++
	if ok && (!had || metric.Better(s.spec.Train.Monitor, now, before)) {
		v.Best = true
		if !had || math.Abs(now-before) > s.spec.Train.MinDelta {
			s.stale = 0
		}
		s.best, s.bestOf = s.step, m
		if err := s.save(bestCheckpoint, false, s.progress(0, 0)); err != nil {
			return err
		}
	}
	if err := s.averaged((*average).swap); err != nil {
		return err
	}
	s.emit(&spec.Event{Event: &spec.Event_Validation{Validation: v}})
	return s.dir.note("validation", v)
}

func (s *session) progress(journal int64, seconds float64) progress {
	return progress{
		Step: s.step, Journal: journal, Seconds: seconds, Best: s.best, BestOf: s.bestOf, Stale: s.stale,
		Recent: s.recent, Pixels: s.pixels, Probes: s.probes,
	}
}

func (s *session) due(c *clock) bool {
	return s.req.CheckpointSeconds > 0 && c.sinceCheckpoint().Seconds() >= s.req.CheckpointSeconds
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
	s.kept = s.step
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
