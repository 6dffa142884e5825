package live

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loralab/loralab/internal/browser"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/page"
	"github.com/loralab/loralab/runner/store"
)

// project is a project with one run that somebody may work on.
type project struct {
	mu      sync.Mutex
	root    string
	state   store.State
	holders []store.Holder
	reads   atomic.Int64
}

func (p *project) read(context.Context) (*store.Snapshot, []store.Holder, error) {
	p.reads.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	run := &store.Run{ID: "0123", Experiment: "e", Cell: "a", Seed: 1, State: p.state, Steps: 100, Dir: "runs/e/0123"}
	if len(p.holders) > 0 {
		run.Holder = &p.holders[0]
	}
	return &store.Snapshot{
		Root: p.root, Runs: map[string]*store.Run{"0123": run},
		Labels: []store.Label{{Experiment: "e", Cell: "a", Seed: 1, Run: "0123"}},
	}, p.holders, nil
}

// set changes the run: who works on it, and what its journal has.
func (p *project) set(state store.State, worked bool, journal string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.holders = state, nil
	if worked {
		p.holders = []store.Holder{{PID: 42, Host: "here", Command: "runner apply <b>e</b>.cue"}}
	}
	_ = os.MkdirAll(filepath.Join(p.root, "runs/e/0123"), 0o777)
	_ = os.WriteFile(filepath.Join(p.root, "runs/e/0123/metrics.jsonl"), []byte(journal), 0o666)
}

func (p *project) page(_ context.Context, known *store.Snapshot) (*page.Page, []Search, error) {
	state := known.Runs["0123"].State
	v := page.Num(0.5)
	e := &page.Experiment{Name: "e", Planned: 1, Table: page.Table{
		Metrics: []page.Metric{{Name: "dice", Label: "Dice"}}, Domains: []string{"test"},
		Rows: []page.Row{{Name: "a", N: string(state), Scores: [][]page.Score{{{Value: &v, Text: "0.500"}}}}},
	}}
	return &page.Page{Title: "e", Experiments: []*page.Experiment{e}}, []Search{{Experiment: "e", Cell: "a", Text: "Search of e/a: 1 complete trial"}}, nil
}

type noted struct{ done chan string }

func (n noted) Stop(pid int) (string, error) {
	n.done <- fmt.Sprint("stop ", pid)
	return "it stops", nil
}

func (n noted) Resume(run string) (string, error) {
	n.done <- "resume " + run
	return "it resumes", nil
}

// serve serves a project until the test ends.
func serve(t *testing.T, p *project, a Actions) *Server {
	t.Helper()
	s, err := Listen(Options{Root: p.root, Read: p.read, Page: p.page, Actions: a, Every: 20 * time.Millisecond}, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

func steps(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, `{"type":"step","step":"%d","loss":%g,"images_per_second":12.5}`+"\n", i, 1/float64(i))
	}
	return b.String()
}

// follow reads states until one fits.
func follow(t *testing.T, r *bufio.Reader, ok func(State) bool) State {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the events end: %v", err)
		}
		text, is := strings.CutPrefix(line, "data: ")
		if !is {
			continue
		}
		var s State
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		if ok(s) {
			return s
		}
	}
}

func TestFiftyClientsCauseOneLookATick(t *testing.T) {
	p := &project{root: t.TempDir()}
	p.set(store.Running, true, steps(1, 10))
	s := serve(t, p, nil)
	time.Sleep(100 * time.Millisecond)
	if n := p.reads.Load(); n != 0 {
		t.Fatalf("%d looks while nobody watches", n)
	}
	var wg sync.WaitGroup
	began := time.Now()
	arrived := make(chan struct{}, 50)
	for range 50 {
		wg.Go(func() {
			resp, err := http.Get(s.URL() + "events")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			r := bufio.NewReader(resp.Body)
			first := follow(t, r, func(s State) bool { return len(s.Runs) == 1 && s.Runs[0].Loss != nil })
			if r := first.Runs[0]; r.Name != "e/a/seed=1" || r.State != "running" || r.Step < 10 || len(r.Curve) < 10 {
				t.Errorf("the run is %+v", r)
			}
			arrived <- struct{}{}
			follow(t, r, func(s State) bool { return len(s.Runs) == 1 && s.Runs[0].Step == 20 })
		})
	}
	for range 50 {
		<-arrived
	}
	p.set(store.Running, true, steps(1, 20))
	wg.Wait()
	if ticks, n := int64(time.Since(began)/(20*time.Millisecond)), p.reads.Load(); n > ticks+3 {
		t.Errorf("%d looks in %d ticks, with 50 clients", n, ticks)
	}
}

