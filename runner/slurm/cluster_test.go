package slurm

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loralab/loralab/internal/slurmtest"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/pilot"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Cases wait for Slurm most of the time, so there may be more than processors.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// A real Slurm, and what the client makes of it. The first cases run side by side; those
// that stop the controller, which all depend on, follow one after another.
func TestCluster(t *testing.T) {
	c := slurmtest.Start(t)
	c.Use(t)
	t.Run("side by side", func(t *testing.T) {
		for _, test := range []struct {
			name string
			run  func(*testing.T, *slurmtest.Cluster)
		}{
			{"Ends", testEnds},
			{"NoLog", testNoLog},
			{"Places", testPlaces},
			{"Chunks", testChunks},
			{"Refused", testRefused},
			{"Cancel", testCancel},
			{"CancelWaiting", testCancelWaiting},
			{"Requeue", testRequeue},
			{"Preempted", testPreempted},
			{"Purged", testPurged},
			{"NodeKilled", testNodeKilled},
			{"InsideAJob", testInsideAJob},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				test.run(t, c)
			})
		}
	})
	t.Run("SubmittedAllTheSame", func(t *testing.T) { testSubmittedAllTheSame(t, c) })
	t.Run("Frozen", func(t *testing.T) { testFrozen(t, c) })
	t.Run("ControllerKilled", func(t *testing.T) { testControllerKilled(t, c) })
	t.Run("NumberOfAnother", func(t *testing.T) { testNumberOfAnother(t, c) })
}

// Accounting says how workers ended that squeue has forgotten, and nothing depends on it.
func TestAccounting(t *testing.T) {
	if os.Getenv("LORALAB_SLURM_ALL") == "" {
		t.Skip("needs a database; see: make test-slurm")
	}
	c := slurmtest.StartAccounted(t)
	c.Use(t)
	s := newSubmission(t, 18, 16, `case $i in 16) exit 7 ;; 17) kill -KILL $$ ;; esac`).submit()
	s.until("squeue to have forgotten it", gone)
	var reasons map[int]string
	slurmtest.Wait(t, "the accounting to know all ends", func() bool {
		all, err := s.client.Ends(t.Context(), []*pilot.Array{s.array})
		if err != nil {
			t.Fatal(err)
		}
		reasons = map[int]string{}
		for _, e := range all {
			if e.Array != s.array.Name || e.Life != pilot.Over || e.Node == "" {
				t.Fatalf("%+v", e)
			}
			reasons[e.Index] = e.Reason
		}
		return len(reasons) == 18
	})
	if reasons[0] != "it ended" || reasons[16] != "it failed with exit code 7" || reasons[17] != "it was ended by signal 9, as for too much memory" {
		t.Errorf("%v", reasons)
	}
	// Without slurmdbd workers are submitted, looked at and cancelled as before.
	c.KillAccounting()
	if _, err := s.client.Ends(t.Context(), []*pilot.Array{s.array}); err == nil {
		t.Error("sacct answers without slurmdbd")
	}
	next := newSubmission(t, 1, 0, "exec sleep 1000").submit()
	next.until("it to run", one(pilot.Running))
	if _, err := next.client.Cancel(t.Context(), next.array); err != nil {
		t.Error(err)
	}
}

// submission is an array of a test, and how it was submitted.
type submission struct {
	t      *testing.T
	client *Client
	array  *pilot.Array
	dir    string // of a file for each element
}

