package tempdir

import (
	"os"
	"path/filepath"
	"testing"
)

// A directory of a process that was killed goes when the next one is made
// (trial-reliability 25); one in use and one that was kept stay.
func TestAbandonedDirectoriesGo(t *testing.T) {
	parent := t.TempDir()
	t.Setenv("TMPDIR", parent)
	open := func() *Dir {
		t.Helper()
		d, err := New("test")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.Path, "content"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
		return d
	}
	there := func(d *Dir) bool {
		_, err := os.Stat(d.Path)
		return err == nil
	}
	killed, kept, used := open(), open(), open()
	if err := killed.lock.Close(); err != nil { // as the end of a process does
		t.Fatal(err)
	}
	if err := kept.Keep(); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(parent, prefix+"theirs")
	if err := os.Mkdir(foreign, 0o777); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.Mkdir(victim, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(victim, lockName), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(parent, prefix+"link")); err != nil {
		t.Fatal(err)
	}
	last := open()
	for name, c := range map[string]struct {
		path string
		want bool
	}{
		"killed": {killed.Path, false}, "kept": {kept.Path, true}, "used": {used.Path, true},
		"foreign": {foreign, true}, "behind a link": {victim, true},
	} {
		if _, err := os.Stat(c.path); (err == nil) != c.want {
			t.Errorf("%s: there is %v", name, err == nil)
		}
	}
	for _, d := range []*Dir{used, last} {
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
		if there(d) {
			t.Errorf("%s is left", d.Path)
		}
	}
}
