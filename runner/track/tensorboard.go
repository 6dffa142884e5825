package track

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/filename"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/tensorboard"
)

// TensorBoardDir of a project holds event files:
// tensorboard/<experiment>/<cell>/seed-N, with folds <cell>/fold-K/seed-N. Of a cell whose
// name no file can have, the directory ends in a part of the hash of the name.
const TensorBoardDir = "tensorboard"

// TensorBoard is the sink of event files. What it has is read from these files: a run
// that continues, in this process or another, begins a file of its own.
type TensorBoard struct{}

// Name is "TensorBoard".
func (TensorBoard) Name() string { return "TensorBoard" }

// Where is the command that shows the runs.
func (TensorBoard) Where(experiments []string) []string {
	dir := TensorBoardDir
	if len(experiments) == 1 {
		dir = path.Join(dir, experiments[0])
	}
	return []string{"tensorboard --logdir " + dir}
}

// Open opens the directory of a run.
func (TensorBoard) Open(_ context.Context, run *Info) (Session, error) {
	at := filepath.Join(run.Project, TensorBoardDir)
	if err := os.MkdirAll(at, 0o777); err != nil {
		return nil, fmt.Errorf("opening the event files: %w", err)
	}
	all, err := os.OpenRoot(at)
	if err != nil {
		return nil, fmt.Errorf("opening the event files: %w", err)
	}
	defer all.Close()
	name := eventsOf(&run.Run)
	if err := all.MkdirAll(name, 0o777); err != nil {
		return nil, fmt.Errorf("opening the event files: %w", err)
	}
	dir, err := all.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("opening the event files: %w", err)
	}
	s := &events{run: run, dir: dir, last: -1, has: map[string]bool{}}
	if s.lock, err = hold(dir, ".lock"); err == nil {
		err = s.read()
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return s, nil
}

// eventsOf is the directory of a run below TensorBoardDir.
func eventsOf(run *Run) string {
	name := path.Join(run.Experiment, filename.Distinct(run.Cell, filename.Most))
	if !run.Fold.IsZero() {
		name = path.Join(name, "fold-"+run.Fold.String())
	}
	return path.Join(name, fmt.Sprintf("seed-%d", run.Seed))
}

// Shows reports whether a project has event files of a run.
func (TensorBoard) Shows(project string, run *Run) bool {
	files, _ := os.ReadDir(filepath.Join(project, TensorBoardDir, filepath.FromSlash(eventsOf(run))))
	return slices.ContainsFunc(files, func(f os.DirEntry) bool { return strings.Contains(f.Name(), "tfevents") })
}

// hold takes a run in a sink for this process, by a file: two writers would show each step
// twice.
func hold(dir *os.Root, name string) (*os.File, error) {
	lock, err := dir.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrHeld
		}
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	return lock, nil
}

// events is a run in event files.
type events struct {
	run    *Info
	dir    *os.Root
	lock   *os.File
	writer *tensorboard.Writer // nil until there is something to write
	last   int64               // step of the last row
	begun  bool                // the session of the HPARAMS tab is there
	has    map[string]bool
}

// Prefixes of tags. Rows have all others.
const (
	domainTags = "domain/"
	sampleTags = rundir.Samples + "/"
	// severityTags are those of curves over the severity of corruptions, which is their
	// step: severity/fog/dice/mean.
	severityTags = "severity/"
	// validationTag is that of the samples of a validation, which are part of its row.
	validationTag = "val/" + rundir.Samples
	hparamTags    = "_hparams_/"
)

// read finds what the files have. The descriptions of values hold the keys.
func (s *events) read() error {
	return tensorboard.Read(s.dir, func(e tensorboard.Event) {
		for _, v := range e.Values {
			switch {
			case v.Description != "":
				s.has[v.Description] = true
			case strings.HasPrefix(v.Tag, hparamTags):
				s.begun = true
			case strings.HasPrefix(v.Tag, severityTags):
				s.has[pointOf(v.Tag, e.Step)] = true
			case !strings.HasPrefix(v.Tag, domainTags) && !strings.HasPrefix(v.Tag, sampleTags):
				s.last = max(s.last, e.Step)
			}
		}
	})
}

func (s *events) Has(key string) bool { return s.has[key] }

func (s *events) Last() (int64, error) { return s.last, nil }

// pointOf is the key of a point of a curve.
func pointOf(tag string, step int64) string { return fmt.Sprint(tag, " at ", step) }

// write writes an event, the first one into a new file.
func (s *events) write(e tensorboard.Event) error {
	if s.writer == nil {
		w, err := tensorboard.Create(s.dir)
		if err != nil {
			return err
		}
		s.writer = w
		if s.last >= 0 {
			if err := w.Write(tensorboard.Event{Time: e.Time, Step: s.last + 1, Start: true}); err != nil {
				return err
			}
		}
	}
	if !s.begun {
		s.begun = true
		own := parameters(s.run)
		all := maps.Clone(own)
		for _, path := range s.run.Varied {
			if all[path] == nil {
				all[path] = "" // other cells have it
			}
		}
		values := []tensorboard.Value{
			// Cells of several experiments below one directory are rows of their own.
			tensorboard.SessionStart(s.run.Experiment+"/"+s.run.Cell, own, s.run.Started),
			tensorboard.Experiment(s.run.Experiment, all, []string{"val/" + s.run.Metric, domainTags + "test/" + s.run.Metric}),
		}
		if err := s.writer.Write(tensorboard.Event{Time: s.run.Started, Values: values}); err != nil {
			return err
		}
	}
	return s.writer.Write(e)
}

