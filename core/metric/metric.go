// Package metric scores segmentations the way the field does: from integer
// counts of pixels over a whole split, never from a mean over batches or
// images. The same images therefore give the same numbers whatever the batch
// size and the order, and two halves of a split can be counted apart and
// merged.
//
// For a class with intersection I, P predicted and L labelled pixels,
//
//	Dice = 2I / (P + L)        IoU = I / (P + L − I)
//
//	accuracy = I / L     boundary IoU = |Gd ∩ Pd| / |Gd ∪ Pd|
//
// where Gd and Pd are the labelled and the predicted pixels of the class that
// lie within d of its boundary (see Boundary).
//
// A class that neither occurs nor is predicted has no score and is left out of
// the means (the nan-mean of mmsegmentation's IoUMetric), so it counts neither
// as 0 nor as 1.
//
// Calibration looks at probabilities instead: whether the model is as often
// right as it says.
package metric

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

// Counts accumulates pixels over a split. It is not safe for concurrent use:
// give each goroutine its own and Merge them.
type Counts struct {
	classes []string
	// confusion[t*n+p] counts pixels of class t predicted as p.
	confusion []uint64
	// boundary holds, by class, the pixels near its boundary in both label and
	// prediction, and in either.
	boundary [][2]uint64
}

// NewCounts returns empty counts for the classes in order of their index. It
// panics unless there are 1 to 255 of them, as index 255 means ignored.
func NewCounts(classes []string) *Counts {
	if len(classes) == 0 || len(classes) > raster.Ignored {
		panic(fmt.Sprintf("metric: %d classes, want 1 to %d", len(classes), raster.Ignored))
	}
	n := len(classes)
	return &Counts{classes: slices.Clone(classes), confusion: make([]uint64, n*n), boundary: make([][2]uint64, n)}
}

// Add counts the pixels of pred against truth, both class indices in the same
// order. Pixels whose truth is raster.Ignored are left out. It panics where the
// lengths differ or an index is no class: that is a fault of the caller, since
// masks are checked before.
func (c *Counts) Add(pred, truth []byte) {
	if len(pred) != len(truth) {
		panic(fmt.Sprintf("metric: %d predicted pixels for %d labels", len(pred), len(truth)))
	}
	n := len(c.classes)
	for i, t := range truth {
		if t == raster.Ignored {
			continue
		}
		p := pred[i]
		if int(t) >= n || int(p) >= n {
			panic(fmt.Sprintf("metric: pixel %d is labelled %d and predicted %d, but there are %d classes", i, t, p, n))
		}
		c.confusion[int(t)*n+int(p)]++
	}
}

// Merge adds the counts of o, which must be over the same classes.
func (c *Counts) Merge(o *Counts) {
	if !slices.Equal(c.classes, o.classes) {
		panic(fmt.Sprintf("metric: merging counts over %v into counts over %v", o.classes, c.classes))
	}
	for i, v := range o.confusion {
		c.confusion[i] += v
	}
	for i, v := range o.boundary {
		c.boundary[i][0] += v[0]
		c.boundary[i][1] += v[1]
	}
}

// Confusion returns how many pixels of class truth were predicted as pred.
func (c *Counts) Confusion(truth, pred int) uint64 {
	return c.confusion[truth*len(c.classes)+pred]
}

// Matrix is Confusion of all pairs of n classes: that of t and p is at t·n + p.
func (c *Counts) Matrix() []uint64 { return slices.Clone(c.confusion) }

// Metrics scores what was counted. Loss and the number of images are carried
// along, since counts know neither; a loss that is not computed is NaN. With no pixel counted the means and the
// accuracy are 0 and Pixels says so.
func (c *Counts) Metrics(loss float64, images int) *spec.Metrics {
	n := len(c.classes)
	m := &spec.Metrics{Loss: loss, Images: uint64(images)}
	for k, name := range c.classes {
		cm := &spec.ClassMetrics{Name: name, Intersection: c.confusion[k*n+k]}
		for j := range n {
			cm.Labelled += c.confusion[k*n+j]
			cm.Predicted += c.confusion[j*n+k]
		}
		cm.BoundaryIntersection, cm.BoundaryUnion = c.boundary[k][0], c.boundary[k][1]
		m.Classes = append(m.Classes, cm)
	}
	score(m)
	return m
}

// Pool scores what several splits have counted as one split: the counts of a class add
// up. The classes are the same, in the same order; nil if they are not of one number.
// What is no function of counts, such as the loss, has no value.
func Pool(of []*spec.Metrics) *spec.Metrics {
	m := &spec.Metrics{Loss: math.NaN()}
	for i, one := range of {
		if i == 0 {
			for _, c := range one.GetClasses() {
				m.Classes = append(m.Classes, &spec.ClassMetrics{Name: c.GetName()})
			}
		}
		if len(one.GetClasses()) != len(m.Classes) {
			return nil
		}
		m.Images += one.GetImages()
		for k, c := range one.GetClasses() {
			sum := m.Classes[k]
			sum.Intersection += c.GetIntersection()
			sum.Predicted += c.GetPredicted()
			sum.Labelled += c.GetLabelled()
			sum.BoundaryIntersection += c.GetBoundaryIntersection()
			sum.BoundaryUnion += c.GetBoundaryUnion()
		}
	}
	score(m)
	return m
}

