package plan

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

// BenchmarkThousandCells reads the store and plans 1,000 cells, all of which
// were run before: half are done, half are stale.
func BenchmarkThousandCells(b *testing.B) {
	root := b.TempDir()
	db, err := store.Open(b.Context(), root)
	if err != nil {
		b.Fatal(err)
	}
	var asked []*experiment.Run
	var queue []*store.Run
	var labels []store.Label
	for i := range 1000 {
		made := func(rate float64) *experiment.Run {
			r := whole(fmt.Sprintf("rate=%d", i), 1, 4, rate, 4)
			for block := range uint32(24) { // as large as that of a real backbone
				r.Spec.Adapter.Placements = append(r.Spec.Adapter.Placements, &spec.Placement{Site: &protocol.Site{Name: "value", Block: block, In: 768, Out: 768}})
			}
			r.ID = spec.Identity(r.Spec)
			e := &spec.Evaluation{Domain: "test"}
			r.Evaluations = []experiment.Evaluation{{ID: spec.EvaluationIdentity(r.ID, e), Spec: e}}
			return r
		}
		was, now := made(float64(i+1)), made(float64(i+1))
		if i%2 == 0 {
			now = made(float64(i) + 0.5)
		}
		asked = append(asked, now)
		run := &store.Run{ID: was.ID, Experiment: "e", Cell: was.Cell, Seed: 1, Dir: store.DirOf("e", was.ID)}
		if err := run.SetSpec(was.Spec); err != nil {
			b.Fatal(err)
		}
		queue = append(queue, run)
		labels = append(labels, store.Label{Experiment: "e", Cell: was.Cell, Seed: 1, Run: was.ID})
		dir := filepath.Join(root, filepath.FromSlash(run.Dir))
		text, err := protojson.Marshal(&spec.Summary{Id: was.ID})
		if err == nil {
			err = os.MkdirAll(dir, 0o777)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "result.json"), text, 0o666)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Enqueue(b.Context(), nil, queue, labels); err != nil {
		b.Fatal(err)
	}
	for _, run := range queue {
		e := &spec.Evaluation{Domain: "test"}
		if err := db.Finish(b.Context(), run.ID, &spec.Summary{
			Id: run.ID, Steps: 5, Seconds: 1, Evaluations: []*spec.Evaluated{{Id: spec.EvaluationIdentity(run.ID, e), Domain: "test"}},
		}); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	experiments := []*experiment.Experiment{{Name: "e", Runs: asked}}
	b.ResetTimer()
	for b.Loop() {
		known, err := store.Read(b.Context(), root)
		if err != nil {
			b.Fatal(err)
		}
		p, err := Make(experiments, known, Selection{})
		if err != nil {
			b.Fatal(err)
		}
		if c := p.Counts(); c.Done != 500 || c.Stale != 500 {
			b.Fatal(c)
		}
	}
}
