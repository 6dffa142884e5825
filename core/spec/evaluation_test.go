package spec

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
)

func TestColumnNames(t *testing.T) {
	window := &Window{StrideH: 16, StrideW: 16}
	for want, e := range map[string]*Evaluation{
		"test":                         {},
		"test@original":                {Resolution: Original},
		"test@window-16":               {Resolution: Original, Window: window},
		"test@flip":                    {TestTime: NewTestTime(true, []float64{1})},
		"test@ms-0.75-1":               {TestTime: NewTestTime(false, []float64{1, 0.75})},
		"test@original-ms-0.5-flip":    {Resolution: Original, TestTime: NewTestTime(true, []float64{0.5})},
		"test@window-16-ms-1-1.5-flip": {Resolution: Original, Window: window, TestTime: NewTestTime(true, []float64{1.5, 1})},
		"test@strength-0":              {Strength: proto.Float64(0)},
		"test@original-strength-0.5":   {Resolution: Original, Strength: proto.Float64(0.5)},
	} {
		if got := e.ColumnName("test"); got != want {
			t.Errorf("%v is called %q, want %q", e, got, want)
		}
	}
}

// One way of seeing images is no augmentation, and the order of scales has no effect:
// no identity moves.
func TestTestTimeIsCanonical(t *testing.T) {
	if a := NewTestTime(false, []float64{1}); a != nil {
		t.Errorf("one plain view is %v", a)
	}
	id := func(a *TestTime) string { return EvaluationIdentity("run", &Evaluation{TestTime: a}) }
	if id(NewTestTime(true, []float64{1.5, 1})) != id(NewTestTime(true, []float64{1, 1.5})) {
		t.Error("the order of scales moves the identity")
	}
	if id(nil) == id(NewTestTime(true, nil)) {
		t.Error("the identity does not know of flips")
	}
	want := []View{{0.5, false}, {0.5, true}, {1, false}, {1, true}}
	if got := NewTestTime(true, []float64{1, 0.5}).Views(); !slices.Equal(got, want) {
		t.Errorf("views %v", got)
	}
	var none *TestTime
	if got := none.Views(); !slices.Equal(got, []View{Plain}) {
		t.Errorf("without augmentation: %v", got)
	}
}

// Strength 1 is the plain evaluation, and 0 is another.
func TestStrengthIsCanonical(t *testing.T) {
	id := func(strength float64) string {
		e := &Evaluation{}
		e.SetStrength(strength)
		return EvaluationIdentity("run", e)
	}
	if plain := EvaluationIdentity("run", &Evaluation{}); id(1) != plain || id(0) == plain || id(0) == id(0.5) {
		t.Error("identities of strengths")
	}
}
