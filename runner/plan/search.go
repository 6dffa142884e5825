package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/experiment"
)

// A Search is one that a plan continues.
type Search struct {
	Name string `json:"name"` // "search_lora/dora"
	// Digest is of all that decides its trials, but for those that there are.
	Digest string `json:"digest"`
	// Made is how many trials there are, and States what became of them.
	Made   int            `json:"made"`
	States map[string]int `json:"states"`

	// Like is the cell as the file has it: trials have its shape, nearly.
	Like *experiment.Run `json:"-"`
	// What is left to train, runs and steps; the most that it can be where AtMost is set.
	Runs   int    `json:"-"`
	Left   uint64 `json:"-"`
	AtMost bool   `json:"-"`
}

// HasSearch reports whether a search belongs to the selection: one of the runs that its
// cell has without the search does.
func (s Selection) HasSearch(of *experiment.Study) bool {
	return slices.ContainsFunc(of.Untuned, func(run *experiment.Run) bool { return s.Has(run.Name()) })
}

// differs says what moved in a search since the plan was saved, "" if nothing did.
func (s Search) differs(now Search) string {
	switch {
	case s.Digest != now.Digest:
		return "the search is another one: its space, its budget or its cell moved"
	case s.Made != now.Made:
		return fmt.Sprintf("had %s, has %d now", plural.Of(s.Made, "trial"), now.Made)
	case !maps.Equal(s.States, now.States):
		return "some of its trials went on meanwhile"
	}
	return ""
}

// searchesMoved says what moved in searches, a line each.
func searchesMoved(saved, now []Search) (moved []string) {
	for _, was := range saved {
		i := slices.IndexFunc(now, func(s Search) bool { return s.Name == was.Name })
		switch {
		case i < 0:
			moved = append(moved, was.Name+": the search has ended, or no file asks for it any more")
		case was.differs(now[i]) != "":
			moved = append(moved, was.Name+": "+was.differs(now[i]))
		}
	}
	for _, s := range now {
		if !slices.ContainsFunc(saved, func(was Search) bool { return was.Name == s.Name }) {
			moved = append(moved, s.Name+": the search is not in the saved plan")
		}
	}
	return moved
}

// searchCell is what a plan knows of what a search has left.
func (r *rates) searchCell(s Search) (Cell, error) {
	c, err := describe(s.Like)
	if err != nil {
		return Cell{}, fmt.Errorf("the search of %s: %w", s.Name, err)
	}
	c.Search, c.AtMost, c.Runs, c.Left = true, s.AtMost, s.Runs, s.Left
	c.Cost = r.estimate(s.Like.Spec, c.Left, max(c.Runs, 1))
	return c, nil
}
