package study

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/search/sampler"
	"github.com/loralab/loralab/runner/store"
)

// asked reports trials whose sampler gives another point when it is asked again.
func (l *lab) asked(s *Study) {
	l.Helper()
	for _, t := range s.Trials {
		if t.Start {
			continue
		}
		ask, err := s.Ask(l.Context(), l.root, t.Number)
		l.must(err)
		of, err := sampler.New(s.Sampler)
		l.must(err)
		again, err := of.Ask(ask)
		l.must(err)
		if !again.Equal(t.at) {
			l.Errorf("trial %d is %v, and asked again it is %v", t.Number, t.at, again)
		}
	}
}

// A search without a pruner: trials, then the best on the seeds of the experiment.
// Its files and runs do not depend on how often it was begun again.
func TestASearch(t *testing.T) {
	t.Parallel()
	l := newLab(t, one)
	l.apply(math.MaxInt)
	s := l.read()[0]
	if len(s.Trials) != 8 || !s.Over() || len(l.trained) != 8+2 {
		t.Fatalf("%d trials, over %v, trained %q", len(s.Trials), s.Over(), l.trained)
	}
	top := s.Best()[0]
	for _, t := range s.Trials {
		if t.State != Complete || t.Value > top.Value || t.Steps != 18 {
			l.Errorf("trial %d: %+v", t.Number, t)
		}
	}
	if want := []string{"x/best/seed=1 0-18", "x/best/seed=2 0-18"}; !slices.Equal(l.trained[8:], want) {
		t.Errorf("after the search: %q", l.trained[8:])
	}
	l.once()
	l.asked(s)
	if p := s.Progress(); !p.Over || p.Best.Trial != top.Number || p.Counts[Complete] != 8 {
		t.Errorf("%+v", p)
	}

	again := newLab(t, one)
	for range 10 {
		again.apply(1)
	}
	if !maps.Equal(again.files(), l.files()) || !slices.Equal(again.trained, l.trained) {
		t.Errorf("begun again after each run: %v\n%v", again.files(), l.files())
	}
}

// A trial pauses at its rungs, and is pruned or continues where it was. No step is
// done twice, whatever the number of slots.
func TestRungs(t *testing.T) {
	t.Parallel()
	var files []map[string]string
	all := []int{1, 1, 4}
	if testing.Short() {
		all = all[2:]
	}
	for _, slots := range all {
		l := newLab(t, trials(18, with(`pruner: {kind: "asha", min: 2}`)))
		l.slots = slots
		most := math.MaxInt
		if len(files) == 1 {
			most = 3
		}
		for range 30 {
			if l.apply(most); most > 3 {
				break
			}
		}
		s := l.read()[0]
		if !s.Over() || len(s.Trials) != 18 {
			t.Fatalf("%d trials, over %v", len(s.Trials), s.Over())
		}
		counts := map[int]int{}
		for _, trial := range s.Trials {
			counts[len(trial.Rungs)]++
			if last := trial.Rungs[len(trial.Rungs)-1]; trial.State != Complete && (trial.State != Pruned || trial.Step != last.Step || trial.Value != last.Value) {
				t.Errorf("trial %d is %+v", trial.Number, trial)
			}
		}
		if p := s.Progress(); counts[1]+counts[2] != 18 || counts[2] < 18/3 || p.Counts[Complete] < 2 || p.Counts[Open] > 0 {
			t.Errorf("%d slots: %v, rungs %v", slots, p.Counts, counts)
		}
		l.once()
		l.asked(s)
		files = append(files, l.files())
	}
	if !testing.Short() && !maps.Equal(files[0], files[1]) {
		t.Error("with one slot, a search that was begun again after each run is another")
	}
}

