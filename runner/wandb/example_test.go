package wandb_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/loralab/loralab/runner/wandb"
	"github.com/loralab/loralab/runner/wandb/wandblog"
)

// A run that is logged offline. With Mode Online and a key in the environment the same
// calls send it while it runs.
func Example() {
	root, err := os.MkdirTemp("", "loralab-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)

	ctx := context.Background()
	run, err := wandb.Init(ctx, wandb.Settings{Mode: wandb.Offline, Root: root, Project: "nuclei", ID: "example1", Name: "rank=4/seed=1"})
	if err != nil {
		log.Fatal(err)
	}
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	check(run.Config(map[string]any{"rank": 4, "seed": 1}))
	check(run.DefineMetric(wandb.Metric{Name: "val/dice", Summary: []string{"max"}}))
	for step, dice := range []float64{0.5, 0.75, 0.625} {
		check(run.Log(int64(step), map[string]any{"val/dice": dice}))
	}
	check(run.Finish(ctx, 0))

	// `wandb sync` and wandb.Sync send the directory. This is what its log holds:
	records, err := wandblog.ReadFile(filepath.Join(run.Dir(), "run-example1.wandb"))
	check(err)
	for _, r := range records {
		if r.History != nil {
			for _, item := range r.History.Item {
				if item.NestedKey[0] == "val/dice" {
					fmt.Printf("step %d: %s = %s\n", r.History.Step.Num, item.NestedKey[0], item.ValueJSON)
				}
			}
		}
	}
	// Output:
	// step 0: val/dice = 0.5
	// step 1: val/dice = 0.75
	// step 2: val/dice = 0.625
}
