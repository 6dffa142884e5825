package wandb

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The package can be imported by others: it needs the standard library alone, and no C.
func TestDependencies(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}} {{.CgoFiles}}{{end}}", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := cmd.Output()
	must(t, err)
	const ours = "github.com/loralab/loralab/runner/wandb"
	if got := strings.TrimSpace(string(out)); got != ours+"/wandblog []\n"+ours+" []" {
		t.Errorf("the package needs\n%s", got)
	}
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// Later places win: system file, file of the workspace, variables.
func TestOrderOfSettings(t *testing.T) {
	home, root := t.TempDir(), t.TempDir()
	write := func(path, text string) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write(filepath.Join(home, ".config/wandb/settings"), "[default]\nbase_url = http://lab:8080/wb/\nproject=one\nentity: e\napi_key = "+testKey+"\n[other]\nmode=offline\n")
	write(filepath.Join(root, "wandb/settings"), "[default]\nproject = two\n")
	s, err := Environment(root, env("HOME", home, "WANDB_TAGS", " a, b,", "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "0.5"))
	must(t, err)
	if s.BaseURL != "http://lab:8080/wb" || s.Project != "two" || s.Entity != "e" || s.Mode != "" || fmt.Sprint(s.Tags) != "[a b]" || s.Key.secret != testKey || s.Transmit.Seconds() != 0.5 {
		t.Errorf("the settings are %+v", s)
	}
	s, err = Environment(root, env("HOME", home, "WANDB_PROJECT", "three", "WANDB_BASE_URL", "https://other"))
	must(t, err)
	if s.Project != "three" || !s.Key.IsZero() {
		t.Errorf("the project is %s; the key of another server is used: %v", s.Project, !s.Key.IsZero())
	}
}

func TestKeys(t *testing.T) {
	home := t.TempDir()
	other := strings.Repeat("z9", 20)
	netrc := "# a comment\nmachine lab:8080 login user password " + testKey + "\nmacdef init\n machine api.wandb.ai password wrong\n\nmachine api.wandb.ai\n  login user\n  password " + other + "\ndefault login x password never\n"
	must(t, os.WriteFile(filepath.Join(home, ".netrc"), []byte(netrc), 0o600))
	for base, want := range map[string]string{
		"http://lab:8080": testKey, "http://lab:8080/path": testKey, "http://lab": "", "": other, "https://api.wandb.ai": other,
	} {
		s, err := Environment("", env("HOME", home, "WANDB_BASE_URL", base))
		must(t, err)
		if s.Key.secret != want {
			t.Errorf("the key of %s is %q", base, s.Key.secret)
		}
	}
	for key, wrong := range map[string]bool{testKey: false, "local-" + testKey: false, "tiny5": true, testKey + "!": true, "a.b.c": false} {
		_, err := Sync(t.Context(), Settings{Root: t.TempDir(), Getenv: env("WANDB_API_KEY", key)})
		if (err != nil) != wrong {
			t.Errorf("a key: %v", err)
		}
		if err != nil && strings.Contains(err.Error(), key) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	_, err := Init(t.Context(), Settings{Root: t.TempDir(), Getenv: env("HOME", t.TempDir())})
	if !errors.Is(err, ErrNoKey) {
		t.Errorf("online without a key: %v", err)
	}
	k := NewKey(testKey)
	text, err := json.Marshal(map[string]any{"key": k, "settings": struct{ K Key }{k}})
	must(t, err)
	for _, shown := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s %q %x %d", k, k, k, k, k, k, k), fmt.Sprintf("%+v", Settings{Key: k}), string(text)} {
		if strings.Contains(shown, "k1k1") || strings.Contains(shown, fmt.Sprintf("%x", testKey)) {
			t.Errorf("the key is shown: %s", shown)
		}
	}
}

func TestWrongSettings(t *testing.T) {
	for _, variables := range [][]string{
		{"WANDB_MODE", "onlin"},
		{"WANDB_RESUME", "perhaps"},
		{"WANDB_BASE_URL", "lab"},
		{"WANDB_BASE_URL", "https://user:" + testKey + "@lab"},
		{"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "soon"},
		{"WANDB_X_EXTRA_HTTP_HEADERS", `{"a":` + testKey},
		{"WANDB_RUN_ID", "a/b"},
	} {
		_, err := Init(t.Context(), Settings{Mode: Offline, Root: t.TempDir(), Getenv: env(variables...)})
		if variables[0] == "WANDB_MODE" {
			_, err = Init(t.Context(), Settings{Root: t.TempDir(), Getenv: env(variables...)})
		}
		if err == nil || strings.Contains(err.Error(), testKey) || !strings.Contains(err.Error(), variables[0]) && variables[0] != "WANDB_RUN_ID" {
			t.Errorf("%s: %v", variables[0], err)
		}
	}
}

func TestPages(t *testing.T) {
	for base, want := range map[string]string{
		publicURL:              "https://forge.coreweave.com/wandb/lab/nu%20clei/runs/a",
		"https://api.wandb.eu": "https://wandb.eu/lab/nu%20clei/runs/a",
		"https://api.lab.org":  "https://app.lab.org/lab/nu%20clei/runs/a",
		"http://lab:8080/wb":   "http://lab:8080/wb/lab/nu%20clei/runs/a",
	} {
		if got := (Settings{BaseURL: base}).runURL("lab", "nu clei", "a"); got != want {
			t.Errorf("the page is %s, not %s", got, want)
		}
	}
}
