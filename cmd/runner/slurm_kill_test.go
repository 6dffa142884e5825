package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/internal/slurmtest"
	"github.com/loralab/loralab/runner/claim"
)

// defaultSlurmKills is how much harm TestSlurmKilled does. LORALAB_SLURM_KILLS=N asks for
// another number, LORALAB_KILL_SEED=N for the same kinds again, and
// LORALAB_SLURM_ENGINE=real for the engine that trains.
const defaultSlurmKills = 8

// TestSlurmKilled does harm to everything that takes part in an apply on a cluster:
// runner, workers, engines, node daemons and the controller are killed, frozen and started
// again at random moments. All runs are done then, with the weights of a local apply, and
// with the same table.
func TestSlurmKilled(t *testing.T) {
	engine, err := exec.LookPath("runner-engine")
	if os.Getenv("LORALAB_SLURM_ENGINE") == "real" {
		engine = realEngine(t)
	} else if err != nil {
		t.Fatal(err)
	}
	kills, seed := killing(t, "LORALAB_SLURM_KILLS", defaultSlurmKills)
	p := newVictim(t, engine, "slurm_killed")
	if os.Getenv("LORALAB_SLURM_ENGINE") == "real" {
		seeds := "1, 2, 3, 4, 5, 6"
		p.change(seeds, seeds+", 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20") // 60 runs
	}
	p.apply(nil)
	want, table := p.digests(), p.read("report/slurm_killed/table.csv")
	p.clear()

	c := slurmtest.Start(t)
	first, rest, _ := strings.Cut(os.Getenv("PATH"), ":")
	p.env = append(p.env, "PATH="+first+":"+c.Bin()+":"+rest, "SLURM_CONF="+c.Config(), "TEST_TIME=30ms",
		"LORALAB_POLL=1s", "LORALAB_LOOK=200ms", "LORALAB_BEAT=500ms", "LORALAB_SILENT=4s")
	h := &harmer{victim: p, cluster: c, random: rand.New(rand.NewPCG(seed, 0)), done: map[string]int{}}
	h.disturb(kills, func() {
		if diff := differ(want, p.digests()); diff != "" {
			t.Fatal(diff)
		}
	})
	if diff := differ(want, p.digests()); diff != "" {
		t.Error(diff)
	}
	if got := p.read("report/slurm_killed/table.csv"); got != table {
		t.Errorf("the table is\n%s\nand of a local apply\n%s", got, table)
	}
}

// disturb applies and does harm, until all of it was done and an apply has ended well. Where
// all is done before, it checks that, and begins from nothing.
func (h *harmer) disturb(kills int, whole func()) {
	applies := 0
	for left := kills; ; {
		applies++
		a := h.start()
		for left > 0 {
			moment := time.After(time.Duration(200+h.random.IntN(900)) * time.Millisecond)
			select {
			case <-a.ended:
			case <-moment:
			}
			if a.over() {
				break
			}
			if h.harm(a) {
				left--
			}
			h.cluster.ResumeNodes()
		}
		for !a.over() {
			select {
			case <-a.ended:
			case <-time.After(2 * time.Second):
				h.cluster.ResumeNodes()
			}
		}
		h.heal()
		if a.err == nil && left == 0 {
			break
		}
		if a.err == nil { // all was done before the last kill
			whole()
			h.clear()
		}
		if applies > 20*kills+20 {
			h.t.Fatalf("it has no end: %s", a.out.String())
		}
	}
	for _, what := range slices.Sorted(maps.Keys(h.done)) {
		h.t.Logf("%2d × %s", h.done[what], what)
	}
	h.t.Logf("%d applies, %d sbatch, %d squeue, %d scancel", applies, len(h.cluster.Calls("sbatch")), len(h.cluster.Calls("squeue")), len(h.cluster.Calls("scancel")))
}

