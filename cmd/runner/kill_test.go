package main

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/runner/store"
)

// defaultKills is how many processes TestKilled kills. LORALAB_KILLS=N asks for
// another number, LORALAB_KILL_SEED=N for the moments of an earlier test.
const defaultKills = 24

// killing is how many processes to kill, and the seed of the moments: what the variable and
// LORALAB_KILL_SEED say, or usual and a new one. A test that fails names the seed.
func killing(t *testing.T, variable string, usual int) (kills int, seed uint64) {
	kills, seed = usual, uint64(time.Now().UnixNano())
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		kills = n
	}
	if n, err := strconv.ParseUint(os.Getenv("LORALAB_KILL_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("for these moments again: LORALAB_KILL_SEED=%d", seed)
		}
	})
	return kills, seed
}

// TestKilled kills runner, engine or both with SIGKILL at random moments of an
// experiment whose cells use every option of training between them, and applies
// again until all is done. What is left then is that of an undisturbed run, bit
// for bit but for the time that things took: weights, logs, scores, pictures,
// and no other file.
//
// Moments are drawn from kinds, so that all phases get their share: the start,
// steps, the inside of a file's replacement, validation, evaluation, the
// results, the runner's own writing. When all runs are done before the last
// kill, they are compared and begun anew.
func TestKilled(t *testing.T) {
	engine := realEngine(t)
	if engine == "" {
		return
	}
	kills, seed := killing(t, "LORALAB_KILLS", defaultKills)
	p := newVictim(t, engine, "killed")
	p.apply(nil)
	want := p.left()
	p.clear()
	p.killed(drawMoments(rand.New(rand.NewPCG(seed, 0)), phases, kills), func() { p.compare(want) })
}

// killed applies and kills at these moments, until each has been. Whenever all is
// done, it checks what is left and begins from nothing.
func (p *victim) killed(moments []moment, check func()) {
	t := p.t
	t.Helper()
	counts := map[string]int{}
	for _, m := range moments {
		counts[fmt.Sprintf("%s: %s", m.phase, strings.Join(m.victims, " and "))]++
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%2d × %s", counts[what], what)
	}
	for len(moments) > 0 {
		var struck int
		var done bool
		for !done {
			struck, done = p.apply(moments)
			moments = moments[struck:]
			if len(moments) == 0 {
				break
			}
		}
		if !done {
			p.apply(nil)
		}
		if check(); t.Failed() {
			return
		}
		if struck == 0 && len(moments) > 0 {
			moments = append(moments[1:], moments[0]) // its like does not come: another first
		}
		p.clear()
	}
}

// moment is when and whom to kill.
type moment struct {
	phase   string
	event   *regexp.Regexp // of what happens to files below the project; nil: none
	nth     int            // time that it happens
	delay   time.Duration  // from then on
	victims []string       // in this order: "engine", "runner"
}

// A phase is a kind of moments: after an event, within a delay. An event is its
// kind and the file, relative to the project. A file is replaced by writing
// .NAME.tmp-N and moving it to NAME.
type phase struct {
	name   string
	event  string
	times  int           // the last of them that is chosen
	within time.Duration // delays
	runner bool          // it is the runner's work alone
}

var phases = []phase{
	{"starting", "", 0, 1500 * time.Millisecond, false},
	{"making a run's directory", `create .*/\.request\.json\.tmp`, 6, 20 * time.Millisecond, false},
	{"stepping", `modify .*/metrics\.jsonl`, 60, 5 * time.Millisecond, false},
	{"writing a checkpoint", `create .*/\.last\.safetensors\.tmp`, 12, 3 * time.Millisecond, false},
	{"moving a checkpoint", `moved .*/last\.safetensors`, 12, time.Millisecond, false},
	{"writing the best weights", `create .*/\.best\.next\.safetensors\.tmp`, 4, 3 * time.Millisecond, false},
	{"validating", `moved .*/best\.next\.safetensors`, 4, 2 * time.Millisecond, false},
	{"keeping the best weights", `moved .*/best\.safetensors`, 4, time.Millisecond, false},
	{"writing the results", `create .*/\.(adapter|head)\.safetensors\.tmp|create .*/\.(program|result)\.json\.tmp`, 5, 4 * time.Millisecond, false},
	{"evaluating", `moved .*/result\.json`, 3, 10 * time.Millisecond, false},
	{"writing an evaluation", `create .*/\.[0-9a-f]+\.json\.tmp|create .*/samples/`, 5, 4 * time.Millisecond, false},
	{"recording", `create .*/\.(environment|record|\.asked)\.json\.tmp|moved .*/record\.json|modify runs/loralab\.db`, 30, 4 * time.Millisecond, true},
	{"reporting", `create (report|plots)/.*`, 6, 20 * time.Millisecond, true},
}

