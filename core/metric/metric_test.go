package metric_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

var classes = []string{"background", "nucleus", "boundary"}

// pixels draws predictions and labels over k classes; some labels are ignored.
func pixels(t *rapid.T, k int) (pred, truth []byte) {
	n := rapid.IntRange(0, 80).Draw(t, "pixels")
	label := rapid.OneOf(rapid.ByteRange(0, byte(k-1)), rapid.Just(byte(raster.Ignored)))
	pred = rapid.SliceOfN(rapid.ByteRange(0, byte(k-1)), n, n).Draw(t, "pred")
	truth = rapid.SliceOfN(label, n, n).Draw(t, "truth")
	return pred, truth
}

// naive is the textbook: sets of pixels per class, one class at a time.
func naive(pred, truth []byte, class byte) (dice, iou float64, ok bool) {
	var both, either, p, l float64
	for i := range truth {
		if truth[i] == raster.Ignored {
			continue
		}
		inP, inL := pred[i] == class, truth[i] == class
		if inP {
			p++
		}
		if inL {
			l++
		}
		if inP && inL {
			both++
		}
		if inP || inL {
			either++
		}
	}
	if either == 0 {
		return 0, 0, false
	}
	return 2 * both / (p + l), both / either, true
}

func TestMetricsEqualTheDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pred, truth := pixels(t, 3)
		c := metric.NewCounts(classes)
		c.Add(pred, truth)
		m := c.Metrics(0.25, 2)

		var dice, iou, scored, right, counted float64
		for i := range truth {
			if truth[i] != raster.Ignored {
				counted++
				if truth[i] == pred[i] {
					right++
				}
			}
		}
		for k, name := range classes {
			d, u, ok := naive(pred, truth, byte(k))
			gotD, okD := metric.Value(m, "dice/"+name)
			gotU, okU := metric.Value(m, "iou/"+name)
			if okD != ok || okU != ok {
				t.Fatalf("%s: scored %v and %v, want %v", name, okD, okU, ok)
			}
			if !near(gotD, d) || !near(gotU, u) {
				t.Fatalf("%s: dice %v iou %v, want %v %v", name, gotD, gotU, d, u)
			}
			if ok {
				dice += d
				iou += u
				scored++
			}
		}
		if scored > 0 && (!near(m.Dice, dice/scored) || !near(m.Iou, iou/scored)) {
			t.Fatalf("means %v %v, want %v %v", m.Dice, m.Iou, dice/scored, iou/scored)
		}
		if counted > 0 && !near(m.Accuracy, right/counted) {
			t.Fatalf("accuracy %v, want %v", m.Accuracy, right/counted)
		}
		if float64(m.Pixels) != counted || m.Images != 2 || m.Loss != 0.25 {
			t.Fatalf("pixels %d images %d loss %v, want %v 2 0.25", m.Pixels, m.Images, m.Loss, counted)
		}
	})
}

// Batches, their order and the split over workers must not show.
func TestMetricsDoNotDependOnBatchesOrOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pred, truth := pixels(t, 3)
		whole := metric.NewCounts(classes)
		whole.Add(pred, truth)

		order := rapid.Permutation(seq(len(pred))).Draw(t, "order")
		cut := rapid.IntRange(0, len(pred)).Draw(t, "cut")
		a, b := metric.NewCounts(classes), metric.NewCounts(classes)
		for i, j := range order {
			c := a
			if i >= cut {
				c = b
			}
			c.Add(pred[j:j+1], truth[j:j+1])
		}
		b.Merge(a)
		if want, got := whole.Metrics(1, 1), b.Metrics(1, 1); !proto.Equal(want, got) {
			t.Fatalf("counted at once %v, in pieces %v", want, got)
		}
	})
}

func TestKnownCase(t *testing.T) {
	c := metric.NewCounts(classes)
	//                 I(0)=2 P(0)=3 L(0)=2; I(1)=1 P(1)=1 L(1)=2; class 2 nowhere
	c.Add([]byte{0, 0, 0, 1, 2}, []byte{0, 0, 1, 1, 255})
	m := c.Metrics(0, 1)
	for name, want := range map[string]float64{
		"dice/background": 4. / 5, "iou/background": 2. / 3,
		"dice/nucleus": 2. / 3, "iou/nucleus": 1. / 2,
		"dice/mean": (4./5 + 2./3) / 2, "iou/mean": (2./3 + 1./2) / 2,
		"accuracy": 3. / 4,
	} {
		if got, ok := metric.Value(m, name); !ok || !near(got, want) {
			t.Errorf("%s = %v, %v; want %v", name, got, ok, want)
		}
	}
	if _, ok := metric.Value(m, "dice/boundary"); ok {
		t.Error("a class that neither occurs nor is predicted has a score")
	}
	if got := c.Confusion(1, 0); got != 1 {
		t.Errorf("nucleus taken for background: %d pixels, want 1", got)
	}
}

