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

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// drawn writes the pictures of a procedural split as the model sees them.
func drawn(t *testing.T, d *spec.Data) (paths []string) {
	t.Helper()
	set, err := data.OpenProcedural(d.Splits["test"].Procedural, d, data.Contents{})
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

// fullSize scores two domains of a run as it is scored by default, at original
// resolution, and by windows.
func fullSize(t *testing.T, edit func(e *spec.Evaluation)) (*spec.RunRequest, []*spec.Evaluated) {
	t.Helper()
	tr := trainer(t)
	req := request(t, func(r *spec.RunRequest) {
		r.Spec.Train.Epochs = 1
		first := r.Evaluations[0]
		edit(first)
		original, windows := proto.CloneOf(first), proto.CloneOf(first)
		original.Domain, original.Resolution = "test@original", spec.Original
		windows.Domain, windows.Resolution, windows.Window = "test@window-24x16", spec.Original, &spec.Window{StrideH: 24, StrideW: 16}
		r.Evaluations = []*spec.Evaluation{first, original, windows}
	})
	events, err := run(t, tr, req, 0)
	return req, finished(t, events, err).Evaluations
}

// Images of the size that the model sees: there is one window on each, and
// nothing to resize.
func TestOneSizeScoresAlike(t *testing.T) {
	_, e := fullSize(t, func(e *spec.Evaluation) {
		e.Data.Height, e.Data.Width = 48, 48
		e.Data.Splits["test"].Procedural.Size = 48
	})
	for _, other := range e[1:] {
		want, got := proto.CloneOf(e[0].Metrics), proto.CloneOf(other.Metrics)
		if !math.IsNaN(got.Loss) || got.OriginalDice != nil {
			t.Errorf("%s has the loss %v", other.Domain, got.Loss)
		}
		want.Loss, got.Loss, want.OriginalDice, want.OriginalIou = 0, 0, nil, nil
		// Probabilities are summed up in another order.
		for _, m := range []*spec.Metrics{want, got} {
			for _, v := range []*float64{m.Ece, m.Nll, m.Brier} {
				*v = math.Round(*v*1e6) / 1e6
			}
		}
		if !proto.Equal(got, want) {
			t.Errorf("%s:\n%v, want\n%v", other.Domain, got, want)
		}
	}
}

// Larger images count with all their pixels, by windows with those of other
// logits; a damage that moves pixels moves the mask as it lies in the file.
func TestOriginalResolution(t *testing.T) {
	req, e := fullSize(t, func(e *spec.Evaluation) {
		e.Data.Splits["test"].Procedural.Size = 101
		e.Data.Corruption = &spec.Corruption{Kind: "elastic_transform", Severity: 1}
	})
	images := uint64(req.Evaluations[0].Data.Splits["test"].Count)
	for i, pixels := range []uint64{48 * 32, 101 * 101, 101 * 101} {
		m := e[i].Metrics
		if m.Pixels != images*pixels || m.Images != images || m.Nll == nil || m.BoundaryIou == 0 {
			t.Errorf("%s: %d images of %d pixels, %v", e[i].Domain, m.Images, m.Pixels, m)
		}
		if _, err := os.Stat(rundir.Of(req).Path(rundir.Sample(e[i].Domain, e[i].Id))); err != nil {
			t.Error(err)
		}
	}
	if a, b := e[0].Metrics.Dice, e[1].Metrics.Dice; math.Abs(a-b) > 0.1 {
		t.Errorf("Dice %v at the model's size, %v at the original", a, b)
	}
	if *e[1].Metrics.Nll == *e[2].Metrics.Nll {
		t.Error("windows change nothing")
	}
}

// Validations score images as the test does that has the same resolution and
// windows: of the best weights, they are its scores.
func TestValidatedAsTested(t *testing.T) {
	for name, window := range map[string]*spec.Window{"original": nil, "windows": {StrideH: 17, StrideW: 32, Scale: 1.3}} {
		t.Run(name, func(t *testing.T) {
			tr := trainer(t)
			req := request(t, func(r *spec.RunRequest) {
				val := &spec.Procedural{Seed: 2, Count: 3, Size: 61}
				r.Spec.Data.Splits["val"] = &spec.Split{Count: 3, Procedural: val}
				r.Spec.Data.Augment = []*spec.Augment{{Kind: "resize", P: 1, Low: 0.5, High: 2}, {Kind: "window", P: 1}}
				r.Spec.Train.Resolution, r.Spec.Train.Window = spec.Original, window
				e := r.Evaluations[0]
				e.Data.Splits["test"] = proto.CloneOf(r.Spec.Data.Splits["val"])
				e.Resolution, e.Window = spec.Original, window
				r.Evaluations = r.Evaluations[:1]
			})
			events, err := run(t, tr, req, 0)
			sum := finished(t, events, err)
			want, got := proto.CloneOf(sum.Evaluations[0].Metrics), sum.Validation
			want.Confusion = nil // of evaluations alone
			if got.Pixels != 3*61*61 || !math.IsNaN(got.Loss) {
				t.Errorf("%d pixels are validated, the loss is %v", got.Pixels, got.Loss)
			}
			if !proto.Equal(got, want) {
				t.Errorf("validated\n%v, tested\n%v", got, want)
			}
			validations := 0
			for _, e := range events {
				if v := e.GetValidation(); v != nil {
					validations++
				}
			}
			if validations != int(req.Spec.Train.Epochs) {
				t.Errorf("%d validations", validations)
			}
			req.Spec.Train.Monitor = "loss"
			req.Id = spec.Identity(req.Spec)
			if err := tr.Run(t.Context(), req, func(*spec.Event) {}); err == nil || !strings.Contains(err.Error(), "give loss no value") {
				t.Errorf("with the loss as monitor: %v", err)
			}
		})
	}
}

// A picture predicted by windows has the classes that scoring by windows counts.
func TestPredictByWindows(t *testing.T) {
	tr := trainer(t)
	window := &spec.Window{StrideH: 20, StrideW: 16}
	large := func(d *spec.Data) {
		d.Height, d.Width = 97, 97
		d.Splits["test"].Procedural.Size = 97
	}
	req := request(t, func(r *spec.RunRequest) {
		r.Spec.Train.Epochs = 1
		e := r.Evaluations[0]
		e.Data.Splits["test"].Procedural.Size = 97
		e.Resolution, e.Window = spec.Original, window
		r.Evaluations = r.Evaluations[:1]
	})
	events, err := run(t, tr, req, 0)
	scores := finished(t, events, err).Evaluations[0].Metrics
	whole := proto.CloneOf(req.Evaluations[0].Data)
	large(whole)
	ask := &spec.PredictRequest{Run: req, Checkpoint: "best", Window: window}
	for _, path := range drawn(t, whole) {
		ask.Pictures = append(ask.Pictures, &spec.Picture{Image: path})
	}
	counted := make([]uint64, 3)
	for _, p := range predictions(t, tr, ask) {
		for c, n := range p.Pixels {
			counted[c] += n
		}
	}
	for c, class := range scores.Classes {
		if counted[c] != class.Predicted {
			t.Errorf("%s: %d pixels predicted, %d scored", class.Name, counted[c], class.Predicted)
		}
	}
	ask.Window = &spec.Window{StrideH: 49, StrideW: 32}
	if err := tr.Predict(t.Context(), ask, nil); err == nil || !strings.Contains(err.Error(), "stride") {
		t.Errorf("windows with gaps: %v", err)
	}
}
