package data_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

func contents(t testing.TB, f data.Files) data.Contents {
	t.Helper()
	c, err := f.Contents(t.Context(), data.NewIndex(data.Look{}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// noisy is a folder of pictures of one grey each, of which the third and the fifth
// are the same file, called prefix…
func noisy(t *testing.T, prefix string) data.Files {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	root := t.TempDir()
	for i, shade := range []byte{90, 60, 120, 150, 120} {
		name := fmt.Sprintf("%s%d.png", prefix, i)
		writePNG(t, filepath.Join(root, "images", name), grey(24, 24, func(x, y int) byte { return shade + byte(x*y)%7 }))
		writePNG(t, filepath.Join(root, "masks", name), grey(24, 24, func(x, _ int) byte { return byte(x / 12) }))
	}
	return scan(t, root)
}

// What is drawn at random for a picture follows from what the identity covers,
// contents and order, and not from names: trial-reliability 1.
func TestNamesMoveNothing(t *testing.T) {
	d := identity(16, 16)
	d.Augment = []*spec.Augment{{Kind: "flip", P: 0.5}, {Kind: "rotate", P: 1, Low: -30, High: 30}, {Kind: "noise", P: 1, Low: 0.2, High: 0.2}}
	d.Corruption = &spec.Corruption{Kind: "elastic_transform", Severity: 5}
	all := []int{0, 1, 2, 3, 4}
	read := func(f data.Files, styles data.Files, style *spec.Style) (shifted, augmented *data.Batch) {
		t.Helper()
		d.Style = style
		s, err := data.Open(contents(t, f), d, contents(t, styles))
		if err != nil {
			t.Fatal(err)
		}
		if shifted, err = s.Batch(t.Context(), all); err == nil {
			augmented, err = s.Augmented(t.Context(), all, 3, 2)
		}
		if err != nil {
			t.Fatal(err)
		}
		return shifted, augmented
	}
	for _, style := range []*spec.Style{nil, {Kind: "colour", Strength: 1}} {
		a, b := noisy(t, "p"), noisy(t, "z_")
		shiftedA, augmentedA := read(a, b, style)
		shiftedB, augmentedB := read(b, a, style)
		if !bytes.Equal(shiftedA.Images, shiftedB.Images) || !bytes.Equal(shiftedA.Labels, shiftedB.Labels) {
			t.Errorf("style %v: damages and styles depend on names", style)
		}
		if !bytes.Equal(augmentedA.Images, augmentedB.Images) || !bytes.Equal(augmentedA.Labels, augmentedB.Labels) {
			t.Errorf("style %v: augmentations depend on names", style)
		}
		// Two copies of a picture within a split are changed otherwise.
		if bytes.Equal(shiftedA.At(2).Image.RGB, shiftedA.At(4).Image.RGB) || bytes.Equal(augmentedA.At(2).Image.RGB, augmentedA.At(4).Image.RGB) {
			t.Errorf("style %v: two copies of a picture are changed alike", style)
		}
	}
}

// Files that change after they were planned are no longer read: trial-reliability 4.
func TestChangedFilesAreNotRead(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"in place": func(path string) error {
			b, err := os.ReadFile(path)
			b[len(b)-20] ^= 1
			if err == nil {
				err = os.WriteFile(path, b, 0o666)
			}
			return err
		},
		"renamed over": func(path string) error { return os.Rename(filepath.Join(filepath.Dir(path), "p0.png"), path) },
		"cut":          func(path string) error { return os.Truncate(path, 40) },
	} {
		for _, folder := range []string{"images", "masks"} {
			f := noisy(t, "p")
			c := contents(t, f)
			path := filepath.Join(f.Root, folder, "p3.png")
			if folder == "masks" && name == "renamed over" {
				writePNG(t, filepath.Join(f.Root, folder, "p0.png"), grey(24, 24, func(_, _ int) byte { return 0 }))
			}
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			s, err := data.Open(c, identity(16, 16), data.Contents{})
			if err != nil {
				t.Fatal(err)
			}
			for what, err := range map[string]error{
				"batch": func() error { _, err := s.Batch(t.Context(), []int{3}); return err }(),
				"scene": func() error { _, err := s.Scene(3, func(own raster.Size) raster.Size { return own }); return err }(),
			} {
				if err == nil || !strings.Contains(err.Error(), path+": the file changed after it was planned") {
					t.Errorf("%s %s, %s: %v", folder, name, what, err)
				}
			}
			if _, err := s.Batch(t.Context(), []int{1, 2, 4}); err != nil {
				t.Errorf("%s %s: the others: %v", folder, name, err)
			}
		}
	}
	// A picture of a style.
	f := noisy(t, "p")
	styles := contents(t, noisy(t, "s"))
	for _, p := range styles.Images {
		if err := os.Truncate(filepath.Join(styles.Root, p), 50); err != nil {
			t.Fatal(err)
		}
	}
	d := identity(16, 16)
	d.Style = &spec.Style{Kind: "colour", Strength: 1}
	s, err := data.Open(contents(t, f), d, styles)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Batch(t.Context(), []int{0}); err == nil || !strings.Contains(err.Error(), "the file changed after it was planned") {
		t.Errorf("a style: %v", err)
	}
}

// Two versions of a data set that changed places where times are coarse have the
// stamps of each other. What reads a file finds out, and the next plan is right.
func TestAMistakenIndexForgets(t *testing.T) {
	f := noisy(t, "p")
	x := data.LaterIndex(time.Minute, data.Look{})
	right := contents(t, f).Digest()
	if _, err := f.Contents(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	x.SpoilSum(t, f.Root, f.Images[2])
	x.SpoilSum(t, f.Root, f.Masks[3])
	planned, err := f.Contents(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	if planned.Digest() == right {
		t.Fatal("the cache was not used")
	}
	s, err := data.Open(planned, identity(16, 16), data.Contents{})
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range map[int]string{2: f.Images[2], 3: f.Masks[3]} {
		_, err := s.Batch(t.Context(), []int{i})
		var changed *data.ChangedError
		if !errors.As(err, &changed) || changed.Root != f.Root || changed.File != file {
			t.Fatalf("image %d: %v", i, err)
		}
		if !x.Mistook(changed.Root, changed.File) {
			t.Errorf("%s is not what the index says, and was found to be", file)
		}
	}
	if x.Mistook(f.Root, f.Images[0]) {
		t.Error("an image is what the index says, and was found not to be")
	}
	other := data.LaterIndex(time.Minute, data.Look{})
	if d, err := f.Digest(t.Context(), other); err != nil || d == right {
		t.Fatalf("another process: %v %v", d, err)
	}
	x.Forget(f.Root)
	for _, x := range []*data.Index{x, other, data.LaterIndex(time.Minute, data.Look{})} {
		if d, err := f.Digest(t.Context(), x); err != nil || d != right {
			t.Errorf("after it was forgotten, the digest is %v, want %v; %v", d, right, err)
		}
	}
}
