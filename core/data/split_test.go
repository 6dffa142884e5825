package data_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/data"
)

// kinds draws files named KIND_NUMBER, and counts them by kind.
func kinds(t *rapid.T) (data.Files, map[string]int) {
	count := map[string]int{}
	var f data.Files
	for k := range rapid.IntRange(1, 12).Draw(t, "kinds") {
		kind := fmt.Sprintf("some_kind%02d", k)
		count[kind] = rapid.IntRange(1, 30).Draw(t, kind)
		for i := range count[kind] {
			f.Images = append(f.Images, fmt.Sprintf("images/%s_%02d.jpg", kind, i))
			f.Masks = append(f.Masks, fmt.Sprintf("masks/%s_%02d.png", kind, i))
		}
	}
	return f, count
}

func kindOf(image string) string {
	name := strings.TrimPrefix(image, "images/")
	return name[:strings.LastIndex(name, "_")]
}

// complete checks that parts are disjoint, leave nothing out, and do not depend
// on the order of the files.
func complete(t *rapid.T, f data.Files, split func(data.Files) []data.Files) []data.Files {
	t.Helper()
	parts := split(f)
	var all []string
	for _, p := range parts {
		all = append(all, p.Images...)
	}
	slices.Sort(all)
	if !slices.Equal(all, f.Images) {
		t.Fatalf("the parts hold %d of %d pictures", len(all), f.Len())
	}
	for i, p := range split(shuffled(t, f)) {
		if !slices.Equal(p.Images, parts[i].Images) {
			t.Fatalf("part %d depends on the order", i)
		}
	}
	return parts
}

func TestGroupsStayTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, count := kinds(t)
		seed := rapid.Uint64().Draw(t, "seed")
		parts := complete(t, f, func(f data.Files) []data.Files { return f.SplitGroups(seed, "_", 0.7, 0.2, 0.1) })
		in, most := map[string]int{}, 0
		for i, p := range parts {
			for _, image := range p.Images {
				if j, ok := in[kindOf(image)]; ok && i != j {
					t.Fatalf("%s is in the parts %d and %d", kindOf(image), i, j)
				}
				in[kindOf(image)] = i
			}
		}
		for _, n := range count {
			most = max(most, n)
		}
		// Half a group at most is on the wrong side of a bound.
		if off := float64(parts[0].Len()) - 0.7*float64(f.Len()); max(off, -off) > float64(most)/2+1e-9 {
			t.Fatalf("the first part holds %d of %d pictures in groups of up to %d", parts[0].Len(), f.Len(), most)
		}
	})
}

func TestStrataAreShared(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, count := kinds(t)
		seed := rapid.Uint64().Draw(t, "seed")
		parts := complete(t, f, func(f data.Files) []data.Files { return f.SplitStrata(seed, "_", 0.7, 0.2, 0.1) })
		if got, want := parts[0].Len(), int(0.7*float64(f.Len())+0.5); got != want {
			t.Fatalf("the first part holds %d of %d", got, f.Len())
		}
		got := map[string]int{}
		for _, image := range parts[0].Images {
			got[kindOf(image)]++
		}
		// Bounds lie where the whole has its fraction, which is off that of a kind
		// by the spread of its pictures.
		for kind, n := range count {
			share := float64(parts[0].Len()) / float64(f.Len())
			if off := float64(got[kind]) - share*float64(n); max(off, -off) > 2+float64(n)*float64(len(count))/float64(f.Len()) {
				t.Fatalf("%s has %d of %d in the first part", kind, got[kind], n)
			}
		}
	})
}
