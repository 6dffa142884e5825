package track

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/tensorboard"
)

// A corruption at several severities is a curve that begins with the test split as it
// is; one severity, and another strength of the adapter, is none.
func TestAskedCurves(t *testing.T) {
	half := 0.5
	of := func(domain, kind string, level uint32) *spec.Evaluation {
		e := &spec.Evaluation{Domain: domain, Data: &spec.Data{Height: 8, Width: 8}}
		if kind != "" {
			e.Data.Corruption = &spec.Corruption{Kind: kind, Severity: level}
		}
		return e
	}
	weak := of("test@strength-0.5", "", 0)
	weak.Strength = &half
	specs := []*spec.Evaluation{of("test", "", 0), of("fog-1", "fog", 1), of("fog-4", "fog", 4), of("snow-2", "snow", 2), of("histology", "", 0), weak}
	var got [][]Severity
	for _, e := range Asked(make([]string, len(specs)), specs) {
		got = append(got, e.Severities)
	}
	want := [][]Severity{{{"fog", 0}}, {{"fog", 1}}, {{"fog", 4}}, nil, nil, nil}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("curves %v, want %v", got, want)
	}
}

// A point of a curve is shown once, over the severity.
func TestCurvesAreShown(t *testing.T) {
	s := script(t, 1)
	s.begin()
	for s.step < steps {
		s.update()
	}
	s.finish()
	s.run.Evaluations[0].Severities = []Severity{{"fog", 0}, {"snow", 0}}
	sink, err := NewWandB(s.root, experiment.TrackWandB{Mode: "offline"}, func(string) string { return "" }, false, func(text string) { t.Log(text) })
	s.fail(err)
	for range 2 {
		s.fail(Push(t.Context(), s.root, []Shown{{s.run, TensorBoard{}}, {s.run, sink}}, func(_ Shown, err error) { s.fail(err) }))
	}
	dir, err := os.OpenRoot(filepath.Join(s.root, TensorBoardDir, "e", "rank=4", "seed-1"))
	s.fail(err)
	defer dir.Close()
	var points []string
	s.fail(tensorboard.Read(dir, func(e tensorboard.Event) {
		for _, v := range e.Values {
			if strings.HasPrefix(v.Tag, severityTags) {
				points = append(points, fmt.Sprintf("%s at %d: %g", v.Tag, e.Step, *v.Scalar))
			}
		}
	}))
	if want := []string{"severity/fog/dice/mean at 0: 0.5", "severity/snow/dice/mean at 0: 0.5"}; !slices.Equal(points, want) {
		t.Errorf("in TensorBoard %q, want %q", points, want)
	}
	points = nil
	axes := map[string]string{}
	for _, r := range onlyLog(t, s.root) {
		if r.Metric != nil && strings.HasPrefix(r.Metric.Name, severityTags) {
			axes[r.Metric.Name] = r.Metric.StepMetric
		}
		if r.History == nil {
			continue
		}
		for _, item := range r.History.Item {
			if key := strings.Join(item.Path(), "."); strings.HasPrefix(key, severityTags) {
				points = append(points, key+" is "+item.ValueJSON)
			}
		}
	}
	slices.Sort(points)
	if want := []string{"severity/fog/dice/mean is 0.5", "severity/severity is 0", "severity/snow/dice/mean is 0.5"}; !slices.Equal(points, want) {
		t.Errorf("in W&B %q, want %q", points, want)
	}
	if want := map[string]string{"severity/severity": "", "severity/fog/dice/mean": "severity/severity", "severity/snow/dice/mean": "severity/severity"}; !reflect.DeepEqual(axes, want) {
		t.Errorf("axes in W&B %q, want %q", axes, want)
	}
}

// Of a point of a curve that is no split as it is, TensorBoard has the metric of the
// experiment alone. It knows the evaluation by that.
func TestCorruptedDomainsInTensorBoard(t *testing.T) {
	s := script(t, 1)
	s.begin()
	for s.step < steps {
		s.update()
	}
	s.finish()
	s.run.Evaluations[0].Severities = []Severity{{"fog", 3}}
	for range 2 {
		s.fail(Push(t.Context(), s.root, []Shown{{s.run, TensorBoard{}}}, func(_ Shown, err error) { s.fail(err) }))
	}
	dir, err := os.OpenRoot(filepath.Join(s.root, TensorBoardDir, "e", "rank=4", "seed-1"))
	s.fail(err)
	defer dir.Close()
	var tags []string
	s.fail(tensorboard.Read(dir, func(e tensorboard.Event) {
		for _, v := range e.Values {
			if strings.HasPrefix(v.Tag, domainTags) {
				tags = append(tags, v.Tag)
			}
		}
	}))
	if want := []string{"domain/test/dice/mean"}; !slices.Equal(tags, want) {
		t.Errorf("the tags are %q, want %q", tags, want)
	}
}