// A trial that is paused was pruned once its search is over; another run is paused.
func TestTrialsOfASearchThatIsOver(t *testing.T) {
	run := &store.Run{ID: "0123", State: store.Paused}
	known := &store.Snapshot{Root: t.TempDir(), Runs: map[string]*store.Run{"0123": run}}
	for i, cell := range []string{experiment.TrialCell("a", 3), experiment.TrialCell("b", 3), "a"} {
		known.Labels = append(known.Labels, store.Label{Experiment: "e", Cell: cell, Seed: uint64(i), Run: "0123"})
	}
	for _, over := range []bool{false, true} {
		w := &watcher{searches: []Search{{Experiment: "e", Cell: "a", Over: over}, {Experiment: "e", Cell: "b"}}}
		var s State
		w.look(&s, known, nil)
		want := map[string]int{"paused": 3}
		if over {
			want = map[string]int{"paused": 2, "pruned": 1}
		}
		if got := s.Experiments[0].Counts; !maps.Equal(got, want) {
			t.Errorf("over %v: %v, want %v", over, got, want)
		}
		if len(s.Runs) != want["paused"] {
			t.Errorf("over %v: %d runs are not done, want those that are paused", over, len(s.Runs))
		}
	}
}

func TestTimeLeft(t *testing.T) {
	began := time.Now()
	for _, c := range []struct {
		first, last uint64
		steps       uint64
		want        time.Duration
	}{{10, 30, 100, 35 * time.Second}, {10, 10, 100, 0}, {0, 0, 100, 0}, {10, 30, 30, 0}, {10, 30, 0, 0}} {
		run := tail{first: seen{c.first, began}, last: seen{c.last, began.Add(10 * time.Second)}}
		if got := run.left(c.steps); got != c.want {
			t.Errorf("from step %d to %d of %d in 10 s: %v left, want %v", c.first, c.last, c.steps, got, c.want)
		}
	}
}

