package data_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"testing"

	"github.com/loralab/loralab/core/data"
)

// The parts are those that Python makes, see testdata/make_split.py.
func TestSplitOriginal(t *testing.T) {
	text, err := os.ReadFile("testdata/split.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Names []string
		Cases []struct {
			Seed             uint64
			Fraction         float64
			Train, Val, Test []string
		}
		Sizes [][4]float64
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	// In two folders, as a source that is published in parts: names decide, not
	// where they lie.
	parts := map[string]data.Files{"train": {Root: "pets/train"}, "test": {Root: "pets/test"}}
	for i, name := range want.Names {
		role := []string{"train", "test"}[i%2]
		f := parts[role]
		f.Images, f.Masks = append(f.Images, "images/"+name), append(f.Masks, "masks/"+name+".png")
		parts[role] = f
	}
	all := data.Pool("pets", parts)
	if all.Len() != len(want.Names) || !slices.IsSorted(all.Images) {
		t.Fatalf("pooled: %v", all.Images)
	}
	for _, c := range want.Cases {
		got := all.SplitOriginal(c.Seed, c.Fraction, 0.2, 0.1)
		for i, names := range [][]string{c.Train, c.Val, c.Test} {
			var have []string
			for k, image := range got[i].Images {
				have = append(have, path.Base(image))
				if path.Base(got[i].Masks[k]) != path.Base(image)+".png" {
					t.Errorf("%s has the mask %s", image, got[i].Masks[k])
				}
			}
			if slices.Sort(have); !slices.Equal(have, names) {
				t.Errorf("seed %d, %g of the images, part %d: %v, the original has %v", c.Seed, c.Fraction, i, have, names)
			}
		}
	}
	var pets data.Files
	for i := range 7390 {
		pets.Images, pets.Masks = append(pets.Images, fmt.Sprint(i)), append(pets.Masks, fmt.Sprint(i))
	}
	for _, s := range want.Sizes {
		got := pets.SplitOriginal(10, s[0], 0.2, 0.1)
		for i, n := range s[1:] {
			if got[i].Len() != int(n) {
				t.Errorf("%g of 7390 images, part %d: %d, the original has %g", s[0], i, got[i].Len(), n)
			}
		}
	}
}
