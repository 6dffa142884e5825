package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUses(t *testing.T) {
	guide := filepath.Join(t.TempDir(), "writing.md")
	text := "| avoid | write |\n" + title + "\n\n| avoid | write |\n|---|---|\n| beside, besides | next to |\n| is told | is reported |\n"
	if err := os.WriteFile(guide, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	w, err := readGuide(guide)
	if err != nil {
		t.Fatal(err)
	}
	got := w.uses([]byte("fine\n\tBesides, it is\nis told here\nsubsides\n"))
	if len(got) != 2 || got[0].line != 2 || got[0].word != "Besides" || got[0].instead != "next to" || got[1].instead != "is reported" {
		t.Errorf("uses: %+v", got)
	}
	if hashOf("  a b") != hashOf("a b\t") || hashOf("a b") == hashOf("ab") {
		t.Error("a line is known by its text without indentation")
	}
}

// A known line that disappears is dropped, and no other is added.
func TestPrune(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known.txt")
	if err := writeKnown(path, map[string]bool{"a": true, "b": true}, map[string]bool{"b": true, "c": true}); err != nil {
		t.Fatal(err)
	}
	got, err := readKnown(path)
	if err != nil || len(got) != 1 || !got["b"] {
		t.Errorf("kept %v (%v), want b", got, err)
	}
}
