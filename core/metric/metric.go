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
// A class that neither occurs nor is predicted has no score and is left out of
// the means (the nan-mean of mmsegmentation's IoUMetric), so it counts neither
// as 0 nor as 1.
package metric

import (
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/spec"
)

// Ignored is the label of a pixel that is not scored.
const Ignored = 255

// Counts accumulates pixels over a split. It is not safe for concurrent use:
// give each goroutine its own and Merge them.
type Counts struct {
	classes []string
	// confusion[t*n+p] counts pixels of class t predicted as p.
	confusion []uint64
}

// NewCounts returns empty counts for the classes in order of their index. It
// panics unless there are 1 to 255 of them, as index 255 means ignored.
func NewCounts(classes []string) *Counts {
	if len(classes) == 0 || len(classes) > Ignored {
		panic(fmt.Sprintf("metric: %d classes, want 1 to %d", len(classes), Ignored))
	}
	n := len(classes)
	return &Counts{classes: slices.Clone(classes), confusion: make([]uint64, n*n)}
}

// Add counts the pixels of pred against truth, both class indices in the same
// order. Pixels whose truth is Ignored are left out. It panics where the
// lengths differ or an index is no class: that is a fault of the caller, since
// masks are checked before.
func (c *Counts) Add(pred, truth []byte) {
	if len(pred) != len(truth) {
		panic(fmt.Sprintf("metric: %d predicted pixels for %d labels", len(pred), len(truth)))
	}
	n := len(c.classes)
	for i, t := range truth {
		if t == Ignored {
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
}

// Confusion returns how many pixels of class truth were predicted as pred.
func (c *Counts) Confusion(truth, pred int) uint64 {
	return c.confusion[truth*len(c.classes)+pred]
}

// Metrics scores what was counted. Loss and the number of images are carried
// along, since counts know neither. With no pixel counted the means and the
// accuracy are 0 and Pixels says so.
func (c *Counts) Metrics(loss float64, images int) *spec.Metrics {
	n := len(c.classes)
	m := &spec.Metrics{Loss: loss, Images: uint64(images)}
	var right uint64
	var dice, iou float64
	var scored int
	for k, name := range c.classes {
		cm := &spec.ClassMetrics{Name: name, Intersection: c.confusion[k*n+k]}
		for j := range n {
			cm.Labelled += c.confusion[k*n+j]
			cm.Predicted += c.confusion[j*n+k]
		}
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
		m.Classes = append(m.Classes, cm)
	}
	if scored > 0 {
		m.Dice = dice / float64(scored)
		m.Iou = iou / float64(scored)
	}
	if m.Pixels > 0 {
		m.Accuracy = float64(right) / float64(m.Pixels)
	}
	return m
}

// Value looks up a metric by the name that experiments, tables and figures
// use: "loss", "accuracy", "dice/mean", "iou/mean", "dice/<class>" or
// "iou/<class>". It reports false for a name that m does not have and for a
// class without a score.
func Value(m *spec.Metrics, name string) (float64, bool) {
	if m == nil {
		return 0, false
	}
	switch name {
	case "loss":
		return m.Loss, true
	case "accuracy":
		return m.Accuracy, m.Pixels > 0
	case "dice/mean":
		return m.Dice, m.Pixels > 0
	case "iou/mean":
		return m.Iou, m.Pixels > 0
	}
	kind, class, ok := strings.Cut(name, "/")
	if !ok {
		return 0, false
	}
	for _, c := range m.Classes {
		if c.Name != class {
			continue
		}
		var v *float64
		switch kind {
		case "dice":
			v = c.Dice
		case "iou":
			v = c.Iou
		}
		if v == nil {
			return 0, false
		}
		return *v, true
	}
	return 0, false
}

// Names lists the metrics that Value finds for these classes, means first.
func Names(classes []string) []string {
	names := []string{"loss", "accuracy", "dice/mean", "iou/mean"}
	for _, kind := range []string{"dice", "iou"} {
		for _, c := range classes {
			names = append(names, kind+"/"+c)
		}
	}
	return names
}

// Better reports whether a is a better value of the named metric than b: the
// loss is to fall, everything else to rise. NaN is never better.
func Better(name string, a, b float64) bool {
	switch {
	case a != a:
		return false
	case b != b:
		return true
	case name == "loss":
		return a < b
	default:
		return a > b
	}
}
