package browser

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// axeVersion is that of axe.sh.
const axeVersion = "0.1.8"

// Inaccessible are the violations that axe-core finds in the page and calls serious or
// critical, with the elements; of some rules alone if any are named. `make python` fetches axe-core; without it the test
// fails if $CI is true, and is skipped otherwise.
func (t *Tab) Inaccessible(rules ...string) []string {
	t.b.t.Helper()
	cache, err := os.UserCacheDir()
	t.b.must(err)
	axe, err := os.ReadFile(filepath.Join(cache, "loralab", "axe-"+axeVersion, "axe.min.js"))
	if errors.Is(err, fs.ErrNotExist) {
		t.b.missing("pages are not checked for accessibility, because there is no axe-core: run `make python`")
	}
	t.b.must(err)
	t.Eval(string(axe)+"\n;0", nil)
	var found []struct {
		ID, Impact, Help string
		Nodes            []struct {
			Target  []any
			Summary string `json:"failureSummary"`
		}
	}
	options := map[string]any{"resultTypes": []string{"violations"}}
	if len(rules) > 0 {
		options["runOnly"] = rules
	}
	text, err := json.Marshal(options)
	t.b.must(err)
	t.Eval("axe.run(document, "+string(text)+").then(r => r.violations)", &found)
	var serious []string
	for _, f := range found {
		if f.Impact != "serious" && f.Impact != "critical" {
			continue
		}
		for _, n := range f.Nodes {
			serious = append(serious, fmt.Sprintf("%s (%s): %s: %v: %s", f.ID, f.Impact, f.Help, n.Target, n.Summary))
		}
	}
	return serious
}
