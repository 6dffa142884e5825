package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// curve is the course of one training.
type curve struct {
	steps  []point // x: step, y: training loss
	scores []scored
	// fault says why the curve is not whole, "" if it is.
	fault string
}

type point struct{ x, y float64 }

// scored is a validation: the experiment's metric on the split val.
type scored struct{ step, epoch, value float64 }

// readCurves reads the metrics files of all runs, a few at a time.
func (s *study) readCurves(ctx context.Context) error {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	var mu sync.Mutex
	var errs []error
	for _, c := range s.cells {
		for _, o := range c.runs {
			if o.Dir == "" {
				continue
			}
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				if ctx.Err() != nil {
					return
				}
				curve, err := readCurve(o.Dir.Path(rundir.Journal), s.exp.Metric, o.Run.Spec.GetData().GetClasses(), o.Summary)
				if err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					return
				}
				o.curve = curve
			})
		}
	}
	wg.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// readCurve reads a metrics.jsonl, of a run with these classes now. A resumed run
// writes the steps after its checkpoint again: the later line counts. A crash cuts
// the last line off.
//
// The result of a run, nil while it is not trained, has the digest of the file and
// the number of steps. A file that was changed since is not drawn.
func readCurve(path, name string, classes []string, result *spec.Summary) (*curve, error) {
	text, fault := rundir.ReadJournal(path, result)
	if fault != "" { // no reason to report nothing
		return &curve{fault: fault}, nil
	}
	if text == nil && result == nil {
		return nil, nil
	}
	loss, score, taken := map[uint64]float64{}, map[uint64]scored{}, map[uint64]bool{}
	unread := 0
	for line := range bytes.Lines(text) {
		if step, y, ok := lossOf(line); ok {
			taken[step], loss[step] = true, y
			continue
		}
		event, err := rundir.UnmarshalEvent(line)
		switch e := event.GetEvent().(type) {
		case *spec.Event_Step:
			taken[e.Step.Step] = true
			if !e.Step.Uncounted { // its loss is of no pixel
				loss[e.Step.Step] = e.Step.Loss
			}
		case *spec.Event_Validation:
			if value, ok := metric.Value(metric.Named(e.Validation.Metrics, classes), name); ok {
				score[e.Validation.Step] = scored{float64(e.Validation.Step), float64(e.Validation.Epoch), value}
			}
		}
		if err != nil && line[len(line)-1] == '\n' {
			unread++
		}
	}
	c := &curve{}
	for _, step := range slices.Sorted(maps.Keys(loss)) {
		c.steps = append(c.steps, point{float64(step), loss[step]})
	}
	for _, step := range slices.Sorted(maps.Keys(score)) {
		c.scores = append(c.scores, score[step])
	}
	steps := result.GetSteps()
	for step := range taken {
		steps = max(steps, step)
	}
	switch missing := steps - uint64(len(taken)); {
	case missing > 0:
		c.fault = fmt.Sprintf("%d of %s %s missing from %s", missing, plural.Of(steps, "step"), plural.Form(missing, "is", "are"), rundir.Journal)
	case unread > 0:
		c.fault = fmt.Sprintf("%s of %s cannot be read", plural.Of(unread, "line"), rundir.Journal)
	}
	return c, nil
}

// lossOf is the step and the loss of a line as the engine writes most of them, a
// counted step; false for any other. It takes a twentieth of the time that decoding a
// message does, and there may be millions.
func lossOf(line []byte) (step uint64, loss float64, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"type":"step","step":"`))
	if !ok || bytes.Contains(rest, []byte(`"uncounted"`)) || !json.Valid(line) {
		return 0, 0, false
	}
	digits, rest, _ := bytes.Cut(rest, []byte(`"`))
	_, rest, ok = bytes.Cut(rest, []byte(`,"loss":`))
	end := bytes.IndexAny(rest, ",}")
	if !ok || end < 0 {
		return 0, 0, false
	}
	step, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return 0, 0, false
	}
	loss, err = strconv.ParseFloat(string(rest[:end]), 64)
	return step, loss, err == nil
}

// faults tells of curves that are not whole, "" if there are none.
func (s *study) faults() string {
	var list []string
	for _, c := range s.cells {
		for _, o := range c.runs {
			if o.curve != nil && o.curve.fault != "" {
				list = append(list, fmt.Sprintf("%s, %s: %s", c.name, o.Run.Repeat().Words(), o.curve.fault))
			}
		}
	}
	if len(list) == 0 {
		return ""
	}
	return "**Not whole**: " + strings.Join(list, "; ") + "."
}

// bandPoint is the mean over seeds at one place, and their range.
type bandPoint struct{ x, mean, low, high float64 }

// band averages curves of several seeds over bins of `width` along x, counted
// from 1: the mean of all values in the bin, and the lowest and highest of any
// seed, so that a spike of one seed stays visible.
func band(curves [][]point, width float64) []bandPoint {
	type sums struct {
		sum, count, low, high, x float64
	}
	bins := map[int]*sums{}
	for _, c := range curves {
		for _, p := range c {
			if math.IsNaN(p.y) || math.IsInf(p.y, 0) { // a diverged run has no place on the axis
				continue
			}
			k := int((p.x - 1) / width)
			b := bins[k]
			if b == nil {
				b = &sums{low: p.y, high: p.y}
				bins[k] = b
			}
			b.sum += p.y
			b.x += p.x
			b.count++
			b.low, b.high = min(b.low, p.y), max(b.high, p.y)
		}
	}
	var out []bandPoint
	for _, k := range slices.Sorted(maps.Keys(bins)) {
		b := bins[k]
		out = append(out, bandPoint{b.x / b.count, b.sum / b.count, b.low, b.high})
	}
	return out
}