// Trials that crash or have no finite value are never the best, and the study
// continues. A pruner never promotes them.
func TestTrialsThatFail(t *testing.T) {
	t.Parallel()
	for _, pruner := range []string{"none", "asha", "median"} {
		l := newLab(t, trials(24, with(fmt.Sprintf(`pruner: {kind: %q}`, pruner))))
		l.score = func(s *spec.RunSpec, step uint64) (float64, error) {
			switch n := int(math.Abs(math.Log(s.Optim.LrHead))*1e6) % 5; {
			case s.Seed != 101:
			case n == 0:
				return 0, errors.New("out of memory")
			case n < 4:
				return []float64{math.NaN(), math.Inf(1), math.Inf(-1)}[n-1], nil
			}
			return best(s, step)
		}
		l.apply(math.MaxInt)
		s := l.read()[0]
		failed := map[string]int{}
		for _, trial := range s.Trials {
			failed[trial.Reason]++
			if trial.State == Complete && math.IsInf(s.direction().Loss(trial.Value), 0) {
				t.Errorf("%s: trial %d is complete with %v", pruner, trial.Number, trial.Value)
			}
			if len(trial.Rungs) > 1 && math.IsInf(s.direction().Loss(trial.Rungs[0].Value), 0) {
				t.Errorf("%s: trial %d was promoted with %v", pruner, trial.Number, trial.Rungs[0].Value)
			}
		}
		if !s.Over() || len(s.Trials) != 24 || failed["out of memory"] == 0 || pruner == "none" && len(failed) < 4 {
			t.Errorf("%s: over %v, %v, failed %v", pruner, s.Over(), statesOf(s), failed)
		}
		l.asked(s)
		l.once()
	}
}

// A search all of whose trials fail is over, and compares nothing.
func TestAllTrialsFail(t *testing.T) {
	t.Parallel()
	l := newLab(t, one)
	l.score = func(*spec.RunSpec, uint64) (float64, error) { return 0, errors.New("no memory") }
	l.apply(math.MaxInt)
	if s := l.read()[0]; !s.Over() || len(s.Best()) > 0 || len(l.trained) != 8 || s.Progress().Best != nil {
		t.Errorf("%v, %q", statesOf(s), l.trained)
	}
}

// Raising trials continues. A bound that moves leaves the trials that lie inside, and
// another base leaves none; both are foreign, and come back with the bound.
func TestEdits(t *testing.T) {
	t.Parallel()
	l := newLab(t, one)
	l.apply(math.MaxInt)
	before := l.files()
	l.write(trials(12, one))
	l.apply(math.MaxInt)
	s := l.read()[0]
	for name, text := range before {
		if l.files()[name] != text {
			t.Errorf("%s has changed", name)
		}
	}
	if len(s.Trials) != 12 || !s.Over() || s.Foreign != 0 {
		t.Errorf("with more trials: %v, over %v, %d foreign", statesOf(s), s.Over(), s.Foreign)
	}
	l.once()

	narrow := strings.Replace(trials(12, one), "high: 1,", "high: 1e-2,", 1)
	l.write(narrow)
	s = l.read()[0]
	inside := 0
	for _, trial := range l.trials() {
		if trial.Point[0].Value.(float64) <= 1e-2 {
			inside++
		}
	}
	if len(s.Trials) != inside || s.Foreign != 12-inside || inside == 12 || s.Over() {
		t.Errorf("in a narrower space: %v, %d foreign, %d lie inside", statesOf(s), s.Foreign, inside)
	}
	l.apply(math.MaxInt)
	s = l.read()[0]
	if len(s.Trials) != 12 || !s.Over() || s.Foreign != 12-inside {
		t.Errorf("in a narrower space: %v, over %v, %d foreign", statesOf(s), s.Over(), s.Foreign)
	}
	for _, trial := range s.Trials[inside:] {
		if trial.Number < 12 {
			t.Errorf("trial %d is drawn again", trial.Number)
		}
	}
	// What is drawn now has not seen the trials outside, and their return is new.
	l.write(trials(40, one))
	l.apply(math.MaxInt)
	s = l.read()[0]
	if len(s.Trials) != 40 || s.Foreign != 0 || !s.Over() {
		t.Errorf("in the first space: %v, %d foreign", statesOf(s), s.Foreign)
	}
	for _, n := range []int{30, 39} { // drawn in this space
		ask, err := s.Ask(t.Context(), l.root, n)
		l.must(err)
		if len(ask.Seen) != n {
			t.Errorf("trial %d has seen %d trials", n, len(ask.Seen))
		}
	}
	ask, err := s.Ask(t.Context(), l.root, 12) // the first in the narrow space
	l.must(err)
	if len(ask.Seen) != inside {
		t.Errorf("the first trial of the narrow space has seen %d trials, not %d", len(ask.Seen), inside)
	}

	l.write(strings.Replace(one, "batch: 4", "batch: 2", 1))
	if s = l.read()[0]; len(s.Trials) != 0 || s.Foreign != len(l.trials()) || s.Over() {
		t.Errorf("of another base: %v, %d foreign", statesOf(s), s.Foreign)
	}
	// Fields that make no other run do not matter.
	l.write(strings.Replace(trials(40, one), "backbone: model", "about: \"another\"\n\tbackbone: model", 1))
	if s = l.read()[0]; len(s.Trials) != 40 || !s.Over() {
		t.Errorf("with another about: %v", statesOf(s))
	}
}

