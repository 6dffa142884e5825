package report

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/figure"
)

// A journal with several validations in an epoch has all of them.
func TestCurvesHaveEveryValidation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics.jsonl")
	lines := `{"type":"step","step":"1","epoch":1,"loss":2}
{"type":"step","step":"2","epoch":1,"loss":1}
{"type":"validation","step":"2","epoch":1,"metrics":{"accuracy":0.5,"pixels":"4","images":"1"}}
{"type":"step","step":"3","epoch":1,"loss":1}
{"type":"step","step":"4","epoch":2,"loss":1}
{"type":"validation","step":"4","epoch":2,"metrics":{"accuracy":0.6,"pixels":"4","images":"1"}}
{"type":"step","step":"3","epoch":1,"loss":1}
{"type":"validation","step":"3","epoch":1,"metrics":{"accuracy":0.7,"pixels":"4","images":"1"}}
`
	if err := os.WriteFile(path, []byte(lines), 0o666); err != nil {
		t.Fatal(err)
	}
	c, err := readCurve(path, "accuracy", []string{"a", "b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []scored{{2, 1, 0.5}, {3, 1, 0.7}, {4, 2, 0.6}}; !slices.Equal(c.scores, want) {
		t.Errorf("validations %v, want %v", c.scores, want)
	}
}

// Validations are drawn over epochs, and over steps where a run counts in these.
func TestValidationsAreOverSteps(t *testing.T) {
	for title, train := range map[string]*spec.Train{
		"epoch": {Epochs: 6, MaxSteps: 72}, "step": {Steps: 72}, "step ": {Epochs: 6, EvalSteps: 12},
	} {
		title = strings.TrimSpace(title)
		e := newExample("e", false)
		e.add("a", nil, 0.8)
		e.exp.Runs[0].Spec.Train = train
		d, ok := e.study(t).validationFigure()
		if !ok {
			t.Fatal("no figure")
		}
		l := d.figure.(*figure.Lines)
		points := l.Panels[0].Series[0].Points
		last := points[len(points)-1].X
		want := map[string]float64{"epoch": 6, "step": 72}[title]
		if l.X.Title != title || last != want || strings.Contains(d.caption, "steps") != (title == "step") {
			t.Errorf("%v: over %q up to %g, want %q up to %g; %s", train, l.X.Title, last, title, want, d.caption)
		}
	}
}
