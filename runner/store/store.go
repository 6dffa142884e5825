// Package store remembers what was run, so that nothing is lost and nothing is
// done twice.
//
// There are two places. A run directory holds what the engine wrote, replaced
// atomically: checkpoints, result.json, one file for each evaluation. That is
// the truth. The database <root>/runs/loralab.db holds what directories cannot
// say (attempts, reasons, which cell of which experiment a run serves) and an
// index of the rest, so that a plan of a thousand runs opens one file. A run
// that the database calls done is taken as done if its result is still there;
// for any other the directory is read. So a killed process at any moment, or a
// deleted database, costs nothing.
//
// A run is known by its identity alone. Cells of several experiments may be
// the same run: it is done once, and its labels tell where it shows.
package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
)

// State is where a run stands.
type State string

const (
	Queued  State = "queued"  // asked for, not started
	Running State = "running" // started, and not heard to have ended
	Done    State = "done"    // trained, and scored on all that was asked
	Failed  State = "failed"
	Stopped State = "stopped" // ended on request, goes on at the last checkpoint
)

// Run is what is known of one run.
type Run struct {
	ID string
	// Experiment, Cell and Seed are those it was first run for.
	Experiment string
	Cell       string
	Seed       uint64

	State    State
	Step     uint64 // as far as was heard
	Steps    uint64 // 0: not known yet
	Attempts int
	Reason   string // of failing, one line
	Dir      string // relative to the root of the project, with slashes

	// Checkpoint is the step to go on at, as the run directory says.
	Checkpoint uint64

	SpecJSON    []byte                     // see Spec
	Summary     *spec.Summary              // nil: not trained
	Evaluations map[string]*spec.Evaluated // by identity of the evaluation

	Created time.Time
	Started time.Time // of the last attempt
	Ended   time.Time // of the last attempt

	// Holder is who works on the run now; nil for nobody.
	Holder *Holder

	names []string // see Named; nil: not known yet
}

// Name is how people refer to a run: "ablation_rank/rank=8/seed=1".
func (r *Run) Name() string { return Label{r.Experiment, r.Cell, r.Seed, r.ID}.Name() }

// Spec is what determined the run. It is decoded only when asked for: a plan
// needs it for stale runs alone.
func (r *Run) Spec() (*spec.RunSpec, error) {
	s := &spec.RunSpec{}
	if err := decode(r.SpecJSON, s); err != nil {
		return nil, fmt.Errorf("reading the specification of run %s: %w", r.Name(), err)
	}
	return s, nil
}

// Named are metrics of the run under the names that its classes have now. Names
// are no part of a run's identity, so results may have been recorded under others.
func (r *Run) Named(m *spec.Metrics) *spec.Metrics {
	if m == nil {
		return nil
	}
	if r.names == nil {
		r.names = r.classes()
	}
	return metric.Named(m, r.names)
}

// NameClasses sets the names that Named uses: those of the experiment that asks.
func (r *Run) NameClasses(names []string) { r.names = names }

// classes are those of the specification, without decoding the rest of it.
func (r *Run) classes() []string {
	var s struct {
		Data struct {
			Classes []string `json:"classes"`
		} `json:"data"`
	}
	if json.Unmarshal(r.SpecJSON, &s) != nil {
		return nil // Spec says what is wrong
	}
	return s.Data.Classes
}

// Request is all that the engine was told when it last worked on the run.
func (r *Run) Request(root string) (*spec.RunRequest, error) {
	request := &spec.RunRequest{}
	_, err := readMessage(filepath.Join(root, filepath.FromSlash(r.Dir), requestFile), request)
	return request, err
}

// SetSpec is the opposite of Spec.
func (r *Run) SetSpec(s *spec.RunSpec) (err error) {
	if r.SpecJSON, err = encode(s); err != nil {
		return fmt.Errorf("writing the specification of run %s: %w", r.Name(), err)
	}
	return nil
}

// Label says that a cell of an experiment, with a seed, is served by a run.
// One cell may have had several: the last in a Snapshot is the newest.
type Label struct {
	Experiment string
	Cell       string
	Seed       uint64
	Run        string
}

