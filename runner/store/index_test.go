package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// said is all that a snapshot says, for comparing.
func said(t *testing.T, s *Snapshot) string {
	t.Helper()
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(s.Runs)) {
		r := s.Runs[id]
		fmt.Fprintln(&b, id, r.Name(), r.State, r.Step, r.Steps, r.Attempts, r.Reason, r.Dir, r.Checkpoint,
			r.Created.UnixMilli(), r.Started.UnixMilli(), r.Ended.UnixMilli(), r.Damage, r.Holder != nil)
		for _, rung := range r.Rungs {
			fmt.Fprintln(&b, " ", rung.Step, plain(t, rung.Metrics))
		}
		fmt.Fprintln(&b, " ", plain(t, r.Summary), slices.Sorted(maps.Keys(r.Evaluations)))
		for _, domain := range slices.Sorted(maps.Keys(r.Scored())) {
			fmt.Fprintln(&b, " ", domain, plain(t, r.Scored()[domain]))
		}
		if sp, err := r.Spec(); err != nil {
			fmt.Fprintln(&b, " ", err)
		} else {
			fmt.Fprintln(&b, " ", string(spec.Canonical(sp)))
		}
	}
	for _, l := range s.Labels {
		fmt.Fprintln(&b, l.Name(), l.Run, l.Since.UnixMilli(), l.Position)
	}
	for _, l := range s.Newest() {
		fmt.Fprintln(&b, l.Name(), l.Run, s.Current()(l))
	}
	for _, e := range slices.Sorted(maps.Keys(s.Asked)) {
		fmt.Fprintln(&b, e, s.Asked[e].When.UnixMilli(), len(s.Asked[e].Runs))
	}
	fmt.Fprintln(&b, s.Notes)
	return b.String()
}

// plain is a message as JSON without the white space, which protojson varies.
func plain(t *testing.T, m proto.Message) string {
	t.Helper()
	var b bytes.Buffer
	check(t, json.Compact(&b, must[[]byte](t)(protojson.Marshal(m))))
	return b.String()
}

// ofAllKinds makes a project with runs in every state, one of them shared by two
// experiments and under two names of one.
func ofAllKinds(t *testing.T, root string) map[string]*Run {
	t.Helper()
	ctx := t.Context()
	s := must[*Store](t)(Open(ctx, root))
	defer s.Close()
	runs := map[string]*Run{}
	var all []*Run
	var labels []Label
	var first, second Asked
	first.Experiment, second.Experiment = "first", "second"
	for i, name := range []string{"queued", "stopped", "failed", "done", "shared", "paused"} {
		run, label := newRun(t, "first", name, uint64(i))
		run.Experiment, run.Cell, run.Seed = label.Experiment, label.Cell, label.Seed
		runs[name] = run
		all, labels = append(all, run), append(labels, label)
		first.Runs = append(first.Runs, Wanted{Label: label, Evaluations: []string{"eeeeeeeeeeee"}})
	}
	twin := labels[4]
	twin.Cell = "twin"
	first.Runs = append([]Wanted{{Label: twin}}, first.Runs...)
	check(t, s.Enqueue(ctx, nil, all, append(labels, twin), &first))
	other := Label{Experiment: "second", Cell: "same", Seed: 4, Run: runs["shared"].ID}
	second.Runs = []Wanted{{Label: other}}
	known := must[*Snapshot](t)(s.Reconcile(ctx))
	check(t, s.Enqueue(ctx, known, nil, []Label{other}, &second))
	for _, name := range []string{"stopped", "failed", "done", "shared", "paused"} {
		run := runs[name]
		check(t, s.Start(ctx, run.ID), s.Begun(ctx, run.ID, 0, 72))
		leave(t, root, run, "request.json", request(t, run))
		switch name {
		case "stopped":
			leaveCheckpoint(t, root, run, "48")
			check(t, s.Stop(ctx, run.ID, 48))
		case "paused":
			leaveCheckpoint(t, root, run, "9")
			check(t, s.Pause(ctx, run.ID, 9, &spec.Metrics{Dice: 0.125}))
		case "failed":
			leaveCheckpoint(t, root, run, "24")
			check(t, s.Fail(ctx, run.ID, 24, "out of luck"))
		default:
			summary := &spec.Summary{Id: run.ID, Steps: 72, Validation: &spec.Metrics{Dice: 0.25}}
			for i, id := range []string{"aaaaaaaaaaaa", "eeeeeeeeeeee"} { // of one domain, whose images changed
				e := &spec.Evaluated{Id: id + strings.Repeat("0", 52), Domain: "test", Metrics: &spec.Metrics{Dice: float64(i)}}
				leave(t, root, run, "evaluations/"+id+".json", e)
			}
			leave(t, root, run, "result.json", summary)
			check(t, s.Finish(ctx, run.ID, summary))
		}
	}
	must[*Snapshot](t)(s.Reconcile(ctx))
	return runs
}

