package ensemble

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
)

// member is a run that is tested on images with a digest, and on a domain.
func member(cell, id string, seed uint64, test string) *experiment.Run {
	at := func(domain, digest string) experiment.Evaluation {
		e := &spec.Evaluation{Domain: domain, Data: &spec.Data{Splits: map[string]*spec.Split{"test": {Digest: digest}}}}
		return experiment.Evaluation{ID: spec.EvaluationIdentity(id, e), Spec: e}
	}
	r := &experiment.Run{Experiment: "e", Cell: cell, Seed: seed, ID: id, Spec: &spec.RunSpec{}}
	r.Evaluations = []experiment.Evaluation{at("test", test), at("histology", "h")}
	weak := at("test@strength-0", test)
	weak.Spec.Strength = proto.Float64(0)
	r.Evaluations = append(r.Evaluations, weak)
	return r
}

func TestMembersAndSharedDomains(t *testing.T) {
	e := &experiment.Experiment{Name: "e", Ensemble: "seeds", Runs: []*experiment.Run{
		member("a", "1", 1, "t"), member("b", "3", 1, "t1"), member("c", "5", 1, "t"), member("d", "6", 1, "t"),
		member("a", "2", 2, "t"), member("b", "4", 2, "t2"), member("d", "6", 2, "t"),
	}}
	all := Of(e)
	if len(all) != 2 || all[0].Cell != "a" || all[1].Cell != "b" {
		t.Fatalf("ensembles %v", all)
	}
	a, b := all[0], all[1]
	if len(a.Evaluations) != 2 || a.Evaluations[0].Spec.Domain != "test" || a.Evaluations[1].Spec.Domain != "histology" {
		t.Errorf("the ensemble is scored on %v", a.Evaluations)
	}
	if len(b.Evaluations) != 1 || b.Evaluations[0].Spec.Domain != "histology" {
		t.Errorf("members with other test images are scored on %v", b.Evaluations)
	}
	if a.ID != spec.EnsembleIdentity([]string{"2", "1"}) || a.ID == b.ID || a.Evaluations[0].ID != spec.EvaluationIdentity(a.ID, a.Evaluations[0].Spec) {
		t.Error("identities")
	}
	if e.Ensemble = ""; Of(e) != nil {
		t.Error("ensembles that nobody asked for")
	}
}

// What is damaged, or of another ensemble, misses.
func TestMissing(t *testing.T) {
	e := &experiment.Experiment{Name: "e", Ensemble: "seeds", Runs: []*experiment.Run{member("a", "1", 1, "t"), member("a", "2", 2, "t")}}
	one, root := Of(e)[0], t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "runs"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := one.write(root); err != nil {
		t.Fatal(err)
	}
	write := func(i int, run string) {
		t.Helper()
		x := one.Evaluations[i]
		done := &spec.Evaluated{Id: x.ID, Domain: x.Spec.Domain, Run: run, Metrics: &spec.Metrics{Images: 3}}
		done.Digest = spec.SealedDigest(done)
		text, err := rundir.MarshalFile(done)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, one.Dir(), rundir.Evaluation(x.ID))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	missing := func(want int) {
		t.Helper()
		if got, err := one.Missing(root); err != nil || len(got) != want {
			t.Errorf("%d evaluations miss, want %d: %v", len(got), want, err)
		}
	}
	missing(2)
	write(0, one.ID)
	missing(1)
	write(1, "0123")
	missing(1)
	write(1, one.ID)
	missing(0)
	path := filepath.Join(root, one.Dir(), rundir.Evaluation(one.Evaluations[0].ID))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[:len(text)/2], 0o666); err != nil {
		t.Fatal(err)
	}
	missing(1)
	known, err := Known(root)
	if err != nil || len(known) != 1 || len(known[one.Dir()].Members) != 2 {
		t.Errorf("known are %v, %v", known, err)
	}
}

// A link in the project leads nowhere else.
func TestNothingIsWrittenThroughLinks(t *testing.T) {
	e := &experiment.Experiment{Name: "e", Ensemble: "seeds", Runs: []*experiment.Run{member("a", "1", 1, "t"), member("a", "2", 2, "t")}}
	root, other := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "runs", "e"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(root, "runs", "e", folder)); err != nil {
		t.Fatal(err)
	}
	if err := Of(e)[0].write(root); err == nil {
		t.Error("it was written")
	}
	if left, err := os.ReadDir(other); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}
