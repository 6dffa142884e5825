package trust

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func entry(name, digit string) Entry {
	return Entry{SHA256: strings.Repeat(digit, 64), Name: name, Path: "/p/plugins.d/" + name, Date: time.Unix(1e9, 0).UTC()}
}

func open(t *testing.T, path string) *List {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Contents are trusted and no longer trusted; what one process writes another
// reads, and nobody else may.
func TestList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "loralab", "trusted.json")
	l := open(t, path)
	a, b := entry("gain", "a"), entry("gain", "b")
	for _, e := range []Entry{b, a, a, entry("lora", "c")} {
		if err := l.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	l = open(t, path)
	if len(l.Entries) != 3 || l.Entries[0] != a || l.Entries[1] != b {
		t.Errorf("the list has %+v", l.Entries)
	}
	if !l.Has(a.SHA256) || l.Has(strings.Repeat("d", 64)) || l.Has("") || (*List)(nil).Has(a.SHA256) {
		t.Error("the wrong contents are trusted")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has %v, %v", info.Mode(), err)
	}
	for text, want := range map[string]int{"aaaaaaa": 0, "cc": 0, "CCCCCCCC": 1, "nothing": 0} {
		revoked, err := l.Revoke(text)
		if err != nil || len(revoked) != want {
			t.Errorf("%s revokes %v, %v", text, revoked, err)
		}
	}
	if revoked, err := l.Revoke("gain"); err != nil || len(revoked) != 2 || len(open(t, path).Entries) != 0 || l.Has(a.SHA256) {
		t.Errorf("revoked %v, %v", revoked, err)
	}
	if err := l.Add(a); err != nil {
		t.Fatal(err)
	}
	if revoked, err := l.Revoke(a.Path); err != nil || len(revoked) != 1 {
		t.Errorf("revoked %v, %v", revoked, err)
	}
}

// No process loses what another has added.
func TestAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trusted.json")
	var all sync.WaitGroup
	for _, digit := range strings.Split("0123456789abcdef", "") {
		l := open(t, path) // as another process that read it before
		all.Go(func() {
			if err := l.Add(entry("v"+digit, digit)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if l := open(t, path); len(l.Entries) != 16 {
		t.Errorf("%d entries are left", len(l.Entries))
	}
}

// A file that cannot be read trusts nothing and is not written over.
func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trusted.json")
	l := open(t, path)
	for text, want := range map[string]string{
		"{":             "remove the file and trust them again",
		`{"format": 9}`: "has format 9",
		`{}`:            "has format 0",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
		if err := l.Add(entry("gain", "a")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("adding to %s: %v", text, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("the file holds %q, %v", got, err)
		}
	}
}
