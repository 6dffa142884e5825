package sampler

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/space"
)

// TPE is the tree-structured Parzen estimator: it models where the good trials
// lie and where the others lie, draws points from the first model and proposes
// the one whose ratio of the two densities is largest.
//
// Splitting, weights and kernels are those of Optuna 5.0's default sampler
// (multivariate, with constant liar). Three things differ:
//
//   - The first 10 trials are those of [Sobol] and not random.
//   - 48 points are drawn and not 24.
//   - Parameters that exist together are drawn together, from the trials that
//     have them and with a split of their own; Optuna draws each conditional
//     parameter alone. A parameter that opens others is drawn from the model of
//     good trials, since the largest ratio would settle on the branch with the
//     fewest parameters, whose best value is found first. The parameters next to
//     it are then drawn from the trials of the same branch once 5 of them count,
//     and from those of all branches before.
//
// A trial that runs is one of the others, so that points asked for at the same
// time keep a distance. So is one that failed: its value is the worst.
//
// Bergstra et al., "Algorithms for hyper-parameter optimization", 2011;
// Watanabe, "Tree-structured Parzen estimator", 2023.
type TPE struct{}

const (
	startup    = 10 // trials before the model
	candidates = 48
	good       = 0.1 // share of good trials
	mostGood   = 25
	branch     = 5 // trials that make a model of one branch
	// Where all parameters have steps, the model may draw a point that was tried.
	// Up to 8 draws from the model and 32 from the whole space replace it.
	fromModel, fromSpace = 8, 32
)

// Ask proposes a point. See [Sampler].
func (TPE) Ask(a Ask) (space.Point, error) {
	model := tpe{a, make([]*search.Trial, len(a.Seen))}
	for i := range a.Seen {
		model.seen[i] = &a.Seen[i]
	}
	slices.SortFunc(model.seen, func(x, y *search.Trial) int { return x.Number - y.Number })
	started := model.counted(model.seen) >= startup
	if !started && a.Space.Len() <= len(directions)+1 {
		return Sobol{}.Ask(a)
	}
	r := a.stream()
	drawn := 0
	return a.first(func() (space.Point, error) {
		drawn++
		if !started || drawn > patience {
			return a.Space.Draw(r.Float64), nil
		}
		first := model.propose(r)
		p := first
		for i := 0; model.tried(p); i++ {
			switch {
			case i < fromModel:
				p = model.propose(r)
			case i < fromModel+fromSpace:
				p = a.Space.Draw(r.Float64)
			default:
				return first, nil
			}
		}
		return p, nil
	})
}

// tpe is one ask.
type tpe struct {
	Ask
	seen []*search.Trial // by number
}

// counted is how many of the trials have a value to learn from.
func (t tpe) counted(trials []*search.Trial) (n int) {
	for _, x := range trials {
		if x.Counts(t.Direction) {
			n++
		}
	}
	return n
}

func (t tpe) tried(p space.Point) bool {
	return slices.ContainsFunc(t.seen, func(x *search.Trial) bool { return x.Point.Equal(p) })
}

// propose draws the groups of parameters one after another.
func (t tpe) propose(r *rand.Rand) space.Point {
	p := make(space.Point, t.Space.Len())
	for i := range p {
		p[i] = space.Inactive
	}
	for _, group := range t.Space.Groups() {
		if !t.Space.Exists(p, group[0]) {
			continue
		}
		trials := where(t.seen, func(q space.Point) bool { return space.Active(q[group[0]]) })
		var opening, rest []int
		for _, i := range group {
			if t.Space.Opens(i) {
				opening = append(opening, i)
			} else {
				rest = append(rest, i)
			}
		}
		if len(opening) > 0 {
			t.draw(r, opening, trials, 1, p)
			same := where(trials, func(q space.Point) bool {
				return !slices.ContainsFunc(opening, func(i int) bool { return q[i] != p[i] })
			})
			if t.counted(same) >= branch {
				trials = same
			}
		}
		if len(rest) > 0 {
			t.draw(r, rest, trials, candidates, p)
		}
	}
	return p
}

func where(trials []*search.Trial, keep func(space.Point) bool) []*search.Trial {
	kept := make([]*search.Trial, 0, len(trials))
	for _, x := range trials {
		if keep(x.Point) {
			kept = append(kept, x)
		}
	}
	return kept
}

// draw writes the best of n draws of the parameters of a group into p.
func (t tpe) draw(r *rand.Rand, group []int, trials []*search.Trial, n int, p space.Point) {
	below, above := t.split(trials)
	l := newParzen(t.Space, group, below)
	if n == 1 {
		l.draw(r, group, p)
		return
	}
	g := newParzen(t.Space, group, above)
	best := math.Inf(-1)
	q := slices.Clone(p)
	for i := range n {
		l.draw(r, group, q)
		if score := l.logDensity(group, q) - g.logDensity(group, q); score > best || i == 0 {
			best = score
			copy(p, q)
		}
	}
}

// split gives the points of the good trials and of the others, each by number.
func (t tpe) split(trials []*search.Trial) (below, above []space.Point) {
	n := min(int(math.Ceil(good*float64(t.counted(trials)))), mostGood)
	best := make([]*search.Trial, 0, n+1) // the first is the best
	order := func(x, y *search.Trial) int { return search.Compare(t.Direction, *x, *y) }
	for _, x := range trials {
		if n == 0 || !x.Counts(t.Direction) || len(best) == n && order(x, best[n-1]) > 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, x, order)
		best = slices.Insert(best, at, x)
		best = best[:min(len(best), n)]
	}
	for _, x := range trials {
		if slices.Contains(best, x) {
			below = append(below, x.Point)
		} else {
			above = append(above, x.Point)
		}
	}
	return below, above
}
