package pilot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/claim"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/store"
)

// fake is a scheduler whose workers are goroutines, which it can kill, restart and lose.
type fake struct {
	t         *testing.T
	mu        sync.Mutex
	elements  map[string][]*element // by array
	submitted []string
	polls     int
	asked     int // how elements ended
	// silent submissions fail, as if the scheduler did not answer; what is left of them says
	// how many, and submits whether they are taken up all the same.
	silent  int
	submits bool
	// broken fails every poll while it is set.
	broken bool
	// stillborn workers end before they have begun.
	stillborn bool
	once      bool // the first array only
	// forgets is whether it lists none that has ended.
	forgets bool
	// bad is a node whose workers end, since it has no driver; good is the other.
	bad   bool
	steps int
	wg    sync.WaitGroup
}

type element struct {
	Element
	cancel context.CancelFunc
	forget bool
}

func (f *fake) Submit(_ context.Context, a *Array) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent > 0 && !f.submits {
		f.silent--
		return fmt.Errorf("%w: sbatch: signal: killed", ErrUnknown)
	}
	f.submitted = append(f.submitted, a.Name)
	defer func() { f.stillborn = f.stillborn && !f.once }()
	for i := range a.Workers {
		e := &element{Element: Element{Array: a.Name, Index: i, Life: Running, Node: "n"}}
		f.elements[a.Name] = append(f.elements[a.Name], e)
		if f.bad {
			e.Node = "good"
			if i < 2 && !slices.Contains(a.Exclude, "bad") {
				e.Node = "bad"
				w, err := Open(ArrayDir(a.Root, a.Name), claim.Worker{Element: i, Nonce: claim.Nonce(), Host: e.Node}, Timing{Beat: time.Hour})
				if err != nil {
					return err
				}
				w.End("no driver", true)
				if err := w.Close(); err != nil {
					return err
				}
				e.Life = Over
				continue
			}
		}
		if f.stillborn {
			e.Life, e.Reason, e.forget = Over, "no driver on this node", f.forgets
			continue
		}
		f.start(a, e)
	}
	if f.silent > 0 {
		f.silent--
		return fmt.Errorf("%w: sbatch: signal: killed", ErrUnknown)
	}
	return nil
}

// start starts a worker, which trains a step in a millisecond and checkpoints each.
func (f *fake) start(a *Array, e *element) {
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	restart := e.Restart
	f.wg.Go(func() {
		w := worker(f.t, a, e.Index, restart)
		defer func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if e.Restart == restart {
				e.Life = Over
			}
		}()
		for ctx.Err() == nil {
			job, done, err := w.Next(ctx)
			if errors.Is(err, ErrLost) || done || ctx.Err() != nil {
				if err == nil {
					_ = w.Close()
				}
				return
			}
			if err != nil {
				f.t.Error(err)
				return
			}
			if job == nil {
				time.Sleep(time.Millisecond)
				continue
			}
			run, err := w.Claim(ctx, job.Run.ID)
			if err != nil {
				f.t.Error(err)
				return
			}
			for step := int(run.Checkpoint) + 1; step <= f.steps; step++ {
				if ctx.Err() != nil {
					return // killed
				}
				time.Sleep(time.Millisecond)
				train(f.t, run.Path(), run.ID, step, false)
			}
			if ctx.Err() != nil {
				return
			}
			summary := &spec.Summary{Id: run.ID, Steps: uint64(f.steps)}
			summary.Digest = spec.SealedDigest(summary)
			text, err := rundir.MarshalFile(summary)
			if err == nil {
				err = os.WriteFile(filepath.Join(run.Path(), rundir.Result), text, 0o666)
			}
			if err == nil {
				err = w.Finish(ctx, run.ID, summary)
			}
			if err != nil {
				if !errors.Is(err, ErrLost) {
					f.t.Error(err)
				}
				return
			}
		}
	})
}

func (f *fake) Poll(_ context.Context, arrays []*Array) ([]Element, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.polls++
	if f.broken {
		return nil, errors.New("unable to contact the controller")
	}
	var all []Element
	for _, a := range arrays {
		for _, e := range f.elements[a.Name] {
			if !e.forget {
				all = append(all, e.Element)
			}
		}
	}
	return all, nil
}