// trials are the files of the trials, in order.
func (l *lab) trials() (all []*file) {
	l.Helper()
	files := l.files()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := &file{}
		l.must(json.Unmarshal([]byte(files[name]), f))
		all = append(all, f)
	}
	return all
}

// Points to start with are the first trials, and are not tried twice. An empty one is
// the cell itself.
func TestStart(t *testing.T) {
	t.Parallel()
	l := newLab(t, with(`start: [{"optim.lr.head": 0.5}, {}]`))
	l.apply(1)
	l.apply(math.MaxInt)
	s := l.read()[0]
	for i, want := range []float64{0.5, 1e-3} {
		if trial := s.Trials[i]; !trial.Start || trial.Point[0].Value != want {
			t.Errorf("trial %d: %+v", i, trial)
		}
	}
	if s.Trials[2].Start || len(s.Trials) != 8 {
		t.Errorf("%d trials: %+v", len(s.Trials), s.Trials[2])
	}
	// One that is added later is tried next.
	l.write(trials(10, with(`start: [{}, {"optim.lr.head": 0.5}, {"optim.lr.head": 2e-5}]`)))
	l.apply(math.MaxInt)
	if s = l.read()[0]; !s.Trials[8].Start || s.Trials[9].Start || s.Trials[8].Point[0].Value != 2e-5 {
		t.Errorf("%+v, %+v", s.Trials[8], s.Trials[9])
	}
}

// A grid ends with its points, whatever the budget.
func TestAGridEnds(t *testing.T) {
	t.Parallel()
	grid := strings.Replace(one, "{low: 1e-5, high: 1, log: true}", "choice: [1e-3, 1e-2, 1e-1]", 1)
	grid = strings.Replace(grid, "// more", `sampler: "grid"`, 1)
	for _, slots := range []int{1, 2} {
		l := newLab(t, grid)
		l.slots = slots
		l.apply(math.MaxInt)
		l.apply(math.MaxInt)
		s := l.read()[0]
		points := map[float64]bool{}
		for _, trial := range s.Trials {
			points[trial.Point[0].Value.(float64)] = true
		}
		if len(s.Trials) != 3 || len(points) != 3 || !s.Over() || len(l.trained) != 5 {
			t.Errorf("%d slots: %v of %v, over %v, trained %q", slots, statesOf(s), points, s.Over(), l.trained)
		}
	}
}

// A budget in steps counts those of all trials and seeds.
func TestABudgetInSteps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fields string
		trials int
	}{
		{"steps: 60", 4}, // 18, 36, 54, 72
		{"steps: 60, seeds: [101, 102]", 2},
		{`steps: 30, pruner: {kind: "asha", min: 2}`, 0},
	} {
		l := newLab(t, strings.Replace(with(c.fields), "trials: 8", "", 1))
		l.apply(math.MaxInt)
		s := l.read()[0]
		used := uint64(0)
		for _, trial := range s.Trials {
			used += trial.Steps
		}
		if !s.Over() || c.trials > 0 && len(s.Trials) != c.trials || used < s.Steps {
			t.Errorf("%s: %v, %d steps, over %v", c.fields, statesOf(s), used, s.Over())
		}
		if c.trials == 0 && (len(s.Trials) < 4 || used > 30+18) {
			t.Errorf("%s: %v, %d steps", c.fields, statesOf(s), used)
		}
	}
}

