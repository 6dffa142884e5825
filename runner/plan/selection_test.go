package plan

import (
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
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

func TestMoved(t *testing.T) {
	change := func(path, from, to string) spec.Change { return spec.Change{Path: path, From: from, To: to} }
	digest := strings.Repeat("0123456789abcdef", 4)
	for want, changes := range map[string][]spec.Change{
		"optim.lr.head moved from 0.001 to 0.002": {change("optim.lr_head", "0.001", "0.002")},
		"the training images moved from 01234567 to unset": {
			change("data.splits.train.digest", digest, "unset"), change("data.splits.train.count", "40", "80"),
		},
		"the adapter's program moved from [2,16] to [8,16]": {
			change("adapter.programs[0].params[0].shape", "[2,16]", "[8,16]"), change("adapter.programs[0].params[1].shape", "[16,2]", "[16,8]"),
		},
		"data.size moved from 224 to 448, train.epochs moved from 3 to 4 and 1 more": {
			change("data.height", "224", "448"), change("data.width", "224", "448"), change("train.epochs", "3", "4"), change("train.batch", "8", "4"),
		},
	} {
		if got := moved(changes); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