// Ends knows what Poll has forgotten.
func (f *fake) Ends(_ context.Context, arrays []*Array) ([]Element, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	var all []Element
	for _, a := range arrays {
		for _, e := range f.elements[a.Name] {
			if e.Life == Over {
				all = append(all, e.Element)
			}
		}
	}
	return all, nil
}

func (f *fake) Cancel(_ context.Context, a *Array, elements ...int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, e := range f.elements[a.Name] {
		if e.Life != Over {
			e.cancel()
			e.Life, e.Reason = Over, WasCancelled
			n++
		}
	}
	return n, nil
}

// harm does something to a random worker.
func (f *fake) harm(random *rand.Rand, arrays map[string]*Array) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var living []*element
	for _, name := range f.submitted {
		for _, e := range f.elements[name] {
			if e.Life == Running {
				living = append(living, e)
			}
		}
	}
	if len(living) == 0 {
		return "nothing lives"
	}
	e := living[random.IntN(len(living))]
	switch random.IntN(4) {
	case 0: // it ends without a word
		e.cancel()
		e.Life, e.Reason = Over, "the node failed"
		return "killed"
	case 1: // and the scheduler forgets it
		e.cancel()
		e.Life, e.forget = Over, true
		return "forgotten"
	case 2: // it starts again elsewhere, while the old process runs on for a while
		old := e.cancel
		time.AfterFunc(20*time.Millisecond, old)
		e.Restart++
		f.start(arrays[e.Array], e)
		return "restarted"
	default:
		f.broken = true
		time.AfterFunc(30*time.Millisecond, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.broken = false
		})
		return "unreachable"
	}
}

// project makes a project with runs whose records are there.
func project(t *testing.T, n int) (*store.Store, string, []*launch.Job) {
	t.Helper()
	root := t.TempDir()
	runs, err := store.Open(context.Background(), root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runs.Close() })
	var jobs []*launch.Job
	var queue []*store.Run
	var labels []store.Label
	for i := range n {
		job := jobOf(root, i)
		run := &store.Run{ID: job.Run.ID, Experiment: "e", Cell: "c", Seed: job.Run.Seed, Dir: store.DirOf("e", job.Run.ID)}
		if err := run.SetSpec(job.Run.Spec); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job)
		queue = append(queue, run)
		labels = append(labels, store.Label{Experiment: "e", Cell: "c", Seed: run.Seed, Run: run.ID})
	}
	if err := runs.Enqueue(context.Background(), nil, queue, labels); err != nil {
		t.Fatal(err)
	}
	return runs, root, jobs
}

func cluster(runs *store.Store, root string, s Scheduler, workers int, say func(string)) (*Cluster, map[string]int) {
	ends := map[string]int{}
	return &Cluster{
		Root: root, Runs: runs, Scheduler: s, Template: Array{Workers: workers, Limit: time.Hour}, Every: 25 * time.Millisecond, Follow: 5 * time.Millisecond, Say: say,
		Watch: func(e launch.Event) {
			if e.End != nil && e.End.Outcome != launch.Stopped { // it continues
				ends[e.Job.Run.ID]++
			}
		},
	}, ends
}