// Name is how people refer to a run: "ablation_rank/rank=8/seed=1".
func (l Label) Name() string {
	return fmt.Sprintf("%s/%s/seed=%d", l.Experiment, l.Cell, l.Seed)
}

// Snapshot is all that is known at one moment.
type Snapshot struct {
	Root   string          // of the project
	Runs   map[string]*Run // by identity
	Labels []Label         // oldest first
}

// DirOf is where a run of an experiment lies, relative to the root.
func DirOf(experiment, id string) string {
	return "runs/" + experiment + "/" + id[:min(12, len(id))]
}

// schema is how the database is made: entry n brings format n to format n+1.
var schema = []string{`
CREATE TABLE runs (
	id TEXT PRIMARY KEY,
	experiment TEXT NOT NULL,
	cell TEXT NOT NULL,
	seed INTEGER NOT NULL, -- the bits of an unsigned number
	state TEXT NOT NULL,
	step INTEGER NOT NULL,
	steps INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	reason TEXT NOT NULL,
	dir TEXT NOT NULL,
	spec TEXT NOT NULL,    -- JSON
	summary TEXT NOT NULL, -- JSON, empty: not trained
	created INTEGER NOT NULL, -- Unix time in milliseconds, 0: not yet
	started INTEGER NOT NULL,
	ended INTEGER NOT NULL
);
CREATE TABLE evaluations (
	run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
	id TEXT NOT NULL,
	evaluated TEXT NOT NULL, -- JSON
	PRIMARY KEY (run, id)
);
CREATE TABLE labels (
	number INTEGER PRIMARY KEY,
	experiment TEXT NOT NULL,
	cell TEXT NOT NULL,
	seed INTEGER NOT NULL,
	run TEXT NOT NULL,
	UNIQUE (experiment, cell, seed, run)
);
`, `
CREATE TABLE claims (
	run TEXT PRIMARY KEY,
	worker TEXT NOT NULL -- a file of runs/.workers; locked while it is alive
);
`}

// Store is the open database of a project. Its methods may be called from
// several goroutines.
type Store struct {
	root   string
	db     *sql.DB
	worker string // for whom claims are made, "" for nobody; see As
}

func databasePath(root string) string { return filepath.Join(root, "runs", "loralab.db") }

// Open opens the database of the project at root, and makes it where there is
// none. The error says what to do if a newer loralab wrote it.
func Open(ctx context.Context, root string) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(root, "runs"), 0o777); err != nil {
		return nil, fmt.Errorf("making the directory of runs: %w", err)
	}
	return open(ctx, root, "rwc")
}

func open(ctx context.Context, root, mode string) (*Store, error) {
	path := databasePath(root)
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: url.Values{
		"mode":    {mode},
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(1)"},
	}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	// One connection: writes wait here and not in SQLite's polling.
	db.SetMaxOpenConns(1)
	s := &Store{root: root, db: db}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), db.Close())
	}
	return s, nil
}