// TestSlurmKilledSearch does harm to two searches on a cluster, whose sampler and pruner
// learn from what ended before. Each trial is there once then, and its point is what the
// sampler gives for what its file says it had seen.
func TestSlurmKilledSearch(t *testing.T) {
	engine, err := exec.LookPath("runner-engine")
	if err != nil {
		t.Fatal(err)
	}
	kills, seed := killing(t, "LORALAB_SLURM_KILLS", 3)
	p := newVictim(t, engine, "slurm_search_killed")
	c := slurmtest.Start(t)
	first, rest, _ := strings.Cut(os.Getenv("PATH"), ":")
	p.env = append(p.env, "PATH="+first+":"+c.Bin()+":"+rest, "SLURM_CONF="+c.Config(), "TEST_TIME=30ms",
		"LORALAB_POLL=1s", "LORALAB_LOOK=200ms", "LORALAB_BEAT=500ms", "LORALAB_SILENT=4s", "LORALAB_IDLE=3s")
	h := &harmer{victim: p, cluster: c, random: rand.New(rand.NewPCG(seed, 0)), done: map[string]int{}}
	whole := func() {
		cmd := exec.Command("replay", p.experiment+".cue") // of TestMain
		cmd.Dir, cmd.Env = p.dir, p.env
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Count(string(out), " 7 trials") != 2 {
			t.Errorf("asking again: %v\n%s", err, out)
		}
		t.Logf("%s", bytes.TrimSpace(out))
		for _, args := range [][]string{{"plan", "--detailed-exitcode"}, {"search", "best"}, {"search", "trials"}, {"status"}} {
			if args[0] != "status" {
				args = append(args, p.experiment+".cue")
			}
			cmd := exec.Command(p.runner, args...)
			cmd.Dir, cmd.Env = p.dir, p.env
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v: %v\n%s", args, err, out)
			}
		}
	}
	h.disturb(kills, whole)
	whole()
}

// slurmVictim makes a project with a cluster, and what a local apply finds there.
func slurmVictim(t *testing.T, env ...string) (h *harmer, want map[string]string) {
	t.Helper()
	if os.Getenv("LORALAB_SLURM_ALL") == "" {
		t.Skip("takes minutes; see: make test-slurm")
	}
	engine, err := exec.LookPath("runner-engine")
	if err != nil {
		t.Fatal(err)
	}
	p := newVictim(t, engine, "slurm_killed")
	p.apply(nil)
	want = p.digests()
	p.clear()
	c := slurmtest.Start(t)
	first, rest, _ := strings.Cut(os.Getenv("PATH"), ":")
	p.env = append(append(p.env, "PATH="+first+":"+c.Bin()+":"+rest, "SLURM_CONF="+c.Config(),
		"LORALAB_POLL=1s", "LORALAB_LOOK=200ms", "LORALAB_BEAT=500ms"), env...)
	return &harmer{victim: p, cluster: c, done: map[string]int{}}, want
}

// ends counts how generations of all runs ended.
func (h *harmer) ends() map[string]int {
	h.t.Helper()
	files, err := filepath.Glob(filepath.Join(h.dir, "runs", h.experiment, "*", "generations", "*.end"))
	if err != nil {
		h.t.Fatal(err)
	}
	all := map[string]int{}
	for _, file := range files {
		var end claim.End
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &end)
		}
		if err != nil {
			h.t.Fatal(err)
		}
		all[string(end.How)]++
	}
	return all
}

// Workers stop before their time is over, and others continue at their checkpoints.
func TestSlurmTimeLimit(t *testing.T) {
	h, want := slurmVictim(t, "TEST_TIME=1s")
	h.change(`time: "10m"`, `time: "1m"`)
	a := h.start()
	<-a.ended
	if diff := differ(want, h.digests()); a.err != nil || diff != "" {
		t.Fatalf("%v %s\n%s", a.err, diff, a.out.String())
	}
	ends := h.ends()
	t.Logf("generations: %v; %d sbatch, %d squeue", ends, len(h.cluster.Calls("sbatch")), len(h.cluster.Calls("squeue")))
	if text := a.out.String(); !strings.Contains(text, " left: its time was over (") || strings.Contains(text, "exit code") {
		t.Errorf("why arrays have ended is not said:\n%s", text)
	}
	if ends["stopped"] == 0 || ends["broken"] > 0 || ends["done"] != len(want) {
		t.Errorf("generations ended so: %v", ends)
	}
}

// A job of a higher partition takes the nodes of the workers, which continue afterwards.
func TestSlurmPreemption(t *testing.T) {
	h, want := slurmVictim(t, "TEST_TIME=300ms")
	a := h.start()
	slurmtest.Wait(t, "workers are at work", func() bool { return len(h.processes("work\x00--first")) == 3 || a.over() })
	time.Sleep(2 * time.Second)
	h.cluster.Do(t, "sbatch", "--partition=hi", "--nodes=3", "--exclusive", "--wrap=sleep 5", "--output=/dev/null")
	slurmtest.Wait(t, "a worker was stopped", func() bool { return h.ends()["stopped"] > 0 || a.over() })
	<-a.ended
	if diff := differ(want, h.digests()); a.err != nil || diff != "" {
		t.Fatalf("%v %s\n%s", a.err, diff, a.out.String())
	}
	ends := h.ends()
	t.Logf("generations: %v; %d sbatch, %d squeue", ends, len(h.cluster.Calls("sbatch")), len(h.cluster.Calls("squeue")))
	if ends["stopped"] == 0 || ends["done"] != len(want) {
		t.Errorf("generations ended so: %v", ends)
	}
}

