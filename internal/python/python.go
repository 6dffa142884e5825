// Package python is the Python environment of the tests that hold loralab
// against transformers and PEFT, or talk to a plug-in written in Python.
// `make python` makes it; see install.sh.
package python

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

//go:embed requirements.txt
var requirements []byte

//go:embed install.sh
var install []byte

// Find is the interpreter. Without one the test fails: one that was left out
// would say as much as one that passed.
func Find(t testing.TB) string {
	t.Helper()
	path := os.Getenv("LORALAB_PYTHON")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(append(requirements[:len(requirements):len(requirements)], install...))
		path = filepath.Join(cache, "loralab", "python-"+hex.EncodeToString(sum[:])[:12], "bin", "python")
	}
	if _, err := exec.LookPath(path); err != nil {
		t.Fatalf("the Python of the tests is missing (%v): run `make python`", err)
	}
	return path
}
