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
	"github.com/loralab/loralab/core/engine/loss"
	"github.com/loralab/loralab/core/engine/optim"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/rundir"
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
	bestSeal    string        // of its checkpoint
	unscored    bool          // the validation after step was interrupted
	stale       int           // validations since one that was better by minDelta
	against     *float64      // the monitor's value of that one; nil: none
	recent      []float64     // losses of the last steps
	uncounted   int           // updates in which no pixel counted
	moves       *moves
	seconds     float64       // of training before this process
	speeds      []float64     // images per second, of the updates of this process
	reported    time.Time     // the last update
	notes       []*spec.Event // that wait for the journal to be opened
	paused      *spec.Paused  // nil: the training did not pause
	loaded      string        // the weights in net, for evaluations
	// members are the runs of an ensemble, whose probabilities are averaged, each with
	// its trained summary; nil of a run. net is that of the first.
	members []*session
	trained *spec.Summary
}

// nets are the networks whose probabilities are averaged: one, of a run.
func (s *session) nets() []*network {
	if len(s.members) == 0 {
		return []*network{s.net}
	}
	var nets []*network
	for _, m := range s.members {
		nets = append(nets, m.net)
	}
	return nets
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
	if len(s.members) > 0 {
		for _, m := range s.members {
			m.close()
		}
		return
	}
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

// monitorable is an error if no validation can give the monitor a value: then
// there is no best checkpoint whatever is trained. A class that the split does not
// show has none, or 0 while it is predicted by mistake.
func (s *session) monitorable(ctx context.Context, val *data.Set) error {
	monitor := s.spec.Train.Monitor
	class := slices.Index(s.spec.Data.Classes, spec.ClassOf(monitor))
	has := func(pixels []uint64) bool {
		switch {
		case class >= 0:
			return pixels[class] > 0
		case monitor == "loss":
			return slices.ContainsFunc(loss.Masses(s.loss, 1, pixels), func(x float64) bool { return x > 0 })
		}
		return slices.ContainsFunc(pixels, func(n uint64) bool { return n > 0 })
	}
	at := data.SizeOf(s.spec.Data)
	if s.spec.Train.Resolution == spec.Original {
		at = data.OwnSize
	}
	pixels, err := val.ClassPixelsUntil(ctx, at, has)
	if err != nil {
		return fmt.Errorf("looking at the split val: %w", err)
	}
	switch {
	case has(pixels):
		return nil
	case class >= 0:
		return fmt.Errorf("no image of the split val shows the class %q, so %s has no value and no checkpoint can be the best; set train.monitor to another metric", s.spec.Data.Classes[class], monitor)
	}
	return fmt.Errorf("no pixel of the split val counts for %s, so it has no value and no checkpoint can be the best; label the images of val, or set train.monitor to another metric", monitor)
}

// warn tells of what a user should know and does not end the run. The journal has
// it too, for those who look later.
func (s *session) warn(text string) {
	n := &spec.Event{Event: &spec.Event_Note{Note: &spec.Note{Text: text, Warning: true}}}
	s.emit(n)
	if s.notes = append(s.notes, n); s.dir.journal != nil {
		// A journal that cannot be written ends the run at its next step.
		_ = s.noteAll()
	}
}

// noteAll writes the notes that wait into the journal.
func (s *session) noteAll() error {
	notes := s.notes
	s.notes = nil
	for _, n := range notes {
		if err := s.dir.note(n); err != nil {
			return err
		}
	}
	return nil
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

// update is one step of the optimiser over one batch or more. All of them are
// read before the first is computed: what a pixel weighs depends on how many count.
type update struct {
	start   time.Time
	batches []*data.Batch
	indices [][]int   // of their images in the split
	images  int       // in all of them
	masses  []float64 // of the terms of the loss, in all of them
	loss    float64   // as far as it is computed
}

// read reads the images of an update, in its batches or in smaller ones.
func (s *session) read(ctx context.Context, src *source, images []int, epoch int) (*update, error) {
	u := &update{indices: cut(images, s.parted()), images: len(images), masses: make([]float64, len(s.loss))}
	for _, indices := range u.indices {
		b, err := src.batch(ctx, indices, s.spec.Seed, epoch)
		if err != nil {
			return nil, err
		}
		u.batches = append(u.batches, b)
		for i, mass := range loss.Masses(s.loss, b.N, b.Pixels) {
			u.masses[i] += mass
		}
	}
	return u, nil
}

// counts reports whether any pixel of the update counts for the loss.
func (u *update) counts() bool {
	return slices.ContainsFunc(u.masses, func(x float64) bool { return x > 0 })
}

// names are those of all images of the update.
func (u *update) names() []string {
	var names []string
	for _, b := range u.batches {
		names = append(names, b.Names...)
	}
	return names
}

// gradients adds those of a batch, by its part of the update.
func (s *session) gradients(u *update, src *source, b *data.Batch, indices []int) error {
	return s.t.dev.Do(func() error {
		l, logits, aux := s.lossOf(u, src, b, indices)
		if l == nil {
			return nil
		}
		v := l.Item()
		u.loss += v
		if notFinite(v) {
			return s.diverged(s.step+1, fmt.Sprintf("the loss is %v", v), s.cause(u, b, logits, aux))
		}
		l.Backward()
		return nil
	})
}

// cause says where a loss came from that is no number. It is called on the
// device's thread.
func (s *session) cause(u *update, b *data.Batch, logits, aux *torch.Tensor) string {
	for _, n := range s.net.weights() {
		if n.t.DType() == torch.Float32 && !finite(n.t) {
			return n.name + " is not finite"
		}
	}
	if aux != nil {
		if v := aux.Item(); notFinite(v) {
			return fmt.Sprintf("the adapter's own loss is %v", v)
		}
	}
	var broken []string
	for i := range b.N {
		if nonFinite(logits.Narrow(0, int64(i), 1)) == 0 {
			broken = append(broken, b.Names[i])
		}
	}
	switch len(broken) {
	case 0:
		return imagesOf(u)
	case b.N:
		return "the outputs are NaN or infinite on every image"
	}
	return "the outputs are NaN or infinite on " + listed(broken)
}

// imagesOf names the images of an update, all of them on a second line.
func imagesOf(u *update) string {
	names := u.names()
	text := "images of the update: " + listed(names)
	if len(names) > namesTold {
		text += "\nall images of the update: " + strings.Join(names, ", ")
	}
	return text
}

// exploded is the multiple of the median of the last losses, so many at most,
// above which a loss is taken for the end of a sensible training. Spikes of
// ordinary runs stay far below.
const (
	exploded = 1000
	lookBack = 50
)

// update computes gradients, clips, moves the weights and reports.
func (s *session) update(u *update, src *source, epoch int) error {
	u.start = time.Now()
	s.net.drawPaths(s.spec.Seed, s.step)
	for i, b := range u.batches {
		if err := s.gradients(u, src, b, u.indices[i]); err != nil {
			return err
		}
	}
	st := s.said(u, epoch)
	st.Loss = u.loss
	if s.explodes(u.loss) {
		return s.diverged(s.step+1, s.explosion(u.loss), imagesOf(u))
	}
	warning := ""
	err := s.t.dev.Do(func() error {
		if !st.Uncounted {
			_, adapters, _ := s.net.trained()
			if names, still, all := s.moves.of(adapters, s.trainsIn(epoch)); len(still) > 0 {
				warning = s.moves.seen(names, torch.LargestGrads(still), all)
			}
		}
		var ok bool
		if st.GradNorm, ok = s.opt.Step(s.factor()); !ok {
			return s.diverged(s.step+1, fmt.Sprintf("the norm of the gradients is %v", st.GradNorm), s.brokenGradient())
		}
		s.average.add(s.step)
		return nil
	})
	if err != nil {
		return err
	}
	s.step++
	return s.report(u, st, warning)
}

// report says what an update was.
func (s *session) report(u *update, st *spec.Step, warning string) error {
	if st.Uncounted {
		if s.uncounted++; s.uncounted == 1 {
			s.warn(fmt.Sprintf("no pixel of the images of step %d counts, so nothing trains in it: %s", st.Step, listed(u.names())))
		}
	} else {
		s.recent = append(s.recent, u.loss)
		s.recent = s.recent[max(0, len(s.recent)-lookBack):]
	}
	if warning != "" {
		s.warn(warning)
	}
	// While the next one is computed already, an update takes as long as there is from
	// the end of one to that of the next.
	began, now := u.start, time.Now()
	if s.reported.After(began) {
		began = s.reported
	}
	s.reported = now
	st.ImagesPerSecond = float64(u.images) / now.Sub(began).Seconds()
	s.speeds = append(s.speeds, st.ImagesPerSecond)
	e := &spec.Event{Event: &spec.Event_Step{Step: st}}
	s.emit(e)
	return s.dir.note(e)
}

// brokenGradient names the tensor nearest to the loss whose gradient is not
// finite, from where it spreads. It is called on the device's thread.
func (s *session) brokenGradient() string {
	backbone, adapters, heads := s.net.trained()
	all := slices.Concat(backbone, adapters, heads)
	ts := make([]*torch.Tensor, len(all))
	for i, p := range all {
		ts[i] = p.t
	}
	largest := torch.LargestGrads(ts)
	first, others := "", 0
	for i := len(all) - 1; i >= 0; i-- {
		if v := largest[i]; math.IsNaN(v) || math.IsInf(v, 0) {
			if first == "" {
				first = all[i].name
			} else {
				others++
			}
		}
	}
	switch {
	case first == "": // the squares overflow
		at := 0
		for i, v := range largest {
			if v > largest[at] {
				at = i
			}
		}
		return fmt.Sprintf("the largest gradient is %.3g, of %s", largest[at], all[at].name)
	case others == 0:
		return "the gradient of " + first + " is not finite"
	}
	return fmt.Sprintf("the gradient of %s is the first from the loss on that is not finite, and %d more are not", first, others)
}

// namesTold is how many images the first line about an update names.
const namesTold = 4

// diverged is the end of a run whose numbers make no sense any more. The first
// line says what users need, the second has more if there is.
func (s *session) diverged(step int, what, cause string) error {
	return fmt.Errorf("%s at step %d; %s; %s", what, step, s.lastGood(), cause)
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
// first), keeps the weights if they are the best so far, and writes the pictures that
// are to be kept.
func (s *session) validate(ctx context.Context, val *source, epoch int, kept *samples) (*spec.Validation, error) {
	m, err := s.scoreAveraged(ctx, val, kept.take)
	if err != nil {
		return nil, err
	}
	if err := s.picture(kept); err != nil {
		return nil, err
	}
	v := &spec.Validation{Step: uint64(s.step), Epoch: uint32(epoch + 1), Metrics: m}
	now, ok := metric.Value(m, s.spec.Train.Monitor)
	if !ok && s.bestOf == nil {
		s.warn(fmt.Sprintf("the validation after step %d gave %s no value, so its weights cannot become the best", s.step, s.spec.Train.Monitor))
	}
	if v.Best = s.judge(now, ok); v.Best {
		s.best, s.bestOf = s.step, m
		if s.bestSeal, err = s.save(rundir.NextBest, false, s.progress(0, "", 0)); err != nil {
			return nil, err
		}
	}
	if err := s.averaged((*average).swap); err != nil {
		return nil, err
	}
	e := &spec.Event{Event: &spec.Event_Validation{Validation: v}}
	s.emit(e)
	return v, s.dir.note(e)
}

// scoreAveraged puts the mean of the weights, if there is one, in their place,
// where the caller takes it out again, and scores the validation split. If ctx ends
// it takes it out itself. shots may be nil.
func (s *session) scoreAveraged(ctx context.Context, val *source, shots shots) (*spec.Metrics, error) {
	if err := s.averaged((*average).swap); err != nil {
		return nil, err
	}
	m, err := s.scoreAs(ctx, val.set, []*source{val}, s.spec.Train.Resolution, s.spec.Train.Window, shots)
	switch {
	case err == nil:
		m.Confusion = nil // the journal has every validation, and evaluations alone have counts
		return m, nil
	case ctx.Err() != nil: // the caller may save the weights
		err = errors.Join(err, s.averaged((*average).swap))
	}
	return nil, fmt.Errorf("validating: %w", err)
}

// judge reports whether the monitor's value, if it has one, is the best so far, and
// counts for patience: since the last validation that was better by minDelta than
// the last such one, as Keras and Lightning count, so that small gains add up. A
// metric that is to rise and is 0 says nothing of the weights: of several such the
// last is kept, which has trained longest.
func (s *session) judge(now float64, ok bool) (best bool) {
	monitor := s.spec.Train.Monitor
	s.stale++
	if !ok {
		return false
	}
	if s.against == nil || metric.Better(monitor, now, *s.against) && math.Abs(now-*s.against) > s.spec.Train.MinDelta {
		s.stale, s.against = 0, &now
	}
	before, had := metric.Value(s.bestOf, monitor)
	return !had || metric.Better(monitor, now, before) || now == 0 && before == 0 && metric.Better(monitor, 1, 0)
}

func (s *session) progress(journal int64, journalSum string, seconds float64) rundir.Progress {
	return rundir.Progress{
		ID: s.req.Id, Step: s.step, Steps: s.total, Journal: journal, JournalSum: journalSum, Seconds: seconds, Best: s.best, BestOf: s.bestOf, BestSeal: s.bestSeal,
		Unscored: s.unscored, Stale: s.stale, Against: s.against, Recent: s.recent, Pixels: s.pixels, Uncounted: s.uncounted, Moves: (*rundir.Moves)(s.moves), Probes: s.probes,
	}
}

func (s *session) due(c *clock) bool {
	return s.req.CheckpointSeconds > 0 && c.sinceCheckpoint().Seconds() >= s.req.CheckpointSeconds
}

// checkpoint makes the journal and the state safe.
func (s *session) checkpoint(c *clock) error {
	at, sum, err := s.dir.journalState()
	if err != nil {
		return err
	}
	if _, err := s.save(rundir.Last, true, s.progress(at, sum, c.seconds())); err != nil {
		return err
	}
	if err := s.dir.promote(); err != nil {
		return err
	}
	c.checkpointed()
	s.kept = s.step
	s.emit(&spec.Event{Event: &spec.Event_Checkpoint{Checkpoint: &spec.Checkpoint{Step: uint64(s.step)}}})
	return nil
}

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
