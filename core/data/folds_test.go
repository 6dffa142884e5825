package data_test

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/data"
)

// Every pair is in one fold, groups stay together, strata are shared out, and sizes
// differ by no more than groups ask for.
func TestFolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, count := kinds(t)
		seed := rapid.Uint64().Draw(t, "seed")
		by := rapid.SampledFrom([]string{"", "group", "stratify"}).Draw(t, "by")
		group, stratify, most := "", "", f.Len()
		switch by {
		case "group":
			group, most = "_", len(count)
		case "stratify":
			stratify = "_"
		}
		n := rapid.IntRange(1, most).Draw(t, "folds")
		folds := complete(t, f, func(f data.Files) []data.Files {
			folds, err := f.Folds(n, seed, group, stratify)
			if err != nil {
				t.Fatal(err)
			}
			return folds
		})
		if len(folds) != n {
			t.Fatalf("%d folds, want %d", len(folds), n)
		}
		allowed := 1
		if group != "" {
			for _, c := range count {
				allowed = max(allowed, c)
			}
		}
		least, largest := f.Len(), 0
		in := map[string]int{} // the fold of a group
		for i, fold := range folds {
			least, largest = min(least, fold.Len()), max(largest, fold.Len())
			of := map[string]int{}
			for _, image := range fold.Images {
				of[kindOf(image)]++
			}
			for kind, size := range count {
				if stratify != "" && (of[kind] < size/n || of[kind] > (size+n-1)/n) {
					t.Fatalf("fold %d has %d of the %d of %s, in %d folds", i, of[kind], size, kind, n)
				}
				if group == "" || of[kind] == 0 {
					continue
				}
				if other, split := in[kind]; split {
					t.Fatalf("group %s is in folds %d and %d", kind, other, i)
				}
				in[kind] = i
			}
		}
		if least == 0 || largest-least > allowed {
			t.Fatalf("folds have %d to %d pictures, and may differ by %d", least, largest, allowed)
		}
	})
}

func TestFoldsNeedUnitsEnough(t *testing.T) {
	f := data.Files{Images: []string{"images/a_1.png", "images/a_2.png", "images/b_1.png"}, Masks: make([]string, 3)}
	for group, want := range map[string]string{"": "4 folds are asked for and there are 3 images", "_": "4 folds are asked for and there are 2 groups"} {
		if _, err := f.Folds(4, 0, group, ""); err == nil || err.Error() != want {
			t.Errorf("with group %q: %v, want %s", group, err, want)
		}
	}
}

// Folds that are written are read again as they were.
func TestListsOfFolds(t *testing.T) {
	whole := scan(t, folder(t, 11))
	folds, err := whole.Folds(3, 1, "", "")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := data.WriteFolds(t.Context(), data.NewIndex(data.Look{}), &b, whole.Root, folds); err != nil {
		t.Fatal(err)
	}
	if head, _, _ := strings.Cut(b.String(), "\n"); head != "image,fold,image_sha256,mask_sha256" {
		t.Errorf("the list begins with %s", head)
	}
	lists, err := listed(t, "folds.csv", b.String(), data.ReadFolds)
	if err != nil {
		t.Fatal(err)
	}
	parts, rest, err := whole.Divide(lists)
	if err != nil || rest.Len() != 0 || len(parts) != len(folds) {
		t.Fatalf("%d parts, %d left, %v", len(parts), rest.Len(), err)
	}
	for i, fold := range folds {
		if got := parts[strconv.Itoa(i)]; !reflect.DeepEqual(got, fold) {
			t.Errorf("fold %d is %v, want %v", i, got.Images, fold.Images)
		}
	}
	if err := whole.Compare(t.Context(), data.NewIndex(data.Look{}), lists); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"image,part\na,test\n":  `folds.csv:1: a CSV of folds begins with the line "image,fold"`,
		"image,fold\na,first\n": `folds.csv:2: "first" is no number of a fold`,
		"image,fold\na,01\n":    `folds.csv:2: "01" is no number of a fold`,
	} {
		if _, err := listed(t, "folds.csv", text, data.ReadFolds); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if names := slices.Sorted(maps.Keys(lists)); !slices.Equal(names, []string{"0", "1", "2"}) {
		t.Errorf("the list has folds %v", names)
	}
}
