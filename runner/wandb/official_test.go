package wandb

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/internal/python"
	"github.com/loralab/loralab/internal/wandbserver"
)

// The official client sends our log: what arrives is what was logged, and is what our
// own Sync sends.
func TestOfficialSync(t *testing.T) {
	if testing.Short() {
		t.Skip("the official client takes seconds to start")
	}
	official, ours := serve(t), serve(t)
	official.Structured, ours.Structured = true, true
	r := offline(t, func(s *Settings) {
		s.Entity, s.Name, s.Group, s.JobType, s.Tags, s.Notes = "lab", "rank=4/seed=1", "rank", "train", []string{"a", "b"}, "note"
	})
	everything(t, r)
	must(t, r.Finish(t.Context(), 3))
	cmd := exec.Command(python.Find(t), "-m", "wandb", "sync", r.Dir())
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "WANDB_BASE_URL="+official.URL, "WANDB_API_KEY="+testKey, "WANDB_ERROR_REPORTING=false", "HOME="+cmd.Dir, "WANDB_X_DISABLE_META=true")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("wandb sync: %v\n%s", err, out)
	}
	if _, err := os.Stat(syncedPath(r.logPath())); err != nil {
		t.Fatal("the official client does not say that the run is synced")
	}
	must(t, os.Remove(syncedPath(r.logPath())))
	if _, err := Sync(t.Context(), to(ours, r.settings.Root)); err != nil {
		t.Fatal(err)
	}
	theirs, own := official.Run("nuclei", r.ID()), ours.Run("nuclei", r.ID())
	if theirs == nil {
		t.Fatal("nothing has arrived from the official client")
	}
	for _, file := range []string{"wandb-history.jsonl", "output.log", "wandb-events.jsonl"} {
		a, err := theirs.Rows(file)
		must(t, err)
		b, err := own.Rows(file)
		must(t, err)
		if len(a) != len(b) {
			t.Errorf("%s has %d lines from the official client, %d from us", file, len(a), len(b))
			continue
		}
		for i := range a {
			if !sameJSON(a[i], b[i]) {
				t.Errorf("line %d of %s is\n%s from the official client,\n%s from us", i, file, a[i], b[i])
			}
		}
	}
	if a, b := theirs.Lines["wandb-summary.json"][0], own.Lines["wandb-summary.json"][0]; !sameJSON(a, b) {
		t.Errorf("the summary is\n%s from the official client,\n%s from us", a, b)
	}
	for _, part := range []string{"lr", "model", "layers"} {
		if a, b := parseTree(theirs.Config)[part], parseTree(own.Config)[part]; a == nil || !sameJSON(string(a.(raw)), string(b.(raw))) {
			t.Errorf("%s of the configuration is %v from the official client, %v from us", part, a, b)
		}
	}
	client := func(config string) tree { return parseTree(string(parseTree(config).copyOf("_wandb")["value"].(raw))) }
	for _, part := range []string{"m", "mask/class_labels"} {
		if a, b := client(theirs.Config)[part], client(own.Config)[part]; a == nil || b == nil || !sameJSON(string(a.(raw)), string(b.(raw))) {
			t.Errorf("%s of the configuration is\n%v from the official client,\n%v from us", part, a, b)
		}
	}
	media := 0
	for path, content := range theirs.Files {
		if !strings.HasPrefix(path, "media/") && !strings.HasPrefix(path, "plan/") {
			continue // what the clients make themselves
		}
		media++
		if string(own.Files[path]) != string(content) {
			t.Errorf("the file %s has %d bytes from the official client, %d from us", path, len(content), len(own.Files[path]))
		}
	}
	for path := range own.Files {
		if _, there := theirs.Files[path]; !there {
			t.Errorf("the file %s comes from us alone", path)
		}
	}
	if media < 4 {
		t.Errorf("only %d files of media have arrived", media)
	}
	if len(official.Artifacts) != 2 || len(ours.Artifacts) != 2 {
		t.Fatalf("%d artifacts from the official client, %d from us, of 2", len(official.Artifacts), len(ours.Artifacts))
	}
	for _, a := range official.Artifacts {
		i := slices.IndexFunc(ours.Artifacts, func(b *wandbserver.Artifact) bool { return b.Name == a.Name })
		if i < 0 {
			t.Errorf("the artifact %s does not come from us", a.Name)
			continue
		}
		b := ours.Artifacts[i]
		if a.Type != b.Type || a.Digest != b.Digest || a.Metadata != b.Metadata || !slices.Equal(a.Aliases, b.Aliases) || !a.Committed || !b.Committed || len(a.Files) != len(b.Files) {
			t.Errorf("the artifact is\n%+v from the official client,\n%+v from us", a, b)
		}
		for path, content := range a.Files {
			if string(b.Files[path]) != string(content) {
				t.Errorf("the file %s of the artifact %s differs", path, a.Name)
			}
		}
	}
	if len(theirs.Alerts) != 1 || len(own.Alerts) != 1 || theirs.Alerts[0]["title"] != own.Alerts[0]["title"] || theirs.Alerts[0]["severity"] != own.Alerts[0]["severity"] {
		t.Errorf("the alerts are %v from the official client, %v from us", theirs.Alerts, own.Alerts)
	}
	if !slices.Equal(theirs.Exits, own.Exits) {
		t.Errorf("the exits are %v from the official client, %v from us", theirs.Exits, own.Exits)
	}
	a, b := theirs.Upserts[0], own.Upserts[0]
	for _, key := range []string{"displayName", "groupName", "jobType", "notes", "tags", "host", "entity", "project", "name"} {
		x, _ := encode(a[key])
		y, _ := encode(b[key])
		if x != y {
			t.Errorf("%s of the run is %s from the official client, %s from us", key, x, y)
		}
	}
	t.Logf("%d rows, %d media files, %d artifacts, alert, summary, configuration and exit code are the same", len(theirs.Lines["wandb-history.jsonl"]), media, len(official.Artifacts))
}

// sameJSON compares two JSON texts, in which NaN and Infinity may be bare, as values.
// Times of console lines are left out: the official client gives all the time of the
// sync. Metrics may be listed in any order, and numbers may differ in the last digits.
func sameJSON(a, b string) bool {
	var x, y any
	mark := strings.NewReplacer("-Infinity", `"-inf"`, "Infinity", `"inf"`, "NaN", `"nan"`)
	if json.Unmarshal([]byte(mark.Replace(a)), &x) != nil || json.Unmarshal([]byte(mark.Replace(b)), &y) != nil {
		return false
	}
	return reflect.DeepEqual(plain(x), plain(y))
}

func plain(v any) any {
	switch v := v.(type) {
	case float64:
		return math.Round(v*1e5) / 1e5
	case []any:
		byName := map[string]any{}
		for i := range v {
			metric, is := v[i].(map[string]any)
			if place, there := metric["5"].(float64); is && there { // the step metric, by its name
				metric["5"] = v[int(place)-1].(map[string]any)["1"]
			}
			v[i] = plain(v[i])
			if name, named := metric["1"].(string); is && named {
				byName[name] = v[i]
			}
		}
		if len(v) > 0 && len(byName) == len(v) {
			return byName
		}
	case map[string]any:
		if _, console := v["content"]; console {
			delete(v, "ts")
		}
		for k := range v {
			v[k] = plain(v[k])
		}
	}
	return v
}
