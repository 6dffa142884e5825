package train

import (
	"image"
	"image/png"
	"os"
	"testing"

	"github.com/loralab/loralab/core/spec"
)

func readPNG(t *testing.T, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Few validations all leave pictures, many at most 17, the last always.
func TestValidationsWithPictures(t *testing.T) {
	for _, test := range []struct {
		total, perEpoch, want int
		train                 *spec.Train
	}{
		{0, 10, 1, &spec.Train{}},
		{50, 10, 5, &spec.Train{EvalEvery: 1}},
		{50, 10, 3, &spec.Train{EvalEvery: 2}}, // after 2, 4 and 5 epochs
		{160, 10, 16, &spec.Train{EvalEvery: 1}},
		{170, 10, 9, &spec.Train{EvalEvery: 1}},
		{1000, 10, 16, &spec.Train{EvalSteps: 7}},
		{99_999, 10, 16, &spec.Train{EvalSteps: 1}},
	} {
		s := &session{req: &spec.RunRequest{SampleImages: 4}, spec: &spec.RunSpec{Train: test.train}, total: test.total}
		r := &training{session: s, perEpoch: test.perEpoch}
		pictured, last := 0, false
		for r.step = 0; r.step <= test.total; r.step++ {
			last = (r.step > 0 || test.total == 0) && r.validates() && r.pictured()
			if last {
				pictured++
			}
		}
		if pictured != test.want || !last {
			t.Errorf("%v of %d steps: %d validations with pictures, want %d; the last one %v", test.train, test.total, pictured, test.want, last)
		}
	}
}
