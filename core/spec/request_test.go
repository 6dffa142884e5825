package spec_test

import (
	"slices"
	"testing"

	"github.com/loralab/loralab/core/spec"
)

func TestRemembered(t *testing.T) {
	on := func(domain, digest string) *spec.Evaluation {
		return &spec.Evaluation{Domain: domain, Data: &spec.Data{Splits: map[string]*spec.Split{"test": {Digest: digest}}}}
	}
	at := func(root string) *spec.Files { return &spec.Files{Root: root} }
	before := &spec.RunRequest{
		Id: "a", Evaluations: []*spec.Evaluation{on("test", "1"), on("far", "2")},
		Places: &spec.Places{Files: map[string]*spec.Files{"1": at("old"), "2": at("far")}},
	}
	now := &spec.RunRequest{
		Pause: &spec.Pause{Step: 5},
		Id:    "a", Evaluations: []*spec.Evaluation{on("renamed", "1"), on("new", "3")},
		Places: &spec.Places{Files: map[string]*spec.Files{"1": at("moved"), "3": at("new")}},
	}
	all := spec.Remembered(before, now)
	var names []string
	for _, e := range all.Evaluations {
		names = append(names, e.Domain+" "+all.Places.Files[e.Data.Splits["test"].Digest].Root)
	}
	if want := []string{"far far", "renamed moved", "new new"}; !slices.Equal(names, want) {
		t.Errorf("evaluations %q, want %q", names, want)
	}
	if len(now.Evaluations) != 2 || len(now.Places.Files) != 2 || now.Pause == nil {
		t.Errorf("the request itself was changed: %v", now)
	}
	if all.Pause != nil {
		t.Errorf("a pause is remembered: %v", all.Pause)
	}
	for _, other := range []*spec.RunRequest{nil, {Id: "b", Evaluations: before.Evaluations}} {
		if got := spec.Remembered(other, now); len(got.Evaluations) != 2 || got.Pause != nil {
			t.Errorf("after %v it says %v", other, got)
		}
	}
}
