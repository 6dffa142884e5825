package plan

import (
	"strings"
	"testing"

	"github.com/loralab/loralab/runner/store"
)

func TestSelection(t *testing.T) {
	const name = "ablation/rank=8,alpha=4/seed=1"
	for pattern, want := range map[string]bool{
		name: true, "ablation": true, "rank=8,alpha=4": true, "rank=8": true, "alpha=4": true, "seed=1": true,
		"rank=*": true, "*": true, "ablation/rank=8,alpha=4": true, "rank=8,alpha=4/seed=?": true, "ablation/*/seed=1": true,
		"rank=80": false, "rank": false, "seed=2": false, "abl": false, "ablation/seed=1": false,
	} {
		if means(pattern, name) != want {
			t.Errorf("%s means %s: %v", pattern, name, !want)
		}
	}
	if !means("blocks=[8,9]", "e/blocks=[8,9]/seed=1") {
		t.Error("a name with brackets does not mean itself")
	}

	a, b, other := run("e", "rank=2", 1, 3), run("e", "rank=8", 1, 3), run("e", "gone", 1, 3)
	known := snapshot(stored(t, other, store.Done, 7, true))
	for _, c := range []struct {
		only       Selection
		names, err string
	}{
		{Selection{}, "e/rank=2/seed=1 e/rank=8/seed=1 e/gone/seed=1", ""},
		{Selection{Target: []string{"rank=8"}}, "e/rank=8/seed=1", ""},
		{Selection{Exclude: []string{"rank=8"}}, "e/rank=2/seed=1 e/gone/seed=1", ""},
		{Selection{Target: []string{"rank=*"}, Exclude: []string{"rank=2"}}, "e/rank=8/seed=1", ""},
		{Selection{Target: []string{"rnk=8"}}, "", `did you mean "rank=8"`},
		{Selection{Exclude: []string{"[rank"}}, "", "is no pattern"},
	} {
		p, err := Make(experiments(a, b), known, c.only)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v: error %v, want %s", c.only, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, action := range p.Actions {
			names = append(names, action.Name)
		}
		if got := strings.Join(names, " "); got != c.names {
			t.Errorf("%v: %s, want %s", c.only, got, c.names)
		}
	}
}

// A cell whose twin is left out does the work itself.
func TestSelectionOfASharedRun(t *testing.T) {
	a, b := run("e", "c", 1, 3, "test"), run("f", "c", 1, 3, "test")
	p, err := Make(experiments(a, b), snapshot(), Selection{Target: []string{"f"}})
	if err != nil {
		t.Fatal(err)
	}
	if work := p.Work(); len(work) != 1 || work[0].Name != "f/c/seed=1" {
		t.Errorf("%+v", work)
	}
}