// A trial with two seeds is two runs, and its value their mean.
func TestTrialsOfTwoSeeds(t *testing.T) {
	t.Parallel()
	for _, slots := range []int{1, 3} {
		l := newLab(t, with(`seeds: [101, 102], pruner: {kind: "asha", min: 2}, retest: top: 2`))
		l.slots = slots
		l.score = func(s *spec.RunSpec, step uint64) (float64, error) {
			v, err := best(s, step)
			return v + float64(s.Seed%2)/10, err // 101 is better than 102
		}
		l.apply(math.MaxInt)
		s := l.read()[0]
		for _, trial := range s.Trials {
			rate := &spec.RunSpec{Optim: &spec.Optim{LrHead: trial.Point[0].Value.(float64)}}
			want, _ := best(rate, 2)
			if got := trial.Rungs[0].Value; len(trial.Runs) != 2 || math.Abs(got-want-0.05) > 1e-12 {
				t.Errorf("trial %d: %v at step 2, want %v, runs %v", trial.Number, got, want+0.05, trial.Runs)
			}
		}
		if !s.Over() || len(s.Trials) != 8 {
			t.Errorf("%v, over %v", statesOf(s), s.Over())
		}
		retested := l.trained[len(l.trained)-4:]
		slices.Sort(retested)
		complete := s.Progress().Counts[Complete]
		if want := "x/best,top=2/seed=1"; complete > 1 && !strings.HasPrefix(retested[0], want) {
			t.Errorf("with %d complete trials, the last runs are %q, and not of %s", complete, retested, want)
		}
		l.once()
		l.asked(s)
	}
}

// A configuration that another experiment has trained is not trained again, and a
// point that is drawn twice is one run.
func TestWhatExistsIsNotTrained(t *testing.T) {
	t.Parallel()
	coarse := strings.Replace(one, "{low: 1e-5, high: 1, log: true}", "choice: [1e-3, 1e-2, 1e-1]", 1)
	coarse = strings.Replace(coarse, "// more", `sampler: "random", start: [{}], pruner: {kind: "asha", min: 2}`, 1)
	l := newLab(t, coarse)
	other := strings.Replace(coarse, "x: schema", "y: schema", 1)
	other = trials(1, other)
	l.write(other)
	l.apply(math.MaxInt)
	had := len(l.trained)
	l.write(coarse)
	l.slots = 4
	l.apply(math.MaxInt)
	s := l.read()[0]
	ids := map[string]bool{}
	for _, trial := range s.Trials {
		ids[trial.Runs[0].ID] = true
	}
	if len(s.Trials) != 8 || !s.Over() || len(ids) != 3 {
		t.Errorf("%v of %d runs, over %v", statesOf(s), len(ids), s.Over())
	}
	begun := map[string]bool{}
	for _, line := range l.trained[had:] {
		if strings.HasSuffix(line, " 0-2") {
			begun[line] = true
		}
	}
	if len(begun) != 2 {
		t.Errorf("begun %v, and one of three points was there: %q", begun, l.trained)
	}
	l.once()
	l.asked(s)
}

// Several cells are several studies, each with its own budget.
func TestAStudyForEachCell(t *testing.T) {
	t.Parallel()
	l := newLab(t, strings.Replace(one, "\tseeds: [1, 2]", "\tvary: \"head.hidden\": [8, 16]\n\tseeds: [1, 2]", 1))
	l.slots = 3
	l.apply(math.MaxInt)
	all := l.read()
	if len(all) != 2 || all[0].Cell == all[1].Cell {
		t.Fatalf("%d studies", len(all))
	}
	for _, s := range all {
		if len(s.Trials) != 8 || !s.Over() {
			t.Errorf("%s: %v, over %v", s.Cell, statesOf(s), s.Over())
		}
		l.asked(s)
	}
	if reflect.DeepEqual(all[0].Trials[0].Runs, all[1].Trials[0].Runs) {
		t.Error("both studies have the same runs")
	}
	if len(l.trained) != 2*(8+2) {
		t.Errorf("trained %q", l.trained)
	}
	l.once()
}

