package wandb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/runner/wandb/wandblog"
)

// Result is what Sync did with one log.
type Result struct {
	Dir, ID, URL string
	Already      bool     // it was sent completely before
	Rows         int      // of the history, sent now
	Events       int      // lines of system metrics, sent now
	Output       int      // lines of console text, sent now
	Files        int      // sent now
	Artifacts    int      // sent now
	Refused      []string // what the server refuses or cannot be read, one line each
	Err          error    // nil if the server has all of the run

	skipped int // lines of console text that the server has from elsewhere
}

// Sync sends logs to the server: directories of runs, or files .wandb. Without any it takes
// those in the root that were not sent. Logs of one run are sent in the order of their
// times.
//
// Sync can be killed and called again: it continues at the last line that the server
// acknowledged. A log that was sent completely gets a file .synced next to it, as from the official
// client, and is not sent again. If the server has another number of lines than were
// sent, nothing is sent and the result has a CountError. A log that another process is
// writing is sent as far as it goes.
//
// A server that does not answer for s.Wait is given up, with an AwayError; s.Notice says
// within seconds that Sync waits. The error joins those of the results. After an error of
// the server or the key, no further log is tried: its result has the same error.
func Sync(ctx context.Context, s Settings, logs ...string) ([]Result, error) {
	s.Mode = Online
	if s.ID == "" {
		s.ID = "sync" // of no run
	}
	s, err := s.resolved()
	if err != nil {
		return nil, err
	}
	paths, err := findLogs(s.Root, logs)
	if err != nil {
		return nil, err
	}
	var results []Result
	var failed []error
	broken := map[string]bool{} // runs whose earlier log was not sent
	var last error              // of the server or the key
	for _, path := range paths {
		u := newUploader(s, path, false)
		id := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "run-"), ".wandb")
		u.result.ID = id
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case last != nil:
			err = last
		case broken[id]:
			err = errors.New("an earlier log of the run was not sent, so this one has to wait")
		default:
			err = u.send(ctx)
		}
		if err != nil {
			broken[id] = true
			failed = append(failed, fmt.Errorf("%s: %w", shown(u.result.Dir), err))
		}
		u.result.Err = err
		results = append(results, u.result)
		if hopeless(err) {
			last = err
		}
	}
	return results, errors.Join(failed...)
}

// Logs lists the logs of runs in the folder of a root by their ids, the oldest first.
func Logs(root string, ids ...string) (map[string][]string, error) {
	dirs, err := logDirs(folderOf(root))
	logs := map[string][]string{}
	for _, id := range ids {
		if of := logsIn(dirs[id], id); len(of) > 0 {
			logs[id] = of
		}
	}
	return logs, err
}

// findLogs lists the files of logs, those of one run in the order of their times.
func findLogs(root string, named []string) (paths []string, err error) {
	if len(named) == 0 {
		folders, err := filepath.Glob(filepath.Join(escape(folderOf(root)), "*run-*", "run-*.wandb"))
		if err != nil {
			return nil, err
		}
		for _, path := range folders {
			if _, err := os.Stat(syncedPath(path)); err != nil {
				paths = append(paths, path)
			}
		}
	}
	for _, name := range named {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			paths = append(paths, name)
			continue
		}
		logs, err := filepath.Glob(filepath.Join(escape(name), "run-*.wandb"))
		if err != nil {
			return nil, err
		}
		if len(logs) == 0 {
			return nil, fmt.Errorf("%s holds no log of W&B (run-ID.wandb)", name)
		}
		paths = append(paths, logs...)
	}
	for i, path := range paths {
		if paths[i], err = filepath.Abs(path); err != nil {
			return nil, err
		}
		if paths[i], err = filepath.EvalSymlinks(paths[i]); err != nil { // latest-run
			return nil, err
		}
	}
	started := map[string]int64{}
	for _, path := range paths {
		started[path] = startOf(path)
	}
	slices.SortStableFunc(paths, func(a, b string) int {
		if c := int(started[a]/1e9 - started[b]/1e9); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(paths), nil
}

// escape makes a path a pattern of itself.
func escape(path string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(path)
}

// startOf orders logs: by the time in the name of their directory, which rises with every
// log, else by the start that the log says, in Unix nanoseconds.
func startOf(path string) int64 {
	name := strings.TrimPrefix(strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "offline-"), "run-")
	if len(name) > len(stampForm) {
		if at, err := parseStamp(name[:len(stampForm)]); err == nil {
			return at.UnixNano()
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	r, err := wandblog.NewReader(f)
	for err == nil {
		var record *wandblog.Record
		if record, err = r.Next(); err == nil && record.Run != nil {
			return record.Run.StartTime.Time().UnixNano()
		}
	}
	return 0
}