// newSubmission is an array whose elements run lines of shell, with options of sbatch. The
// lines have the number of the element in the array in $i.
func newSubmission(t *testing.T, workers, chunk int, lines string, options ...string) *submission {
	s := &submission{t: t, dir: t.TempDir()}
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	s.array = &pilot.Array{Name: fmt.Sprintf("%s-%d", name, time.Now().UnixNano()), Workers: workers, Chunk: chunk}
	s.client = &Client{
		Patience: 30 * time.Second, Look: time.Minute,
		Script: func(a *pilot.Array, c Chunk) (string, error) {
			all := append([]string{
				"--job-name=" + c.Name, fmt.Sprintf("--array=0-%d", c.Count-1), "--output=" + s.dir + "/%A_%a.txt",
				"--open-mode=append", "--requeue", "--time=5", "--chdir=/",
			}, options...)
			return "#!/bin/sh\n#SBATCH " + strings.Join(all, "\n#SBATCH ") + fmt.Sprintf("\ni=$((SLURM_ARRAY_TASK_ID + %d))\ncd '%s'\n", c.First, s.dir) + lines + "\n", nil
		},
	}
	t.Cleanup(func() {
		if _, err := s.client.Cancel(context.Background(), s.array); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *submission) submit() *submission {
	s.t.Helper()
	if err := s.client.Submit(s.t.Context(), s.array); err != nil {
		s.t.Fatal(err)
	}
	return s
}

// elements are those of the array that Slurm knows, in their order.
func (s *submission) elements() ([]pilot.Element, error) {
	all, err := s.client.Poll(s.t.Context(), []*pilot.Array{s.array})
	for _, e := range all {
		if e.Array != s.array.Name {
			s.t.Errorf("asked of %s, got %+v", s.array.Name, e)
		}
	}
	slices.SortFunc(all, func(a, b pilot.Element) int { return cmp.Compare(a.Index, b.Index) })
	return all, err
}

// until waits until the elements are so.
func (s *submission) until(what string, so func([]pilot.Element) bool) []pilot.Element {
	s.t.Helper()
	var all []pilot.Element
	slurmtest.Wait(s.t, what, func() bool {
		var err error
		if all, err = s.elements(); err != nil {
			s.t.Fatal(err)
		}
		return so(all)
	})
	return all
}

// file waits for a file that an element writes.
func (s *submission) file(name string) {
	s.t.Helper()
	slurmtest.Wait(s.t, "the file "+name, func() bool {
		_, err := os.Stat(filepath.Join(s.dir, name))
		return err == nil
	})
}

func one(life pilot.Life) func([]pilot.Element) bool {
	return func(all []pilot.Element) bool { return len(all) == 1 && all[0].Life == life }
}

func gone(all []pilot.Element) bool { return len(all) == 0 }

// Elements that end are over with the reason; the others are not.
func testEnds(t *testing.T, c *slurmtest.Cluster) {
	s := newSubmission(t, 3, 0, `case $i in 0) exit 0 ;; 1) exit 7 ;; 2) kill -KILL $$ ;; esac`).submit()
	reasons := map[int]string{}
	s.until("the ends", func(all []pilot.Element) bool {
		for _, e := range all {
			if e.Life == pilot.Over {
				reasons[e.Index] = e.Reason
			}
		}
		return len(reasons) == 3
	})
	if reasons[0] != "it ended" || reasons[1] != "it failed with exit code 7" || reasons[2] != "it was ended by signal 9, as for too much memory" {
		t.Errorf("%v", reasons)
	}
}

// A script whose log cannot be written does not start.
func testNoLog(t *testing.T, c *slurmtest.Cluster) {
	s := newSubmission(t, 1, 0, "true", "--output=/nowhere/log.txt").submit()
	var end pilot.Element
	s.until("its end", func(all []pilot.Element) bool {
		for _, e := range all {
			end = e
		}
		return end.Life == pilot.Over
	})
	if !strings.HasPrefix(end.Reason, "it could not be started") {
		t.Errorf("%+v", end)
	}
}

// A project may be in a directory of any name: there the worker runs, and there is its log.
func testPlaces(t *testing.T, c *slurmtest.Cluster) {
	root := filepath.Join(t.TempDir(), `a "project" of #1: it's 100% $HOME %a`)
	s := newSubmission(t, 1, 0, "")
	s.array.Root = root
	if err := os.MkdirAll(filepath.Join(pilot.ArrayDir(root, s.array.Name), "log"), 0o777); err != nil {
		t.Fatal(err)
	}
	runner := filepath.Join(root, "runner")
	if err := os.WriteFile(runner, []byte("#!/bin/sh\npwd\nprintf '%s\\n' \"$@\" done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	job := Job{Resources: &experiment.Resources{Time: "5m"}, Runner: runner}
	s.client.Script = job.Script
	s.submit()
	var text []byte
	slurmtest.Wait(t, "the log", func() bool {
		text, _ = os.ReadFile(filepath.Join(pilot.ArrayDir(root, s.array.Name), "log", "0.txt"))
		return strings.HasSuffix(string(text), "done\n")
	})
	lines := strings.Split(string(text), "\n")
	if lines[0] != root || lines[4] != pilot.ArrayDir(root, s.array.Name) {
		t.Errorf("%s", text)
	}
}

// An array that is larger than the site allows is several, each submitted once; an element
// has one number throughout.
func testChunks(t *testing.T, c *slurmtest.Cluster) {
	s := newSubmission(t, 40, 0, "exec sleep 1000", "--hold")
	most, err := s.client.MaxArray(t.Context())
	if err != nil || most != slurmtest.MaxArraySize {
		t.Fatalf("MaxArraySize is %d, %v", most, err)
	}
	s.array.Chunk = most
	s.submit()
	all, err := s.elements()
	if err != nil || len(all) != 40 {
		t.Fatalf("%d elements, %v", len(all), err)
	}
	asked := slices.DeleteFunc(c.Calls("squeue"), func(args string) bool { return !strings.Contains(args, s.array.Name) })
	if len(asked) != 1 {
		t.Errorf("squeue was asked for the chunks %d times", len(asked))
	}
	for i, e := range all {
		if e.Index != i || e.Life != pilot.Waiting || e.Reason != "JobHeldUser" || e.Restart != 0 {
			t.Errorf("element %d: %+v", i, e)
		}
	}
	if _, err := s.client.Cancel(t.Context(), s.array, 39, 0); err != nil {
		t.Error(err)
	}
	s.until("38 to be left", func(all []pilot.Element) bool {
		n := 0
		for _, e := range all {
			if e.Life != pilot.Over {
				n++
			}
			if e.Life != pilot.Over && (e.Index == 0 || e.Index == 39) {
				n = -100
			}
		}
		return n == 38
	})
}

// A site refuses with its own words, which the user reads, and nothing is submitted.
func testRefused(t *testing.T, c *slurmtest.Cluster) {
	for option, words := range map[string]string{
		"--account=" + slurmtest.Refused: slurmtest.RefusedWords,
		"--partition=nowhere":            "invalid partition specified: nowhere",
		"--gres=gpu:3":                   "Requested node configuration is not available", // which squeue lists as failed
		"--mem=99G":                      "Memory specification can not be satisfied",
		"--array=0-100":                  "Invalid job array specification",
		"--nonsense=1":                   "unrecognized option '--nonsense=1'",
	} {
		s := newSubmission(t, 1, 0, "true", option)
		err := s.client.Submit(t.Context(), s.array)
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(refused.Text, words) || strings.Contains(refused.Text, "sbatch") {
			t.Errorf("%s: %v", option, err)
		}
		all, err := s.elements()
		if err != nil || slices.ContainsFunc(all, func(e pilot.Element) bool {
			return e.Life != pilot.Over || e.Reason != "no node has what it asks for (BadConstraints)"
		}) {
			t.Errorf("%s: %+v, %v", option, all, err)
		}
	}
}

// A worker that is cancelled gets SIGTERM, and is over when it has ended.
func testCancel(t *testing.T, c *slurmtest.Cluster) {
	s := newSubmission(t, 1, 0, `trap 'touch told; exit 75' TERM; touch runs; while :; do sleep 0.1; done`).submit()
	s.file("runs")
	all := s.until("it to run", one(pilot.Running))
	if all[0].Node == "" || !strings.Contains(all[0].Job, "_0") {
		t.Errorf("%+v", all[0])
	}
	if _, err := s.client.Cancel(t.Context(), s.array); err != nil {
		t.Fatal(err)
	}
	s.file("told")
	reason := ""
	s.until("its end", func(all []pilot.Element) bool {
		for _, e := range all {
			if e.Life == pilot.Over {
				reason = e.Reason
			}
		}
		return len(all) == 0 || reason != ""
	})
	if reason != "" && reason != "it was cancelled" {
		t.Errorf("it ended because %q", reason)
	}
	if _, err := s.client.Cancel(t.Context(), s.array); err != nil {
		t.Errorf("cancelling it again: %v", err)
	}
}

// Workers that wait are cancelled, and then over, whether or not one of them had begun.
func testCancelWaiting(t *testing.T, c *slurmtest.Cluster) {
	s := newSubmission(t, 3, 0, "true", "--hold").submit()
	if n, err := s.client.Cancel(t.Context(), s.array); n != 3 || err != nil {
		t.Errorf("cancelled %d, %v", n, err)
	}
	for range 2 {
		all, err := s.elements()
		for _, e := range all {
			if e.Life != pilot.Over || !strings.HasPrefix(e.Reason, pilot.WasCancelled) {
				t.Errorf("%+v", e)
			}
		}
		if err != nil || len(all) == 0 {
			t.Errorf("%+v, %v", all, err)
		}
		if n, err := s.client.Cancel(t.Context(), s.array); n != 0 || err != nil {
			t.Errorf("cancelled %d again, %v", n, err)
		}
	}
}

// An element that is requeued is not over; it starts again with a higher count.
func testRequeue(t *testing.T, c *slurmtest.Cluster) {
	s := newSubmission(t, 2, 0, `touch "runs$i-${SLURM_RESTART_COUNT:-0}"; exec sleep 1000`).submit()
	s.file("runs0-0")
	s.file("runs1-0")
	all := s.until("both to run", func(all []pilot.Element) bool {
		return len(all) == 2 && all[0].Life == pilot.Running && all[1].Life == pilot.Running
	})
	c.Do(t, "scontrol", "requeue", all[1].Job)
	all = s.until("the second to be counted", func(all []pilot.Element) bool {
		for _, e := range all {
			if e.Life == pilot.Over {
				t.Errorf("over: %+v", e)
			}
		}
		return len(all) == 2 && all[1].Restart == 1
	})
	if all[0].Restart != 0 || all[0].Life != pilot.Running {
		t.Errorf("the first: %+v", all[0])
	}
	s.file("runs1-1")
}

// A job of a partition with precedence takes the place of a worker, which starts again.
func testPreempted(t *testing.T, c *slurmtest.Cluster) {
	s := newSubmission(t, 1, 0, `touch "runs${SLURM_RESTART_COUNT:-0}"; exec sleep 1000`, "--nodelist=n1", "--exclusive").submit()
	s.file("runs0")
	s.until("it to run", one(pilot.Running))
	taker := newSubmission(t, 1, 0, `touch runs; exec sleep 1000`, "--partition=hi", "--nodelist=n1", "--exclusive").submit()
	taker.file("runs")
	s.until("it to wait again", func(all []pilot.Element) bool {
		if len(all) != 1 || all[0].Life == pilot.Over {
			t.Fatalf("%+v", all)
		}
		return all[0].Restart == 1 && all[0].Life == pilot.Waiting
	})
	if _, err := taker.client.Cancel(t.Context(), taker.array); err != nil {
		t.Fatal(err)
	}
	s.file("runs1")
}

// Slurm forgets what has ended. An answer without an element is one, and no error. A site
// without accounting is asked for it once.
func testPurged(t *testing.T, c *slurmtest.Cluster) {
	s := newSubmission(t, 1, 0, "touch ran").submit()
	s.file("ran")
	s.until("it to be forgotten", gone)
	for range 2 {
		_, _ = s.client.Ends(t.Context(), []*pilot.Array{s.array})
	}
	asked := slices.DeleteFunc(c.Calls("sacct"), func(args string) bool { return !strings.Contains(args, s.array.Name) })
	if len(asked) != 1 {
		t.Errorf("sacct was asked %d times", len(asked))
	}
}

// The jobs of a node whose daemon was killed start again elsewhere, while the processes of
// the first start live on.
func testNodeKilled(t *testing.T, c *slurmtest.Cluster) {
	s := newSubmission(t, 1, 0, `echo $$ >"pid${SLURM_RESTART_COUNT:-0}"; exec sleep 1000`, "--nodelist=n3").submit()
	s.file("pid0")
	s.until("it to run", one(pilot.Running))
	c.KillNode(3)
	s.until("it to be restarted", func(all []pilot.Element) bool {
		if len(all) != 1 || all[0].Life == pilot.Over {
			t.Fatalf("%+v", all)
		}
		return all[0].Restart == 1
	})
	pid, err := os.ReadFile(filepath.Join(s.dir, "pid0"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); err != nil {
		t.Errorf("the first process: %v", err)
	}
	c.StartNode(3)
	s.file("pid1")
}

// Inside a job sbatch takes options from the environment; a submission has none of them.
func testInsideAJob(t *testing.T, c *slurmtest.Cluster) {
	env := Environment(append(os.Environ(), "SBATCH_PARTITION=nowhere", "SLURM_JOB_ID=1", "SLURM_CONF=/etc/slurm.conf", "SQUEUE_FORMAT=%i", "SLURM_CPUS_PER_TASK=4"))
	for _, e := range env {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "SBATCH_") || strings.HasPrefix(name, "SQUEUE_") || strings.HasPrefix(name, "SLURM_") && name != "SLURM_CONF" {
			t.Errorf("%s is left", e)
		}
	}
	if !slices.Contains(env, "SLURM_CONF=/etc/slurm.conf") {
		t.Error("SLURM_CONF is not left")
	}
}

// An sbatch that fails may have submitted. It is asked, and not submitted twice.
func testSubmittedAllTheSame(t *testing.T, c *slurmtest.Cluster) {
	for name, shell := range map[string]string{
		"it fails after it":  `"$program" "$@"; echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1`,
		"it is killed after": `"$program" "$@" >/dev/null; kill -KILL $$`,
		"it hangs after":     `"$program" "$@"; exec sleep 1000`,
	} {
		t.Run(name, func(t *testing.T) {
			c.Fault("sbatch", shell)
			defer c.Heal("sbatch")
			s := newSubmission(t, 2, 0, "exec sleep 1000")
			s.client.Patience = 3 * time.Second
			before := len(c.Calls("sbatch"))
			s.submit()
			if n := len(c.Calls("sbatch")) - before; n != 1 {
				t.Errorf("%d calls of sbatch", n)
			}
			if all, err := s.elements(); err != nil || len(all) != 2 {
				t.Errorf("%+v, %v", all, err)
			}
		})
	}
	// It fails before it: nothing is there, and that is certain.
	c.Fault("sbatch", "echo 'sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)' >&2; exit 1")
	defer c.Heal("sbatch")
	s := newSubmission(t, 1, 0, "true")
	s.client.Look = 2 * time.Second
	if err := s.client.Submit(t.Context(), s.array); err == nil || !strings.Contains(err.Error(), "Unable to contact slurm controller") {
		t.Errorf("%v", err)
	}
}

// A controller that takes a submission and answers nothing does it later. The submission is
// found when the controller answers again.
func testFrozen(t *testing.T, c *slurmtest.Cluster) {
	s := newSubmission(t, 1, 0, "exec sleep 1000")
	s.client.Patience = 4 * time.Second
	c.FreezeController()
	thawed := time.AfterFunc(6*time.Second, c.ThawController)
	defer thawed.Stop()
	before := len(c.Calls("sbatch"))
	s.submit()
	if n := len(c.Calls("sbatch")) - before; n != 1 {
		t.Errorf("%d calls of sbatch", n)
	}
	s.until("it to be there once", func(all []pilot.Element) bool { return len(all) == 1 && all[0].Life != pilot.Over })
}

// While the controller is away nothing is known; then it is as before.
func testControllerKilled(t *testing.T, c *slurmtest.Cluster) {
	s := newSubmission(t, 1, 0, "touch runs; exec sleep 1000").submit()
	s.file("runs")
	s.until("it to run", one(pilot.Running))
	time.Sleep(6 * time.Second) // it writes its state down every five
	c.KillController()
	all, err := s.elements()
	if !errors.Is(err, pilot.ErrUnknown) || len(all) > 0 {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := s.client.Cancel(t.Context(), s.array); !errors.Is(err, pilot.ErrUnknown) {
		t.Errorf("cancelling: %v", err)
	}
	c.StartController()
	if all := s.until("it to run", one(pilot.Running)); all[0].Restart != 0 {
		t.Errorf("%+v", all)
	}
}

// A controller that is killed soon after a submission forgets it, and gives its number to
// the next. Only the name tells.
func testNumberOfAnother(t *testing.T, c *slurmtest.Cluster) {
	forget := c.State()
	lost := newSubmission(t, 1, 0, "exec sleep 1000", "--hold").submit()
	before, err := lost.elements()
	if err != nil || len(before) != 1 {
		t.Fatalf("%+v, %v", before, err)
	}
	forget()
	var next *submission
	var after []pilot.Element
	for range 100 { // numbers that the controller had not written down come first
		next = newSubmission(t, 1, 0, "exec sleep 1000", "--hold").submit()
		if after, err = next.elements(); err != nil || len(after) != 1 {
			t.Fatalf("%+v, %v", after, err)
		}
		if after[0].Job == before[0].Job {
			break
		}
	}
	if after[0].Job != before[0].Job {
		t.Fatalf("the number %s was not given again: %+v", before[0].Job, after)
	}
	if known, err := lost.elements(); err != nil || len(known) > 0 {
		t.Errorf("what is forgotten is %+v, %v", known, err)
	}
	if _, err := lost.client.Cancel(t.Context(), lost.array); err != nil {
		t.Error(err)
	}
	if after, err := next.elements(); err != nil || len(after) != 1 || after[0].Life == pilot.Over {
		t.Errorf("cancelling the first has ended the second: %+v, %v", after, err)
	}
}
