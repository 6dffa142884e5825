package stylize

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/runner/experiment"
)

// A domain is written below the directory that was named, whatever it is called
// (trial-reliability 8).
func TestNamesAreNoPaths(t *testing.T) {
	root := t.TempDir()
	out := filepath.Join(root, "out")
	for _, name := range []string{"../x", "../../x", "/x", ".", "..", "", "a/b", ".hidden"} {
		_, err := Write(t.Context(), data.NewIndex(data.Look{}), out, []Domain{{Part: experiment.Part{Name: name}}}, func(Step) {})
		if err == nil || !strings.Contains(err.Error(), "name of a domain") && !strings.Contains(err.Error(), "is empty") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if left, _ := os.ReadDir(root); len(left) > 0 {
		t.Errorf("there are %v", left)
	}
}