func TestValueRefusesUnknownNames(t *testing.T) {
	c := metric.NewCounts(classes)
	c.Add([]byte{0, 1, 2}, []byte{0, 1, 2})
	row := raster.Labels{Size: raster.Size{H: 1, W: 3}, Pix: []byte{0, 1, 2}}
	c.Boundary(row, row)
	m := c.Metrics(0, 1)
	var sure metric.Calibration
	sure.Add([]byte{0}, []byte{0}, []float32{1}, []float32{1}, []float32{1})
	sure.Report(m)
	m.OriginalDice, m.OriginalIou = new(float64), new(float64)
	for _, name := range metric.Names(classes) {
		if _, ok := metric.Value(m, name); !ok {
			t.Errorf("%s is listed but not found", name)
		}
	}
	for _, name := range []string{"", "dice", "dice/cell", "f1/nucleus", "nucleus"} {
		if v, ok := metric.Value(m, name); ok {
			t.Errorf("%q = %v, want none", name, v)
		}
	}
	if _, ok := metric.Value(nil, "loss"); ok {
		t.Error("metrics that are missing have a loss")
	}
}

func TestAddRefusesWhatIsNoClass(t *testing.T) {
	for name, f := range map[string]func(*metric.Counts){
		"lengths":    func(c *metric.Counts) { c.Add([]byte{0}, []byte{0, 1}) },
		"label":      func(c *metric.Counts) { c.Add([]byte{0}, []byte{3}) },
		"prediction": func(c *metric.Counts) { c.Add([]byte{3}, []byte{0}) },
		"merge":      func(c *metric.Counts) { c.Merge(metric.NewCounts([]string{"other"})) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("accepted")
				}
			}()
			f(metric.NewCounts(classes))
		})
	}
}

// Identities leave out names of classes, so results may have been recorded under
// others.
func TestNamed(t *testing.T) {
	c := metric.NewCounts([]string{"was", "b"})
	c.Add([]byte{0, 1, 1}, []byte{0, 1, 0})
	m := c.Metrics(0, 1)
	now := metric.Named(m, []string{"is", "b"})
	was, _ := metric.Value(m, "dice/was")
	if is, ok := metric.Value(now, "dice/is"); !ok || is != was {
		t.Errorf("%v is now %v", was, is)
	}
	if _, ok := metric.Value(now, "dice/was"); ok || m.Classes[0].Name != "was" {
		t.Error("the metrics themselves were renamed, or the old name is still there")
	}
	if metric.Named(m, []string{"was", "b"}) != m || metric.Named(m, []string{"x"}) != m || metric.Named(nil, nil) != nil {
		t.Error("nothing is to be renamed")
	}
}

// What core/spec knows of metrics of classes is what there is.
func TestMetricsOfClasses(t *testing.T) {
	for _, name := range metric.Names([]string{"a/b", "c"}) {
		_, class, _ := strings.Cut(name, "/")
		if is := spec.ClassOf(name); is != "" && is != class || (is != "") != (class == "a/b" || class == "c") {
			t.Errorf("%s is taken for one of class %q", name, is)
		}
	}
	for _, kind := range spec.MetricsOfClasses {
		if !slices.Contains(metric.Names([]string{"c"}), kind+"/c") {
			t.Errorf("there is no %s of a class", kind)
		}
	}
}

func TestBetter(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name string
		a, b float64
		want bool
	}{
		{"dice/mean", 0.8, 0.7, true},
		{"dice/mean", 0.7, 0.7, false},
		{"loss", 0.1, 0.2, true},
		{"loss", 0.2, 0.1, false},
		{"loss", nan, 0.1, false},
		{"dice/mean", 0.1, nan, true},
	} {
		if got := metric.Better(c.name, c.a, c.b); got != c.want {
			t.Errorf("Better(%s, %v, %v) = %v", c.name, c.a, c.b, got)
		}
	}
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-12 }

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}
