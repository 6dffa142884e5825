package experiment

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
)

// onNuclei is the sound experiment on the data in the repository.
func onNuclei(t *testing.T) string {
	t.Helper()
	source, err := filepath.Abs(filepath.Join(FindRoot("testdata"), "data", "nuclei", "fluorescence"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(`"procedural"`, `"`+source+`"`, `"animal"`, `"nucleus"`).Replace(sound)
}

// A source is divided as the original project does it: as a whole, by Python's
// random and with the seed of the run, a fraction of all images.
func TestOriginalSplit(t *testing.T) {
	text := onNuclei(t)
	e := loadText(t, insert(text, "\tdata: {fraction: 0.5, split: {method: \"original\", seed: \"run\", val: 0.2, test: 0.1}}"))[0]
	parts := map[string]data.Files{}
	source := filepath.Join(FindRoot("testdata"), "data", "nuclei", "fluorescence")
	for _, role := range roles {
		f, err := data.Scan(filepath.Join(source, role))
		if err != nil {
			t.Fatal(err)
		}
		parts[role] = f
	}
	all := data.Pool(source, parts)
	names := func(images []string) (out []string) {
		for _, image := range images {
			out = append(out, path.Base(image))
		}
		return out
	}
	var digests []string
	for _, run := range e.Runs {
		want := all.SplitOriginal(run.Seed, 0.5, 0.2, 0.1)
		splits := map[string]*spec.Split{"test": run.Evaluations[0].Spec.Data.Splits["test"]}
		for role, s := range run.Spec.Data.Splits {
			splits[role] = s
		}
		for i, role := range roles {
			got := run.Places.Files[splits[role].Digest]
			if !slices.Equal(names(got.GetImages()), names(want[i].Images)) || len(got.GetImages()) == 0 {
				t.Errorf("seed %d, %s: %d images, the original has %d others", run.Seed, role, len(got.GetImages()), want[i].Len())
			}
			if slices.Contains(digests, splits[role].Digest) {
				t.Errorf("seed %d: the images for %s are those of another seed", run.Seed, role)
			}
			digests = append(digests, splits[role].Digest)
		}
	}
	found, err := e.Parts()
	if err != nil {
		t.Fatal(err)
	}
	var cells []string
	for _, p := range found {
		if p.Name == "test" {
			cells = append(cells, p.Cell)
		}
	}
	if want := []string{"base, seed 1", "base, seed 2"}; !slices.Equal(cells, want) {
		t.Errorf("parts to look at are of %v, want %v", cells, want)
	}
}

// Settings of the original reach the engine, and where they count for nothing
// they move no run.
func TestOriginalSettings(t *testing.T) {
	plain := loadText(t, sound)[0].Runs[0]
	for lines, moves := range map[string]bool{
		"\toptim: schedule: {kind: \"trapezoid\", lagging: true}\n": true,
		"\toptim: schedule: lagging: true\n":                        false,
		"\toptim: forgetAtUnfreezing: true\n":                       false,
		"\tdata: split: {method: \"original\", seed: \"run\"}\n":    false, // what is drawn is not divided
	} {
		if run := loadText(t, insert(sound, lines))[0].Runs[0]; (run.ID != plain.ID) != moves {
			t.Errorf("%s: another run: %v, want %v", strings.TrimSpace(lines), !moves, moves)
		}
	}
	s := loadText(t, insert(sound, `	backbone: freeze: until: 1
	optim: {schedule: {kind: "trapezoid", lagging: true, floor: 0.5}, forgetAtUnfreezing: true}
	train: monitor: "original"
	report: metric: "original"`))[0]
	o := s.Runs[0].Spec.Optim
	if !o.ForgetAtUnfreezing || !o.Schedule.Lagging || o.Schedule.Floor != 0 {
		t.Errorf("the engine is told %v", o)
	}
	if m := s.Runs[0].Spec.Train.Monitor; m != "original/dice" || s.Metric != m {
		t.Errorf("monitored is %q, shown %q", m, s.Metric)
	}
}