// Without its database a project says what it said with it (trial-language W5,
// trial-reliability 9).
func TestDatabaseIsAnIndex(t *testing.T) {
	root := awkward(t)
	ofAllKinds(t, root)
	ctx := t.Context()
	want := said(t, must[*Snapshot](t)(Read(ctx, root)))
	for _, text := range []string{"second/same/seed=4", "first/twin/seed=4", "out of luck", "stopped", "paused 9 72", `9 {"dice":0.125}`} {
		if !strings.Contains(want, text) {
			t.Errorf("the project does not say %q", text)
		}
	}
	files, err := filepath.Glob(globEscape(databasePath(root)) + "*")
	check(t, err)
	for _, file := range files {
		check(t, os.Remove(file))
	}
	if got := said(t, must[*Snapshot](t)(Read(ctx, root))); got != want {
		t.Errorf("without the database it says:\n%s\nwith it:\n%s", got, want)
	}
	if _, err := os.Stat(databasePath(root)); err == nil {
		t.Error("reading has made a database")
	}
	s := open1(t, root)
	if got := said(t, must[*Snapshot](t)(s.Reconcile(ctx))); got != want {
		t.Errorf("made again it says:\n%s\nbefore:\n%s", got, want)
	}
	if got := len(s.load(ctx)); got != 6 {
		t.Errorf("the index has %d rows", got)
	}
	if got := said(t, must[*Snapshot](t)(Read(ctx, root))); got != want {
		t.Errorf("read from the index made again it says:\n%s\nbefore:\n%s", got, want)
	}
}

// Of two evaluations of one domain that is shown which was asked for last.
func TestScoresThatWereAskedFor(t *testing.T) {
	root := awkward(t)
	run := ofAllKinds(t, root)["done"]
	known := must[*Snapshot](t)(Read(t.Context(), root))
	if dice := known.Runs[run.ID].Scored()["test"].GetMetrics().GetDice(); dice != 1 {
		t.Errorf("shown is %v", dice)
	}
	label := known.Names(run.ID)[0]
	if dice := known.As(label).Scored()["test"].GetMetrics().GetDice(); dice != 1 {
		t.Errorf("shown under its name is %v", dice)
	}

	// What only another name of the run asked for is not shown under this one.
	done := known.Runs[run.ID]
	done.wanted["aaaaaaaaaaaa"] = true
	for _, c := range []struct {
		asked []string
		dice  float64
	}{{[]string{"eeeeeeeeeeee"}, 1}, {[]string{"aaaaaaaaaaaa"}, 0}} {
		if dice := done.For(Wanted{Evaluations: c.asked}).Scored()["test"].GetMetrics().GetDice(); dice != c.dice {
			t.Errorf("asked for %v: shown is %v, want %v", c.asked, dice, c.dice)
		}
	}
	if scored := done.For(Wanted{Evaluations: []string{"cccccccccccc"}}).Scored(); scored["test"] != nil {
		t.Errorf("a score of another name is shown: %v", scored)
	}
	// Neither is a score on earlier images, as long as there is none on those asked for.
	delete(done.wanted, "aaaaaaaaaaaa")
	delete(done.wanted, "eeeeeeeeeeee")
	for domain, shown := range map[string]bool{"test": false, "far": true} {
		scored := done.For(Wanted{Evaluations: []string{"cccccccccccc"}, Domains: []string{domain}}).Scored()
		if (scored["test"] != nil) != shown {
			t.Errorf("asked for other images of %s: shown is %v", domain, scored)
		}
	}
}

