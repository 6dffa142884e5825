package track

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/samplesheet"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/tensorboard"
)

// parts are an image of 6 × 4 pixels, with a pixel that is ignored.
func parts(shade byte) samplesheet.Parts {
	size := raster.Size{H: 4, W: 6}
	r := samplesheet.Row{Labelled: raster.Labelled{Image: raster.NewImage(size), Labels: raster.NewLabels(size)}, Predicted: raster.NewLabels(size)}
	r.Image.RGB[0], r.Labels.Pix[5] = shade, raster.Ignored
	return samplesheet.Parts{Image: r.Picture(), Truth: samplesheet.Mask(r.Labels), Prediction: samplesheet.Mask(r.Predicted)}
}

func (s *scripted) picture(name string, m image.Image) {
	s.t.Helper()
	var b bytes.Buffer
	s.fail(errors.Join(os.MkdirAll(s.dir.Path(rundir.Samples), 0o777), png.Encode(&b, m), os.WriteFile(s.dir.Path(name), b.Bytes(), 0o666)))
}

// Validations and evaluations of a run show their samples, each once: in W&B as images
// with masks, in TensorBoard as sheets. The sheet of an evaluation whose form is not
// known is shown as it is.
func TestSamplesAreShown(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprint(known), func(t *testing.T) {
			s := script(t, 1)
			s.begin()
			for s.step < steps {
				if s.step+1 == 7 || s.step+1 == 14 {
					for n := range 2 {
						p := parts(byte(100 + n))
						s.picture(rundir.ValidationImage(n+1), p.Image)
						s.picture(rundir.ValidationTruth(n+1), p.Truth)
						s.picture(rundir.ValidationPrediction(n+1, s.step+1), p.Prediction)
					}
				}
				s.update()
			}
			s.finish()
			row, ok := parts(200).Row("one")
			if !ok {
				t.Fatal("no row")
			}
			s.picture(rundir.Sample("test", s.run.Evaluations[0].ID), samplesheet.Samples([]string{"sky"}, row.Image.Size).Draw("test", []samplesheet.Row{row}))
			if known {
				s.run.Evaluations[0].Size = row.Image.Size
			}
			sink, err := NewWandB(s.root, experiment.TrackWandB{Mode: "offline"}, func(string) string { return "" }, false, func(text string) { t.Log(text) })
			if err != nil {
				t.Fatal(err)
			}
			var shown []Shown
			for _, sink := range []Sink{TensorBoard{}, sink} {
				shown = append(shown, Shown{s.run, sink})
			}
			if err := Push(t.Context(), s.root, append(shown, shown...), func(_ Shown, err error) { s.fail(err) }); err != nil {
				t.Fatal(err)
			}

			var images []string
			dir, err := os.OpenRoot(filepath.Join(s.root, TensorBoardDir, "e", "rank=4", "seed-1"))
			s.fail(err)
			defer dir.Close()
			s.fail(tensorboard.Read(dir, func(e tensorboard.Event) {
				for _, v := range e.Values {
					if strings.HasSuffix(v.Tag, "samples") || strings.HasPrefix(v.Tag, "samples/") {
						images = append(images, fmt.Sprint(v.Tag, " at ", e.Step))
					}
				}
			}))
			want := []string{"val/samples at 7", "val/samples at 14", "samples/test at 60"}
			if !slices.Equal(images, want) {
				t.Errorf("in TensorBoard %q, want %q", images, want)
			}

			rows, media := logged(t, s.root)
			kinds := map[string]string{"val/samples at 7": "2 images with masks", "val/samples at 14": "2 images with masks", "samples/test at 61": "1 images with masks"}
			files := 15 // of 5 images, with two masks each
			if !known {
				kinds["samples/test at 61"], files = "image-file", 13
			}
			if !reflect.DeepEqual(rows, kinds) || media != files {
				t.Errorf("in W&B %q and %d files, want %q and %d", rows, media, kinds, files)
			}
		})
	}
}

// logged says what the rows in the logs of W&B have under samples, and how many media
// files there are.
func logged(t *testing.T, root string) (rows map[string]string, media int) {
	t.Helper()
	rows = map[string]string{}
	for _, r := range onlyLog(t, root) {
		if r.Files != nil && strings.HasPrefix(r.Files.Files[0].Path, "media/images/") {
			media++
		}
		if r.History == nil {
			continue
		}
		for _, item := range r.History.Item {
			key := strings.Join(item.Path(), ".")
			if !strings.Contains(key, rundir.Samples) {
				continue
			}
			var v struct {
				Type  string           `json:"_type"`
				Count int              `json:"count"`
				Masks []map[string]any `json:"all_masks"`
			}
			if err := json.Unmarshal([]byte(item.ValueJSON), &v); err != nil {
				t.Fatal(err)
			}
			text := v.Type
			if v.Type == "images/separated" && len(v.Masks) == v.Count && v.Masks[0]["prediction"] != nil && v.Masks[0]["ground_truth"] != nil {
				text = fmt.Sprintf("%d images with masks", v.Count)
			}
			rows[fmt.Sprint(key, " at ", r.History.Step.Num)] = text
		}
	}
	return rows, media
}
