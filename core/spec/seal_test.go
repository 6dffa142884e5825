package spec_test

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/spec"
)

// A result that was changed in its file is noticed: trial-reliability 3.
func TestResultsAreSealed(t *testing.T) {
	dice := 0.1 + 0.2
	s := &spec.Summary{Id: "ab", BestStep: 12, Validation: &spec.Metrics{Loss: math.NaN(), Classes: []*spec.ClassMetrics{{Name: "a", Dice: &dice}}}}
	s.Digest = spec.SealedDigest(s)
	text, err := protojson.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	read := &spec.Summary{}
	if err := protojson.Unmarshal(text, read); err != nil {
		t.Fatal(err)
	}
	read.Evaluations = []*spec.Evaluated{{Id: "cd"}} // which are files of their own
	if err := spec.Intact(read, 3); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*spec.Summary){
		"a score":     func(s *spec.Summary) { *s.Validation.Classes[0].Dice = 0.4 },
		"a step":      func(s *spec.Summary) { s.BestStep = 13 },
		"no digest":   func(s *spec.Summary) { s.Digest = "" },
		"other files": func(s *spec.Summary) { s.Files = map[string]string{"a": "b"} },
	} {
		changed := proto.CloneOf(read)
		change(changed)
		if err := spec.Intact(changed, 3); err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
	e := &spec.Evaluated{Id: "cd", Metrics: s.Validation}
	if err := spec.Intact(e, 2); err != nil {
		t.Errorf("of revision 2: %v", err)
	}
	if err := spec.Intact(e, 3); err == nil || !strings.Contains(err.Error(), "no digest") {
		t.Errorf("got %v", err)
	}
	e.Digest = spec.SealedDigest(e)
	if err := spec.Intact(e, 3); err != nil {
		t.Error(err)
	}
}