// parameters are the values of the HPARAMS tab: those that tell cells apart. Seeds are
// no part of them, since sessions of one group need the same.
func parameters(run *Info) map[string]any {
	p := map[string]any{"cell": run.Cell}
	for _, v := range run.Config {
		if slices.Contains(run.Varied, v.Path) {
			p[v.Path] = plain(v.Value)
		}
	}
	return p
}

// plain is a value as the HPARAMS tab takes it: a number, a bool or a text.
func plain(value json.RawMessage) any {
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return string(value)
	}
	switch v.(type) {
	case float64, bool, string:
		return v
	}
	return string(value)
}

// Row writes the values of a step as one event. Lines for people are left out.
func (s *events) Row(row *Row) error {
	e := tensorboard.Event{Time: row.Time, Step: row.Step}
	for _, tag := range slices.Sorted(maps.Keys(row.Values)) {
		e.Values = append(e.Values, tensorboard.Scalar(tag, row.Values[tag]))
	}
	if len(e.Values) == 0 {
		return nil
	}
	if len(row.Samples) > 0 {
		of := fmt.Sprintf("validation of run %s at step %d", rundir.Short(s.run.ID), row.Step)
		if m, ok := sheet(s.run.Spec.GetData().GetClasses(), of, row.Samples); ok {
			var b bytes.Buffer
			// The default compression takes longer, next to the training.
			fast := png.Encoder{CompressionLevel: png.BestSpeed}
			if err := fast.Encode(&b, m); err != nil {
				return fmt.Errorf("drawing samples: %w", err)
			}
			p := tensorboard.Picture{Width: m.Rect.Dx(), Height: m.Rect.Dy(), Channels: 3, PNG: b.Bytes()}
			e.Values = append(e.Values, tensorboard.Image(validationTag, p))
		}
	}
	if err := s.write(e); err != nil {
		return err
	}
	s.last = row.Step
	return nil
}

// Scores writes the metrics of a domain; before them the picture of its samples and its
// points of curves.
func (s *events) Scores(scores *Scores) error {
	if scores.Sample != "" {
		text, err := os.ReadFile(scores.Sample)
		if err != nil {
			return fmt.Errorf("reading samples: %w", err)
		}
		c, err := png.DecodeConfig(bytes.NewReader(text))
		if err != nil {
			return fmt.Errorf("reading samples: %w", err)
		}
		p := tensorboard.Picture{Width: c.Width, Height: c.Height, Channels: 4, PNG: text}
		switch c.ColorModel {
		case color.GrayModel:
			p.Channels = 1
		case color.RGBAModel: // in PNG, without transparency
			p.Channels = 3
		}
		if err := s.write(tensorboard.Event{Time: scores.Time, Step: scores.Step, Values: []tensorboard.Value{tensorboard.Image(sampleTags+scores.Domain, p)}}); err != nil {
			return err
		}
	}
	v, ok := metric.Value(scores.Metrics, s.run.Metric)
	if ok {
		for _, at := range scores.Severities {
			tag := severityTags + at.Corruption + "/" + s.run.Metric
			if s.has[pointOf(tag, int64(at.Severity))] {
				continue
			}
			if err := s.write(tensorboard.Event{Time: scores.Time, Step: int64(at.Severity), Values: []tensorboard.Value{tensorboard.Scalar(tag, v)}}); err != nil {
				return err
			}
			s.has[pointOf(tag, int64(at.Severity))] = true
		}
	}
	// Of a corrupted domain its curve shows more than hundreds of cards with one point.
	onCurve := ok && slices.ContainsFunc(scores.Severities, func(at Severity) bool { return at.Severity > 0 })
	e := tensorboard.Event{Time: scores.Time, Step: scores.Step}
	prefix := domainTags + scores.Domain + "/"
	for tag, v := range tagged(prefix, scores.Metrics) {
		if onCurve && tag != prefix+s.run.Metric {
			continue
		}
		value := tensorboard.Scalar(tag, v)
		value.Description = scores.Key
		e.Values = append(e.Values, value)
	}
	if err := s.write(e); err != nil {
		return err
	}
	s.has[scores.Key] = true
	return nil
}

// End writes the end of the session of the HPARAMS tab.
func (s *events) End(_ context.Context, end *End) error {
	status := tensorboard.Running // it continues at the next apply
	switch end.State {
	case store.Done:
		status = tensorboard.Success
	case store.Failed:
		status = tensorboard.Failure
	}
	v := tensorboard.SessionEnd(status, end.Time)
	v.Description = end.Key
	if err := s.write(tensorboard.Event{Time: end.Time, Step: max(end.Step, 0), Values: []tensorboard.Value{v}}); err != nil {
		return err
	}
	s.has[end.Key] = true
	return nil
}

// Close closes the files.
func (s *events) Close(context.Context) error {
	var err error
	if s.writer != nil {
		err = s.writer.Close()
	}
	return errors.Join(err, s.lock.Close(), s.dir.Close())
}
