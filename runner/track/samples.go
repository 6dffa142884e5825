package track

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"os"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/samplesheet"
)

// mostSamples is how many images of a validation are shown.
const mostSamples = 4

// ofValidation are the pictures that a validation has left, in the order of the split;
// none where it has left none, or where one cannot be read.
func ofValidation(dir rundir.Dir, step int64) []samplesheet.Parts {
	var all []samplesheet.Parts
	for n := 1; n <= mostSamples; n++ {
		prediction, err := readMask(dir.Path(rundir.ValidationPrediction(n, uint64(step))))
		if err != nil {
			break
		}
		truth, err := readMask(dir.Path(rundir.ValidationTruth(n)))
		if err != nil {
			break
		}
		picture, err := readPicture(dir.Path(rundir.ValidationImage(n)))
		if err != nil {
			break
		}
		all = append(all, samplesheet.Parts{Image: picture, Truth: truth, Prediction: prediction})
	}
	return all
}

func readPicture(path string) (image.Image, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return png.Decode(bytes.NewReader(content))
}

func readMask(path string) (*image.Paletted, error) {
	m, err := readPicture(path)
	if err != nil {
		return nil, err
	}
	mask, ok := m.(*image.Paletted)
	if !ok {
		return nil, fmt.Errorf("%s is no mask", path)
	}
	return mask, nil
}

// parts are the rows of the sheet of an evaluation, taken apart; none where its form is
// not known, or where its colors do not tell the classes. The error is of the file.
func (s *Scores) parts() ([]samplesheet.Parts, error) {
	if s.Sample == "" {
		return nil, nil
	}
	m, err := readPicture(s.Sample)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading samples: %w", err)
	}
	var classes []string
	for _, c := range s.Drawn.GetClasses() {
		classes = append(classes, c.GetName())
	}
	if s.Size.Area() == 0 || len(classes) == 0 {
		return nil, nil
	}
	var all []samplesheet.Parts
	form := samplesheet.Samples(classes, s.Size)
	for row := range min(form.Rows(m), mostSamples) {
		p, ok := form.Parts(m, row, len(classes))
		if !ok {
			return nil, nil
		}
		all = append(all, p)
	}
	return all, nil
}

// sheet is the pictures of a validation as one.
func sheet(classes []string, of string, all []samplesheet.Parts) (*image.RGBA, bool) {
	var rows []samplesheet.Row
	var size raster.Size
	for i, p := range all {
		row, ok := p.Row(fmt.Sprintf("image %d", i+1))
		if size = row.Image.Size; !ok || i > 0 && size != rows[0].Image.Size {
			return nil, false
		}
		rows = append(rows, row)
	}
	return samplesheet.Samples(classes, size).Draw(of, rows), true
}
