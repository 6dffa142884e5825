package report

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
)

// curve is the course of one training.
type curve struct {
	steps  []point // x: step, y: training loss
	epochs []point // x: epoch, y: the experiment's metric on the validation split
}

type point struct{ x, y float64 }

// readCurves reads the metrics files of all runs, a few at a time.
func (s *study) readCurves(ctx context.Context) error {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	var mu sync.Mutex
	var errs []error
	for _, c := range s.cells {
		for _, o := range c.runs {
			if o.MetricsFile == "" {
				continue
			}
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				if ctx.Err() != nil {
					return
				}
				curve, err := readCurve(o.MetricsFile, s.exp.Metric)
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

// readCurve reads a metrics.jsonl. A resumed run writes the steps after its
// checkpoint again: the later line counts. A crash cuts a line off, at the end or,
// after a resume, in the middle; such lines are passed over.
func readCurve(path, name string) (*curve, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading metrics: %w", err)
	}
	defer file.Close()

	loss, score := map[uint64]float64{}, map[uint32]float64{}
	in := bufio.NewReader(file)
	unmarshal := protojson.UnmarshalOptions{DiscardUnknown: true}
	for {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading metrics %s: %w", path, err)
		}
		last := err != nil
		// {"type": "step", …fields of spec.Step}
		var head struct{ Type string }
		if json.Unmarshal(line, &head) == nil {
			switch head.Type {
			case "step":
				var step spec.Step
				if unmarshal.Unmarshal(line, &step) == nil {
					loss[step.Step] = step.Loss
				}
			case "validation":
				var v spec.Validation
				if unmarshal.Unmarshal(line, &v) == nil {
					if value, ok := metric.Value(v.Metrics, name); ok {
						score[v.Epoch] = value
					}
				}
			}
		}
		if last {
			break
		}
	}
	c := &curve{}
	for _, step := range slices.Sorted(maps.Keys(loss)) {
		c.steps = append(c.steps, point{float64(step), loss[step]})
	}
	for _, epoch := range slices.Sorted(maps.Keys(score)) {
		c.epochs = append(c.epochs, point{float64(epoch), score[epoch]})
	}
	return c, nil
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
