package huggingface

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/internal/python"
)

// theirs runs huggingface_hub over a cache.
func theirs(t *testing.T, s *server, cache string, args ...string) map[string]any {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), python.Find(t), append([]string{"testdata/theirs.py"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "HF_HOME="+t.TempDir(), "HF_HUB_CACHE="+cache, "HF_ENDPOINT="+s.URL, "HF_TOKEN=",
		"HF_HUB_DISABLE_XET=1", "HF_HUB_DISABLE_TELEMETRY=1", "NO_PROXY=127.0.0.1")
	if args[0] == "read" {
		cmd.Env = append(cmd.Env, "HF_HUB_OFFLINE=1")
	}
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	out := map[string]any{}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("%v: %v in %s", args, err, text)
	}
	return out
}

// TestPython holds the cache and the server of the other tests against Python's
// huggingface_hub: it reads what we fetched, and we what it downloaded.
func TestPython(t *testing.T) {
	s := newServer(t)
	s.files["config.json"], s.large["model.safetensors"] = "{}", strings.Repeat("weights ", 1000)
	for i, name := range []string{"org/model", "org/model@feature/x", "org/model@" + commit, "old/name"} {
		s.cached = i%2 == 1
		t.Run(name, func(t *testing.T) {
			m := mustParse(t, name)

			ours := s.client(t)
			dir, _, err := ours.Fetch(t.Context(), m, wanted, quiet)
			if err != nil {
				t.Fatal(err)
			}
			out := theirs(t, s, ours.Cache, "read", m.Repo, m.Revision)
			refs := "[" + m.Revision + "]"
			if m.Revision == commit {
				refs = "[]"
			}
			for key, want := range map[string]string{
				"config.json": filepath.Join(dir, "config.json"), "model.safetensors": filepath.Join(dir, "model.safetensors"),
				"preprocessor_config.json": "no such file", "snapshot": dir,
				"warnings": "[]", "repos": "[" + m.Repo + "]", "refs": refs,
			} {
				if got := fmt.Sprint(out[key]); got != want {
					t.Errorf("of our cache Python says %s: %s, want %s", key, got, want)
				}
			}

			c := s.client(t)
			out = theirs(t, s, c.Cache, "fill", m.Repo, m.Revision)
			dir, at, ok := c.Snapshot(m)
			if !ok || at != commit || out["model.safetensors"] != filepath.Join(dir, "model.safetensors") {
				t.Fatalf("of Python's cache we find %s at %q, it has %v", dir, at, out)
			}
			if got := read(t, filepath.Join(dir, "model.safetensors")); got != s.large["model.safetensors"] {
				t.Errorf("%d bytes of another content", len(got))
			}
			s.requests = nil
			if _, _, err := c.Fetch(t.Context(), m, wanted, quiet); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(s.requests, ", "); strings.Contains(got, "GET") || strings.Contains(got, "storage") {
				t.Errorf("of Python's cache we asked for %s", got)
			}
		})
	}
}
