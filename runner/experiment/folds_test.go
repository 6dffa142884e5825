package experiment

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/data"
	names "github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/runner/diagnostic"
)

// frames is a source of groups of this many images each, named GROUP_IMAGE. Files
// lie in the given folders in turn.
func frames(t testing.TB, groups []int, folders ...string) string {
	t.Helper()
	dir, n := t.TempDir(), 0
	for g, size := range groups {
		for i := range size {
			shown := image.NewGray(image.Rect(0, 0, 16, 16))
			mask := image.NewGray(shown.Rect)
			for j := range shown.Pix {
				shown.Pix[j], mask.Pix[j] = uint8(j+7*n), uint8(j/16%3)
			}
			for kind, picture := range map[string]image.Image{"images": shown, "masks": mask} {
				var b bytes.Buffer
				file := filepath.Join(dir, folders[n%len(folders)], kind, fmt.Sprintf("film%02d_%02d.png", g, i))
				if err := png.Encode(&b, picture); err != nil {
					t.Fatal(err)
				}
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			n++
		}
	}
	return dir
}

// folded is an experiment on a source, with seeds 1 and 2.
func folded(source, split string) string {
	text := strings.Replace(sound, `"procedural"`, fmt.Sprintf("%q", source), 1)
	return insert(strings.Replace(text, "seeds: [1]", "seeds: [1, 2]", 1), "\tdata: split: {"+split+"}")
}

// images are those of a run in a role.
func (r *Run) images(role string) []string {
	split := r.Evaluations[0].Spec.Data.Splits[role]
	if role != "test" {
		split = r.Spec.Data.Splits[role]
	}
	return r.Places.Files[split.Digest].Images
}

// testedOnce checks that every image is in the test of one fold, and in the training or
// the validation of all others; and returns the images tested on, by fold.
func testedOnce(t failer, runs []*Run, folds, images int) [][]string {
	t.Helper()
	tested := map[string]int{}
	parts := make([][]string, folds)
	for _, run := range runs {
		n, _ := run.Fold.Number()
		parts[n] = run.images("test")
		for _, image := range parts[n] {
			if f, again := tested[image]; again {
				t.Fatalf("%s is in folds %d and %d", image, f, n)
			}
			tested[image] = int(n)
		}
		all := slices.Concat(run.images("train"), run.images("val"), parts[n])
		slices.Sort(all)
		if got := len(slices.Compact(all)); got != images {
			t.Fatalf("the parts of %s have %d images, want %d", run.Name(), got, images)
		}
		if len(run.images("val")) == 0 || len(run.images("train")) == 0 {
			t.Fatalf("%s has an empty part", run.Name())
		}
		if f := run.Spec.Folds; int(f.GetCount()) != folds || f.GetFold() != n {
			t.Fatalf("the specification of %s has %v", run.Name(), f)
		}
	}
	if len(tested) != images {
		t.Fatalf("%d of %d images are tested", len(tested), images)
	}
	return parts
}

// Folds are an axis of their own: cells are as they were, and have a run for each fold
// and seed. Which images a fold has depends on neither seeds nor cells.
func TestFoldsOfRuns(t *testing.T) {
	source := frames(t, []int{3, 1, 4, 2, 5}, "train", "val", "test")
	e := loadText(t, folded(source, `folds: 3, group: "_"`))[0]
	var got []string
	for _, run := range e.Runs {
		got = append(got, run.Name())
	}
	var want []string
	for fold := range 3 {
		for seed := range 2 {
			want = append(want, fmt.Sprintf("x/base/fold=%d/seed=%d", fold, seed+1))
		}
	}
	if !slices.Equal(got, want) || e.Folds != 3 {
		t.Errorf("runs %v of %d folds, want %v", got, e.Folds, want)
	}
	var first, second []*Run
	for _, run := range e.Runs {
		if run.Seed == 1 {
			first = append(first, run)
		} else {
			second = append(second, run)
		}
	}
	parts := testedOnce(t, first, 3, 15)
	if !reflect.DeepEqual(parts, testedOnce(t, second, 3, 15)) {
		t.Error("seeds of runs move folds, though split.seed is a number")
	}
	// A part has the runs of the whole.
	for split, want := range map[string][]int{`fold: 2`: {4, 5}, `fold: [2, 0]`: {4, 5, 0, 1}} {
		some := loadText(t, folded(source, `folds: 3, group: "_", `+split))[0]
		for i, run := range some.Runs {
			if len(some.Runs) != len(want) || run.ID != e.Runs[want[i]].ID {
				t.Fatalf("%s has %d runs, and %s as number %d", split, len(some.Runs), run.Name(), i)
			}
		}
	}
	// By the seeds of runs, cross-validation is repeated with other folds.
	e = loadText(t, folded(source, `folds: 3, seed: "run"`))[0]
	first, second = nil, nil
	for _, run := range e.Runs {
		if run.Seed == 1 {
			first = append(first, run)
		} else {
			second = append(second, run)
		}
	}
	if reflect.DeepEqual(testedOnce(t, first, 3, 15), testedOnce(t, second, 3, 15)) {
		t.Error(`with seed "run", both seeds have the same folds`)
	}
	// A point has a run in each fold.
	for _, want := range e.Runs {
		run, found := e.Resolve(t.Context(), nil, want.Repeat())
		if run == nil || run.ID != want.ID || run.Name() != want.Name() {
			t.Errorf("%s is resolved to %v, %v", want.Name(), run, found)
		}
	}
	for _, wrong := range []names.Repeat{{Seed: 1}, {Fold: names.NewFold(3), Seed: 1}} {
		if run, found := e.Resolve(t.Context(), nil, wrong); run != nil || !found.HasErrors() {
			t.Errorf("there is a run with %s", wrong.Words())
		}
	}
}

// Whatever there is: every image is tested once, groups stay together, and each part
// has images.
func TestFoldsOfAnySource(t *testing.T) {
	resolve := newResolver(t.Context(), Env{})
	rapid.Check(t, func(rt *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 6), 3, 12).Draw(rt, "groups")
		pool := data.Files{Root: "/"}
		for g, size := range sizes {
			for i := range size {
				pool.Images = append(pool.Images, fmt.Sprintf("images/film%02d_%02d.png", g, i))
				pool.Masks = append(pool.Masks, fmt.Sprintf("masks/film%02d_%02d.png", g, i))
			}
		}
		s := splitConfig{Train: rapid.Float64Range(0.01, 0.99).Draw(rt, "train"), Val: valShare(rapid.Float64Range(0.01, 0.99).Draw(rt, "val"))}
		s.Seed.number = rapid.Uint64().Draw(rt, "seed")
		most := pool.Len()
		switch rapid.IntRange(0, 2).Draw(rt, "by") {
		case 1:
			s.Group, most = "_", len(sizes)
		case 2:
			s.Stratify = "_"
		}
		s.Folds = uint32(rapid.IntRange(2, most).Draw(rt, "folds"))
		folds, err := pool.Folds(int(s.Folds), s.Seed.number, s.Group, s.Stratify)
		if err != nil {
			rt.Fatal(err)
		}
		key := scanKey{sourceKey: sourceKey{root: "/", source: fmt.Sprint(sizes)}, split: s}
		resolve.dealt[key] = answer[dealt]{value: dealt{folds: folds}}
		seen, trained := map[string]int{}, map[string]int{}
		for n := range folds {
			key.split.fold = names.NewFold(uint32(n))
			p, err := resolve.fold(key)
			if err != nil {
				if outside := pool.Len() - folds[n].Len(); s.Group == "" && outside > 1 {
					rt.Fatal(err)
				}
				continue // a single group is outside
			}
			in := map[string]string{} // the part of a group
			total := 0
			for _, role := range roles {
				total += p[role].Len()
				if p[role].Len() == 0 {
					rt.Fatalf("fold %d has no images for %s", n, role)
				}
				for _, image := range p[role].Images {
					group := image[:strings.LastIndex(image, "_")]
					if other := in[group]; s.Group != "" && other != "" && other != role {
						rt.Fatalf("in fold %d, %s is in %s and %s", n, group, other, role)
					}
					in[group] = role
					switch role {
					case "test":
						seen[image]++
					case "train":
						trained[image]++
					}
				}
			}
			if total != pool.Len() {
				rt.Fatalf("fold %d has %d of %d images", n, total, pool.Len())
			}
		}
		v := float64(s.Val) / (s.Train + float64(s.Val))
		for image, times := range seen {
			// Validation goes around.
			if s.Group == "" && v <= 0.5 && s.Folds > 3 && trained[image] == 0 {
				rt.Fatalf("%s is never trained on, in %d folds with %g for validation", image, s.Folds, v)
			}
			if times != 1 {
				rt.Fatalf("%s is tested %d times", image, times)
			}
		}
	})
}

