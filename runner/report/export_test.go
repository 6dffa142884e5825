package report

import (
	"testing"

	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/page"
)

// CurvesOf are the learning curves of a page with a number of points.
func CurvesOf(t *testing.T, exp *experiment.Experiment, results []Result, most int) *page.Curves {
	t.Helper()
	s, err := newStudy(exp, results, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.readCurves(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.htmlCurves(most, func(string, ...any) {})
}
