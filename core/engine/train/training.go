package train

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/engine/optim"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// training is the training of a session while it is in progress: begin, one stretch
// after another, finish. Between two updates, a checkpoint holds all that the rest
// depends on.
type training struct {
	*session
	set      *data.Set // the split train
	src, val *source
	group    int // batches in an update
	perEpoch int // updates in an epoch
	clock    *clock
	started  *spec.Started
	scored   *spec.Validation // the last one of this process
}

// train continues from the last checkpoint to the end.
func (s *session) train(ctx context.Context) (*spec.Summary, error) {
	r, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	if r.unscored {
		if err := r.validated(ctx, (r.step-1)/r.perEpoch); err != nil {
			return nil, err
		}
		if err := r.checkpoint(r.clock); err != nil {
			return nil, err
		}
	}
	for !r.ended() {
		if r.pauses() {
			return nil, r.pause(ctx)
		}
		if err := r.stretch(ctx); err != nil {
			return nil, err
		}
	}
	return r.finish()
}

// begin prepares the next update: the first, or the one after the last checkpoint.
func (s *session) begin(ctx context.Context) (*training, error) {
	sp := s.spec
	if err := s.compute(sp.Train.Precision); err != nil {
		return nil, err
	}
	r := &training{session: s}
	var err error
	if r.set, err = s.t.openSplit(ctx, s.req, sp.Data, "train"); err != nil {
		return nil, err
	}
	valSet, err := s.t.openSplit(ctx, s.req, sp.Data, "val")
	if err != nil {
		return nil, err
	}
	if r.set.Len() == 0 || valSet.Len() == 0 {
		return nil, errors.New("split train or val has no images")
	}
	r.group = max(1, int(sp.Train.Accumulate))
	images := r.group * int(sp.Train.Batch) // in an update
	r.perEpoch = (r.set.Len() + images - 1) / images
	s.total = int(params.Steps(sp))
	if err := r.optimizer(); err != nil {
		return nil, err
	}
	p, resumed, err := s.resume()
	if err != nil {
		return nil, err
	}
	if !resumed {
		if err := s.fresh(ctx, r.set, valSet); err != nil {
			return nil, s.orStopped(ctx, err)
		}
	}
	if s.probes, err = s.t.probes(s.warn, s.net.model, int(sp.Train.Batch), data.SizeOf(sp.Data), p.Probes); err != nil {
		return nil, err
	}
	damaged, err := s.dir.openJournal(p.Journal, p.JournalSum)
	if err != nil {
		return nil, err
	}
	r.clock = newClock(s.seconds)
	r.started.Step = uint64(s.step)
	s.emit(&spec.Event{Event: &spec.Event_Started{Started: r.started}})
	if damaged != "" {
		// A checkpoint that describes the journal that was set aside would find the
		// new one damaged.
		if err := s.checkpoint(r.clock); err != nil {
			return nil, err
		}
		s.warn(fmt.Sprintf("%s is damaged: %s; curves begin after step %d", rundir.Journal, damaged, s.step))
	}
	if err := s.noteAll(); err != nil {
		return nil, err
	}

	if s.total > 0 {
		if r.src, err = s.t.newSource(ctx, s.net, sp, sp.Data, "train", r.set, nil, spec.Plain); err != nil {
			return nil, s.orStopped(ctx, err)
		}
	}
	if r.val, err = s.t.newSource(ctx, s.net, sp, sp.Data, "val", valSet, sp.Train.Window, spec.Plain); err != nil {
		return nil, s.orStopped(ctx, err)
	}
	if s.total == 0 && !resumed {
		// No epochs: the weights it starts with are the last and the best.
		if _, err := s.validate(ctx, r.val, -1, r.samplesOfValidation()); err != nil {
			return nil, s.orStopped(ctx, err)
		}
		if err := s.checkpoint(r.clock); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// optimizer makes what moves the weights, and counts these.
func (r *training) optimizer() error {
	s, sp := r.session, r.spec
	keeps, err := r.t.keeps(sp)
	if err != nil {
		return err
	}
	r.started = &spec.Started{
		Steps: uint64(s.total), Epochs: uint32((s.total + r.perEpoch - 1) / r.perEpoch), Uncached: keeps.Off,
	}
	if keeps.Off == "" {
		r.started.CachedBlocks, r.started.CachedViews = uint32(s.net.prefix), uint32(keeps.Views)
	}
	return s.t.dev.Do(func() (err error) {
		b, a, h := s.net.trained()
		if len(b)+len(a)+len(h) == 0 {
			return errors.New("nothing trains")
		}
		r.started.BackboneParams, r.started.AdapterParams, r.started.HeadParams = numel(b), numel(a), numel(h)
		r.started.FrozenParams = uint64(s.net.model.Frozen())
		if s.opt, err = optim.New(s.t.dev, sp.Optim, s.groups()); err != nil {
			return err
		}
		if s.forgets() {
			s.opt.Default()
		}
		s.average = newAverage(sp.Train.Ema, slices.Concat(b, a, h))
		// Dropout's own stream; a checkpoint continues in the middle of it.
		s.t.dev.Seed(rng.New(sp.Seed, "dropout").Uint64())
		s.t.dev.Memory(true)
		return nil
	})
}

// resume restores the last checkpoint, if there is one to continue from.
func (s *session) resume() (p rundir.Progress, resumed bool, err error) {
	last, why, err := s.resumable()
	if err != nil {
		return p, false, err
	}
	if last == nil {
		if why != "" {
			s.warn("the training begins again from the start: " + why)
		}
		return p, false, nil
	}
	p = last.Progress
	if err := errors.Join(s.restore(last, true), last.Close()); err != nil {
		return p, false, err
	}
	s.kept = p.Step
	s.step, s.best, s.bestOf, s.bestSeal, s.stale, s.against = p.Step, p.Best, p.BestOf, p.BestSeal, p.Stale, p.Against
	s.unscored = p.Unscored
	s.recent, s.uncounted, s.moves, s.seconds = p.Recent, p.Uncounted, (*moves)(p.Moves), p.Seconds
	// The names may have changed since.
	s.bestOf = metric.Named(s.bestOf, s.spec.Data.Classes)
	return p, true, nil
}

// fresh prepares a training from its start.
func (s *session) fresh(ctx context.Context, trainSet, valSet *data.Set) error {
	if err := s.dir.clear(); err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	if err := s.weigh(ctx, trainSet); err != nil {
		return err
	}
	if err := s.monitorable(ctx, valSet); err != nil {
		return err
	}
	if unused := s.net.adapters.Unused(); len(unused) > 0 {
		s.warn(fmt.Sprintf("nothing uses %d of the adapter's parameters, so they do not train: %s", len(unused), listed(unused)))
	}
	return s.t.dev.Do(func() error {
		_, adapters, _ := s.net.trained()
		s.moves = newMoves(adapters)
		return nil
	})
}

// ended reports whether no update is left.
func (r *training) ended() bool { return r.step >= r.total || r.early() }

// pauses reports whether the training is at the step where it pauses, or after it.
func (r *training) pauses() bool {
	return r.req.Pause != nil && uint64(r.step) >= r.req.Pause.Step
}

// pause ends the training for now. The validation that it may ask for changes
// nothing that the training depends on.
func (r *training) pause(ctx context.Context) error {
	if uint64(r.step) == r.started.Step { // a stretch writes its checkpoint itself
		if err := r.checkpoint(r.clock); err != nil {
			return err
		}
	}
	r.paused = &spec.Paused{Step: uint64(r.step)}
	switch {
	case !r.req.Pause.Validate:
	case r.scored != nil && r.scored.Step == uint64(r.step):
		r.paused.Validation = r.scored.Metrics
	default:
		// The weights stay replaced by their mean: the session ends.
		m, err := r.scoreAveraged(ctx, r.val, nil)
		if err != nil {
			return r.orStopped(ctx, err)
		}
		r.paused.Validation = m
	}
	return ErrPaused
}

// stretch trains to the end of an epoch, or to a validation or a pause in it; then it
// validates where that is due. It writes a checkpoint after a validation and before a
// pause, and at the end of an epoch where validations are counted in epochs; elsewhere
// where time has passed: epochs may be of a few updates then.
func (r *training) stretch(ctx context.Context) error {
	epoch := r.step / r.perEpoch // 0-based
	if err := r.thaw(epoch); err != nil {
		return err
	}
	if err := r.t.turn(ctx, r.src, epoch); err != nil {
		if ctx.Err() == nil || r.step == r.kept {
			return r.orStopped(ctx, err)
		}
		return r.stop()
	}
	if err := r.updates(ctx, epoch, r.next(epoch)); err != nil {
		if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
			return err
		}
		return r.stop()
	}
	validates := r.validates()
	if validates {
		if err := r.validated(ctx, epoch); err != nil {
			return err
		}
	}
	if validates || r.pauses() || r.spec.Train.EvalSteps == 0 || ctx.Err() != nil || r.due(r.clock) {
		return r.checkpoint(r.clock)
	}
	return nil
}

// stop ends the training for now: what was done is made safe first.
func (r *training) stop() error {
	if err := r.checkpoint(r.clock); err != nil {
		return err
	}
	return ErrStopped
}

// next is the step at which the stretch that begins now ends.
func (r *training) next(epoch int) int {
	end := min((epoch+1)*r.perEpoch, r.total)
	if every := int(r.spec.Train.EvalSteps); every > 0 {
		end = min(end, (r.step/every+1)*every)
	}
	if p := r.req.Pause; p != nil {
		end = int(min(uint64(end), p.Step))
	}
	return end
}

// validates reports whether a validation is due after the last update.
func (r *training) validates() bool {
	if every := int(r.spec.Train.EvalSteps); r.step == r.total || every > 0 {
		return r.step == r.total || r.step%every == 0
	}
	every := max(1, int(r.spec.Train.EvalEvery))
	return r.step%(r.perEpoch*every) == 0
}

// validated validates after an epoch. A stop leaves a checkpoint of its last update,
// where the training continues with this validation.
func (r *training) validated(ctx context.Context, epoch int) error {
	r.unscored = false
	v, err := r.validate(ctx, r.val, epoch, r.samplesOfValidation())
	switch {
	case err == nil:
		r.scored = v
		return nil
	case ctx.Err() == nil:
		return err
	}
	r.unscored = true
	return r.stop()
}

// thaw lets train what does from an epoch on.
func (r *training) thaw(epoch int) error {
	return r.t.dev.Do(func() error {
		r.net.thaw(epoch)
		if r.forgets() && r.step%r.perEpoch == 0 && slices.Contains(r.net.thaws(), epoch) {
			r.opt.Forget()
		}
		return nil
	})
}

// updates makes the updates of an epoch, in an order that is its own, up to a step. If
// ctx ends it returns its error, unless the last update is done.
func (r *training) updates(ctx context.Context, epoch, end int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	order := rng.New(r.spec.Seed, "order", strconv.Itoa(epoch)).Permutation(r.set.Len())
	updates := cut(order, r.group*int(r.spec.Train.Batch))[r.step%r.perEpoch:]
	updates = updates[:end-r.step]
	left := len(updates)
	read := func(ctx context.Context, images []int) (*update, error) { return r.read(ctx, r.src, images, epoch) }
	// A stop waits for the update in progress: one that is half done cannot be
	// continued.
	var last *behind // of a GPU: given to it and not read yet
	err := each(context.WithoutCancel(ctx), read, updates, func(u *update) error {
		if r.t.dev.IsCUDA() {
			next, err := r.begun(u, r.src, epoch)
			if err == nil && last != nil {
				err = r.settle(last)
			}
			if last = next; err != nil {
				last = nil
				return err
			}
		} else if err := r.update(u, r.src, epoch); err != nil {
			return err
		}
		left--
		switch {
		case ctx.Err() != nil && left > 0:
			return ctx.Err()
		case left > 0 && r.due(r.clock):
			if last != nil {
				if err := r.settle(last); err != nil {
					return err
				}
				last = nil
			}
			return r.checkpoint(r.clock)
		}
		return nil
	})
	if last != nil && (err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err())) {
		err = errors.Join(r.settle(last), err)
	}
	return err
}