// A list of folds divides as it says; what does not fit it is an error with a hint.
func TestListOfFolds(t *testing.T) {
	source := frames(t, []int{4, 4}, "")
	list := filepath.Join(t.TempDir(), "folds.csv")
	text := "image,fold\n"
	for i := range 4 {
		text += fmt.Sprintf("film00_%02d,%d\nfilm01_%02d,%d\n", i, i%2, i, i%2)
	}
	if err := os.WriteFile(list, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	from := fmt.Sprintf("from: %q", list)
	e := loadText(t, folded(source, `folds: 2, `+from))[0]
	parts := testedOnce(t, []*Run{e.Runs[0], e.Runs[2]}, 2, 8)
	if want := []string{"images/film00_00.png", "images/film00_02.png", "images/film01_00.png", "images/film01_02.png"}; !slices.Equal(parts[0], want) {
		t.Errorf("fold 0 is %v, want %v", parts[0], want)
	}
	for split, want := range map[string][2]string{
		`folds: 3, ` + from:       {"has no fold 2, and data.split.folds is 3", "folds are numbered from 0 on"},
		`folds: 9`:                {"cannot be divided: 9 folds are asked for and there are 8 images", "write folds: 8 or fewer"},
		`folds: 3, group: "_"`:    {"cannot be divided: 3 folds are asked for and there are 2 groups", "write folds: 2 or fewer"},
		`folds: 2, group: "_"`:    {"is a single group, to train and to validate on", "take more folds, or more groups"},
		`folds: 2, from: "."`:     {"reading the folds of the data: ", "with the columns image and fold"},
		`folds: 2, fold: 2`:       {"there is no fold 2 of 2", "from 0 to 1"},
		`from: ` + from[6:] + ` `: {`a CSV of parts begins with the line "image,part"`, ""},
	} {
		_, found := loadWith([]string{write(t, folded(source, split))}, Env{}, world())
		found = slices.DeleteFunc(found, func(d diagnostic.Diagnostic) bool { return d.Warning })
		if !found.HasErrors() || !strings.Contains(found[0].Message, want[0]) || !strings.Contains(found[0].Hint, want[1]) || found[0].At.Line == 0 {
			t.Errorf("%s: %v", split, found)
		}
	}
}

// An ensemble of folds that nothing is scored with has a warning.
func TestEnsembleOfFoldsWithoutEffect(t *testing.T) {
	source := frames(t, []int{2, 2, 2, 2, 2, 2}, "")
	elsewhere := fmt.Sprintf("domains: elsewhere: source: %q", frames(t, []int{2}, ""))
	for _, c := range []struct{ fold, evaluate, want string }{
		{"", "", "each fold has test images of its own, and there is no further domain"},
		{", fold: 0", elsewhere, "one fold is trained"},
		{"", elsewhere, ""},
	} {
		text := insert(folded(source, "folds: 3"+c.fold), "\tevaluate: {ensemble: \"folds\", "+c.evaluate+"}")
		_, found := loadWith([]string{write(t, text)}, Env{}, world())
		var warned []string
		for _, d := range found {
			if why, ok := strings.CutPrefix(d.Message, "evaluate.ensemble has no effect: "); ok {
				warned = append(warned, why)
			}
			if !d.Warning {
				t.Errorf("%s", d.Text())
			}
		}
		if got := strings.Join(warned, "; "); got != c.want {
			t.Errorf("folds: 3%s, %q: warned of %q, want %q", c.fold, c.evaluate, got, c.want)
		}
	}
}