func drawMoments(random *rand.Rand, phases []phase, n int) []moment {
	var out []moment
	for i := range n {
		phase := phases[i%len(phases)]
		m := moment{phase: phase.name}
		if phase.event != "" {
			m.event, m.nth = regexp.MustCompile(`^(`+phase.event+`)`), 1+random.IntN(phase.times)
		}
		m.delay = time.Duration(random.Int64N(int64(phase.within)))
		m.victims = [][]string{{"engine"}, {"runner"}, {"engine", "runner"}, {"runner", "engine"}}[random.IntN(4)]
		if phase.runner {
			m.victims = []string{"runner"}
		}
		out = append(out, m)
	}
	random.Shuffle(n, func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// victim is a project whose runner and engine are killed.
type victim struct {
	t           *testing.T
	dir, runner string
	env         []string
	experiment  string
	args        []string // of apply
}

func newVictim(t *testing.T, engine, experiment string, args ...string) *victim {
	t.Helper()
	runner, err := exec.LookPath("runner") // of TestMain
	if err != nil {
		t.Fatal(err)
	}
	lora, err := filepath.Abs("../../bin/plugins/lora")
	if err != nil {
		t.Fatal(err)
	}
	p := &victim{t: t, runner: runner, dir: t.TempDir(), experiment: experiment, args: args}
	cache := t.TempDir()
	p.env = append(os.Environ(), "HOME="+cache, "XDG_CACHE_HOME="+cache, "XDG_DATA_HOME="+cache, "HF_HOME="+cache,
		"TZ=UTC", "LORALAB_THREADS=1", "LORALAB_DEVICE=cpu", "LORALAB_ENGINE="+engine)
	text, err := os.ReadFile("testdata/" + experiment + ".cue")
	plugins := filepath.Join(cache, "loralab", "plugins") // of the user, who trusts them
	if err := errors.Join(err, tinyBackbone(filepath.Join(p.dir, "vit")), os.MkdirAll(plugins, 0o777),
		os.Symlink(lora, filepath.Join(plugins, "lora")), os.WriteFile(filepath.Join(p.dir, experiment+".cue"), text, 0o666)); err != nil {
		t.Fatal(err)
	}
	return p
}

// apply runs runner apply until it is done or killed, and kills at the moments
// that come about, in order. It returns how many did.
func (p *victim) apply(moments []moment) (struck int, done bool) {
	p.t.Helper()
	var out bytes.Buffer
	// Checkpoints as often as can be, and as many tries as there are kills.
	cmd := exec.Command(p.runner, slices.Concat([]string{"apply", "--checkpoint", "1ns", "--retry", "1000000"}, p.args, []string{p.experiment + ".cue"})...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir, p.env, &out, &out
	events := p.watch(moments)
	defer events.close()
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	running := true
	for running && struck < len(moments) {
		m := moments[struck]
		if m.event == nil {
			select {
			case err = <-ended:
				running = false
				continue
			case <-time.After(m.delay):
			}
		} else {
			reached := false
			for n := 0; running && !reached; {
				select {
				case err = <-ended:
					running = false
				case e := <-events.names:
					if m.event.MatchString(e) {
						n++
						reached = n == m.nth
					}
				}
			}
			if !running {
				continue
			}
			time.Sleep(m.delay)
		}
		struck++
		killed := false
		for _, who := range m.victims {
			pid := cmd.Process.Pid
			if who == "engine" {
				if pid = engineOf(pid); pid == 0 {
					continue // it has none just now
				}
			}
			killed = killed || who == "runner"
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone
		}
		if killed {
			err, running = <-ended, false
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.String() == "signal: killed" {
				return struck, false
			}
		}
	}
	if running {
		err = <-ended
	}
	if err != nil {
		p.t.Fatalf("apply: %v\n%s", err, out.String())
	}
	return struck, true
}

// engineOf is the engine of a runner, 0 if it has none.
func engineOf(runner int) int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue
		}
		// pid (name) state ppid …
		_, rest, ok := bytes.Cut(text, []byte(" (runner-engine) "))
		if f := bytes.Fields(rest); ok && string(f[1]) == strconv.Itoa(runner) && string(f[0]) != "Z" {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			return pid
		}
	}
	return 0
}

