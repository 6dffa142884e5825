package experiment

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/runner/bounded"
)

// Whatever a file holds, it is answered: with experiments, or with mistakes that
// can be shown, never with a panic, and with names that are safe.
//
//	go test -run "^$" -fuzz FuzzLoad -fuzzminimizetime 1x ./runner/experiment
//
// Without -fuzzminimizetime it spends its time on making inputs shorter.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/broken/*.cue")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for i, file := range files {
		if i%6 > 0 && os.Getenv("LORALAB_FUZZ") == "" { // TestBrokenFiles has the others
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	head := "package e\nimport \"github.com/loralab/loralab/schema\"\n"
	for _, kind := range slices.Sorted(maps.Keys(forms)) {
		if form := forms[kind]; !strings.Contains(form, "lib.") {
			f.Add(head + strings.NewReplacer("$BASE", body, "$OWN", `vary: "train.batch": [2, 4], cases: a: adapter: variant: "none"`).Replace(form))
		}
	}
	for _, text := range []string{"", "x", "package e\r", "x: y\ny: x\n", "for i in [1] {\"\\(i)\": _}", "e?: _\n_e: _", "\xff\xfe", "x: 1e999999999", "import \"list\"\nx: list.Range(0, 9, 1)"} {
		f.Add(head + text)
		f.Add(text)
	}
	file := filepath.Join(f.TempDir(), "e.cue")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := bounded.Do(t.Context(), bounded.Limits{CPU: 20 * time.Second, Memory: 2 << 30}, func() {
			experiments, found := loadWith([]string{file}, Env{}, world())
			if len(experiments) == 0 && !found.HasErrors() {
				t.Errorf("no answer to\n%s", text)
			}
			for _, d := range found {
				if d.Message == "" || d.At.File == "" || !utf8.ValidString(d.Message+d.Hint) {
					t.Errorf("%q in\n%s", d.Text(), text)
				}
			}
			for _, e := range experiments {
				if err := name.Experiment(e.Name); err != nil {
					t.Error(err)
				}
				for _, d := range e.Domains {
					if err := name.Column(d); err != nil {
						t.Error(err)
					}
				}
				for _, c := range e.cells {
					if err := name.Cell(c.name); err != nil {
						t.Error(err)
					}
					if _, err := e.Values(c.name); err != nil {
						t.Error(err)
					}
				}
			}
		})
		if err != nil {
			t.Skip(err) // CUE has no end of its own
		}
	})
}
