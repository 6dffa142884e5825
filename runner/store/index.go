package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/loralab/loralab/core/spec"
)

// index is the database runs/loralab.db: what run directories say, so that ten
// thousand of them need not be read each time. Each row has the stamp of the
// files that it was made from and counts only as long as they have that stamp.
// So nothing is lost with the database, and whatever is wrong with it makes
// commands slower and never wrong.
type index struct {
	path string
	db   *sql.DB
}

// indexFormat is the format of the database. 1 and 2 were those of versions to
// which the database was not an index but the only place of names and states.
const indexFormat = 3

const indexSchema = `
CREATE TABLE found (
	dir TEXT PRIMARY KEY,  -- below runs/
	stamp TEXT NOT NULL,   -- of the files that the rest was read from
	record TEXT NOT NULL,  -- JSON, without the specification
	summary BLOB NOT NULL, -- Summary and its evaluations, empty: not trained
	evaluations BLOB NOT NULL, -- a Summary that holds nothing else
	checkpoint INTEGER NOT NULL,
	damage TEXT NOT NULL   -- empty: runs that are damaged have no row
);
`

func databasePath(root string) string { return filepath.Join(root, "runs", databaseName) }

const databaseName = "loralab.db"

// errNewer says that a newer version wrote the database.
var errNewer = errors.New("a newer loralab wrote it; use that one")

// openIndex opens the database at path. How long it waits for other programs
// is wait.
func openIndex(ctx context.Context, path string, create bool, wait time.Duration) (*index, error) {
	// SQLite would follow a link, and write what it leads to.
	for _, end := range []string{"", "-wal", "-shm"} {
		if info, err := os.Lstat(path + end); err == nil && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is no regular file", filepath.Base(path)+end)
		}
	}
	mode := "rw"
	if create {
		mode = "rwc"
	}
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: url.Values{
		"mode":    {mode},
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(" + strconv.FormatInt(wait.Milliseconds(), 10) + ")", "journal_mode(WAL)", "synchronous(NORMAL)"},
	}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	// One connection: writes wait here and not in SQLite's polling.
	db.SetMaxOpenConns(1)
	x := &index{path: path, db: db}
	if _, err := x.version(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return x, nil
}

func (x *index) close() error {
	if x == nil {
		return nil
	}
	return x.db.Close()
}

// version is the format of the database, 0 of a new one.
func (x *index) version(ctx context.Context) (version int, err error) {
	if err := x.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return 0, err
	}
	if version > indexFormat {
		return 0, fmt.Errorf("format %d, this one knows %d: %w", version, indexFormat, errNewer)
	}
	return version, nil
}

// prepare makes the tables of an index, and drops those of older versions.
func (x *index) prepare(ctx context.Context) error {
	return x.write(ctx, func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRow("PRAGMA user_version").Scan(&version); err != nil || version == indexFormat {
			return err
		}
		for _, old := range []string{"evaluations", "labels", "claims", "runs"} {
			if version == 0 {
				break // a new one
			}
			if _, err := tx.Exec("DROP TABLE IF EXISTS " + old); err != nil {
				return err
			}
		}
		_, err := tx.Exec(indexSchema + "PRAGMA user_version = " + strconv.Itoa(indexFormat))
		return err
	})
}