// harms is what happens to workers and scheduler in a test.
var harms = cmp.Or(atoi(os.Getenv("LORALAB_HARMS")), 30)

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// Whatever happens to workers and scheduler, all runs are done once.
func TestClusterLosesNothing(t *testing.T) {
	runs, root, jobs := project(t, 40)
	f := &fake{t: t, elements: map[string][]*element{}, steps: 12}
	c, ends := cluster(runs, root, f, 6, func(text string) { t.Log(text) })
	stop, harmed := make(chan struct{}), map[string]int{}
	var harming sync.WaitGroup
	harming.Go(func() {
		random := rand.New(rand.NewPCG(3, 4))
		for range harms {
			select {
			case <-stop:
				return
			case <-time.After(40 * time.Millisecond):
			}
			arrays := map[string]*Array{}
			f.mu.Lock()
			names := append([]string{}, f.submitted...)
			f.mu.Unlock()
			for _, name := range names {
				a, err := ReadArray(ArrayDir(root, name))
				if err != nil {
					t.Error(err)
					return
				}
				arrays[name] = a
			}
			harmed[f.harm(random, arrays)]++
		}
	})
	totals, err := c.Run(context.Background(), jobs)
	close(stop)
	harming.Wait()
	f.wg.Wait()
	if err != nil || totals.Finished+totals.Failed != len(jobs) || totals.Stopped {
		t.Fatalf("%+v, %v", totals, err)
	}
	t.Logf("%d arrays, %d polls, %v; %d runs failed for killing workers", len(f.submitted), f.polls, harmed, totals.Failed)
	for _, job := range jobs {
		if ends[job.Run.ID] != 1 {
			t.Errorf("run %.12s ended %d times", job.Run.ID, ends[job.Run.ID])
		}
	}
	known, err := runs.Reconcile(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range known.Runs {
		if run.State == store.Done && (run.Summary == nil || run.Step != 12) || run.State != store.Done && run.State != store.Failed {
			t.Errorf("%s is %s at step %d: %v", run.Name(), run.State, run.Step, run.Damage)
		}
	}
}

// An apply that has ended leaves its workers, and the next one adopts them.
func TestClusterIsAdopted(t *testing.T) {
	runs, root, jobs := project(t, 8)
	f := &fake{t: t, elements: map[string][]*element{}, steps: 60}
	c, _ := cluster(runs, root, f, 2, nil)
	c.Template.Resources = "first"
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	totals, err := c.Run(ctx, jobs)
	if err != nil || !totals.Stopped {
		t.Fatalf("%+v, %v", totals, err)
	}
	var said strings.Builder
	c, _ = cluster(runs, root, f, 2, func(text string) { said.WriteString(text + "\n") })
	c.Template.Resources = "changed"
	totals, err = c.Run(context.Background(), jobs)
	f.wg.Wait()
	if err != nil || totals.Finished != len(jobs) {
		t.Fatalf("%+v, %v", totals, err)
	}
	if !strings.HasPrefix(said.String(), "watching 1 array of an earlier apply\nits workers have resources from before they were changed") {
		t.Errorf("it says:\n%s", &said)
	}
	if len(f.submitted) != 1 {
		t.Errorf("%d arrays were submitted", len(f.submitted))
	}
}

// After a cancel the next apply submits another array, once no worker lives.
func TestClusterAfterACancel(t *testing.T) {
	runs, root, jobs := project(t, 8)
	f := &fake{t: t, elements: map[string][]*element{}, steps: 60}
	c, _ := cluster(runs, root, f, 2, nil)
	c.Detach = true
	if totals, err := c.Run(context.Background(), jobs); err != nil || !totals.Stopped {
		t.Fatalf("%+v, %v", totals, err)
	}
	if n, err := Cancel(context.Background(), root, f); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	polls := f.polls
	var at int
	c, _ = cluster(runs, root, f, 2, func(text string) {
		if strings.HasPrefix(text, "submitted") {
			at = f.polls
		}
	})
	totals, err := c.Run(context.Background(), jobs)
	f.wg.Wait()
	if err != nil || totals.Finished != len(jobs) || len(f.submitted) != 2 || at != polls+1 {
		t.Errorf("%+v, %v, %d arrays, the second after %d answers", totals, err, len(f.submitted), at-polls)
	}
}

// An apply that was killed before it had submitted its array submits another one.
func TestClusterWasNotSubmitted(t *testing.T) {
	runs, root, jobs := project(t, 3)
	a := &Array{Name: newName(), Root: root, Made: now(), Workers: 2, Limit: time.Hour}
	if err := a.write(jobs); err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, elements: map[string][]*element{}, steps: 2}
	c, _ := cluster(runs, root, f, 2, func(text string) { t.Log(text) })
	totals, err := c.Run(context.Background(), jobs)
	f.wg.Wait()
	if err != nil || totals.Finished != len(jobs) || len(f.submitted) != 1 {
		t.Fatalf("%+v, %v, %d submitted", totals, err, len(f.submitted))
	}
}