// Two cells whose directories have the same name share the numbers and nothing else.
func TestCellsOfOneDirectory(t *testing.T) {
	t.Parallel()
	cases := strings.Replace(one, "	seeds: [1, 2]", `	cases: {"a:b": head: hidden: 16, "a_b": head: hidden: 24}
	seeds: [1, 2]`, 1)
	l := newLab(t, strings.Replace(trials(4, cases), "// more", "", 1))
	l.slots = 2
	l.apply(math.MaxInt)
	for _, s := range l.read() {
		if len(s.Trials) != 4 || s.Foreign != 0 || !s.Over() {
			t.Errorf("%s: %v, %d foreign, over %v", s.Cell, statesOf(s), s.Foreign, s.Over())
		}
		l.asked(s)
	}
	l.once()
}

// Two processes share a study: no number is drawn twice, and each sees what the other
// has done.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	l := newLab(t, trials(12, with(`pruner: {kind: "asha", min: 2}`)))
	locks := []*store.Lock{}
	var both []*applier
	for range 2 {
		lock, err := store.JoinProject(t.Context(), l.root, "apply")
		l.must(err)
		locks = append(locks, lock)
		both = append(both, l.begin(lock))
	}
	done := [2]bool{}
	for turn := 0; !done[0] || !done[1]; turn++ {
		if turn > 500 {
			t.Fatal("they do not end")
		}
		a := both[turn%2]
		if len(a.progress) > 0 && turn%3 > 0 {
			l.must(a.end())
			continue
		}
		job, over, err := a.src.Next(t.Context())
		l.must(err)
		if done[turn%2] = over && len(a.progress) == 0; job == nil {
			continue
		}
		var other *store.ClaimedError
		stored, err := a.runs.Claim(t.Context(), job.Run.ID)
		if errors.As(err, &other) {
			l.must(a.src.Ended(job, nil))
			continue
		}
		l.must(err)
		if stored.Summary != nil || job.Pause != nil && slices.ContainsFunc(stored.Rungs, func(r store.Rung) bool { return r.Step >= job.Pause.Step }) {
			l.must(a.runs.Unclaim(t.Context(), job.Run.ID)) // the other has done it
			l.must(a.src.Ended(job, nil))
			continue
		}
		l.must(a.runs.Start(t.Context(), job.Run.ID))
		a.progress = append(a.progress, job)
	}
	for i := range both {
		both[i].close()
		l.must(locks[i].Release())
	}
	s := l.read()[0]
	if len(s.Trials) != 12 || !s.Over() {
		t.Errorf("%v, over %v", statesOf(s), s.Over())
	}
	l.once()
	l.asked(s)
}

// A run of a trial that is removed is trained again; so is one whose file is damaged
// only as far as it cannot be read.
func TestARunIsRemoved(t *testing.T) {
	t.Parallel()
	l := newLab(t, with(`pruner: {kind: "asha", min: 2}`))
	l.apply(math.MaxInt)
	s := l.read()[0]
	i := slices.Index(statesOf(s), Pruned)
	id := s.Trials[i].Runs[0].ID
	l.must(os.RemoveAll(filepath.Join(l.root, filepath.FromSlash(store.DirOf("x", id)))))
	if s = l.read()[0]; s.Trials[i].State != Open || s.Over() {
		t.Errorf("without its run, trial %d is %+v", i, s.Trials[i])
	}
	l.trained = nil
	l.apply(math.MaxInt)
	if s = l.read()[0]; s.Trials[i].State != Pruned || !s.Over() || len(l.trained) != 1 {
		t.Errorf("trained again: %v, %q", statesOf(s), l.trained)
	}
}