// The state follows an apply that ends and starts again, and a journal that is cut.
func TestAnApplyEndsAndStartsAgain(t *testing.T) {
	p := &project{root: t.TempDir()}
	s := serve(t, p, nil)
	resp, err := http.Get(s.URL() + "events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	p.set(store.Running, true, steps(1, 30)+`{"type":"note","text":"hello"}`+"\n")
	follow(t, r, func(s State) bool {
		return len(s.Runs) == 1 && s.Runs[0].Step == 30 && strings.Contains(strings.Join(s.Lines, "\n"), "hello")
	})
	p.set(store.Running, false, steps(1, 30))
	follow(t, r, func(s State) bool { return len(s.Holders) == 0 && s.Runs[0].State == "interrupted" })
	p.set(store.Running, true, steps(1, 25))
	again := follow(t, r, func(s State) bool { return len(s.Holders) == 1 && s.Runs[0].State == "running" && s.Runs[0].Step == 25 })
	if c := again.Runs[0].Curve; len(c) != 25 {
		t.Errorf("the curve has %d points, of 25 steps", len(c))
	}
	p.set(store.Done, false, steps(1, 100))
	follow(t, r, func(s State) bool { return len(s.Runs) == 0 && s.Experiments[0].Counts["done"] == 1 })
}

func TestOnlyThisMachineAndThisPage(t *testing.T) {
	p := &project{root: t.TempDir()}
	p.set(store.Running, true, "")
	done := noted{make(chan string, 1)}
	s, idle := serve(t, p, done), serve(t, p, nil)
	ask := func(s *Server, method, path string, change func(*http.Request)) int {
		t.Helper()
		base, _, _ := strings.Cut(s.URL(), "?")
		req, err := http.NewRequest(method, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		if got := resp.Header.Get("Content-Security-Policy"); strings.Contains(got, "unsafe") || !strings.Contains(got, "default-src 'none'") {
			t.Errorf("the policy of %s is %q", path, got)
		}
		return resp.StatusCode
	}
	token := func(r *http.Request) { r.Header.Set("X-Loralab-Token", s.token) }
	none := func(*http.Request) {}
	for _, c := range []struct {
		name, method, path string
		of                 *Server
		change             func(*http.Request)
		want               int
	}{
		{"the page", "GET", "", s, none, 200},
		{"another name for this machine", "GET", "", s, func(r *http.Request) { r.Host = "evil.example:80" }, 421},
		{"another site", "GET", "data", s, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		{"another site with the token", "POST", "actions/stop?pid=42", s, func(r *http.Request) { token(r); r.Header.Set("Origin", "https://evil.example") }, 403},
		{"no token", "POST", "actions/stop?pid=42", s, none, 403},
		{"another token", "POST", "actions/stop?pid=42", s, func(r *http.Request) { r.Header.Set("X-Loralab-Token", strings.Repeat("0", 32)) }, 403},
		{"a link", "GET", "actions/stop?pid=42", s, token, 405},
		{"no process", "POST", "actions/stop", s, token, 409},
		{"no actions", "POST", "actions/stop?pid=42", idle, none, 403},
		{"no actions, with an empty token", "POST", "actions/resume", idle, func(r *http.Request) { r.Header.Set("X-Loralab-Token", "") }, 403},
	} {
		if got := ask(c.of, c.method, c.path, c.change); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	select {
	case what := <-done.done:
		t.Errorf("refused, and done: %s", what)
	default:
	}
	if got := ask(s, "POST", "actions/resume?run=e/a", token); got != 200 || <-done.done != "resume e/a" {
		t.Errorf("with the token: %d", got)
	}
	if host := s.listener.Addr().String(); !strings.HasPrefix(host, "127.0.0.1:") {
		t.Errorf("it listens on %s", host)
	}
}

func TestLivePageInABrowser(t *testing.T) {
	p := &project{root: t.TempDir()}
	p.set(store.Paused, true, "")
	done := noted{make(chan string, 1)}
	s := serve(t, p, done)
	tab := browser.Start(t).Open(s.URL(), browser.Screen{})
	// A run that waits is below the log, in a list that is closed.
	tab.Wait(`document.querySelector("[data-waiting] tbody th")?.textContent === "e/a/seed=1"`)
	if got := tab.String(`document.querySelector("[data-waiting]").checkVisibility()`); got != "false" {
		t.Error("runs that wait are open")
	}
	p.set(store.Running, true, steps(1, 10))
	tab.Wait(`document.querySelector("[data-runs] tbody th")?.textContent === "e/a/seed=1"`)
	tab.Wait(`!document.querySelector("[data-waiting]")`)
	tab.Wait(`document.querySelector("[data-holders] code")?.textContent === "runner apply <b>e</b>.cue"`)
	tab.Wait(`document.querySelector("[data-table] td")?.textContent === "running"`)
	tab.Wait(`document.querySelectorAll(".live svg[role=img] path").length > 0`)
	if got := tab.String("location.search"); got != "" {
		t.Errorf("the token stays in the address: %s", got)
	}
	// One line alone has the name of its run, and the log shows its last line.
	tab.Wait(`document.querySelector(".live .panel .title").textContent === "e/a/seed=1"`)
	tab.Wait(`(l => l.scrollTop + l.clientHeight >= l.scrollHeight - 1)(document.querySelector(".log"))`)
	if bad := tab.Inaccessible(); len(bad) > 0 {
		t.Errorf("axe:\n%s", strings.Join(bad, "\n"))
	}
	tab.Click("[data-holders] button")
	if got := <-done.done; got != "stop 42" {
		t.Errorf("the button did %q", got)
	}
	tab.Wait(`document.querySelector("[data-connection]").textContent === "it stops"`)

	// What a reader has chosen outlives the end of a run.
	tab.Click("[data-table] thead th button")
	p.set(store.Done, false, steps(1, 100))
	tab.Wait(`document.querySelector("[data-table] td").textContent === "done"`)
	if got := tab.String(`document.querySelector("[data-table] thead th").getAttribute("aria-sort")`); got != "ascending" {
		t.Errorf("the order that was chosen is %s", got)
	}
	if f := tab.Faults(); len(f) > 0 {
		t.Errorf("the browser complains: %q", f)
	}
	base := "http://" + s.hosts[0] + "/"
	for _, r := range tab.Requests() {
		if !strings.HasPrefix(r, base) && !strings.HasPrefix(r, "data:") {
			t.Errorf("the page asks for %s", r)
		}
	}
}

// A run that was asked for and whose directory is not there is one that has not started.
func TestRunsThatAreNotThere(t *testing.T) {
	there, lost := store.Label{Experiment: "e", Cell: "a", Seed: 1, Run: "01"}, store.Label{Experiment: "e", Cell: "b", Seed: 4, Run: "02"}
	known := &store.Snapshot{
		Runs: map[string]*store.Run{"01": {ID: "01", Experiment: "e", Cell: "a", Seed: 1, State: store.Done}}, Labels: []store.Label{there, lost},
		Asked: map[string]*store.Asked{"e": {Experiment: "e", Runs: []store.Wanted{{Label: there}, {Label: lost}}}},
	}
	for _, planned := range [][]store.Label{nil, {there, lost}} {
		var s State
		w := &watcher{Options: Options{Planned: planned}, tails: map[string]*tail{}}
		w.look(&s, known, nil)
		if len(s.Runs) != 1 || s.Runs[0].Name != "e/b/seed=4" || s.Runs[0].State != "not started" || !maps.Equal(s.Experiments[0].Counts, map[string]int{"done": 1, "not started": 1}) {
			t.Errorf("it shows %+v of %+v", s.Runs, s.Experiments)
		}
	}
}

// The log says what it does not have: what was before, and what happened while nobody
// looked. What searches had found then is not shown.
func TestGaps(t *testing.T) {
	known := &store.Snapshot{Runs: map[string]*store.Run{"01": {State: store.Done}, "02": {State: store.Running}}}
	w := &watcher{searches: []Search{{Text: "old"}}}
	now := time.Unix(1e9, 0)
	w.gap(known, now)
	w.gap(known, now.Add(time.Second))
	if len(w.lines) != 1 || w.lines[0] != "1 run was done before; runner logs shows what was said." || w.searches == nil {
		t.Errorf("at first %q, %v", w.lines, w.searches)
	}
	w.gap(known, now.Add(time.Minute))
	if len(w.lines) != 2 || w.lines[1] != "Nobody looked for 59s; runner logs shows what was said." || w.searches != nil {
		t.Errorf("after a gap %q, %v", w.lines, w.searches)
	}
}
