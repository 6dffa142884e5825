package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/loralab/loralab/core/filename"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
)

// logsDir of a project holds links to the journals of runs, by experiment.
const logsDir = "logs"

// LogName is the name of the link to the journal of a run.
func LogName(l Label) string {
	end := fmt.Sprintf("-seed%d%s", l.Seed, logEnd(l.Run))
	if !l.Fold.IsZero() {
		end = fmt.Sprintf("-fold%s%s", l.Fold, end)
	}
	return filename.Fit(filename.Of(l.Cell), filename.Most-len(end)) + end
}

func logEnd(id string) string { return "-" + id[:min(8, len(id))] + ".jsonl" }

// LinkLogs makes links below logs/ of the project at root to the journals of
// runs, under the names given; dirs says where the runs lie. The journals may
// not be there yet.
func LinkLogs(root string, names []Label, dirs map[string]string) error {
	if len(names) == 0 {
		return nil
	}
	at := filepath.Join(root, logsDir)
	if err := os.MkdirAll(at, 0o777); err != nil {
		return fmt.Errorf("linking logs: %w", err)
	}
	logs, err := os.OpenRoot(at)
	if err != nil {
		return fmt.Errorf("linking logs: %w", err)
	}
	defer logs.Close()
	up := "../.."
	// From a directory elsewhere, no relative path leads back.
	if info, err := os.Lstat(at); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if up, err = filepath.Abs(root); err != nil {
			return fmt.Errorf("linking logs: %w", err)
		}
	}
	for _, l := range names {
		target := filepath.Join(up, filepath.FromSlash(dirs[l.Run]), rundir.Journal)
		if err := replacefile.LinkIn(logs, target, path.Join(l.Experiment, LogName(l))); err != nil {
			return fmt.Errorf("linking the log of %s: %w", l.Name(), err)
		}
	}
	return nil
}

// unlinkLogs removes the links to the journal of a run: those of the names
// given, or all of them where none is given.
func unlinkLogs(root, id string, names []Label) error {
	logs, err := os.OpenRoot(filepath.Join(root, logsDir))
	if absent(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing the link to a log: %w", err)
	}
	defer logs.Close()
	var errs []error
	remove := func(name string) {
		if err := logs.Remove(name); err != nil && !absent(err) {
			errs = append(errs, fmt.Errorf("removing the link to a log: %w", err))
		}
	}
	for _, l := range names {
		remove(path.Join(l.Experiment, LogName(l)))
		_ = logs.Remove(l.Experiment) // it is not empty, or not there
	}
	if len(names) > 0 {
		return errors.Join(errs...)
	}
	experiments, err := fs.ReadDir(logs.FS(), ".")
	if err != nil {
		return fmt.Errorf("removing the link to a log: %w", err)
	}
	for _, e := range experiments {
		links, err := fs.ReadDir(logs.FS(), e.Name())
		if err != nil {
			continue // it is no directory, or leads elsewhere
		}
		for _, link := range links {
			if link.Type()&fs.ModeSymlink != 0 && strings.HasSuffix(link.Name(), logEnd(id)) {
				remove(path.Join(e.Name(), link.Name()))
			}
		}
		_ = logs.Remove(e.Name())
	}
	return errors.Join(errs...)
}