// finish writes what a training leaves, result.json last.
func (r *training) finish() (*spec.Summary, error) {
	s := r.session
	if s.bestOf == nil {
		return nil, fmt.Errorf("no validation gave %s a value", s.spec.Train.Monitor)
	}
	sum := &spec.Summary{
		Id: s.req.Id, Validation: s.bestOf, BestStep: uint64(s.best), Steps: uint64(s.step), Early: s.step < s.total,
		BackboneParams: r.started.BackboneParams, AdapterParams: r.started.AdapterParams, HeadParams: r.started.HeadParams,
		Seconds: r.clock.seconds(), PeakMemory: peakMemory(), ImagesPerSecond: median(s.speeds), Metric: s.spec.Train.Monitor,
		Uncounted: uint64(s.uncounted),
	}
	err := s.t.dev.Do(func() error {
		sum.PeakDeviceMemory = uint64(s.t.dev.Memory(false).Peak)
		b, a, h := s.net.trained()
		sum.WeightsDigest = digest(slices.Concat(b, a, h))
		if s.step > s.uncounted {
			sum.Unmoved = s.moves.unmoved(a)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(sum.Unmoved) > 0 {
		s.warn("adapter tensors that never moved: " + listed(sum.Unmoved))
	}
	if sum.Files, err = s.export(); err != nil {
		return nil, err
	}
	if sum.Files[rundir.Journal], err = s.dir.closeJournal(); err != nil {
		return nil, err
	}
	if err := s.vouch(); err != nil {
		return nil, err
	}
	sum.Digest = spec.SealedDigest(sum)
	return sum, s.dir.replace(rundir.Result, sum)
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
