package train

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/spec"
)

// A run of LoRA at strength t is scored as one whose B is t times as large, and the
// head stays as trained; at 1 it is the plain evaluation.
func TestStrengthScalesLoRA(t *testing.T) {
	tr := trainer(t)
	req := request(t, func(r *spec.RunRequest) {
		r.Spec.Optim.LrAdapter = 3e-2
		plain := r.Evaluations[0]
		r.Evaluations = []*spec.Evaluation{plain}
		for _, strength := range []float64{0, 0.4, 1} {
			e := proto.CloneOf(plain)
			e.SetStrength(strength)
			e.Domain = e.ColumnName("test")
			r.Evaluations = append(r.Evaluations, e)
		}
	})
	events, err := run(t, tr, req, 0)
	got := finished(t, events, err).Evaluations
	if !proto.Equal(got[3], got[0]) {
		t.Errorf("at strength 1\n%v, plain\n%v", got[3], got[0])
	}
	s := loaded(t, trainer(t), req)
	set, err := s.t.openSplit(t.Context(), req, req.Evaluations[0].Data, "test")
	if err != nil {
		t.Fatal(err)
	}
	scale := func(by float64) {
		err := s.t.dev.Do(func() error {
			s.t.dev.NoGrad(func() {
				for _, p := range s.net.adapters.Params {
					if strings.HasSuffix(p.Name, ".B") {
						p.T.Assign(p.T.Scale(by))
					}
				}
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	score := func() *spec.Metrics {
		sources, err := s.sources(t.Context(), req.Evaluations[0], set)
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.score(t.Context(), set, sources, nil)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	near := func(a, b *spec.Metrics) bool { return math.Abs(*a.Nll-*b.Nll) < 1e-6 && math.Abs(a.Loss-b.Loss) < 1e-5 }
	scale(0.4)
	between := score()
	scale(0)
	frozen := score()
	if !near(got[2].Metrics, between) || !near(got[1].Metrics, frozen) || near(got[0].Metrics, between) || near(between, frozen) {
		t.Errorf("plain %v, at 0.4 %v, want %v, at 0 %v, want %v", *got[0].Metrics.Nll, *got[2].Metrics.Nll, *between.Nll, *got[1].Metrics.Nll, *frozen.Nll)
	}
	for _, edit := range []func(*spec.Evaluation){
		func(e *spec.Evaluation) { e.SetStrength(math.NaN()) },
		func(e *spec.Evaluation) { e.SetStrength(0.5); e.Merged = true },
	} {
		bad := proto.CloneOf(req)
		edit(bad.Evaluations[0])
		if err := tr.Run(t.Context(), bad, func(*spec.Event) {}); err == nil || !strings.Contains(err.Error(), "strength") {
			t.Errorf("got %v", err)
		}
	}
}