func (x *index) write(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := x.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// load is all that the index remembers, by directory. Rows that cannot be read
// are left out, as if they were not there.
func (x *index) load(ctx context.Context) (map[string]*found, error) {
	all := map[string]*found{}
	rows, err := x.db.QueryContext(ctx, "SELECT dir, stamp, record, summary, evaluations, checkpoint, damage FROM found")
	if err != nil {
		return nil, err
	}
	err = scanRows(rows, func() error {
		var dir, stamp string
		var recordJSON, summary, evaluations, damage []byte
		var checkpoint int64
		if err := rows.Scan(&dir, &stamp, &recordJSON, &summary, &evaluations, &checkpoint, &damage); err != nil {
			return err
		}
		if f := remembered(dir, recordJSON, summary, evaluations); f != nil {
			f.stamp, f.run.Checkpoint = stamp, uint64(checkpoint)
			if len(damage) > 0 { // an earlier version kept such rows
				f.stamp = ""
			}
			all[dir] = f
		}
		return nil
	})
	return all, err
}

// indexed is what the index keeps of a run as JSON.
type indexed struct {
	record
	About about `json:"about"`
	Cut   bool  `json:"cut,omitempty"` // there is no record to be read
}

func remembered(dir string, recordJSON, summary, evaluations []byte) *found {
	var r indexed
	if json.Unmarshal(recordJSON, &r) != nil || len(r.Names) == 0 {
		return nil
	}
	f := r.found("", dir)
	f.run.about = r.About
	if r.Cut {
		f.record = nil
	}
	if len(summary) > 0 {
		f.run.Summary = &spec.Summary{}
		if proto.Unmarshal(summary, f.run.Summary) != nil {
			return nil
		}
	}
	held := &spec.Summary{}
	if proto.Unmarshal(evaluations, held) != nil {
		return nil
	}
	for _, e := range held.GetEvaluations() {
		f.run.Evaluations[e.GetId()] = e
	}
	return f
}

// put makes rows of runs.
func put(tx *sql.Tx, all []*found) error {
	statement, err := tx.Prepare(`INSERT INTO found (dir, stamp, record, summary, evaluations, checkpoint, damage)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (dir) DO UPDATE SET stamp = excluded.stamp, record = excluded.record,
		summary = excluded.summary, evaluations = excluded.evaluations, checkpoint = excluded.checkpoint, damage = excluded.damage`)
	if err != nil {
		return err
	}
	defer statement.Close()
	for _, f := range all {
		run := f.run
		if run.Damage != nil {
			// It is read each time: the reason may be with the process that read it.
			// What an earlier row says of the record stays.
			continue
		}
		r := indexed{Cut: f.record == nil, About: run.about, record: record{
			Format: recordFormat, ID: run.ID, State: run.State, Reason: run.Reason, Step: run.Step, Steps: run.Steps,
			Attempts: run.Attempts, Created: run.Created, Started: run.Started, Ended: run.Ended, Worker: f.worker,
		}}
		if f.record != nil {
			r.Rungs = f.record.Rungs
		}
		for _, l := range f.names {
			r.Names = append(r.Names, l.recorded())
		}
		recordJSON, err := json.Marshal(r)
		if err != nil {
			return err
		}
		var summary []byte
		if run.Summary != nil {
			if summary, err = proto.Marshal(run.Summary); err != nil {
				return err
			}
		}
		held := &spec.Summary{}
		for _, e := range run.Evaluations {
			held.Evaluations = append(held.Evaluations, e)
		}
		evaluations, err := proto.Marshal(held)
		if err != nil {
			return err
		}
		if summary == nil {
			summary = []byte{}
		}
		if _, err := statement.Exec(f.dir, f.stamp, string(recordJSON), summary, append([]byte{}, evaluations...),
			int64(run.Checkpoint), ""); err != nil {
			return err
		}
	}
	return nil
}

// update makes rows of runs that were read, and drops those of directories that
// were removed.
func (x *index) update(ctx context.Context, read []*found, gone []string) error {
	if len(read)+len(gone) == 0 {
		return nil
	}
	return x.write(ctx, func(tx *sql.Tx) error {
		for _, dir := range gone {
			if _, err := tx.Exec("DELETE FROM found WHERE dir = ?", dir); err != nil {
				return err
			}
		}
		return put(tx, read)
	})
}

func scanRows(rows *sql.Rows, row func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := row(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// isDamaged reports whether an error says that a file is no sound database.
func isDamaged(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// Writable reports whether this process may write the runs of a project. If not,
// SQLite cannot open the database where it lies either, since it keeps files next
// to it.
func Writable(root string) bool {
	for _, path := range []string{filepath.Join(root, "runs"), databasePath(root)} {
		if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS); err != nil && !errors.Is(err, unix.ENOENT) {
			return false
		}
	}
	return true
}

// copyDatabase copies the database of a project, and what was written ahead of
// it, to a directory, where SQLite may write. A copy that was torn by a writer
// is found out by SQLite or, row by row, by its stamps.
func copyDatabase(root, to string) (string, error) {
	for _, end := range []string{"", "-wal"} {
		err := copyFile(databasePath(root)+end, filepath.Join(to, databaseName+end))
		if err != nil && (end == "" || !absent(err)) {
			return "", err
		}
	}
	return filepath.Join(to, databaseName), nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// setAside renames a damaged database out of the way and says what it did.
func setAside(root string, damage error) (string, error) {
	path := databasePath(root)
	aside := ""
	for i := 1; ; i++ {
		aside = fmt.Sprintf("%s.damaged-%d", path, i)
		if _, err := os.Lstat(aside); absent(err) {
			break
		}
	}
	for _, end := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(path+end, aside+end); err != nil && !absent(err) {
			return "", fmt.Errorf("setting the damaged database aside: %w", err)
		}
	}
	return fmt.Sprintf("the database runs/%s was damaged (%s); it is now runs/%s, and another one was made from the run directories",
		databaseName, brief(damage), filepath.Base(aside)), nil
}

// brief is an error on one line.
func brief(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
