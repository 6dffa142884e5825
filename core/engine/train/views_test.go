package train

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// loaded is a finished run with its best weights.
func loaded(t *testing.T, tr *Trainer, req *spec.RunRequest) *session {
	t.Helper()
	s := &session{t: tr, req: req, spec: req.Spec, dir: &runDir{Run: rundir.Of(req)}, emit: func(*spec.Event) {}}
	t.Cleanup(s.close)
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	if err := s.compute("fp32"); err != nil {
		t.Fatal(err)
	}
	summary, err := s.dir.Summary()
	if err == nil {
		_, err = s.weights(rundir.Best, summary)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// planes are the values of channels at pixels.
type planes struct {
	raster.Size
	v [][]float64 // by channel
}

func newPlanes(channels int, size raster.Size) planes {
	p := planes{size, make([][]float64, channels)}
	for c := range p.v {
		p.v[c] = make([]float64, size.Area())
	}
	return p
}

// slowLogits runs one image through the network.
func slowLogits(t *testing.T, s *session, im raster.Image) planes {
	t.Helper()
	b := &data.Batch{Size: im.Size, N: 1, Images: im.RGB}
	out := newPlanes(len(s.spec.Data.Classes), im.Size)
	err := s.t.dev.Do(func() error {
		s.t.dev.NoGrad(func() {
			for i, v := range s.net.logits(s.net.tokens(s.net.input(b, s.spec.Data)), im.Size, false).Floats() {
				out.v[i/im.Area()][i%im.Area()] = float64(v)
			}
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// slowResize interpolates bilinearly, the centers of pixels at halves.
func slowResize(p planes, to raster.Size) planes {
	out := newPlanes(len(p.v), to)
	at := func(i, in, out int) (int, int, float64) {
		x := max(0, (float64(i)+0.5)*float64(in)/float64(out)-0.5)
		a := min(int(x), in-1)
		return a, min(a+1, in-1), x - float64(a)
	}
	for c := range p.v {
		for y := range to.H {
			y0, y1, fy := at(y, p.H, to.H)
			for x := range to.W {
				x0, x1, fx := at(x, p.W, to.W)
				above := p.v[c][y0*p.W+x0]*(1-fx) + p.v[c][y0*p.W+x1]*fx
				below := p.v[c][y1*p.W+x0]*(1-fx) + p.v[c][y1*p.W+x1]*fx
				out.v[c][y*to.W+x] = above*(1-fy) + below*fy
			}
		}
	}
	return out
}

func slowMirror(im raster.Image) raster.Image {
	out := raster.NewImage(im.Size)
	for i := range im.RGB {
		row := i / im.W
		out.RGB[i] = im.RGB[row*im.W+im.W-1-i%im.W]
	}
	return out
}

// slowSoftmax adds probabilities, mirrored back, to a sum.
func slowSoftmax(sum, logits planes, flip bool) {
	for i := range logits.Area() {
		total := 0.0
		for c := range logits.v {
			total += math.Exp(logits.v[c][i])
		}
		to := i
		if flip {
			to = i/logits.W*logits.W + logits.W - 1 - i%logits.W
		}
		for c := range logits.v {
			sum.v[c][to] += math.Exp(logits.v[c][i]) / total
		}
	}
}

// slowWindows averages the logits of windows at places, each run alone.
func slowWindows(t *testing.T, s *session, im raster.Image, w *spec.Window) planes {
	t.Helper()
	size := data.SizeOf(s.spec.Data)
	places := func(n, window, stride int) []int {
		var at []int
		for i := 0; ; i += stride {
			if i+window >= n {
				return append(at, max(0, n-window))
			}
			at = append(at, i)
		}
	}
	sum, over := newPlanes(len(s.spec.Data.Classes), im.Size), make([]float64, im.Area())
	for _, top := range places(im.H, size.H, int(w.StrideH)) {
		for _, left := range places(im.W, size.W, int(w.StrideW)) {
			cut := raster.NewImage(size)
			for c := range 3 {
				for y := range size.H {
					for x := range size.W {
						v := byte(128) // the mean
						if top+y < im.H && left+x < im.W {
							v = im.Plane(c)[(top+y)*im.W+left+x]
						}
						cut.Plane(c)[y*size.W+x] = v
					}
				}
			}
			logits := slowLogits(t, s, cut)
			for y := range min(size.H, im.H-top) {
				for x := range min(size.W, im.W-left) {
					at := (top+y)*im.W + left + x
					over[at]++
					for c := range sum.v {
						sum.v[c][at] += logits.v[c][y*size.W+x]
					}
				}
			}
		}
	}
	for c := range sum.v {
		for i := range over {
			sum.v[c][i] /= over[i]
		}
	}
	return sum
}

// slowViews is the mean of the probabilities of all views of an image at a size.
func slowViews(t *testing.T, s *session, im raster.Image, out raster.Size, w *spec.Window, flip bool, scales []float64) planes {
	t.Helper()
	sum, n := newPlanes(len(s.spec.Data.Classes), out), 0.0
	size, patch := data.SizeOf(s.spec.Data), float64(s.spec.Backbone.Arch.Patch)
	for _, scale := range scales {
		for _, mirror := range []bool{false, true} {
			if mirror && !flip {
				continue
			}
			n++
			round := func(v int) int { return int(math.Round(scale*float64(v)/patch) * patch) }
			to := raster.Size{H: round(size.H), W: round(size.W)}
			if w != nil {
				at := func(v int) int { return int(math.Round(scale * math.Round(w.Scale*float64(v)))) }
				to = raster.Size{H: at(im.H), W: at(im.W)}
			}
			seen := im.Resized(to)
			if mirror {
				seen = slowMirror(seen)
			}
			logits := planes{}
			if w != nil {
				logits = slowWindows(t, s, seen, w)
			} else {
				logits = slowLogits(t, s, seen)
			}
			slowSoftmax(sum, slowResize(logits, out), mirror)
		}
	}
	for c := range sum.v {
		for i := range sum.v[c] {
			sum.v[c][i] /= n
		}
	}
	return sum
}

// Test-time augmentation averages the probabilities of all views: equal to an
// average of views that are run one by one, at every resolution, with tokens that are
// cached and that are not, and for pictures.
func TestViewsAreAveraged(t *testing.T) {
	const own = 61 // sides of the images
	window := &spec.Window{StrideH: 31, StrideW: 27, Scale: 0.8}
	scales := []float64{0.6, 1, 1.4}
	tr := trainer(t)
	req := request(t, func(r *spec.RunRequest) {
		// All classes are predicted.
		r.Spec.Loss = []*spec.Loss{{Kind: "cross_entropy", Weight: 1, ClassWeights: []float64{0.03, 1, 2}}}
		plain := r.Evaluations[0]
		plain.Data.Splits["test"].Procedural.Size, plain.Data.Splits["test"].Procedural.Count = own, 2
		r.Evaluations = []*spec.Evaluation{plain}
		for _, resolution := range []string{"", spec.Original, "windows"} {
			for _, test := range []*spec.TestTime{spec.NewTestTime(true, nil), spec.NewTestTime(true, scales)} {
				e := proto.CloneOf(plain)
				if e.Resolution = resolution; resolution == "windows" {
					e.Resolution, e.Window = spec.Original, window
				}
				e.TestTime = test
				e.Domain = e.ColumnName("test")
				r.Evaluations = append(r.Evaluations, e)
			}
		}
	})
	events, err := run(t, tr, req, 0)
	evaluated := finished(t, events, err).Evaluations
	if evaluated[0].Metrics.Loss <= 0 || len(evaluated) != 7 {
		t.Fatal(evaluated)
	}
	// Once more from the cache, and without it, where other batches have other bits.
	for _, limit := range []int64{tr.cache.limit, 0} {
		if tr.cache.limit = limit; limit == 0 {
			if err := cpu.Do(func() error { tr.cache.drop(); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.RemoveAll(filepath.Join(req.Places.RunDir, "evaluations")); err != nil {
			t.Fatal(err)
		}
		events, err := run(t, tr, req, 0)
		for i, e := range finished(t, events, err).Evaluations {
			want := evaluated[i].Metrics
			if limit > 0 && !proto.Equal(e.Metrics, want) || math.Abs(*e.Metrics.Nll-*want.Nll) > 1e-5 {
				t.Errorf("%s with room for %d bytes:\n%v, before\n%v", e.Domain, limit, e.Metrics, want)
			}
		}
	}

	s := loaded(t, trainer(t), req)
	files := proto.CloneOf(req.Evaluations[0].Data)
	files.Height, files.Width = own, own
	set, err := data.OpenProcedural(files.Splits["test"].Procedural, files, data.Contents{})
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range req.Evaluations[1:] {
		views := e.TestTime.Scales
		if len(views) == 0 {
			views = []float64{1}
		}
		var nll, brier, pixels float64
		hits := make([]int, 3)
		for k := range set.Len() {
			b, err := set.Batch(t.Context(), []int{k})
			if err != nil {
				t.Fatal(err)
			}
			truth := b.At(0).Labels
			if e.Resolution == "" {
				truth = truth.Resized(data.SizeOf(e.Data))
			}
			p := slowViews(t, s, b.At(0).Image, truth.Size, e.Window, e.TestTime.Flip, views)
			for at, label := range truth.Pix {
				best := 0
				for c := range p.v {
					if p.v[c][at] > p.v[best][at] {
						best = c
					}
					want := 0.0
					if c == int(label) {
						want = 1
					}
					brier += (p.v[c][at] - want) * (p.v[c][at] - want)
				}
				nll -= math.Log(p.v[label][at])
				if pixels++; best == int(label) {
					hits[label]++
				}
			}
		}
		m := evaluated[i+1].Metrics
		if math.Abs(*m.Nll-nll/pixels) > 1e-5 || math.Abs(*m.Brier-brier/pixels) > 1e-5 {
			t.Errorf("%s: NLL %v, Brier %v, want %v, %v", e.Domain, *m.Nll, *m.Brier, nll/pixels, brier/pixels)
		}
		if hits[1]+hits[2] == 0 {
			t.Errorf("%s: nothing but background is predicted", e.Domain)
		}
		for c := range hits {
			if math.Abs(float64(hits[c])-float64(m.Classes[c].Intersection)) > 1 {
				t.Errorf("%s: class %d is right at %d pixels, want %d", e.Domain, c, m.Classes[c].Intersection, hits[c])
			}
		}
	}

	ask := &spec.PredictRequest{Run: req, Checkpoint: "best", TestTime: spec.NewTestTime(true, scales)}
	for _, ask.Window = range []*spec.Window{nil, window} {
		ask.Pictures = nil
		out := t.TempDir()
		for _, path := range drawn(t, files) {
			ask.Pictures = append(ask.Pictures, &spec.Picture{Image: path, Probabilities: filepath.Join(out, filepath.Base(path))})
		}
		predictions(t, tr, ask)
		for k, picture := range ask.Pictures {
			b, err := set.Batch(t.Context(), []int{k})
			if err != nil {
				t.Fatal(err)
			}
			want := slowViews(t, s, b.At(0).Image, b.Size, ask.Window, true, scales)
			f, err := safetensors.Open(picture.Probabilities)
			if err != nil {
				t.Fatal(err)
			}
			tensor, _ := f.Get("probabilities")
			p, err := tensor.Float32()
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range slices.Concat(want.v...) {
				if math.Abs(float64(p[i])-v) > 1e-5 {
					t.Fatalf("picture %d, windows %v: probability %d is %v, want %v", k, ask.Window, i, p[i], v)
				}
			}
		}
	}
}

// Images that are damaged are damaged once and then resized, and a scale that leaves
// nothing of an image is refused.
func TestViewsOfDamagedImages(t *testing.T) {
	d := proto.CloneOf(request(t).Evaluations[0].Data)
	d.Corruption = &spec.Corruption{Kind: "gaussian_noise", Severity: 3}
	set, err := data.OpenProcedural(d.Splits["test"].Procedural, d, data.Contents{})
	if err != nil {
		t.Fatal(err)
	}
	to := data.SizeOf(d).Times(1.5, 8)
	plain, err := set.Batch(t.Context(), []int{0, 1})
	if err != nil {
		t.Fatal(err)
	}
	scaled, err := set.Scaled(to).Batch(t.Context(), []int{0, 1})
	if err != nil {
		t.Fatal(err)
	}
	for k := range 2 {
		if !slices.Equal(scaled.At(k).Image.RGB, plain.At(k).Image.Resized(to).RGB) {
			t.Errorf("image %d is damaged in another way", k)
		}
	}
	scene, err := set.Scene(0, func(s raster.Size) raster.Size { return s })
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(scene.At(to).RGB, scene.Image.Resized(to).RGB) {
		t.Error("the scene is damaged in another way")
	}
	if err := checkViews(&spec.TestTime{Scales: []float64{math.NaN()}}); err == nil {
		t.Error("a scale of NaN is accepted")
	}
}