// The index remembers what a file said only as long as the file is the same.
func TestIndexFollowsFiles(t *testing.T) {
	root := awkward(t)
	runs := ofAllKinds(t, root)
	done := runs["done"]
	leave(t, root, done, "result.json", &spec.Summary{Id: done.ID, Steps: 99})
	check(t, os.Remove(filepath.Join(root, filepath.FromSlash(done.Dir), "evaluations", "aaaaaaaaaaaa.json")))
	leaveCheckpoint(t, root, runs["stopped"], "60")
	check(t, os.RemoveAll(filepath.Join(root, filepath.FromSlash(runs["failed"].Dir))))
	known := must[*Snapshot](t)(Read(t.Context(), root))
	if r := known.Runs[done.ID]; r.Summary.GetSteps() != 99 || len(r.Evaluations) != 1 {
		t.Errorf("the done run: %+v", r)
	}
	if r := known.Runs[runs["stopped"].ID]; r.Checkpoint != 60 {
		t.Errorf("the stopped run: %+v", r)
	}
	if r := known.Runs[runs["failed"].ID]; r != nil {
		t.Errorf("the removed run: %+v", r)
	}
}

// A run in training shows the last step of its journal.
func TestProgress(t *testing.T) {
	root := awkward(t)
	lock := must[*Lock](t)(LockProject(root, "test"))
	defer lock.Release()
	s := open1(t, root)
	s.As(lock)
	run, label := newRun(t, "e", "c", 1)
	check(t, s.Enqueue(t.Context(), nil, []*Run{run}, []Label{label}), s.Start(t.Context(), run.ID), s.Begun(t.Context(), run.ID, 0, 72))
	path := filepath.Join(root, filepath.FromSlash(run.Dir), "metrics.jsonl")
	lines := strings.Repeat(`{"type":"step","step":"7","loss":0.5}`+"\n", 1000) + `{"type":"step","step":"8","loss":0.5}` + "\n" + `{"type":"step","st`
	check(t, os.WriteFile(path, []byte(lines), 0o666))
	got := must[*Snapshot](t)(Read(t.Context(), root)).Runs[run.ID]
	if got.Step != 8 || got.Steps != 72 || got.Holder == nil {
		t.Errorf("it is at step %d of %d, held by %v", got.Step, got.Steps, got.Holder)
	}
}

// Another program holds the database for as long as it likes: records are
// written and nothing fails (trial-reliability 23).
func TestBusyDatabase(t *testing.T) {
	defer func(was time.Duration) { busyWait = was }(busyWait)
	busyWait = time.Millisecond
	root := awkward(t)
	ctx := t.Context()
	s := open1(t, root)
	run, label := newRun(t, "e", "c", 1)
	check(t, s.Enqueue(ctx, nil, []*Run{run}, []Label{label}))
	other := must[*index](t)(openIndex(ctx, databasePath(root), false, 0))
	defer other.close()
	tx := must[*sql.Tx](t)(other.db.BeginTx(ctx, nil)) // immediate: it may write, and nobody else
	defer tx.Rollback()
	must[*Run](t)(s.Claim(ctx, run.ID))
	check(t, s.Start(ctx, run.ID), s.Begun(ctx, run.ID, 0, 10), s.Fail(ctx, run.ID, 0, "no luck"))
	more, label := newRun(t, "e", "more", 2)
	check(t, s.Enqueue(ctx, nil, []*Run{more}, []Label{label}))
	second := open1(t, root)
	for name, known := range map[string]*Snapshot{
		"read": must[*Snapshot](t)(Read(ctx, root)), "reconciled": must[*Snapshot](t)(second.Reconcile(ctx)),
	} {
		if r := known.Runs[run.ID]; r == nil || r.State != Failed || r.Reason != "no luck" || r.Attempts != 1 || len(known.Runs) != 2 {
			t.Errorf("%s: %d runs, %+v", name, len(known.Runs), r)
		}
	}
}

