package train

import (
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// drawn writes the pictures of a procedural split as the model sees them.
func drawn(t *testing.T, d *spec.Data) (paths []string) {
	t.Helper()
	set, err := data.OpenProcedural(d.Splits["test"].Procedural, d, data.Files{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range set.Len() {
		b, err := set.Batch(t.Context(), []int{i})
		if err != nil {
			t.Fatal(err)
		}
		m := image.NewRGBA(image.Rect(0, 0, b.W, b.H))
		n := b.H * b.W
		for p := range n {
			m.SetRGBA(p%b.W, p/b.W, color.RGBA{b.Images[p], b.Images[n+p], b.Images[2*n+p], 0xff})
		}
		path := filepath.Join(dir, b.Names[0]+".png")
		if err := writePNG(path, m); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func predictions(t *testing.T, tr *Trainer, req *spec.PredictRequest) (all []*spec.Prediction) {
	t.Helper()
	err := tr.Predict(t.Context(), req, func(p *spec.Prediction) error {
		all = append(all, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A domain's pictures, predicted one by one, have the pixels of each class that
// evaluation counted.
func TestPredictionsAreThoseThatWereScored(t *testing.T) {
	tr := trainer(t)
	run1 := request(t)
	events, err := run(t, tr, run1, 0)
	scores := finished(t, events, err).Evaluations[0].Metrics

	req := &spec.PredictRequest{Run: run1, Checkpoint: "best"}
	out := t.TempDir()
	for _, path := range drawn(t, run1.Evaluations[0].Data) {
		req.Pictures = append(req.Pictures, &spec.Picture{Image: path, Mask: filepath.Join(out, filepath.Base(path))})
	}
	counted := make([]uint64, 3)
	for i, p := range predictions(t, tr, req) {
		if p.Failure != "" || p.Height != 48 || p.Width != 32 || int(p.Picture) != i {
			t.Fatalf("prediction %v", p)
		}
		inFile := make([]uint64, 3)
		f, err := os.Open(req.Pictures[i].Mask)
		if err != nil {
			t.Fatal(err)
		}
		m, err := png.Decode(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range m.(*image.Paletted).Pix {
			inFile[v]++
		}
		if !slices.Equal(inFile, p.Pixels) {
			t.Errorf("the mask has %v pixels of each class, %v were told", inFile, p.Pixels)
		}
		for c, n := range p.Pixels {
			counted[c] += n
		}
	}
	for c, class := range scores.Classes {
		if counted[c] != class.Predicted {
			t.Errorf("%s: %d pixels predicted, %d scored", class.Name, counted[c], class.Predicted)
		}
	}
}

// Probabilities are those that the mask was taken from, at any size, and a
// broken picture ends nothing.
func TestPredictAtAnySize(t *testing.T) {
	tr := trainer(t)
	run1 := request(t, func(r *spec.RunRequest) { r.Spec.Train.Epochs, r.Evaluations = 1, nil })
	events, err := run(t, tr, run1, 0)
	finished(t, events, err)
	dir := t.TempDir()
	const w, h = 71, 29
	m := image.NewGray(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = byte(i * 7)
	}
	in := filepath.Join(dir, "in.png")
	if err := writePNG(in, m); err != nil {
		t.Fatal(err)
	}
	req := &spec.PredictRequest{Run: run1, Checkpoint: "last", Pictures: []*spec.Picture{
		{Image: filepath.Join(dir, "none.png")},
		{Image: in, Mask: filepath.Join(dir, "mask.png"), Overlay: filepath.Join(dir, "over.png"), Probabilities: filepath.Join(dir, "p.safetensors")},
	}}
	all := predictions(t, tr, req)
	if len(all) != 2 || !strings.Contains(all[0].Failure, "no such file") || all[1].Failure != "" || all[1].Width != w || all[1].Height != h {
		t.Fatalf("predictions %v", all)
	}
	f, err := safetensors.Open(req.Pictures[1].Probabilities)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var classes []string
	if err := json.Unmarshal([]byte(f.Metadata()["classes"]), &classes); err != nil || !slices.Equal(classes, run1.Spec.Data.Classes) {
		t.Errorf("classes %v, %v", classes, err)
	}
	tensor, _ := f.Get("probabilities")
	p, err := tensor.Float32()
	if err != nil || !slices.Equal(tensor.Shape, []int64{3, h, w}) {
		t.Fatalf("probabilities %v, %v", tensor.Shape, err)
	}
	file, err := os.Open(req.Pictures[1].Mask)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	mask, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, class := range mask.(*image.Paletted).Pix {
		sum, highest := float32(0), float32(0)
		for c := range 3 {
			sum += p[c*h*w+i]
			highest = max(highest, p[c*h*w+i])
		}
		if math.Abs(float64(sum)-1) > 1e-5 || p[int(class)*h*w+i] != highest {
			t.Fatalf("pixel %d: sum %v, class %d has %v, the highest is %v", i, sum, class, p[int(class)*h*w+i], highest)
		}
	}
	if req.Checkpoint = "first"; tr.Predict(t.Context(), req, nil) == nil {
		t.Error("there is a first checkpoint")
	}
}
