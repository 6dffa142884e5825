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

	"github.com/loralab/loralab/runner/diagnostic"
)

// More data contains less, whatever else is validated and tested on stays, and
// what counts is the files: the whole is what it is without a fraction.
func TestFractionsAreNested(t *testing.T) {
	text := strings.NewReplacer(`"procedural"`, `"nuclei/fluorescence"`, `"animal"`, `"nucleus"`).Replace(sound)
	source, err := filepath.Abs(filepath.Join(FindRoot("testdata"), "data", "nuclei", "fluorescence"))
	if err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, "nuclei/fluorescence", source)
	whole := loadText(t, text)[0].Runs[0]
	train := whole.Spec.Data.Splits["train"]
	var less []string
	for _, fraction := range []string{"0.001", "0.25", "0.5", "0.75", "1"} {
		run := loadText(t, insert(text, "\tdata: fraction: "+fraction))[0].Runs[0]
		splits := run.Spec.Data.Splits
		files := run.Places.Files[splits["train"].Digest].Images
		for _, image := range less {
			if !slices.Contains(files, image) {
				t.Errorf("%s of the data lacks %s, which less has", fraction, image)
			}
		}
		if len(files) <= len(less) || int(splits["train"].Count) != len(files) {
			t.Errorf("%s of the data is %d images, less is %d", fraction, len(files), len(less))
		}
		less = files
		if splits["val"].Digest != whole.Spec.Data.Splits["val"].Digest {
			t.Errorf("%s of the training data changes the validation", fraction)
		}
		if run.Evaluations[0].Spec.Data.Splits["test"].Digest != whole.Evaluations[0].Spec.Data.Splits["test"].Digest {
			t.Errorf("%s of the training data changes the test", fraction)
		}
		if same := run.ID == whole.ID; same != (fraction == "1") {
			t.Errorf("%s of the data is the run of all: %v", fraction, same)
		}
	}
	if len(less) != int(train.Count) {
		t.Errorf("the whole is %d images of %d", len(less), train.Count)
	}

	drawn := loadText(t, insert(sound, "\tdata: fraction: 0.25"))[0].Runs[0].Spec.Data.Splits
	if drawn["train"].Count != 8 || drawn["val"].Count != 8 {
		t.Errorf("a quarter of 32 drawn images is %d, validated on %d of 8", drawn["train"].Count, drawn["val"].Count)
	}
}

// A published set is divided as it was published, and its classes are those
// that it is scored on.
func TestPublishedLayout(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	root := t.TempDir()
	put := func(name string, content []byte) {
		t.Helper()
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	trimap := image.NewGray(image.Rect(0, 0, 4, 4))
	for i := range trimap.Pix {
		trimap.Pix[i] = byte(1 + i%3)
	}
	var picture bytes.Buffer
	if err := png.Encode(&picture, trimap); err != nil {
		t.Fatal(err)
	}
	var trainval, test strings.Builder
	for i := range 24 {
		name := fmt.Sprintf("Bombay_%d", i)
		put("images/"+name+".jpg", picture.Bytes())
		put("annotations/trimaps/"+name+".png", picture.Bytes())
		list := &trainval
		if i >= 18 {
			list = &test
		}
		fmt.Fprintf(list, "%s 8 1 1\n", name)
	}
	put("annotations/trainval.txt", []byte(trainval.String()))
	put("annotations/test.txt", []byte(test.String()))

	text := strings.NewReplacer(`"procedural"`, fmt.Sprintf("%q", root), `"background", "animal", "boundary"`, `"animal", "background", "boundary"`).Replace(sound)
	run := loadText(t, text)[0].Runs[0]
	d, scored := run.Spec.Data, run.Evaluations[0].Spec.Data
	if d.Splits["train"].Count != 16 || d.Splits["val"].Count != 2 || scored.Splits["test"].Count != 6 {
		t.Errorf("18 images to train and validate on, 6 to test: %v, %v", d.Splits, scored.Splits)
	}
	if want := map[uint32]int32{1: 0, 2: 1, 3: 0}; !reflect.DeepEqual(d.Values, want) || !reflect.DeepEqual(scored.Values, want) {
		t.Errorf("trimaps 1 to 3 are %v", d.Values)
	}
	// Validated on what is tested on, it trains on all that was published for training;
	// that the best checkpoint is chosen so is a warning.
	at := "\tdata: split: val: \"test\"\n\tevaluate: checkpoint: "
	all := loadText(t, insert(text, at+`"last"`))[0].Runs[0]
	if splits := all.Spec.Data.Splits; splits["train"].Count != 18 || splits["val"].Digest != scored.Splits["test"].Digest || all.Evaluations[0].Spec.Data.Splits["test"].Count != 6 {
		t.Errorf("18 images to train on, the test to validate on: %v", splits)
	}
	for checkpoint, want := range map[string]bool{"best": true, "last": false} {
		_, found := loadWith([]string{write(t, insert(text, at+fmt.Sprintf("%q", checkpoint)))}, Env{}, world())
		warned := slices.ContainsFunc(found, func(d diagnostic.Diagnostic) bool {
			return d.Warning && strings.HasSuffix(d.Path, "data.split.val") && strings.Contains(d.Message, "that it is tested on")
		})
		if found.HasErrors() || warned != want {
			t.Errorf("the %s checkpoint, validated on the test: %v", checkpoint, found)
		}
	}
	if _, found := loadWith([]string{write(t, insert(text, "\tdata: split: {val: \"test\", method: \"original\"}"))}, Env{}, world()); !found.HasErrors() {
		t.Error("the original's division without a fraction to validate on is accepted")
	}
	// Named, it is the same; as another, it is not there; as folders, it is one.
	if named := loadText(t, insert(text, "\tdata: layout: \"pets\""))[0].Runs[0]; named.ID != run.ID {
		t.Error("a layout that is named and one that is recognised are two runs")
	}
	if whole := loadText(t, insert(text, "\tdata: layout: \"folders\""))[0].Runs[0]; whole.Spec.Data.Splits["train"].Count != 19 {
		t.Errorf("as folders: %v", whole.Spec.Data.Splits)
	}
	_, found := loadWith([]string{write(t, insert(text, "\tdata: layout: \"voc\""))}, Env{}, world())
	if !found.HasErrors() || !strings.Contains(found[0].Message, "is not laid out as voc: it lacks JPEGImages") {
		t.Errorf("as voc: %v", found)
	}
}

// How a source is divided decides over the files, and with them over the run.
func TestSplitsByName(t *testing.T) {
	source := filepath.Join(FindRoot("testdata"), "data", "nuclei", "histology", "test")
	text := strings.NewReplacer(`"procedural"`, fmt.Sprintf("%q", source), `"animal"`, `"nucleus"`).Replace(sound)
	ids := map[string]bool{}
	for _, split := range []string{"", "\tdata: split: group: \"a\"", "\tdata: split: stratify: \"a\""} {
		run := loadText(t, insert(text, split))[0].Runs[0]
		ids[run.ID] = true
		train := run.Places.Files[run.Spec.Data.Splits["train"].Digest].Images
		if n := len(train); n < 24 || n > 38 {
			t.Errorf("%s trains on %d of 40 images", split, n)
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d runs of three ways to divide", len(ids))
	}
}
