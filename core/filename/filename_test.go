package filename

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// Any name makes a file, and long names that differ make different files
// (trial-language C3, trial-reliability 21, trial-data F15).
func TestNamesOfFiles(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		long := strings.Repeat(rapid.StringN(1, 3, -1).Draw(t, "part"), rapid.IntRange(1, 200).Draw(t, "times"))
		name := Fit(Of(long), Most)
		if len(name) > Most {
			t.Fatalf("%d bytes", len(name))
		}
		if utf8.ValidString(long) && !utf8.ValidString(name) {
			t.Fatalf("%q is cut in the middle of a character", name)
		}
		path := filepath.Join(dir, name)
		if filepath.Dir(path) != dir {
			t.Fatalf("%q leads elsewhere", name)
		}
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if other := Fit(Of(long+"x"), Most); len(long) > Most && other == name {
			t.Fatalf("two names are %q", name)
		}
	})
}

func TestShortNamesStay(t *testing.T) {
	for _, name := range []string{"rank=8", "Zürich", strings.Repeat("a", Most)} {
		if got := Fit(Of(name), Most); got != name {
			t.Errorf("%q became %q", name, got)
		}
	}
}

func TestCheckUTF8(t *testing.T) {
	if err := CheckUTF8("/data/é \ufffd.png"); err != nil {
		t.Error(err)
	}
	err := CheckUTF8("/data/f\xe9e\xff.png")
	if err == nil || !strings.Contains(err.Error(), `/data/f\xe9e\xff.png is not UTF-8`) {
		t.Errorf("got %v", err)
	}
}