// A database that is removed while a project is worked on is missed by nobody.
func TestDatabaseRemovedMeanwhile(t *testing.T) {
	root := awkward(t)
	ctx := t.Context()
	lock := must[*Lock](t)(JoinProject(ctx, root, "first"))
	defer lock.Release()
	s := open1(t, root)
	s.As(lock)
	run, label := newRun(t, "e", "c", 1)
	check(t, s.Enqueue(ctx, nil, []*Run{run}, []Label{label}))
	must[*Run](t)(s.Claim(ctx, run.ID))
	for _, end := range []string{"", "-wal", "-shm"} {
		check(t, os.Remove(databasePath(root)+end))
	}
	joined := must[*Lock](t)(JoinProject(ctx, root, "second"))
	defer joined.Release()
	second := open1(t, root)
	second.As(joined)
	must[*Snapshot](t)(second.Reconcile(ctx))
	if _, err := second.Claim(ctx, run.ID); err == nil {
		t.Error("two processes have claimed one run")
	}
	check(t, s.Start(ctx, run.ID), s.Fail(ctx, run.ID, 0, "no luck"))
	if r := must[*Snapshot](t)(second.Reconcile(ctx)).Runs[run.ID]; r.State != Failed {
		t.Errorf("the run is %s", r.State)
	}
}

func TestDamagedDatabase(t *testing.T) {
	sound := func(root string) { ofAllKinds(t, root) }
	for name, damage := range map[string]func(path string) error{
		"garbage": func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("garbage", 1000)), 0o666) },
		"cut":     func(path string) error { return os.Truncate(path, 5000) },
		"a page of zeros": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt(make([]byte, 4096*2), 4096)
				f.Close()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := awkward(t)
			sound(root)
			ctx := t.Context()
			want := must[*Snapshot](t)(Read(ctx, root))
			check(t, damage(databasePath(root)))
			runs := func(s *Snapshot) string {
				copied := *s
				copied.Notes = nil
				return said(t, &copied)
			}
			known := must[*Snapshot](t)(Read(ctx, root))
			if runs(known) != runs(want) {
				t.Errorf("read from a damaged database:\n%s\nbefore:\n%s", said(t, known), said(t, want))
			}
			if len(known.Notes) != 1 || !strings.Contains(known.Notes[0], "damaged") {
				t.Errorf("nothing is said of it: %v", known.Notes)
			}
			s := open1(t, root)
			known = must[*Snapshot](t)(s.Reconcile(ctx))
			if runs(known) != runs(want) {
				t.Errorf("made again:\n%s\nbefore:\n%s", said(t, known), said(t, want))
			}
			again := must[*Snapshot](t)(Read(ctx, root))
			if len(again.Notes) != 0 || len(s.load(ctx)) != 6 {
				t.Errorf("it is not made again: %v, %d rows", again.Notes, len(s.load(ctx)))
			}
			aside, _ := filepath.Glob(globEscape(databasePath(root)) + ".damaged-1")
			if len(aside) != 1 {
				t.Error("the damaged database is not kept")
			}
		})
	}
}

