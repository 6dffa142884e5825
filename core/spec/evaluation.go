package spec

import (
	"fmt"
	"slices"
	"strings"
)

// Original is the resolution at which every mask is scored as it lies in its file.
const Original = "original"

// ColumnName is the name of a domain with what sets its scores apart from those at the
// model's size: "test", "test@original", "test@window-126", "test@window-126x63"
// for a stride of 126 rows and 63 columns, "test@window-126-scale-0.5". Scores
// under one name are made in one way. Test-time augmentation follows, with its
// scales and whether images are mirrored: "test@ms-1-1.25-flip",
// "test@original-flip"; and the strength of the adapter: "test@strength-0.5".
func (e *Evaluation) ColumnName(domain string) string {
	var seen []string
	w := e.GetWindow()
	switch {
	case w != nil:
		text := fmt.Sprintf("window-%d", w.StrideH)
		if w.StrideW != w.StrideH {
			text += fmt.Sprintf("x%d", w.StrideW)
		}
		if w.Scale != 0 {
			text += fmt.Sprintf("-scale-%g", w.Scale)
		}
		seen = append(seen, text)
	case e.GetResolution() == Original:
		seen = append(seen, Original)
	}
	if t := e.GetTestTime(); t != nil {
		if len(t.Scales) > 0 {
			text := "ms"
			for _, scale := range t.Scales {
				text += fmt.Sprintf("-%g", scale)
			}
			seen = append(seen, text)
		}
		if t.Flip {
			seen = append(seen, "flip")
		}
	}
	if len(seen) > 0 {
		domain += "@" + strings.Join(seen, "-")
	}
	return AtStrength(domain, StrengthOf(e))
}

// AtStrength is the name of a column at a strength of the adapter: that of the column
// at 1.
func AtStrength(column string, t float64) string {
	switch {
	case t == 1:
		return column
	case strings.Contains(column, "@"):
		return fmt.Sprintf("%s-strength-%g", column, t)
	}
	return fmt.Sprintf("%s@strength-%g", column, t)
}

// MostScale is the largest scale of a view.
const MostScale = 4

// View is one way in which an image is seen while it is scored.
type View struct {
	Scale float64 // of the size at which the model sees it
	Flip  bool    // mirrored left to right
}

// Plain is how images are seen without test-time augmentation.
var Plain = View{Scale: 1}

// NewTestTime is the test-time augmentation of scales and of mirrored images, nil if
// that is no other than Plain. The order of scales has no effect.
func NewTestTime(flip bool, scales []float64) *TestTime {
	scales = slices.Compact(slices.Sorted(slices.Values(scales)))
	if slices.Equal(scales, []float64{1}) {
		scales = nil
	}
	if !flip && len(scales) == 0 {
		return nil
	}
	return &TestTime{Flip: flip, Scales: scales}
}

// Views are the ways in which an image is seen, Plain for no augmentation.
func (t *TestTime) Views() (views []View) {
	scales := t.GetScales()
	if len(scales) == 0 {
		scales = []float64{1}
	}
	for _, scale := range scales {
		views = append(views, View{Scale: scale})
		if t.GetFlip() {
			views = append(views, View{scale, true})
		}
	}
	return views
}

// SetStrength sets the strength of the adapter; 1 is that of an evaluation without
// one.
func (e *Evaluation) SetStrength(t float64) {
	if e.Strength = &t; t == 1 {
		e.Strength = nil
	}
}

// StrengthOf is the strength of the adapter in an evaluation.
func StrengthOf(e *Evaluation) float64 {
	if e != nil && e.Strength != nil {
		return *e.Strength
	}
	return 1
}

// MostStrength is the largest strength of an adapter.
const MostStrength = 2

// Unseen cuts off what all names of domains say of how images are seen: "test"
// and "@original" for "test@original". Nothing is cut where they differ in it.
func Unseen(domains []string) (short []string, shared string) {
	for i, d := range domains {
		_, seen, ok := strings.Cut(d, "@")
		if !ok || i > 0 && "@"+seen != shared {
			return domains, ""
		}
		shared = "@" + seen
	}
	for _, d := range domains {
		short = append(short, strings.TrimSuffix(d, shared))
	}
	return short, shared
}