// score sets all that follows from the counts of classes.
func score(m *spec.Metrics) {
	var right uint64
	var dice, iou, accuracy, boundary float64
	var scored, labelled, bounded int
	for _, cm := range m.Classes {
		right += cm.Intersection
		m.Pixels += cm.Labelled
		if union := cm.Predicted + cm.Labelled - cm.Intersection; union > 0 {
			d := 2 * float64(cm.Intersection) / float64(cm.Predicted+cm.Labelled)
			u := float64(cm.Intersection) / float64(union)
			cm.Dice, cm.Iou = &d, &u
			dice += d
			iou += u
			scored++
		}
		if cm.Labelled > 0 {
			a := float64(cm.Intersection) / float64(cm.Labelled)
			cm.Accuracy = &a
			accuracy += a
			labelled++
		}
		if cm.BoundaryUnion > 0 {
			b := float64(cm.BoundaryIntersection) / float64(cm.BoundaryUnion)
			cm.BoundaryIou = &b
			boundary += b
			bounded++
		}
	}
	if scored > 0 {
		m.Dice = dice / float64(scored)
		m.Iou = iou / float64(scored)
	}
	if labelled > 0 {
		m.ClassAccuracy = accuracy / float64(labelled)
	}
	if bounded > 0 {
		m.BoundaryIou = boundary / float64(bounded)
	}
	if m.Pixels > 0 {
		m.Accuracy = float64(right) / float64(m.Pixels)
	}
}

// OfBatches are metrics that are computed of batches at the model's size, and have
// no value where images are scored at their own.
var OfBatches = []string{"loss", "original/dice", "original/iou"}

// whole are the metrics of a whole split by name; those with kinds below are of
// single classes as well.
var whole = []struct {
	name  string
	value func(m *spec.Metrics) (float64, bool)
}{
	{"loss", func(m *spec.Metrics) (float64, bool) { return m.Loss, !math.IsNaN(m.Loss) && !math.IsInf(m.Loss, 0) }},
	{"accuracy", func(m *spec.Metrics) (float64, bool) { return m.Accuracy, m.Pixels > 0 }},
	{"dice/mean", func(m *spec.Metrics) (float64, bool) { return m.Dice, m.Pixels > 0 }},
	{"iou/mean", func(m *spec.Metrics) (float64, bool) { return m.Iou, m.Pixels > 0 }},
	{"accuracy/mean", func(m *spec.Metrics) (float64, bool) { return m.ClassAccuracy, m.Pixels > 0 }},
	{"boundary/mean", func(m *spec.Metrics) (float64, bool) { return m.BoundaryIou, bounded(m) }},
	{"ece", func(m *spec.Metrics) (float64, bool) { return m.GetEce(), m.Ece != nil }},
	{"nll", func(m *spec.Metrics) (float64, bool) { return m.GetNll(), m.Nll != nil }},
	{"brier", func(m *spec.Metrics) (float64, bool) { return m.GetBrier(), m.Brier != nil }},
	{"original/dice", func(m *spec.Metrics) (float64, bool) { return m.GetOriginalDice(), m.OriginalDice != nil }},
	{"original/iou", func(m *spec.Metrics) (float64, bool) { return m.GetOriginalIou(), m.OriginalIou != nil }},
}

func bounded(m *spec.Metrics) bool {
	return slices.ContainsFunc(m.Classes, func(c *spec.ClassMetrics) bool { return c.BoundaryUnion > 0 })
}

var kinds = []struct {
	name  string
	value func(c *spec.ClassMetrics) *float64
}{
	{"dice", func(c *spec.ClassMetrics) *float64 { return c.Dice }},
	{"iou", func(c *spec.ClassMetrics) *float64 { return c.Iou }},
	{"accuracy", func(c *spec.ClassMetrics) *float64 { return c.Accuracy }},
	{"boundary", func(c *spec.ClassMetrics) *float64 { return c.BoundaryIou }},
}

// short are other names of metrics.
var short = map[string]string{"original": "original/dice"}

// Canonical is the name that Names has for a metric: "original" is the original
// project's Dice.
func Canonical(name string) string {
	if full, ok := short[name]; ok {
		return full
	}
	return name
}

// Value looks up a metric by the name that experiments, tables and figures use:
// one of Names. It reports false for a name that m does not have and for a class
// without a score.
func Value(m *spec.Metrics, name string) (float64, bool) {
	if m == nil {
		return 0, false
	}
	for _, w := range whole {
		if w.name == name {
			return w.value(m)
		}
	}
	kind, class, ok := strings.Cut(name, "/")
	if !ok {
		return 0, false
	}
	for _, k := range kinds {
		if k.name != kind {
			continue
		}
		for _, c := range m.Classes {
			if c.Name == class {
				if v := k.value(c); v != nil {
					return *v, true
				}
				return 0, false
			}
		}
	}
	return 0, false
}

// Names lists the metrics that Value finds for these classes, those of the whole
// first.
func Names(classes []string) []string {
	var names []string
	for _, w := range whole {
		names = append(names, w.name)
	}
	for _, kind := range kinds {
		for _, c := range classes {
			names = append(names, kind.name+"/"+c)
		}
	}
	return names
}

// Named are the metrics with the names that their classes have now, by index;
// as they are if they are of another number of classes. m is not changed.
func Named(m *spec.Metrics, classes []string) *spec.Metrics {
	is := func(i int) bool { return m.GetClasses()[i].GetName() == classes[i] }
	if len(m.GetClasses()) != len(classes) {
		return m
	}
	same := true
	for i := range classes {
		same = same && is(i)
	}
	if same {
		return m
	}
	m = proto.CloneOf(m)
	for i, c := range m.Classes {
		c.Name = classes[i]
	}
	return m
}

// falls are the metrics that are better when they are lower.
var falls = []string{"loss", "ece", "nll", "brier"}

// Better reports whether a is a better value of the named metric than b: loss
// and calibration errors are to fall, everything else to rise. NaN is never
// better.
func Better(name string, a, b float64) bool {
	switch {
	case a != a:
		return false
	case b != b:
		return true
	case slices.Contains(falls, name):
		return a < b
	default:
		return a > b
	}
}
