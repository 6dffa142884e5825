package track

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/loralab/loralab/core/replacefile"
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
