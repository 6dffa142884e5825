package main

import (
	"strings"
	"testing"
)

// Pictures that cannot be segmented are reported one by one, and the others are
// segmented: trial-data, names that are not UTF-8, and a.jpg next to a.png.
func TestRefusedPictures(t *testing.T) {
	rest, refused := refusedPictures([]input{
		{"in/a.jpg", "a"},
		{"in/a.png", "a"},
		{"in/b.png", "b"},
		{"in/f\xe9.png", "f\xe9"},
	})
	if len(rest) != 1 || rest[0].path != "in/b.png" {
		t.Errorf("the rest is %v", rest)
	}
	want := []string{
		"in/a.jpg: in/a.png would be written as a too",
		"in/a.png: in/a.jpg would be written as a too",
		`in/f\xe9.png: the name /`,
	}
	if len(refused) != len(want) {
		t.Fatalf("refused %v", refused)
	}
	for i, one := range refused {
		if text := one.Image + ": " + one.Failure; !strings.HasPrefix(text, want[i]) {
			t.Errorf("got %s, want %s", text, want[i])
		}
	}
}
