package name

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestRepeats(t *testing.T) {
	plain, folded := Repeat{Seed: 1}, Repeat{NewFold(0), 3}
	for r, want := range map[Repeat][2]string{
		plain: {"e/a=1/seed=1", "seed 1"}, folded: {"e/a=1/fold=0/seed=3", "fold 0, seed 3"},
	} {
		if got := [2]string{Run("e", "a=1", r), r.Words()}; got != want {
			t.Errorf("%+v is called %q, want %q", r, got, want)
		}
	}
	list := []Repeat{{NewFold(1), 0}, folded, {NewFold(0), 1}, plain}
	slices.SortFunc(list, Repeat.Compare)
	if want := []Repeat{plain, {NewFold(0), 1}, folded, {NewFold(1), 0}}; !slices.Equal(list, want) {
		t.Errorf("ordered as %v, want %v", list, want)
	}
}

func TestFoldsInJSON(t *testing.T) {
	type record struct {
		Fold Fold `json:"fold,omitzero"`
	}
	for text, want := range map[string]Fold{`{}`: {}, `{"fold":0}`: NewFold(0), `{"fold":7}`: NewFold(7)} {
		var got record
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Fold != want {
			t.Errorf("%s is read as %v, %v", text, got, err)
		}
		if again, err := json.Marshal(got); err != nil || string(again) != text {
			t.Errorf("%s is written as %s, %v", text, again, err)
		}
	}
	for _, text := range []string{`{"fold":-1}`, `{"fold":"0"}`, `{"fold":4294967295}`} {
		if err := json.Unmarshal([]byte(text), &record{}); err == nil {
			t.Errorf("%s is read without an error", text)
		}
	}
}