func (s *Store) prepare(ctx context.Context) error {
	var version int
	if err := s.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(schema) {
		return fmt.Errorf("it was written by a newer loralab (format %d, this one knows %d); use that one", version, len(schema))
	}
	if version == len(schema) {
		return nil
	}
	return s.write(ctx, func(tx *sql.Tx) error {
		// Another process may have been faster.
		if err := tx.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		for ; version < len(schema); version++ {
			if _, err := tx.Exec(schema[version] + fmt.Sprintf("PRAGMA user_version = %d", version+1)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// Read says what is known of the project at root. It writes nothing and makes
// no file: where there is no database, the run directories alone speak.
func Read(ctx context.Context, root string) (*Snapshot, error) {
	snapshot := &Snapshot{Root: root, Runs: map[string]*Run{}}
	if _, err := os.Stat(databasePath(root)); err == nil {
		s, err := open(ctx, root, "rw")
		if err != nil {
			return nil, err
		}
		snapshot, err = s.load(ctx)
		if err = errors.Join(err, s.Close()); err != nil {
			return nil, fmt.Errorf("reading %s: %w", databasePath(root), err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for the database of runs: %w", err)
	}
	if _, err := reconcile(root, snapshot); err != nil {
		return nil, err
	}
	return snapshot, nil
}

// Reconcile reads the directories of all runs that the database does not call
// done, writes what it finds into the database, and returns what is then
// known. A run that was thought to be running, and that nobody works on, is taken
// as interrupted.
func (s *Store) Reconcile(ctx context.Context) (*Snapshot, error) {
	snapshot, err := s.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", databasePath(s.root), err)
	}
	changed, err := reconcile(s.root, snapshot)
	if err != nil {
		return nil, err
	}
	for _, run := range snapshot.Runs {
		if run.State == Running && run.Holder == nil {
			run.State = Stopped
			if run.Summary == nil {
				run.Step = run.Checkpoint
			}
			changed.runs[run.ID] = run
		}
	}
	if len(changed.runs)+len(changed.gone)+len(changed.labels) == 0 {
		return snapshot, nil
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		for id := range changed.gone {
			if _, err := tx.Exec("DELETE FROM runs WHERE id = ?", id); err != nil {
				return err
			}
		}
		for _, run := range changed.runs {
			if run.Holder != nil {
				continue // who says itself what becomes of it
			}
			// Another process may have begun it since it was looked at.
			attempts := run.Attempts
			err := tx.QueryRow("SELECT attempts FROM runs WHERE id = ?", run.ID).Scan(&attempts)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			if attempts != run.Attempts {
				continue
			}
			if err := put(tx, run); err != nil {
				return err
			}
		}
		for _, label := range changed.labels {
			if err := putLabel(tx, label); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("writing what the run directories say into %s: %w", databasePath(s.root), err)
	}
	return snapshot, nil
}

func (s *Store) load(ctx context.Context) (*Snapshot, error) {
	snapshot, err := s.query(ctx, "")
	if err != nil {
		return nil, err
	}
	rows, err := s.db.QueryContext(ctx, "SELECT experiment, cell, seed, run FROM labels ORDER BY number")
	if err != nil {
		return nil, err
	}
	err = scan(rows, func() error {
		var l Label
		var seed int64
		if err := rows.Scan(&l.Experiment, &l.Cell, &seed, &l.Run); err != nil {
			return err
		}
		l.Seed = uint64(seed)
		snapshot.Labels = append(snapshot.Labels, l)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return snapshot, s.loadClaims(ctx, snapshot)
}

// loadClaims says of each run who works on it.
func (s *Store) loadClaims(ctx context.Context, snapshot *Snapshot) error {
	holders, err := Holders(s.root)
	if err != nil {
		return err
	}
	rows, err := s.db.QueryContext(ctx, "SELECT run, worker FROM claims")
	if err != nil {
		return err
	}
	return scan(rows, func() error {
		var run, worker string
		if err := rows.Scan(&run, &worker); err != nil {
			return err
		}
		if r := snapshot.Runs[run]; r != nil {
			for _, h := range holders {
				if h.worker == worker {
					r.Holder = &h
				}
			}
		}
		return nil
	})
}

// query reads runs with their evaluations and without labels. Where is a clause
// about the id of a run.
func (s *Store) query(ctx context.Context, where string, args ...any) (*Snapshot, error) {
	snapshot := &Snapshot{Root: s.root, Runs: map[string]*Run{}}
	rows, err := s.db.QueryContext(ctx, `SELECT id, experiment, cell, seed, state, step, steps, attempts,
		reason, dir, spec, summary, created, started, ended FROM runs `+where, args...)
	if err != nil {
		return nil, err
	}
	err = scan(rows, func() error {
		r := &Run{Evaluations: map[string]*spec.Evaluated{}}
		var seed, step, steps, created, started, ended int64
		var summaryJSON []byte
		if err := rows.Scan(&r.ID, &r.Experiment, &r.Cell, &seed, &r.State, &step, &steps, &r.Attempts,
			&r.Reason, &r.Dir, &r.SpecJSON, &summaryJSON, &created, &started, &ended); err != nil {
			return err
		}
		r.Seed, r.Step, r.Steps = uint64(seed), uint64(step), uint64(steps)
		r.Created, r.Started, r.Ended = fromMillis(created), fromMillis(started), fromMillis(ended)
		if len(summaryJSON) > 0 {
			r.Summary = &spec.Summary{}
			if err := decode(summaryJSON, r.Summary); err != nil {
				return fmt.Errorf("summary of run %s: %w", r.ID, err)
			}
		}
		snapshot.Runs[r.ID] = r
		return nil
	})
	if err != nil {
		return nil, err
	}
	rows, err = s.db.QueryContext(ctx, "SELECT run, evaluated FROM (SELECT run AS id, run, evaluated FROM evaluations) "+where, args...)
	if err != nil {
		return nil, err
	}
	err = scan(rows, func() error {
		var run string
		var text []byte
		if err := rows.Scan(&run, &text); err != nil {
			return err
		}
		e := &spec.Evaluated{}
		if err := decode(text, e); err != nil {
			return fmt.Errorf("evaluation of run %s: %w", run, err)
		}
		if r := snapshot.Runs[run]; r != nil {
			r.Evaluations[e.GetId()] = e
		}
		return nil
	})
	return snapshot, err
}

func scan(rows *sql.Rows, row func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := row(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Enqueue records that runs are asked for and which cells they serve. What is
// known of a run stays.
func (s *Store) Enqueue(ctx context.Context, runs []*Run, labels []Label) error {
	return s.change(ctx, "recording what is to be run", func(tx *sql.Tx) error {
		for _, r := range runs {
			var n int
			if err := tx.QueryRow("SELECT count(*) FROM runs WHERE id = ?", r.ID).Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				continue
			}
			queued := *r
			queued.State, queued.Created = Queued, time.Now()
			if err := put(tx, &queued); err != nil {
				return err
			}
		}
		for _, l := range labels {
			if err := putLabel(tx, l); err != nil {
				return err
			}
		}
		return nil
	})
}

// Rename records the names that classes have now, where run has others than are
// known of it.
func (s *Store) Rename(ctx context.Context, run *Run, now *spec.RunSpec) error {
	if slices.Equal(run.classes(), now.GetData().GetClasses()) || spec.Identity(now) != run.ID {
		return nil
	}
	text, err := encode(now)
	if err != nil {
		return fmt.Errorf("writing the specification of run %s: %w", run.Name(), err)
	}
	run.SpecJSON, run.names = text, now.GetData().GetClasses()
	return s.change(ctx, "recording names of classes", func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE runs SET spec = ? WHERE id = ?", string(text), run.ID)
		return err
	})
}

// Start records that an attempt at a run begins.
func (s *Store) Start(ctx context.Context, id string) error {
	return s.update(ctx, id, "state = ?, reason = '', attempts = attempts + 1, started = ?, ended = 0",
		Running, millis(time.Now()))
}

// Progress records how far a run has come.
func (s *Store) Progress(ctx context.Context, id string, step, steps uint64) error {
	return s.update(ctx, id, "step = ?, steps = ?", int64(step), int64(steps))
}

// Stop records that a run ended on request and goes on at step. It ends the
// claim of the run, as Fail and Finish do.
func (s *Store) Stop(ctx context.Context, id string, step uint64) error {
	return s.end(ctx, id, "state = ?, step = ?, ended = ?", Stopped, int64(step), millis(time.Now()))
}

// Fail records that a run failed, and why in one line. It goes on at step if
// it is tried again.
func (s *Store) Fail(ctx context.Context, id string, step uint64, reason string) error {
	return s.end(ctx, id, "state = ?, step = ?, reason = ?, ended = ?", Failed, int64(step), reason, millis(time.Now()))
}

// Evaluate records one evaluation of a run.
func (s *Store) Evaluate(ctx context.Context, id string, e *spec.Evaluated) error {
	return s.change(ctx, "recording an evaluation of run "+short(id), func(tx *sql.Tx) error {
		if err := s.fence(tx, id); err != nil {
			return err
		}
		return putEvaluation(tx, id, e)
	})
}

// Finish records that all that was asked of a run is done.
func (s *Store) Finish(ctx context.Context, id string, summary *spec.Summary) error {
	text, err := encode(summary)
	if err != nil {
		return fmt.Errorf("recording the end of run %s: %w", short(id), err)
	}
	return s.change(ctx, "recording the end of run "+short(id), func(tx *sql.Tx) error {
		if err := s.fence(tx, id); err != nil {
			return err
		}
		for _, e := range summary.GetEvaluations() {
			if err := putEvaluation(tx, id, e); err != nil {
				return err
			}
		}
		_, err := tx.Exec("UPDATE runs SET state = ?, step = ?, steps = ?, reason = '', summary = ?, ended = ? WHERE id = ?",
			Done, int64(summary.GetSteps()), int64(summary.GetSteps()), text, millis(time.Now()), id)
		return errors.Join(err, unclaim(tx, id))
	})
}

// Forget takes runs out of the database. Their directories have to be gone, or
// the next Reconcile finds them again.
func (s *Store) Forget(ctx context.Context, ids []string) error {
	return s.change(ctx, "forgetting runs", func(tx *sql.Tx) error {
		for _, id := range ids {
			for _, statement := range []string{
				"DELETE FROM evaluations WHERE run = ?", "DELETE FROM labels WHERE run = ?",
				"DELETE FROM claims WHERE run = ?", "DELETE FROM runs WHERE id = ?",
			} {
				if _, err := tx.Exec(statement, id); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (s *Store) update(ctx context.Context, id, set string, values ...any) error {
	return s.change(ctx, "recording the state of run "+short(id), func(tx *sql.Tx) error {
		return s.set(tx, id, set, values...)
	})
}

// end is update for the last word on a run.
func (s *Store) end(ctx context.Context, id, set string, values ...any) error {
	return s.change(ctx, "recording the state of run "+short(id), func(tx *sql.Tx) error {
		return errors.Join(s.set(tx, id, set, values...), unclaim(tx, id))
	})
}

func (s *Store) set(tx *sql.Tx, id, set string, values ...any) error {
	if err := s.fence(tx, id); err != nil {
		return err
	}
	_, err := tx.Exec("UPDATE runs SET "+set+" WHERE id = ?", append(values, id)...)
	return err
}

func (s *Store) change(ctx context.Context, doing string, do func(*sql.Tx) error) error {
	if err := s.write(ctx, do); err != nil {
		return fmt.Errorf("%s in %s: %w", doing, databasePath(s.root), err)
	}
	return nil
}

func (s *Store) write(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func put(tx *sql.Tx, r *Run) error {
	var summaryJSON []byte
	if r.Summary != nil {
		var err error
		if summaryJSON, err = encode(r.Summary); err != nil {
			return err
		}
	}
	_, err := tx.Exec(`INSERT INTO runs (id, experiment, cell, seed, state, step, steps, attempts, reason, dir,
		spec, summary, created, started, ended) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, step = excluded.step, steps = excluded.steps,
		reason = excluded.reason, dir = excluded.dir, summary = excluded.summary, ended = excluded.ended`,
		r.ID, r.Experiment, r.Cell, int64(r.Seed), r.State, int64(r.Step), int64(r.Steps), r.Attempts, r.Reason, r.Dir,
		string(r.SpecJSON), string(summaryJSON), millis(r.Created), millis(r.Started), millis(r.Ended))
	if err != nil {
		return err
	}
	for _, e := range r.Evaluations {
		if err := putEvaluation(tx, r.ID, e); err != nil {
			return err
		}
	}
	return nil
}

func putEvaluation(tx *sql.Tx, run string, e *spec.Evaluated) error {
	text, err := encode(e)
	if err != nil {
		return err
	}
	_, err = tx.Exec("INSERT INTO evaluations (run, id, evaluated) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET evaluated = excluded.evaluated",
		run, e.GetId(), string(text))
	return err
}

func putLabel(tx *sql.Tx, l Label) error {
	_, err := tx.Exec("INSERT INTO labels (experiment, cell, seed, run) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
		l.Experiment, l.Cell, int64(l.Seed), l.Run)
	return err
}

func encode(m proto.Message) ([]byte, error) { return protojson.Marshal(m) }

// decode ignores fields that it does not know: a newer engine may have added
// some to a result.
func decode(text []byte, m proto.Message) error {
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(text, m)
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func short(id string) string { return id[:min(12, len(id))] }