// Workers that end at once end the apply, and not the cluster.
func TestClusterWithoutProgress(t *testing.T) {
	for name, forgets := range map[string]bool{"listed": false, "known to the accounting": true} {
		t.Run(name, func(t *testing.T) { testWithoutProgress(t, forgets) })
	}
}

func testWithoutProgress(t *testing.T, forgets bool) {
	runs, root, jobs := project(t, 3)
	f := &fake{t: t, elements: map[string][]*element{}, stillborn: true, forgets: forgets}
	c, _ := cluster(runs, root, f, 2, func(text string) { t.Log(text) })
	totals, err := c.Run(context.Background(), jobs)
	if err == nil || !strings.Contains(err.Error(), "2 arrays in a row have ended without a step") || !strings.Contains(fmt.Sprint(err), "no driver on this node") {
		t.Fatalf("%+v, %v", totals, err)
	}
	if len(f.submitted) != 2 {
		t.Errorf("%d arrays were submitted", len(f.submitted))
	}
	if want := map[bool]int{true: 2, false: 0}[forgets]; f.asked != want {
		t.Errorf("it was asked %d times how workers ended, want %d", f.asked, want)
	}
}

// Why workers ended is said in their own words where they have some, else with the last line
// of their log.
func TestWhyWorkersEnded(t *testing.T) {
	root := t.TempDir()
	a := &Array{Name: "a", Root: root, Workers: 6, Chunk: 4}
	if err := a.write(nil); err != nil {
		t.Fatal(err)
	}
	l := &live{Array: a, told: map[int]string{1: TimeOver}, reasons: map[int]string{
		0: Failed + " with exit code 127", 1: "it ended", 2: WasCancelled, 3: Failed + " with exit code 1", 5: Failed + " with exit code 127",
	}}
	for name, text := range map[string]string{
		"0.txt":   "loading\n/var/spool/slurmd/job00012/slurm_script: line 26: apptainer: not found\n",
		"2.txt":   "told to stop\n",
		"4+1.txt": strings.Repeat("x", 5000) + "\n/var/spool/slurmd/job00013/slurm_script: line 26: apptainer: not found\n\n",
	} {
		if err := os.WriteFile(filepath.Join(ArrayDir(root, "a"), "log", name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want := "it failed with exit code 1 (1), it failed with exit code 127: line 26: apptainer: not found (2), it was cancelled (1), its time was over (1)"
	if got := counted(l.inWords()); got != want {
		t.Errorf("%s\nnot %s", got, want)
	}
}

// failedBefore has a worker of an array called before claim a run and end it as failed.
func failedBefore(t *testing.T, root string, job *launch.Job, reason string) {
	t.Helper()
	at, err := store.OpenRun(root, store.DirOf("e", job.Run.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	if _, _, err := claim.Take(at, claim.State{}, claim.Worker{Array: "before", Nonce: claim.Nonce()}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := claim.Finish(at, 1, claim.End{How: claim.Failed, Reason: reason, By: claim.Nonce()}); err != nil {
		t.Fatal(err)
	}
}

// How a run ended before its array was made is no news, also when the array ends before a
// worker has begun with it.
func TestClusterTriesAgain(t *testing.T) {
	runs, root, jobs := project(t, 1)
	failedBefore(t, root, jobs[0], "diverged")
	f := &fake{t: t, elements: map[string][]*element{}, stillborn: true, once: true, steps: 2}
	c, _ := cluster(runs, root, f, 1, func(text string) { t.Log(text) })
	totals, err := c.Run(context.Background(), jobs)
	f.wg.Wait()
	if err != nil || totals.Finished != 1 || len(f.submitted) != 2 {
		t.Fatalf("%+v, %v, %d arrays", totals, err, len(f.submitted))
	}
}

// A run that has failed in an array whose other workers live is tried again by the next apply,
// which does not report the failure that it was started for.
func TestClusterRetriesWhatHasFailed(t *testing.T) {
	runs, root, jobs := project(t, 2)
	before := &Array{Name: "before", Root: root, Made: now(), Workers: 1, Limit: time.Hour}
	if err := before.write(jobs); err != nil {
		t.Fatal(err)
	}
	failedBefore(t, root, jobs[0], "no space left on device")
	e := &element{Element: Element{Array: "before", Life: Running, Node: "n"}}
	f := &fake{t: t, elements: map[string][]*element{"before": {e}}, steps: 2}
	f.start(before, e)
	c, _ := cluster(runs, root, f, 1, func(text string) { t.Log(text) })
	totals, err := c.Run(t.Context(), jobs)
	f.wg.Wait()
	if err != nil || totals.Finished != 2 || totals.Failed != 0 || len(f.submitted) != 1 {
		t.Fatalf("%+v, %v, %d arrays", totals, err, len(f.submitted))
	}
}

// A node on which two workers in a row have ended for no fault of a run gets none of the
// next array.
func TestClusterLeavesOutANode(t *testing.T) {
	runs, root, jobs := project(t, 3)
	f := &fake{t: t, elements: map[string][]*element{}, bad: true, steps: 2}
	var said []string
	c, _ := cluster(runs, root, f, 2, func(text string) { said = append(said, text) })
	totals, err := c.Run(context.Background(), jobs)
	f.wg.Wait()
	if err != nil || totals.Finished != len(jobs) || len(f.submitted) != 2 {
		t.Fatalf("%+v, %v, %d arrays", totals, err, len(f.submitted))
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{"a worker on bad has ended: no driver", "2 workers in a row ended so on bad: the next array leaves it out"} {
		if strings.Count(all, want) == 0 {
			t.Errorf("nobody says %q:\n%s", want, all)
		}
	}
}

// An apply that leaves its workers does so when there are some: what an array that has ended
// has left is submitted again, and what may not have been submitted is looked for.
func TestClusterDetaches(t *testing.T) {
	for _, test := range []struct {
		name      string
		fake      *fake
		before    string // what an apply before it has left: "", "over", "cancelled"
		submitted int
		says      string
		not       string
		err       string
	}{
		{name: "nothing before", submitted: 1, says: "submitted array"},
		{name: "an array without workers", before: "over", submitted: 1, says: "3 runs are left"},
		{name: "a cancelled array", before: "cancelled", submitted: 1, says: "3 runs are left"},
		{name: "a submission that was not taken up", fake: &fake{silent: 1}, submitted: 1, says: "was not submitted"},
		{name: "one that was", fake: &fake{silent: 1, submits: true}, submitted: 1, says: "submitted array", not: "was not submitted"},
		{name: "two that were not", fake: &fake{silent: 2}, not: "submitted array", err: "2 arrays in a row could not be submitted: the scheduler does not answer: sbatch"},
		{name: "no answers", fake: &fake{broken: true}, submitted: 1, err: "it is not known whether anybody works"},
	} {
		t.Run(test.name, func(t *testing.T) {
			runs, root, jobs := project(t, 3)
			f := test.fake
			if f == nil {
				f = &fake{}
			}
			f.t, f.elements, f.steps = t, map[string][]*element{}, 1e6
			if test.before != "" {
				a := &Array{Name: "before", Root: root, Made: now(), Workers: 2, Limit: time.Hour}
				if err := a.write(jobs); err != nil {
					t.Fatal(err)
				}
				if test.before == "cancelled" {
					if n, err := Cancel(t.Context(), root, f); n != 0 || err != nil {
						t.Fatalf("cancelled %d, %v", n, err)
					}
				}
			}
			var said strings.Builder
			c, _ := cluster(runs, root, f, 2, func(text string) { said.WriteString(text + "\n") })
			c.Detach = true
			totals, err := c.Run(t.Context(), jobs)
			if test.err == "" && (err != nil || !totals.Stopped) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("%+v, %v", totals, err)
			}
			if len(f.submitted) != test.submitted || !strings.Contains(said.String(), test.says) || test.not != "" && strings.Contains(said.String(), test.not) {
				t.Errorf("%d arrays were submitted:\n%s", len(f.submitted), &said)
			}
			if n, err := Cancel(t.Context(), root, f); n != test.submitted || err != nil {
				t.Errorf("cancelled %d, %v", n, err)
			}
			f.wg.Wait()
		})
	}
}

// An apply does not submit again what somebody has cancelled under it, by this program or by
// the commands of the scheduler.
func TestClusterIsCancelled(t *testing.T) {
	for _, how := range []string{"runner cancel", "the scheduler", "before they began"} {
		t.Run(how, func(t *testing.T) {
			runs, root, jobs := project(t, 3)
			f := &fake{t: t, elements: map[string][]*element{}, steps: 1e6}
			c, _ := cluster(runs, root, f, 2, func(text string) { t.Log(text) })
			var once sync.Once
			c.Say = func(string) {
				once.Do(func() {
					if how == "runner cancel" {
						if n, err := Cancel(t.Context(), root, f); n != 1 || err != nil {
							t.Errorf("cancelled %d, %v", n, err)
						}
						return
					}
					if _, err := f.Cancel(t.Context(), &Array{Name: f.submitted[0]}); err != nil {
						t.Error(err)
					}
					if how == "before they began" {
						f.elements[f.submitted[0]] = []*element{{Element: Element{Array: f.submitted[0], Index: Others, Life: Over, Reason: WasCancelled}}}
					}
				})
			}
			totals, err := c.Run(t.Context(), jobs)
			f.wg.Wait()
			var cancelled *CancelledError
			if !errors.As(err, &cancelled) || !strings.Contains(err.Error(), "was cancelled, and 3 runs are left") || !totals.Stopped || len(f.submitted) != 1 {
				t.Errorf("%+v, %v, %d arrays", totals, err, len(f.submitted))
			}
		})
	}
}

// Why all workers wait is said when that has lasted, and once.
func TestWaitingIsSaid(t *testing.T) {
	var said []string
	w := &watching{Cluster: &Cluster{Say: func(text string) { said = append(said, text) }}}
	full := []Element{{Life: Waiting, Reason: "Resources"}, {Life: Waiting, Reason: "Resources"}, {Life: Over}}
	for _, elements := range [][]Element{
		full, full, full, {{Life: Waiting, Reason: "Resources"}, {Life: Running}}, full, full, {{Life: Waiting, Reason: "JobHeldAdmin"}}, nil,
	} {
		w.sayWaiting(elements)
	}
	want := []string{"all 2 workers wait for a node: Resources (2)", "all 2 workers wait for a node: Resources (2)", "1 worker waits for a node: JobHeldAdmin (1)"}
	if !slices.Equal(said, want) {
		t.Errorf("it says %q", said)
	}
}

// That a scheduler does not answer is said once, and that it does again.
func TestSilenceOfTheSchedulerIsSaid(t *testing.T) {
	runs, root, jobs := project(t, 3)
	f := &fake{t: t, elements: map[string][]*element{}, broken: true, steps: 1e6}
	var said []string
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c, _ := cluster(runs, root, f, 2, nil)
	c.Say = func(text string) {
		said = append(said, text)
		switch len(said) {
		case 2:
			f.mu.Lock()
			defer f.mu.Unlock()
			f.broken = false
		case 3:
			stop()
		}
	}
	if totals, err := c.Run(ctx, jobs); err != nil || !totals.Stopped {
		t.Fatalf("%+v, %v", totals, err)
	}
	if _, err := Cancel(t.Context(), root, f); err != nil {
		t.Fatal(err)
	}
	f.wg.Wait()
	if len(said) != 3 || !strings.HasPrefix(said[1], "it is not known what runs: ") || said[2] != "it is known again what runs" {
		t.Errorf("it says %q", said)
	}
}

// A scheduler that does not answer is asked less and less often.
func TestBackOff(t *testing.T) {
	wait, usual := 30*time.Second, 30*time.Second
	for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute, 5 * time.Minute} {
		if wait = backOff(wait, usual, true); wait != want {
			t.Errorf("it waits %v, want %v", wait, want)
		}
	}
	if wait = backOff(wait, usual, false); wait != usual {
		t.Errorf("after an answer it waits %v", wait)
	}
}