// oldSchema is how databases of format 2 were made.
const oldSchema = `
CREATE TABLE runs (id TEXT PRIMARY KEY, experiment TEXT NOT NULL, cell TEXT NOT NULL, seed INTEGER NOT NULL,
	state TEXT NOT NULL, step INTEGER NOT NULL, steps INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL,
	dir TEXT NOT NULL, spec TEXT NOT NULL, summary TEXT NOT NULL, created INTEGER NOT NULL, started INTEGER NOT NULL, ended INTEGER NOT NULL);
CREATE TABLE evaluations (run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, id TEXT NOT NULL, evaluated TEXT NOT NULL, PRIMARY KEY (run, id));
CREATE TABLE labels (number INTEGER PRIMARY KEY, experiment TEXT NOT NULL, cell TEXT NOT NULL, seed INTEGER NOT NULL, run TEXT NOT NULL,
	UNIQUE (experiment, cell, seed, run));
CREATE TABLE claims (run TEXT PRIMARY KEY, worker TEXT NOT NULL);
PRAGMA user_version = 2;
`

type oldRow struct {
	run            *Run
	state          State
	dir            string
	attempts       int
	reason         string
	created, ended int64
	labels         []Label
}

// oldDatabase makes a database as older versions left it.
func oldDatabase(t *testing.T, root string, rows ...oldRow) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Join(root, "runs"), 0o777))
	x := must[*index](t)(openIndex(t.Context(), databasePath(root), true, time.Second))
	defer x.close()
	exec := func(statement string, args ...any) {
		t.Helper()
		if _, err := x.db.ExecContext(context.Background(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(oldSchema)
	for _, r := range rows {
		exec("INSERT INTO runs VALUES (?, ?, ?, ?, ?, 0, 72, ?, ?, ?, ?, '', ?, 0, ?)", r.run.ID, r.run.Experiment, r.run.Cell,
			int64(r.run.Seed), r.state, r.attempts, r.reason, r.dir, string(r.run.specJSON), r.created, r.ended)
		for _, l := range r.labels {
			exec("INSERT INTO labels (experiment, cell, seed, run) VALUES (?, ?, ?, ?)", l.Experiment, l.Cell, int64(l.Seed), l.Run)
		}
	}
}

// A project of an older version, in which the database alone knew names and
// states, is read and gets records.
func TestOldProject(t *testing.T) {
	root := awkward(t)
	ctx := t.Context()
	done, label := newRun(t, "first", "done", 1)
	queued, other := newRun(t, "first", "queued", 2)
	failed, third := newRun(t, "first", "failed", 3)
	gone, fourth := newRun(t, "first", "gone", 4)
	shared := label
	shared.Experiment = "second"
	for _, run := range []*Run{done, failed} {
		leave(t, root, run, "request.json", request(t, run))
	}
	leave(t, root, done, "result.json", &spec.Summary{Id: done.ID, Steps: 72})
	oldDatabase(t, root,
		oldRow{done, Done, done.Dir, 3, "", 1000, 2000, []Label{label, shared}},
		oldRow{queued, Queued, queued.Dir, 0, "", 1500, 0, []Label{other}},
		oldRow{failed, Failed, failed.Dir, 2, "no luck", 1200, 2500, []Label{third}},
		oldRow{gone, Done, gone.Dir, 1, "", 1200, 2500, []Label{fourth}},
	)
	look := func(name string, known *Snapshot) {
		t.Helper()
		if len(known.Runs) != 3 || len(known.Labels) != 4 {
			t.Errorf("%s: %d runs, %v", name, len(known.Runs), known.Labels)
			return
		}
		if r := known.Runs[done.ID]; r.State != Done || r.Attempts != 3 || r.Summary.GetSteps() != 72 || len(known.Names(done.ID)) != 2 {
			t.Errorf("%s: %+v", name, r)
		}
		if r := known.Runs[queued.ID]; r.State != Queued || r.Created.UnixMilli() != 1500 {
			t.Errorf("%s: %+v", name, r)
		}
		if r := known.Runs[failed.ID]; r.State != Failed || r.Reason != "no luck" || r.Ended.UnixMilli() != 2500 {
			t.Errorf("%s: %+v", name, r)
		}
		for _, r := range known.Runs {
			if s, err := r.Spec(); err != nil || spec.Identity(s) != r.ID {
				t.Errorf("%s: the specification of %s: %v", name, r.Name(), err)
			}
		}
		var names []string
		for _, l := range known.Newest() {
			names = append(names, l.Experiment+"/"+l.Cell)
		}
		if got := strings.Join(names, " "); got != "first/done first/queued first/failed second/done" {
			t.Errorf("%s: the order is %s", name, got)
		}
	}
	look("read", must[*Snapshot](t)(Read(ctx, root)))
	s := open1(t, root)
	look("opened", must[*Snapshot](t)(s.Reconcile(ctx)))
	check(t, s.Close(), os.Remove(databasePath(root)))
	look("without the database", must[*Snapshot](t)(Read(ctx, root)))
}

// A database that came with a project does not lead out of it
// (trial-reliability 9).
func TestForeignDatabase(t *testing.T) {
	root := awkward(t)
	victim := filepath.Join(root, "..", "victim")
	check(t, os.MkdirAll(victim, 0o777), os.WriteFile(filepath.Join(victim, "file"), nil, 0o666))
	var rows []oldRow
	for i, dir := range []string{"../victim", "runs/../../victim", "runs/k.smoke/../../../victim", filepath.Join(root, "victim"), "runs", "runs/e", "data/e/%s", "runs/.workers/%s"} {
		run, label := newRun(t, "k.smoke", "c", uint64(i))
		dir = strings.ReplaceAll(dir, "%s", rundir.Short(run.ID))
		rows = append(rows, oldRow{run, Failed, dir, 1, "", 1, 1, []Label{label}})
	}
	oldDatabase(t, root, rows...)
	ctx := t.Context()
	known := must[*Snapshot](t)(Read(ctx, root))
	if len(known.Runs) != 0 || len(known.Notes) != len(rows) || !strings.Contains(known.Notes[0], "where no run can lie") {
		t.Errorf("%d runs, notes %v", len(known.Runs), known.Notes)
	}
	s := open1(t, root)
	if known := must[*Snapshot](t)(s.Reconcile(ctx)); len(known.Runs) != 0 || len(known.Notes) != len(rows) {
		t.Errorf("%d runs, notes %v", len(known.Runs), known.Notes)
	}
	for _, r := range rows {
		r.run.Dir = r.dir
		if err := s.Remove(ctx, []*Run{r.run}); err == nil {
			t.Errorf("removed %s", r.dir)
		}
	}
	if _, err := os.Stat(filepath.Join(victim, "file")); err != nil {
		t.Error(err)
	}
}

// Revision and names of classes are known without the specification, with the
// database and without it.
func TestAbout(t *testing.T) {
	root := awkward(t)
	ctx := t.Context()
	s := open1(t, root)
	sp := &spec.RunSpec{Revision: 7, Data: &spec.Data{Classes: []string{"a", "b"}}}
	run := &Run{ID: spec.Identity(sp), Experiment: "e", Cell: "c"}
	run.Dir = DirOf("e", run.ID)
	check(t, run.SetSpec(sp), s.Enqueue(ctx, nil, []*Run{run}, nil))
	look := func(want string) {
		t.Helper()
		for range 2 {
			got := must[*Snapshot](t)(Read(ctx, root)).Runs[run.ID]
			if got.about.Revision != 7 || strings.Join(got.about.Classes, " ") != want {
				t.Errorf("it is known %v", got.about)
			}
			must[*Snapshot](t)(s.Reconcile(ctx))
		}
	}
	look("a b")
	other := proto.CloneOf(sp)
	other.Seed, other.Data.Classes = 9, []string{"p", "q"}
	check(t, s.Rename(ctx, run, other)) // of another run
	look("a b")
	check(t, os.Remove(databasePath(root)))
	look("a b")
}
