package report

import (
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
)

// The report says whether seeds share the views that they are trained on.
func TestViews(t *testing.T) {
	of := func(seeds ...uint64) string {
		s := &study{exp: &experiment.Experiment{}}
		for i, seed := range seeds {
			s.exp.Runs = append(s.exp.Runs, &experiment.Run{
				Seed: uint64(i + 1), Spec: &spec.RunSpec{Data: &spec.Data{Views: &spec.Views{Count: 4, Seed: seed}}},
			})
		}
		s.exp.Runs = append(s.exp.Runs, &experiment.Run{Spec: &spec.RunSpec{}})
		return s.views()
	}
	for _, c := range []struct{ got, want string }{
		{of(0, 0, 0), "Trained on 4 views of each image, which augmentation makes once; seeds share them."},
		{of(1, 1), "Trained on 4 views of each image, which augmentation makes once; seeds share them."},
		{of(1, 2, 3), "Trained on 4 views of each image, which augmentation makes once, by the seed of each run."},
		{of(), ""},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
