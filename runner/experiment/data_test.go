package experiment

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
