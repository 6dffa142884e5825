package sampler

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/c-bata/goptuna/cmaes"
	"gonum.org/v1/gonum/mat"

	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/space"
)

// CMAES is the covariance matrix adaptation evolution strategy, by goptuna's
// optimizer, over the numeric parameters that exist at every point. All others
// are drawn at random.
//
// A generation is the next trials in the order of their numbers, and it is over
// when none of them runs. Values are compared by [search.Compare], so paused and
// failed trials are part of it. When a generation has converged, the search
// starts again elsewhere with twice as many trials in a generation.
//
// Hansen and Ostermeier, "Completely derandomized self-adaptation in evolution
// strategies", 2001; Auger and Hansen, "A restart CMA evolution strategy with
// increasing population size", 2005.
type CMAES struct{}

// Ask proposes a point. See [Sampler].
func (CMAES) Ask(a Ask) (space.Point, error) {
	var dims []int
	for i := range a.Space.Len() {
		if p := a.Space.Param(i); p.Kind != space.Choice && len(p.When) == 0 {
			dims = append(dims, i)
		}
	}
	if len(dims) == 0 {
		return Random{}.Ask(a)
	}
	r := a.stream()
	optimizer, err := a.replay(dims, int64(r.Uint64()))
	if err != nil {
		return nil, fmt.Errorf("CMA-ES: %w", err)
	}
	drawn := 0
	return a.first(func() (space.Point, error) {
		if drawn++; drawn > patience {
			return a.Space.Draw(r.Float64), nil
		}
		x, err := optimizer.Ask()
		if err != nil {
			return nil, fmt.Errorf("CMA-ES: %w", err)
		}
		u := make([]float64, a.Space.Len())
		for i := range u {
			u[i] = r.Float64()
		}
		for d, i := range dims {
			u[i] = min(max(x[d], 0), math.Nextafter(1, 0))
		}
		return a.Space.FromUnit(u), nil
	})
}

// replay makes the optimizer that has seen all generations that are over. Its
// random numbers, which only asks use, are those of the trial.
func (a Ask) replay(dims []int, seed int64) (*cmaes.Optimizer, error) {
	restarts, size := 0, 0
	start := func() (*cmaes.Optimizer, error) {
		mean := make([]float64, len(dims))
		bounds := mat.NewDense(len(dims), 2, nil)
		r := rng.New(a.Seed, "search", "cmaes", strconv.Itoa(restarts))
		for d := range mean {
			mean[d] = 0.5
			if restarts > 0 {
				mean[d] = r.Float64()
			}
			bounds.Set(d, 1, 1)
		}
		options := []cmaes.OptimizerOption{cmaes.OptimizerOptionBounds(bounds), cmaes.OptimizerOptionSeed(seed)}
		if restarts > 0 {
			options = append(options, cmaes.OptimizerOptionPopulationSize(size))
		}
		return cmaes.NewOptimizer(mean, 1.0/6, options...)
	}
	optimizer, err := start()
	if err != nil {
		return nil, err
	}
	seen := slices.Clone(a.Seen)
	slices.SortFunc(seen, func(x, y search.Trial) int { return cmp.Compare(x.Number, y.Number) })
	for {
		size = optimizer.PopulationSize()
		if len(seen) < size || slices.ContainsFunc(seen[:size], func(t search.Trial) bool { return t.State == search.Running }) {
			return optimizer, nil
		}
		generation := seen[:size]
		seen = seen[size:]
		slices.SortFunc(generation, func(x, y search.Trial) int { return search.Compare(a.Direction, x, y) })
		solutions := make([]*cmaes.Solution, size)
		for rank, t := range generation {
			x := make([]float64, len(dims))
			for d, i := range dims {
				x[d] = a.Space.Param(i).ToUnit(t.Point[i])
			}
			solutions[rank] = &cmaes.Solution{Params: x, Value: float64(rank)}
		}
		if err := optimizer.Tell(solutions); err != nil {
			return nil, err
		}
		if optimizer.ShouldStop() {
			restarts++
			size *= 2
			if optimizer, err = start(); err != nil {
				return nil, err
			}
		}
	}
}
