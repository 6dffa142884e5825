// Package sampler proposes the points of a search.
//
// An ask is a pure function of its arguments: the seed of the study, the number
// of the trial, the space and the trials seen. Nothing is kept between asks, so a
// study continues after a restart as if there had been none, several processes
// can ask, and an ask can be repeated later from what it had seen. A trial's
// random numbers come from a stream of its own, which depends on the seed and
// the number alone.
package sampler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/space"
)

// Ask is the question which point to try next.
type Ask struct {
	// Seed is that of the study.
	Seed uint64
	// Number is that of the trial, from 0.
	Number int
	// Space is where the point has to lie.
	Space     *space.Space
	Direction search.Direction
	// Seen are the other trials of the study, each with a point in Space. Their
	// order has no effect. A sampler that learns needs all of them, also those
	// that run: their points are not proposed again.
	Seen []search.Trial
	// Refuse, if not nil, reports that a point must not be proposed. The next
	// point of the same random stream takes its place. It has to give the same
	// answer for the same point.
	Refuse func(space.Point) bool
}

// Sampler proposes points.
type Sampler interface {
	// Ask proposes a point that Refuse does not refuse. It fails with
	// [ErrExhausted] or a [*RefusedError], or when the sampler cannot search
	// the space.
	Ask(Ask) (space.Point, error)
}

// Names are the samplers that [New] makes.
var Names = []string{"random", "grid", "sobol", "tpe", "cmaes"}

// New makes a sampler with the settings that users get.
func New(name string) (Sampler, error) {
	switch name {
	case "random":
		return Random{}, nil
	case "grid":
		return Grid{}, nil
	case "sobol":
		return Sobol{}, nil
	case "tpe":
		return TPE{}, nil
	case "cmaes":
		return CMAES{}, nil
	}
	return nil, fmt.Errorf("unknown sampler %q; samplers are %q", name, Names)
}

// ErrExhausted says that all points of a grid have been tried.
var ErrExhausted = errors.New("all points of the grid have been tried")

// MaxRefused is how many points in a row may be refused before an ask fails.
const MaxRefused = 1000

// patience is how many points of a model may be refused. All further ones come
// from the whole space, since the model may lie where every point is refused.
const patience = 100

// RefusedError says that no point was found that is allowed.
type RefusedError struct{ Points int }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("all of %d points in a row were refused", e.Points)
}

// stream is the random stream of a trial.
func (a Ask) stream() *rand.Rand {
	return rng.New(a.Seed, "search", "trial", strconv.Itoa(a.Number)).Rand
}

// first is the first of the points that is not refused.
func (a Ask) first(draw func() (space.Point, error)) (space.Point, error) {
	for range MaxRefused {
		p, err := draw()
		if err != nil || a.Refuse == nil || !a.Refuse(p) {
			return p, err
		}
	}
	return nil, &RefusedError{MaxRefused}
}

// Random draws every point from the whole space, without regard to results.
type Random struct{}

// Ask proposes a point. See [Sampler].
func (Random) Ask(a Ask) (space.Point, error) {
	r := a.stream()
	return a.first(func() (space.Point, error) { return a.Space.Draw(r.Float64), nil })
}

// Grid proposes each point of a space without end-less parameters once, in an
// order that depends on the seed.
type Grid struct{}

// MaxGrid is the largest grid.
const MaxGrid = 1_000_000

// Ask proposes the first point of the order that no trial seen has. See
// [Sampler]. It fails when a parameter is a float without a step.
func (Grid) Ask(a Ask) (space.Point, error) {
	if i := a.Space.Endless(); i >= 0 {
		return nil, &space.Error{Param: a.Space.Param(i).Name, Field: "step", Message: "a grid needs a step"}
	}
	size := a.Space.Size()
	if size > MaxGrid {
		return nil, fmt.Errorf("the grid has %.0f points, more than %d", size, MaxGrid)
	}
	points := make([]space.Point, 0, int(size))
	for p := range a.Space.Points() {
		points = append(points, append(space.Point(nil), p...))
	}
	tried := make(map[string]bool, len(a.Seen))
	for _, t := range a.Seen {
		tried[fmt.Sprint(t.Point)] = true
	}
	for _, i := range rng.New(a.Seed, "search", "grid").Permutation(len(points)) {
		if p := points[i]; !tried[fmt.Sprint(p)] && (a.Refuse == nil || !a.Refuse(p)) {
			return p, nil
		}
	}
	return nil, ErrExhausted
}