// A node is lost, with a worker that runs on when Slurm has started its element elsewhere
// and another has done its run: it changes nothing. So it is when its engine has done the run
// meanwhile, and the worker was stopped before it could say so.
func TestSlurmOldGeneration(t *testing.T) {
	t.Run("worker and engine", func(t *testing.T) { testOldGeneration(t, "work\x00--first", "runner-engine") })
	t.Run("worker", func(t *testing.T) { testOldGeneration(t, "work\x00--first") })
}

func testOldGeneration(t *testing.T, stopped ...string) {
	h, want := slurmVictim(t, "TEST_TIME=400ms")
	a := h.start()
	slurmtest.Wait(t, "workers are at work", func() bool { return len(h.processes("work\x00--first")) == 3 || a.over() })
	time.Sleep(time.Second)
	h.cluster.KillNode(1)
	var frozen, pids []int
	for _, what := range stopped {
		pids = append(pids, h.processes(what)...)
	}
	for _, pid := range pids {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil && strings.Contains(string(env), "SLURMD_NODENAME=n1\x00") {
			frozen = append(frozen, pid)
			_ = unix.Kill(pid, unix.SIGSTOP)
		}
	}
	if len(frozen) == 0 {
		t.Fatal("no worker is on node n1")
	}
	if len(stopped) == 1 {
		slurmtest.Wait(t, "an engine has done a run that nobody ends", func() bool {
			before := h.untold()
			time.Sleep(time.Second) // others end theirs at once
			now := h.untold()
			return a.over() || slices.ContainsFunc(before, func(result string) bool { return slices.Contains(now, result) })
		})
		if a.over() {
			t.Fatal("no engine has done a run that nobody ends")
		}
	}
	<-a.ended
	before := h.digests()
	for _, pid := range frozen {
		_ = unix.Kill(pid, unix.SIGCONT)
	}
	time.Sleep(3 * time.Second)
	if diff := differ(want, before); a.err != nil || diff != "" {
		t.Fatalf("%v %s\n%s", a.err, diff, a.out.String())
	}
	if diff := differ(want, h.digests()); diff != "" {
		t.Errorf("after the old workers have woken: %s", diff)
	}
	ends := h.ends()
	t.Logf("generations: %v", ends)
	if ends["broken"] == 0 {
		t.Errorf("generations ended so: %v", ends)
	}
}

// untold are the results of generations without an end.
func (h *harmer) untold() []string {
	results, _ := filepath.Glob(filepath.Join(h.dir, "runs", h.experiment, "*", "generations", "*", "result.json"))
	return slices.DeleteFunc(results, func(result string) bool {
		_, err := os.Lstat(filepath.Dir(result) + ".end")
		return err == nil
	})
}

// No apply watches when a worker is killed: another one learns it from Slurm, and does the
// run.
func TestSlurmDetached(t *testing.T) {
	h, want := slurmVictim(t, "TEST_TIME=300ms", "LORALAB_TURN=2s")
	cmd := exec.Command(h.runner, "apply", "--on", "slurm", "--detach", "--checkpoint", "1ns", h.experiment+".cue")
	cmd.Dir, cmd.Env = h.dir, h.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	slurmtest.Wait(t, "workers are at work", func() bool { return len(h.processes("work\x00--first")) == 3 })
	slurmtest.Wait(t, "a run is done", func() bool { return h.ends()["done"] > 0 })
	_ = unix.Kill(h.processes("work\x00--first")[0], unix.SIGKILL)
	slurmtest.Wait(t, "all runs are done", func() bool { return len(h.digests()) == len(want) })
	if diff := differ(want, h.digests()); diff != "" {
		t.Error(diff)
	}
	ends := h.ends()
	t.Logf("generations: %v; %d sbatch, %d squeue", ends, len(h.cluster.Calls("sbatch")), len(h.cluster.Calls("squeue")))
	// It may have been killed between two runs.
	if ends["broken"] > 1 || len(h.cluster.Calls("sbatch")) != 1 {
		t.Errorf("generations ended so: %v, in %d arrays", ends, len(h.cluster.Calls("sbatch")))
	}
}

// digests are the weights of all runs, by directory.
func (p *victim) digests() map[string]string {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "runs", p.experiment, "*", "result.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	all := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			p.t.Fatal(err)
		}
		all[filepath.Base(filepath.Dir(file))] = timeInResult.ReplaceAllString(string(text), "")
	}
	return all
}

