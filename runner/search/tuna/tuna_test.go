package tuna_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/c-bata/goptuna"
	"github.com/c-bata/goptuna/cmaes"

	"github.com/loralab/loralab/runner/search/pruner"
	"github.com/loralab/loralab/runner/search/sampler"
	"github.com/loralab/loralab/runner/search/space"
	"github.com/loralab/loralab/runner/search/tuna"
)

// quad is minimal at (2, -1).
func quad(t goptuna.Trial) (float64, error) {
	x, err := t.SuggestFloat("x", -10, 10)
	if err != nil {
		return 0, err
	}
	y, err := t.SuggestFloat("y", -10, 10)
	return (x-2)*(x-2) + (y+1)*(y+1), err
}

func quadSpace(t testing.TB) *space.Space {
	s, err := space.New(space.Param{Name: "x", Low: -10, High: 10}, space.Param{Name: "y", Low: -10, High: 10})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func condSpace(t testing.TB) *space.Space {
	s, err := space.New(
		space.Param{Name: "variant", Kind: space.Choice, Choices: []any{"lora", "full"}},
		space.Param{Name: "rank", Kind: space.Int, Low: 2, High: 64, Step: 2, When: []space.Condition{{Param: "variant", Values: []any{"lora"}}}},
		space.Param{Name: "lr", Low: 1e-5, High: 1e-1, Log: true},
		space.Param{Name: "dropout", High: 0.5, Step: 0.1},
		space.Param{Name: "blocks", Kind: space.Int, Low: 1, High: 12},
	)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func cond(t goptuna.Trial) (float64, error) {
	variant, err := t.SuggestCategorical("variant", []string{"lora", "full"})
	lr, err2 := t.SuggestLogFloat("lr", 1e-5, 1e-1)
	dropout, err3 := t.SuggestDiscreteFloat("dropout", 0, 0.5, 0.1)
	blocks, err4 := t.SuggestInt("blocks", 1, 12)
	value := math.Abs(math.Log10(lr)+3) + dropout + math.Abs(float64(blocks)-6)/6
	if variant == "lora" {
		rank, err := t.SuggestStepInt("rank", 2, 64, 2)
		return value + math.Abs(float64(rank)-16)/32 - 1, err
	}
	return value, errors.Join(err, err2, err3, err4)
}

func newStudy(t testing.TB, options ...goptuna.StudyOption) *goptuna.Study {
	t.Helper()
	study, err := goptuna.CreateStudy("test", append([]goptuna.StudyOption{
		goptuna.StudyOptionStorage(new(tuna.Storage)), goptuna.StudyOptionLogger(nil),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return study
}

func optimize(t testing.TB, study *goptuna.Study, f goptuna.FuncObjective, n int) []goptuna.FrozenTrial {
	t.Helper()
	if err := study.Optimize(f, n); err != nil {
		t.Fatal(err)
	}
	trials, err := study.GetTrials()
	if err != nil {
		t.Fatal(err)
	}
	return trials
}

func TestGoptunasSamplersRunUnchanged(t *testing.T) {
	study := newStudy(t, goptuna.StudyOptionSampler(goptuna.NewRandomSampler(goptuna.RandomSamplerOptionSeed(1))))
	optimize(t, study, quad, 100)
	if v, err := study.GetBestValue(); err != nil || v > 5 {
		t.Errorf("random search reaches %v, %v", v, err)
	}
	study = newStudy(t,
		goptuna.StudyOptionSampler(goptuna.NewRandomSampler(goptuna.RandomSamplerOptionSeed(1))),
		goptuna.StudyOptionRelativeSampler(cmaes.NewSampler(cmaes.SamplerOptionSeed(1))),
	)
	optimize(t, study, quad, 150)
	if v, err := study.GetBestValue(); err != nil || v > 0.01 {
		t.Errorf("CMA-ES reaches %v, %v", v, err)
	}
}

func TestOurSamplersRunInGoptuna(t *testing.T) {
	for _, name := range sampler.Names {
		s, err := sampler.New(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "grid" {
			continue // a float without a step
		}
		var trials [2][]goptuna.FrozenTrial
		on := condSpace(t)
		for i := range trials {
			mine := tuna.NewSampler(s, on, 7)
			options := []goptuna.StudyOption{goptuna.StudyOptionSampler(mine)}
			if i == 1 {
				options = append(options, goptuna.StudyOptionRelativeSampler(mine), goptuna.StudyOptionDefineSearchSpace(tuna.Distributions(on)))
			}
			trials[i] = optimize(t, newStudy(t, options...), cond, 40)
		}
		for i, a := range trials[0] {
			if b := trials[1][i]; !maps.Equal(a.Params, b.Params) {
				t.Errorf("%s, trial %d: %v as a sampler, %v as a relative one", name, i, a.Params, b.Params)
			}
			if _, ok := a.Params["rank"]; ok != (a.Params["variant"] == "lora") {
				t.Errorf("%s, trial %d: %v", name, i, a.Params)
			}
		}
	}
}

func TestTPEInGoptuna(t *testing.T) {
	study := newStudy(t, goptuna.StudyOptionSampler(tuna.NewSampler(sampler.TPE{}, quadSpace(t), 1)))
	optimize(t, study, quad, 80)
	if v, err := study.GetBestValue(); err != nil || v > 0.5 {
		t.Errorf("TPE reaches %v, %v", v, err)
	}
	// A trial with values of the user is part of what the sampler sees.
	if err := study.EnqueueTrial(map[string]float64{"x": 2, "y": -1}); err != nil {
		t.Fatal(err)
	}
	optimize(t, study, quad, 1)
	if v, err := study.GetBestValue(); err != nil || v != 0 {
		t.Error(v, err)
	}
	optimize(t, study, quad, 1)
}

func TestFaultsOfSampling(t *testing.T) {
	study := newStudy(t, goptuna.StudyOptionSampler(tuna.NewSampler(sampler.Random{}, condSpace(t), 1)))
	err := study.Optimize(func(t goptuna.Trial) (float64, error) {
		_, err := t.SuggestFloat("y", 0, 1)
		return 0, err
	}, 1)
	if err == nil || err.Error() != `parameter "y" is not in the space of the sampler` {
		t.Error(err)
	}
	err = nil
	for range 20 {
		err = errors.Join(err, study.Optimize(func(t goptuna.Trial) (float64, error) {
			_, err := t.SuggestStepInt("rank", 2, 64, 2)
			return 0, err
		}, 1))
	}
	if err == nil || !strings.Contains(err.Error(), "its condition does not hold") {
		t.Error(err)
	}
}

func TestPrunersInGoptuna(t *testing.T) {
	for _, kind := range pruner.Names {
		p, err := pruner.New(kind, pruner.Settings{Last: 27, First: 1})
		if err != nil {
			t.Fatal(err)
		}
		study := newStudy(t,
			goptuna.StudyOptionSampler(tuna.NewSampler(sampler.Random{}, quadSpace(t), 1)),
			goptuna.StudyOptionPruner(tuna.NewPruner(p)),
		)
		steps := 0
		trials := optimize(t, study, func(t goptuna.Trial) (float64, error) {
			value, err := quad(t)
			for step := 1; step <= 27 && err == nil; step++ {
				steps++
				err = t.ShouldPrune(step, value+10/float64(step))
			}
			return value, err
		}, 40)
		states := map[goptuna.TrialState]int{}
		for _, trial := range trials {
			states[trial.State]++
		}
		t.Log(kind, steps, states)
		if kind == "none" {
			if steps != 40*27 || states[goptuna.TrialStateComplete] != 40 {
				t.Errorf("none stops trials: %d steps, %v", steps, states)
			}
		} else if steps > 700 || states[goptuna.TrialStatePruned] < 10 || states[goptuna.TrialStateComplete] == 0 {
			t.Errorf("%s: %d steps, %v", kind, steps, states)
		}
	}
}

// A rung keeps the value of its own step, and a trial is judged once there.
func TestPrunedByTheValueOfTheRung(t *testing.T) {
	p := tuna.NewPruner(pruner.ASHA{Last: 27, First: 3, Factor: 3})
	study := newStudy(t, goptuna.StudyOptionPruner(p))
	report := func(id, step int, value float64) (pruned bool) {
		t.Helper()
		if err := study.Storage.SetTrialIntermediateValue(id, step, value); err != nil {
			t.Fatal(err)
		}
		trial, err := study.Storage.GetTrial(id)
		if err != nil {
			t.Fatal(err)
		}
		if pruned, err = p.Prune(study, trial); err != nil {
			t.Fatal(err)
		}
		return pruned
	}
	var ids []int
	for range 4 {
		id, err := study.Storage.CreateNewTrial(study.ID)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if report(ids[0], 2, 1) || report(ids[0], 3, 1) || !report(ids[1], 3, 2) {
		t.Error("the first continues and the second, which is worse, does not")
	}
	// Step 4 is the rung at 3 where 3 was not reported.
	if report(ids[2], 4, 0.5) || report(ids[2], 5, 100) {
		t.Error("the best of three continues, and is not judged between rungs")
	}
	// With the value at step 5 in its place, 1.5 would be second of four.
	if !report(ids[3], 3, 1.5) {
		t.Error("the third of four is pruned")
	}
}

func TestStorageIsSafe(t *testing.T) {
	var s tuna.Storage
	id, err := s.CreateNewStudy("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateNewStudy("a"); err == nil {
		t.Error("two studies have one name")
	}
	if other, err := s.CreateNewStudy(""); err != nil || other == id {
		t.Error(other, err)
	}
	// The best of nothing is an error, and so is that of values that are not finite.
	for _, v := range []float64{math.NaN(), math.Inf(-1), math.Inf(1)} {
		trial, _ := s.CreateNewTrial(id)
		if err := errors.Join(s.SetTrialValue(trial, v), s.SetTrialState(trial, goptuna.TrialStateComplete)); err != nil {
			t.Error(err)
		}
		if _, err := s.GetBestTrial(id); !errors.Is(err, goptuna.ErrNoCompletedTrials) {
			t.Errorf("with %v: %v", v, err)
		}
	}
	trial, err := s.CreateNewTrial(id)
	if err != nil {
		t.Fatal(err)
	}
	d := goptuna.UniformDistribution{High: 1}
	set := func(x float64) error { return s.SetTrialParam(trial, "x", x, d) }
	if err := errors.Join(set(0.5), set(0.5), s.SetTrialIntermediateValue(trial, 0, 1), s.SetTrialIntermediateValue(trial, 0, 1)); err != nil {
		t.Error(err)
	}
	if set(0.6) == nil || s.SetTrialIntermediateValue(trial, 0, 2) == nil {
		t.Error("a value is replaced")
	}
	// What is returned is a copy.
	frozen, _ := s.GetTrial(trial)
	frozen.Params["x"], frozen.Distributions["x"] = 7, nil
	delete(frozen.IntermediateValues, 0)
	all, _ := s.GetAllTrials(id)
	params, _ := s.GetTrialParams(trial)
	if last := all[len(all)-1]; last.Params["x"] != 0.5 || last.Distributions["x"] != d || last.IntermediateValues[0] != 1 || params["x"] != 0.5 {
		t.Error(last)
	}
	if err := s.SetTrialState(trial, goptuna.TrialStateRunning); !errors.Is(err, goptuna.ErrTrialCannotBeUpdated) {
		t.Error("a trial that runs is started again", err)
	}
	if err := s.SetTrialState(trial, goptuna.TrialStateFail); err != nil {
		t.Error(err)
	}
	if err := s.SetTrialUserAttr(trial, "a", "b"); !errors.Is(err, goptuna.ErrTrialCannotBeUpdated) {
		t.Error(err)
	}
	if err := s.DeleteStudy(id); err != nil {
		t.Error(err)
	}
	if _, err := s.GetTrial(trial); !errors.Is(err, goptuna.ErrInvalidTrialID) {
		t.Error(err)
	}
	if _, err := s.GetAllTrials(id); !errors.Is(err, goptuna.ErrInvalidStudyID) {
		t.Error(err)
	}
}

func TestStudiesInParallel(t *testing.T) {
	study := newStudy(t, goptuna.StudyOptionSampler(tuna.NewSampler(sampler.TPE{}, quadSpace(t), 1)))
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { errs[i] = study.Optimize(quad, 15) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	trials, err := study.GetTrials()
	if err != nil {
		t.Fatal(err)
	}
	points := map[string]bool{}
	for i, trial := range trials {
		if trial.Number != i || trial.State != goptuna.TrialStateComplete {
			t.Error(trial)
		}
		points[fmt.Sprint(trial.Params)] = true
	}
	if len(trials) != 60 || len(points) != 60 {
		t.Errorf("%d trials at %d points", len(trials), len(points))
	}
}

// BenchmarkStorage is one trial of four parameters and four steps. It takes the
// same time with and without a history.
func BenchmarkStorage(b *testing.B) {
	for _, n := range []int{0, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var s tuna.Storage
			id, err := s.CreateNewStudy("a")
			if err != nil {
				b.Fatal(err)
			}
			trial := func() {
				t, err := s.CreateNewTrial(id)
				for i := range 4 {
					err = errors.Join(err, s.SetTrialParam(t, fmt.Sprint("x", i), 0.5, goptuna.UniformDistribution{High: 1}), s.SetTrialIntermediateValue(t, i, 1))
				}
				if err = errors.Join(err, s.SetTrialValue(t, 1), s.SetTrialState(t, goptuna.TrialStateComplete)); err != nil {
					b.Fatal(err)
				}
				if _, err := s.GetBestTrial(id); err != nil {
					b.Fatal(err)
				}
			}
			for range n {
				trial()
			}
			b.ReportAllocs()
			for b.Loop() {
				trial()
			}
		})
	}
}

func TestDistributionsAreGoptunas(t *testing.T) {
	got := tuna.Distributions(condSpace(t))
	names := slices.Sorted(maps.Keys(got))
	if fmt.Sprint(names) != "[blocks dropout lr rank variant]" {
		t.Error(names)
	}
	for name, want := range map[string]any{
		"blocks":  goptuna.IntUniformDistribution{Low: 1, High: 12},
		"rank":    goptuna.StepIntUniformDistribution{Low: 2, High: 64, Step: 2},
		"dropout": goptuna.DiscreteUniformDistribution{High: 0.5, Q: 0.1},
		"lr":      goptuna.LogUniformDistribution{Low: 1e-5, High: 1e-1},
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}
