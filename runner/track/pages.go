package track

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/runner/wandb"
	"github.com/loralab/loralab/runner/wandb/wandblog"
)

// Page is the page of a run on a server of W&B.
type Page struct {
	Run string `json:"run"` // its identity
	URL string `json:"url"`
}

// pageSuffix ends the names of files with a Page, which are next to those that say what
// W&B has of a run.
const pageSuffix = ".page.json"

func keepPage(dir *os.Root, name string, p Page) error {
	text, err := json.Marshal(p)
	if err == nil {
		err = replacefile.WriteIn(dir, name+pageSuffix, text)
	}
	if err != nil {
		return fmt.Errorf("keeping the address of a page: %w", err)
	}
	return nil
}

// KeepPages keeps the addresses of the pages of runs whose logs were sent later, as they
// are kept when a run is shown online. Root is the directory whose wandb/ has the logs.
// Logs of other programs are left out.
func KeepPages(root string, sent []wandb.Result) error {
	var failed []error
	for _, r := range sent {
		if r.URL == "" {
			continue
		}
		logs, err := filepath.Glob(filepath.Join(r.Dir, "run-*.wandb"))
		if err != nil || len(logs) == 0 {
			continue
		}
		name, identity, err := named(logs[0])
		if err == nil && identity != "" {
			err = keepPageIn(filepath.Join(root, "wandb", "loralab"), name, Page{Run: identity, URL: r.URL})
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// named is the name of our files about the run of a log, and its identity; "" where it is
// not ours.
func named(log string) (name, identity string, err error) {
	records, err := wandblog.ReadFile(log)
	if err != nil && len(records) == 0 {
		return "", "", fmt.Errorf("reading a log of W&B: %w", err)
	}
	for _, r := range records {
		if r.Run != nil && name == "" {
			name = plainName(r.Run.Project + "-" + r.Run.ID)
		}
		if r.Config == nil {
			continue
		}
		for _, item := range r.Config.Update {
			if slices.Equal(item.Path(), []string{"identity"}) {
				err := json.Unmarshal([]byte(item.ValueJSON), &identity)
				return name, identity, err
			}
		}
	}
	return name, "", nil
}

func keepPageIn(dir, name string, p Page) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("keeping the address of a page: %w", err)
	}
	at, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("keeping the address of a page: %w", err)
	}
	defer at.Close()
	return keepPage(at, name, p)
}

// Pages are the addresses of the pages that the runs of a project have on servers of W&B,
// by the identity of the run. They are known once a run was shown online. A file that
// cannot be read is left out: it is a link that is missing.
func Pages(project string, getenv func(string) string) map[string]string {
	pages := map[string]string{}
	files, _ := os.ReadDir(logsDir(project, getenv))
	for _, f := range files {
		if ok, _ := filepath.Match("*"+pageSuffix, f.Name()); !ok {
			continue
		}
		var p Page
		if text, err := os.ReadFile(filepath.Join(logsDir(project, getenv), f.Name())); err == nil && json.Unmarshal(text, &p) == nil {
			pages[p.Run] = p.URL
		}
	}
	return pages
}

// logsDir is where our own files about runs in W&B are.
func logsDir(project string, getenv func(string) string) string {
	return filepath.Join(cmp.Or(getenv("WANDB_DIR"), project), "wandb", "loralab")
}
