package train

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/samplesheet"
)

// samples are the first images of a split with what was predicted of them.
type samples struct {
	most    uint32 // how many
	size    raster.Size
	classes []string
	rows    []samplesheet.Row
}

func (s *session) samples(size raster.Size) *samples {
	return &samples{most: s.req.SampleImages, size: size, classes: s.spec.Data.Classes}
}

// take takes an image while there is room.
func (s *samples) take(name string, seen raster.Labelled, predicted raster.Labels) {
	if len(s.rows) < int(s.most) {
		s.rows = append(s.rows, sample(name, seen, predicted, s.size, s.classes))
	}
}

// mostPictured is how many validations of a run leave pictures, the last one apart.
const mostPictured = 16

// pictured reports whether the validation at this step leaves pictures: every one, or
// every second, third and so on where there are many. It depends on the step alone, so
// that a run that continues leaves those that it would have left.
func (r *training) pictured() bool {
	if r.step == r.total {
		return true
	}
	every := int(r.spec.Train.EvalSteps)
	if every == 0 {
		every = r.perEpoch * max(1, int(r.spec.Train.EvalEvery))
	}
	validations := (r.total + every - 1) / every
	return r.step%(every*((validations+mostPictured-1)/mostPictured)) == 0
}

// picture writes what was predicted at a validation, and what is the same at all of
// them once.
func (s *session) picture(of *samples) error {
	if err := s.dir.there(); err != nil {
		return err
	}
	for i := range of.rows {
		row, n := &of.rows[i], i+1
		err := writePNG(s.dir.Path(rundir.ValidationPrediction(n, uint64(s.step))), samplesheet.Mask(row.Predicted))
		if _, missing := os.Stat(s.dir.Path(rundir.ValidationTruth(n))); errors.Is(missing, fs.ErrNotExist) {
			// The truth is last: where it is there, the image is.
			err = errors.Join(err,
				writePNG(s.dir.Path(rundir.ValidationImage(n)), row.Picture()),
				writePNG(s.dir.Path(rundir.ValidationTruth(n)), samplesheet.Mask(row.Labels)))
		}
		if err != nil {
			return fmt.Errorf("drawing samples: %w", err)
		}
	}
	return nil
}

// samplesOfValidation are those that the validation at this step keeps.
func (r *training) samplesOfValidation() *samples {
	kept := r.session.samples(data.SizeOf(r.spec.Data))
	if !r.pictured() {
		kept.most = 0
	}
	return kept
}
