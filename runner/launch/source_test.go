package launch

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/loralab/loralab/runner/store"
)

// chain is a source of prepared jobs: three at first, one more after each that ends.
type chain struct {
	t       *testing.T
	jobs    []*Job
	ready   int
	ended   int
	calling atomic.Bool
	fail    error
}

// alone checks that one goroutine at a time calls the source.
func (c *chain) alone() func() {
	if c.calling.Swap(true) {
		c.t.Error("two goroutines call the source at once")
	}
	return func() { c.calling.Store(false) }
}

func (c *chain) Next(context.Context) (*Job, bool, error) {
	defer c.alone()()
	switch {
	case c.fail != nil && c.ended > 2:
		return nil, false, c.fail
	case len(c.jobs) == 0:
		return nil, true, nil
	case c.ready == 0:
		return nil, false, nil
	}
	job := c.jobs[0]
	c.jobs, c.ready = c.jobs[1:], c.ready-1
	return job, false, nil
}

func (c *chain) Ended(*Job, *End) error {
	defer c.alone()()
	c.ended++
	c.ready++
	return nil
}

// Slots wait where a source has nothing now, take what comes when a job ends, and end
// with the source.
func TestSlotsWaitForASource(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	runs, err := store.Open(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	defer runs.Close()
	var jobs []*Job
	for seed := range uint64(12) {
		jobs = append(jobs, enqueued(t, runs, root, seed+1))
	}
	for _, j := range jobs[4:] {
		j.Trial = true
	}
	src := &chain{t: t, jobs: jobs[2:], ready: 2}
	local := &Local{Engine: pausingEnginePath(t), Records: runs.Records, Slots: make([]Slot, 5), Source: src, Watch: func(Event) {}}
	totals, err := local.Run(ctx, jobs[:2])
	if err != nil || totals != (Totals{Finished: 12}) || src.ended != 12 {
		t.Errorf("%+v, %v, %d ended", totals, err, src.ended)
	}
	for _, j := range jobs {
		if run, err := runs.Get(ctx, j.Run.ID); err != nil || run.State != store.Done {
			t.Errorf("%s: %+v, %v", j.Run.Name(), run, err)
		}
	}
}

// An error of the source ends the launch with it.
func TestASourceThatFails(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	runs, err := store.Open(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	defer runs.Close()
	var jobs []*Job
	for seed := range uint64(6) {
		jobs = append(jobs, enqueued(t, runs, root, seed+1))
	}
	src := &chain{t: t, jobs: jobs, ready: 1, fail: errors.New("no more disk")}
	local := &Local{Engine: pausingEnginePath(t), Records: runs.Records, Slots: make([]Slot, 2), Source: src, Watch: func(Event) {}}
	totals, err := local.Run(ctx, nil)
	if !errors.Is(err, src.fail) || !totals.Stopped || totals.Finished < 3 {
		t.Errorf("%+v, %v", totals, err)
	}
}