func differ(want, got map[string]string) string {
	var lines []string
	for run := range want {
		if want[run] != got[run] {
			lines = append(lines, fmt.Sprintf("run %s: want %.300s\ngot %.300s", run, want[run], got[run]))
		}
	}
	if len(want) != len(got) {
		lines = append(lines, fmt.Sprintf("%d runs are done, want %d", len(got), len(want)))
	}
	return strings.Join(lines, "\n")
}

// change puts a text of the experiment in place of another.
func (p *victim) change(old, text string) {
	p.t.Helper()
	file := p.experiment + ".cue"
	before := p.read(file)
	after := strings.ReplaceAll(before, old, text)
	if before == after {
		p.t.Fatalf("%s has no %q", file, old)
	}
	if err := os.WriteFile(filepath.Join(p.dir, file), []byte(after), 0o666); err != nil {
		p.t.Fatal(err)
	}
}

func (p *victim) read(name string) string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, filepath.FromSlash(name)))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// harmer does harm to an apply on a cluster.
type harmer struct {
	*victim
	cluster *slurmtest.Cluster
	random  *rand.Rand
	done    map[string]int
	healing []func()
}

// applying is an apply in progress.
type applying struct {
	cmd   *exec.Cmd
	out   *syncBuffer
	ended chan struct{}
	err   error
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (a *applying) over() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

func (h *harmer) start() *applying {
	h.t.Helper()
	a := &applying{out: &syncBuffer{}, ended: make(chan struct{})}
	a.cmd = exec.Command(h.runner, "apply", "--on", "slurm", "--checkpoint", "1ns", h.experiment+".cue")
	a.cmd.Dir, a.cmd.Env, a.cmd.Stdout, a.cmd.Stderr = h.dir, h.env, a.out, a.out
	if err := a.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		a.err = a.cmd.Wait()
		close(a.ended)
	}()
	return a
}

// harm does one thing, and reports whether there was anybody to do it to.
func (h *harmer) harm(a *applying) bool {
	workers := h.processes("work\x00--first")
	kinds := []string{"runner killed", "worker killed", "worker killed", "engine killed", "worker frozen", "element requeued", "controller restarted", "node daemon restarted"}
	what := kinds[h.random.IntN(len(kinds))]
	some := func(pids []int) int {
		if len(pids) == 0 {
			what = "nobody there"
			return 0
		}
		return pids[h.random.IntN(len(pids))]
	}
	switch what {
	case "runner killed":
		_ = a.cmd.Process.Kill()
	case "worker killed":
		if pid := some(workers); pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	case "engine killed":
		if pid := some(h.processes("runner-engine")); pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	case "worker frozen":
		// It wakes when its run is done elsewhere, or when Slurm has ended it.
		if pid := some(workers); pid > 0 {
			_ = unix.Kill(pid, unix.SIGSTOP)
			timer := time.AfterFunc(6*time.Second, func() { _ = unix.Kill(pid, unix.SIGCONT) })
			h.healing = append(h.healing, func() { timer.Stop(); _ = unix.Kill(pid, unix.SIGCONT) })
		}
	case "element requeued":
		cmd := exec.Command("squeue", "--noheader", "--array", "--states=RUNNING", "--Format=ArrayJobID:20,ArrayTaskID:20")
		cmd.Env = h.env
		cmd.Path = filepath.Join(h.cluster.Bin(), "squeue")
		out, _ := cmd.Output()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		fields := strings.Fields(lines[h.random.IntN(len(lines))])
		if len(fields) != 2 {
			what = "nobody there"
			break
		}
		requeue := exec.Command(filepath.Join(h.cluster.Bin(), "scontrol"), "requeue", fields[0]+"_"+fields[1])
		requeue.Env = h.env
		_ = requeue.Run()
	case "controller restarted":
		h.cluster.KillController()
		time.Sleep(time.Duration(h.random.IntN(1500)) * time.Millisecond)
		h.cluster.StartController()
	case "node daemon restarted":
		n := 1 + h.random.IntN(3)
		h.cluster.KillNode(n)
		time.Sleep(time.Duration(h.random.IntN(1000)) * time.Millisecond)
		h.cluster.StartNode(n)
	}
	if what == "nobody there" {
		return false
	}
	h.done[what]++
	return true
}

// heal undoes what waits to be undone.
func (h *harmer) heal() {
	for _, f := range h.healing {
		f()
	}
	h.healing = nil
}

// processes are those of this project whose command line has a text.
func (h *harmer) processes(text string) []int {
	var pids []int
	entries, err := os.ReadDir("/proc")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || !strings.Contains(string(line), text) {
			continue
		}
		dir, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if errors.Is(err, os.ErrNotExist) || dir != h.dir {
			continue
		}
		pids = append(pids, pid)
	}
	return pids
}