// clear begins anew.
func (p *victim) clear() {
	for _, name := range []string{"runs", "logs", "plots", "report"} {
		if err := os.RemoveAll(filepath.Join(p.dir, name)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// Time, and what depends on it, is all that may differ; and digests of files with
// times or the probes of the machine in them.
var (
	timeInJournal = regexp.MustCompile(`,"images_per_second":[^,}]*`)
	timeInResult  = regexp.MustCompile(`(?m)^ *"(seconds|peak_memory|images_per_second|digest|metrics.jsonl|checkpoints/best.safetensors)":.*\n`)
)

// left is what a finished project holds: the names of all files, and of those
// of runs the content without times.
func (p *victim) left() map[string]string {
	p.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(p.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(p.dir, path)
		if err != nil {
			return err
		}
		if numbered.MatchString(rel) {
			return nil // one for each attempt
		}
		out[rel] = "there"
		if e.Type() == fs.ModeSymlink {
			out[rel], err = os.Readlink(path)
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		switch name := filepath.Base(path); {
		case name == "metrics.jsonl":
			out[rel] = timeInJournal.ReplaceAllString(string(content), "")
		case name == "result.json":
			out[rel] = timeInResult.ReplaceAllString(string(content), "")
		case filepath.Base(filepath.Dir(path)) == "checkpoints":
			out[rel], err = checkpointText(path)
		case strings.HasSuffix(name, ".safetensors"), name == "program.json", name == "table.csv",
			slices.Contains([]string{"evaluations", "samples"}, filepath.Base(filepath.Dir(path))),
			filepath.Base(filepath.Dir(filepath.Dir(path))) == "studies":
			out[rel] = string(content)
		case name == "record.json":
			var r struct {
				State, Step any
				Rungs       json.RawMessage
			}
			err = json.Unmarshal(content, &r)
			out[rel] = fmt.Sprintf("%v at %v: %s", r.State, r.Step, r.Rungs)
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// numbered are the files that say who worked on a run, and how that ended.
var numbered = regexp.MustCompile(`generations/[0-9]{4}\.(claim|end)$`)

// checkpointText is a checkpoint without the seconds that it took, the log, in which
// are times, the probes of the machine, which become more, and digests of these.
func checkpointText(path string) (string, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	meta := maps.Clone(f.Metadata())
	for _, key := range []string{"seconds", "journal", "journal_sha256", "probes", "best_sha256", "sha256"} {
		delete(meta, key)
	}
	text, err := json.Marshal(meta)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	b.Write(text)
	for _, name := range f.Names() {
		tensor, _ := f.Get(name)
		fmt.Fprintf(&b, "\n%s %s %v %x", name, tensor.DType, tensor.Shape, tensor.Data)
	}
	return b.String(), nil
}

// compare holds what is left against what should be.
func (p *victim) compare(want map[string]string) {
	p.t.Helper()
	have := p.left()
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[name]; !ok {
			p.t.Errorf("%s is there and should not be", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch now, ok := have[name]; {
		case !ok:
			p.t.Errorf("%s is missing", name)
		case now != want[name]:
			p.t.Errorf("%s is not that of the undisturbed run: %s", name, firstDifference(want[name], now))
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(p.dir, "runs", "loralab.db"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	var sound string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&sound); err != nil || sound != "ok" {
		p.t.Errorf("the database: %s, %v", sound, err)
	}
	known, err := store.Read(p.t.Context(), p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	evaluations := 0
	for _, run := range known.Runs {
		if run.State != store.Done && run.State != store.Paused || run.Holder != nil || run.Damage != nil {
			p.t.Errorf("%s is %s, held by %v, damage %v", run.Name(), run.State, run.Holder, run.Damage)
		}
		evaluations += len(run.Evaluations)
	}
	files, err := filepath.Glob(filepath.Join(p.dir, "runs", p.experiment, "*", "evaluations", "*.json"))
	if evaluations != len(files) || err != nil || len(known.Notes) > 0 {
		p.t.Errorf("%d evaluations of %d, %v, notes %v", evaluations, len(files), err, known.Notes)
	}
	// No process lives on. Those whose runner was killed end by themselves, which takes
	// a moment on a busy machine.
	living := p.living()
	for end := time.Now().Add(30 * time.Second); len(living) > 0 && time.Now().Before(end); living = p.living() {
		time.Sleep(10 * time.Millisecond)
	}
	for _, pid := range living {
		command, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		p.t.Errorf("process %s still works in the project: %q", pid, command)
	}
}

// living is the processes whose working directory is the project.
func (p *victim) living() []string {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var pids []string
	for _, link := range links {
		if dir, err := os.Readlink(link); err == nil && dir == p.dir {
			pids = append(pids, filepath.Base(filepath.Dir(link)))
		}
	}
	return pids
}

func firstDifference(a, b string) string {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	show := func(s string) string { return strconv.Quote(s[max(0, i-100):min(len(s), i+100)]) }
	return fmt.Sprintf("at byte %d\n  it was %s\n  it is  %s", i, show(a), show(b))
}

// watcher tells what happens to files below a directory, as inotify sees it.
type watcher struct {
	names chan string
	stop  chan struct{}
	wg    sync.WaitGroup
}

func (p *victim) watch(moments []moment) *watcher {
	w := &watcher{names: make(chan string, 1<<16), stop: make(chan struct{})}
	if len(moments) == 0 {
		return w
	}
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		p.t.Fatal(err)
	}
	dirs := map[int32]string{}
	var add func(dir string)
	add = func(dir string) {
		id, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MODIFY|unix.IN_MOVED_TO)
		if err != nil {
			return // gone again
		}
		dirs[int32(id)] = dir
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.IsDir() {
				add(filepath.Join(dir, e.Name()))
			}
		}
	}
	add(p.dir)
	w.wg.Go(func() {
		defer unix.Close(fd)
		buffer := make([]byte, 1<<16)
		for {
			select {
			case <-w.stop:
				return
			default:
			}
			n, err := unix.Read(fd, buffer)
			if err != nil || n <= 0 {
				time.Sleep(200 * time.Microsecond)
				continue
			}
			for b := buffer[:n]; len(b) >= unix.SizeofInotifyEvent; {
				id, mask := int32(binary.NativeEndian.Uint32(b[0:])), binary.NativeEndian.Uint32(b[4:])
				size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
				path := filepath.Join(dirs[id], string(bytes.TrimRight(b[unix.SizeofInotifyEvent:size], "\x00")))
				b = b[size:]
				kind := "moved"
				switch {
				case mask&unix.IN_CREATE != 0 && mask&unix.IN_ISDIR != 0:
					add(path)
					continue
				case mask&unix.IN_CREATE != 0:
					kind = "create"
				case mask&unix.IN_MODIFY != 0:
					kind = "modify"
				}
				rel, err := filepath.Rel(p.dir, path)
				if err != nil {
					continue
				}
				select {
				case w.names <- kind + " " + filepath.ToSlash(rel):
				default: // nobody waits for so many
				}
			}
		}
	})
	return w
}

func (w *watcher) close() {
	close(w.stop)
	w.wg.Wait()
}