// Files that are no trials are left alone; those that cannot be read are named, with
// what to do.
func TestFilesOfTrials(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "runs"), 0o777); err != nil {
		t.Fatal(err)
	}
	d, err := open(root, "x", "cell=\"a/b\"", true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	f := &file{
		Number: 0, Cell: "c", Key: "k", Sampler: "tpe", Seed: 1<<63 + 1,
		Point: Point{{Path: "b", Value: 0.1}, {Path: "a", Value: "é\x1b\""}, {Path: "c", Value: true}, {Path: "d", Value: []any{"query", 2.0}}},
		Runs:  []run{{7, "abc"}},
		Seen:  []Seen{{3, Paused, 9}, {4, Open, 0}},
	}
	if err := d.create(f); err != nil {
		t.Fatal(err)
	}
	if got, err := d.read(0); err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("%+v, %v, want %+v", got, err, f)
	}
	other := *f
	other.Cell = "other"
	if err := d.create(&other); !errors.Is(err, errTaken) {
		t.Errorf("made twice: %v", err)
	}
	if got, _ := d.read(0); got.Cell != "c" {
		t.Error("the second replaced the first")
	}
	last := *f
	last.Number = 12
	if err := d.create(&last); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(root, "runs", filepath.FromSlash(d.name))
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"1.json", "0000001.json", "x.json", "-00001.json", "+00001.json", "000001.txt", ".000002.json.tmp-0"} {
		put(name, "{}")
	}
	put(".000012.json.tmp-0", "{}")
	d.sweep()
	if numbers, err := d.numbers(); err != nil || !slices.Equal(numbers, []int{0, 12}) {
		t.Errorf("numbers %v, %v", numbers, err)
	}
	if _, err := d.at.Lstat(".000012.json.tmp-0"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("what a killed process left is still there")
	}
	if _, err := d.at.Lstat(".000002.json.tmp-0"); err != nil {
		t.Error("a file that may be in the making was removed")
	}
	if _, err := d.read(3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("trial 3: %v", err)
	}
	whole, err := json.Marshal(last)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{
		string(whole[:len(whole)/2]), "", "[]", "null", `{"format": 2, "number": 20}`, `{"format": 1, "number": 3, "runs": [{}]}`,
		`{"format": 1, "number": 26, "runs": []}`, `{"format": 1, "number": 27, "runs": [{}], "point": []}`, strings.Repeat(" ", fileMost+2),
	} {
		put(nameOf(20+i), text)
		if f, err := d.read(20 + i); err == nil || !strings.Contains(err.Error(), d.path(20+i)) || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%.40s: %+v, %v", text, f, err)
		}
	}
	for i, make := range []func(string) error{
		func(name string) error { return os.Symlink(nameOf(0), name) },
		func(name string) error { return os.Mkdir(name, 0o777) },
	} {
		if err := make(filepath.Join(at, nameOf(40+i))); err != nil {
			t.Fatal(err)
		}
		if _, err := d.read(40 + i); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("%d: %v", 40+i, err)
		}
	}
}

// A damaged file of a trial is one error, and its removal draws another trial. A gap
// stays.
func TestADamagedTrial(t *testing.T) {
	t.Parallel()
	l := newLab(t, one)
	l.apply(math.MaxInt)
	name := filepath.Join(l.root, "runs", "x", "studies", "base", nameOf(3))
	l.must(os.WriteFile(name, []byte("{"), 0o666))
	known, err := store.Read(t.Context(), l.root)
	l.must(err)
	if _, err := Read(t.Context(), known, l.load()); err == nil || !strings.Contains(err.Error(), "runs/x/studies/base/000003.json cannot be read") {
		t.Errorf("%v", err)
	}
	l.must(os.Remove(name))
	l.apply(math.MaxInt)
	s := l.read()[0]
	var numbers []int
	for _, trial := range s.Trials {
		numbers = append(numbers, trial.Number)
	}
	if !slices.Equal(numbers, []int{0, 1, 2, 4, 5, 6, 7, 8}) || !s.Over() {
		t.Errorf("trials %v, over %v", numbers, s.Over())
	}
}

// Cells whose names differ have studies of their own, also where files cannot have the
// names.
func TestDirectoriesOfCells(t *testing.T) {
	of := map[string]string{}
	long := strings.Repeat("rank=4,", 30)
	for _, cell := range []string{"lora", "<a", ">a", "_a", "model=facebook/dinov2-small", "model=facebook_dinov2-small", long, long + "x"} {
		dir := Dir("e", cell)
		if other, found := of[dir]; found || strings.Count(dir, "/") != 2 {
			t.Errorf("the trials of %q are in %s, as those of %q", cell, dir, other)
		}
		of[dir] = cell
	}
	if of["e/"+store.Studies+"/lora"] != "lora" {
		t.Errorf("directories %v", of)
	}
}
