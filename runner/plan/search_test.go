package plan

import (
	"path/filepath"
	"slices"
	"testing"
)

func TestSavedSearchesMove(t *testing.T) {
	saved := []Search{{Name: "e/a", Digest: "1", Made: 2, States: map[string]int{"complete": 2}}}
	for _, c := range []struct {
		what string
		now  []Search
		want []string
	}{
		{"nothing", saved, nil},
		{"it ended", nil, []string{"e/a: the search has ended, or no file asks for it any more"}},
		{"another budget", []Search{{Name: "e/a", Digest: "2", Made: 2}}, []string{"e/a: the search is another one: its space, its budget or its cell moved"}},
		{"a trial more", []Search{{Name: "e/a", Digest: "1", Made: 3}}, []string{"e/a: had 2 trials, has 3 now"}},
		{"a trial ended", []Search{{Name: "e/a", Digest: "1", Made: 2, States: map[string]int{"complete": 1}}}, []string{"e/a: some of its trials have continued since"}},
		{"another search", append(slices.Clone(saved), Search{Name: "e/b"}), []string{"e/b: the search is not in the saved plan"}},
	} {
		if got := searchesMoved(saved, c.now); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
	// A plan with searches has a format that a runner without them refuses.
	file := filepath.Join(t.TempDir(), "p")
	for _, p := range []*Plan{{}, {Searches: saved}} {
		if err := p.Write(file, Ask{Root: "/p", Files: []string{"/p/e.cue"}}); err != nil {
			t.Fatal(err)
		}
		s, err := ReadSaved(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := 2 + len(p.Searches); s.Format != want || len(s.Searches) != len(p.Searches) {
			t.Errorf("got format %d with %d searches, want %d", s.Format, len(s.Searches), want)
		}
		if err := s.Holds(p); err != nil {
			t.Error(err)
		}
	}
}
