package experiment

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/runner/diagnostic"
)

// An old word gives one error, at its place, that names the new one: in a file,
// in a case, in the paths and values of what varies, and on the command line.
func TestOldWords(t *testing.T) {
	looks, err := filepath.Abs("../../data/nuclei/histology/test")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range renamings {
		path := strings.ReplaceAll(strings.ReplaceAll(r.at, "augment.*.kind", "augment"), ".*", ".near")
		value := map[string]string{
			"data": `{background: "#000000", animal: "#ff0000", boundary: "#00ff00"}`, "data.augment": `[{kind: "` + r.old + `"}]`, "loss": "0.5",
			"evaluate.domains.near": `{background: "#000000", animal: "#ff0000", boundary: "#00ff00"}`,
		}[path]
		if field := path == "data" || path == "loss" || path == "evaluate.domains.near"; field {
			path += "." + r.old
		}
		if value == "" {
			value = `"` + r.old + `"`
		}
		text := sound
		if strings.HasPrefix(r.at, "evaluate.domains") {
			text = insert(sound, "\tevaluate: domains: near: source: \"procedural\"")
		}
		if strings.HasPrefix(r.at, "evaluate.styles") {
			text = insert(sound, fmt.Sprintf("\tevaluate: styles: near: images: %q", looks))
		}
		inFile := strings.ReplaceAll(path, ".", ": ") + ": " + value
		places := map[string]string{"a file": inFile}
		if !strings.HasPrefix(r.at, "evaluate") { // which cells have in common
			places["a case"] = "cases: one: " + inFile
			places["vary"] = fmt.Sprintf("vary: %q: [%s]", path, value)
			places["ablate"] = fmt.Sprintf("ablate: %q: [%s]", path, value)
			places["zip"] = fmt.Sprintf("zip: %q: [%s]", path, value)
		}
		for where, line := range places {
			_, found := loadWith([]string{write(t, insert(text, "\t"+line))}, Env{}, world())
			oneError(t, fmt.Sprintf("%s in %s", r.old, where), found, r, strings.TrimSpace(line))
		}
		set := path + "=" + value
		_, found := loadWith([]string{write(t, text)}, Env{Set: []string{set}}, world())
		oneError(t, r.old+" in --set", found, r, "--set "+set)
	}
}

// oneError fails unless one error was found, at a line, that names the new word.
func oneError(t *testing.T, what string, found diagnostic.List, r renaming, line string) {
	t.Helper()
	var errs diagnostic.List
	for _, d := range found {
		if !d.Warning {
			errs = append(errs, d)
		}
	}
	if len(errs) != 1 {
		t.Errorf("%s: %d errors, want one:\n%s", what, len(errs), located(found))
		return
	}
	if text := errs[0].Text(); !strings.Contains(errs[0].Message+errs[0].Hint, spelled(r.old, r.now)) || !strings.Contains(text, line) {
		t.Errorf("%s: it does not say %s, or not at %q:\n%s", what, spelled(r.old, r.now), line, text)
	}
}
