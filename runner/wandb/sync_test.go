package wandb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loralab/loralab/internal/wandbserver"
	"github.com/loralab/loralab/runner/wandb/wandblog"
)

func serve(t *testing.T) *wandbserver.Server {
	t.Helper()
	s := wandbserver.New(testKey)
	t.Cleanup(s.Close)
	return s
}

// to are settings that send to a server, fast.
func to(server *wandbserver.Server, root string) Settings {
	return Settings{
		Root: root, BaseURL: server.URL, Key: NewKey(testKey), Project: "nuclei", ID: "abcd1234", Getenv: noEnvironment,
		Transmit: 10 * time.Millisecond, Heartbeat: time.Minute, RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond,
	}
}

// same compares what a server has of a run with its logs.
func same(t *testing.T, server *wandbserver.Server, run *wandbserver.Run, logs ...string) {
	t.Helper()
	if run == nil {
		t.Fatal("nothing has arrived")
	}
	var history, events, output []string
	var artifacts []*wandblog.Artifact
	alerts, last := 0, newReplay()
	for _, path := range logs {
		records, err := wandblog.ReadFile(path)
		if err != nil && !errors.Is(err, wandblog.ErrIncomplete) {
			t.Fatal(err)
		}
		last = newReplay()
		for _, r := range records {
			last.apply(r)
			switch {
			case r.History != nil:
				history = append(history, rowOf(r.History).String())
			case r.Stats != nil:
				events = append(events, r.Stats.Item[0].ValueJSON)
			case r.OutputRaw != nil:
				output = append(output, strings.TrimSuffix(r.OutputRaw.Line, "\n"))
			case r.Artifact != nil:
				artifacts = append(artifacts, r.Artifact)
			case r.Alert != nil:
				alerts++
			case r.Files != nil:
				for _, f := range r.Files.Files {
					want, err := os.ReadFile(filepath.Join(filepath.Dir(path), "files", f.Path))
					must(t, err)
					if got, there := run.Files[f.Path]; !there || string(got) != string(want) {
						t.Errorf("the file %s has arrived: %v, with %d bytes of %d", f.Path, there, len(got), len(want))
					}
					if !slices.Contains(run.Listed, f.Path) {
						t.Errorf("the file %s is not listed as sent", f.Path)
					}
				}
			}
		}
	}
	rows, err := run.Rows("wandb-history.jsonl")
	must(t, err)
	if !slices.Equal(rows, history) {
		t.Errorf("%d rows have arrived, %d were logged, or they differ", len(rows), len(history))
	}
	if n := run.Doubled(); n > 0 || run.Changed > 0 {
		t.Errorf("%d rows are doubled, %d lines were changed", n, run.Changed)
	}
	for file, want := range map[string][]string{"wandb-events.jsonl": events, "output.log": output} {
		lines, err := run.Rows(file)
		must(t, err)
		if len(lines) != len(want) {
			t.Errorf("%d lines of %s have arrived, %d were logged", len(lines), file, len(want))
			continue
		}
		for i := range lines {
			quoted, _ := encode(want[i])
			if !strings.Contains(lines[i], want[i]) && !strings.Contains(lines[i], quoted) {
				t.Errorf("line %d of %s is %s, not %s", i, file, lines[i], want[i])
			}
		}
	}
	if got := run.Lines["wandb-summary.json"][0]; got != last.summary.String() {
		t.Errorf("the summary is %s, not %s", got, last.summary)
	}
	if len(run.Alerts) < alerts {
		t.Errorf("%d alerts of %d have arrived", len(run.Alerts), alerts)
	}
	for _, a := range artifacts {
		i := slices.IndexFunc(server.Artifacts, func(b *wandbserver.Artifact) bool { return b.ClientID == a.ClientID })
		if i < 0 || !server.Artifacts[i].Committed {
			t.Errorf("the artifact %s has not arrived", a.Name)
			continue
		}
		b := server.Artifacts[i]
		if b.Digest != a.Digest || len(b.Files) != len(a.Manifest.Contents) {
			t.Errorf("the artifact %s has the digest %s and %d files", a.Name, b.Digest, len(b.Files))
		}
		for _, c := range a.Manifest.Contents {
			if md5Of(b.Files[c.Path]) != c.Digest || !strings.Contains(string(b.Manifest), c.Digest) {
				t.Errorf("the file %s of the artifact %s differs", c.Path, a.Name)
			}
		}
	}
	if len(server.Leaks) > 0 {
		t.Errorf("the key went to %v", server.Leaks)
	}
}

// hidden looks for the key in every file of a folder.
func hidden(t *testing.T, root string) {
	t.Helper()
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), testKey) {
			t.Errorf("%s holds the key", path)
		}
		return err
	}))
}

func TestSync(t *testing.T) {
	for _, structured := range []bool{false, true} {
		server := serve(t)
		server.Structured = structured
		r := offline(t, func(s *Settings) {
			s.Name, s.Group, s.JobType, s.Tags, s.Notes, s.Commit = "rank=4/seed=1", "rank", "train", []string{"a"}, "note", "0123"
		})
		everything(t, r)
		must(t, r.Preempting())
		must(t, r.Finish(t.Context(), 3))
		var page string
		s := to(server, r.settings.Root)
		s.Notice = func(n Notice) { page = n.Text }
		results, err := Sync(t.Context(), s)
		must(t, err)
		if len(results) != 1 || results[0].Rows != 21 || results[0].Artifacts != 2 || results[0].URL != server.URL+"/lab/nuclei/runs/abcd1234" || page != results[0].URL {
			t.Errorf("the results are %+v, the page %s", results, page)
		}
		run := server.Run("nuclei", r.ID())
		same(t, server, run, r.logPath())
		if fmt.Sprint(run.Exits) != "[3]" || run.Preempting != 1 {
			t.Errorf("the exits are %v", run.Exits)
		}
		first := fmt.Sprint(run.Upserts[0])
		for _, want := range []string{"displayName:rank=4/seed=1", "groupName:rank", "jobType:train", "tags:[a]", "notes:note", "commit:0123"} {
			if !strings.Contains(first, want) {
				t.Errorf("the run was made with %s, without %s", first, want)
			}
		}
		for _, want := range []string{
			`"lr":{"value":0.001}`, `"model":{"value":{"depth":4,"name":"dinov2"}}`, `"t":{`, `"e":{"`,
			`"samples/first_wandb_delimeter_prediction":{"key":"samples/first_wandb_delimeter_prediction","type":"mask/class_labels","value":{"0":"background","1":"nucleus"}}`,
			`"m":[{"1":"epoch","6":[3],"7":[]},{"1":"val/dice","5":1,"6":[1,3],"7":[2,3]},{"1":"train/loss","6":[3],"7":[1]}]`,
		} {
			if !strings.Contains(run.Config, want) {
				t.Errorf("the configuration is %s, without %s", run.Config, want)
			}
		}
		if _, err := os.Stat(syncedPath(r.logPath())); err != nil {
			t.Error(err)
		}
		hidden(t, r.settings.Root)

		// Again: nothing is there to send. With .synced lost, nothing is sent twice.
		results, err = Sync(t.Context(), s)
		if err != nil || len(results) != 0 {
			t.Errorf("a second sync finds %+v (%v)", results, err)
		}
		must(t, os.Remove(syncedPath(r.logPath())))
		results, err = Sync(t.Context(), s, r.Dir())
		must(t, err)
		if results[0].Rows+results[0].Files+results[0].Artifacts+results[0].Output > 0 || len(run.Alerts) != 1 {
			t.Errorf("the third sync sends %+v", results)
		}
		same(t, server, run, r.logPath())
	}
}

// faults makes the listed faults at random, a fifth of all requests, with a fixed seed.
func faults(server *wandbserver.Server, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	list := []wandbserver.Answer{
		{Fault: wandbserver.Status, Status: 429, RetryAfter: "0.002"},
		{Fault: wandbserver.Status, Status: 500},
		{Fault: wandbserver.Status, Status: 503},
		{Fault: wandbserver.Drop},
		{Fault: wandbserver.DropLate},
		{Fault: wandbserver.Half},
		{Fault: wandbserver.Slow, Wait: 20 * time.Millisecond},
	}
	server.Fail(func(string) wandbserver.Answer {
		if random.IntN(3) > 0 {
			return wandbserver.Answer{}
		}
		return list[random.IntN(len(list))]
	})
}

// A run is logged online while the server fails in all ways and is away in between.
func TestOnlineWithFaults(t *testing.T) {
	rounds := uint64(6)
	if testing.Short() {
		rounds = 2
	}
	var requests, made, repeated, rows int
	for seed := range rounds {
		server := serve(t)
		faults(server, seed)
		s := to(server, t.TempDir())
		s.Mode = Online
		var said atomic.Int32
		s.Notice = func(n Notice) { said.Add(1) }
		r, err := Init(t.Context(), s)
		must(t, err)
		everything(t, r)
		for step := r.Step(); step < 200; step++ {
			must(t, r.Log(step, map[string]any{"train/loss": 1 / float64(step)}))
			must(t, r.Output(fmt.Sprintf("line %d", step), false, time.Time{}))
			must(t, r.System(map[string]float64{"cpu": float64(step)}, time.Time{}))
			switch step {
			case 80:
				server.Down.Store(true)
			case 120:
				server.Down.Store(false)
			}
			if step%20 == 0 {
				time.Sleep(15 * time.Millisecond)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		must(t, r.Finish(ctx, 0))
		cancel()
		run := server.Run("nuclei", r.ID())
		same(t, server, run, r.logPath())
		if len(run.Exits) == 0 || run.Exits[0] != 0 {
			t.Errorf("the exits are %v", run.Exits)
		}
		hidden(t, s.Root)
		for _, n := range server.Requests {
			requests += n
		}
		for _, n := range server.Faults {
			made += n
		}
		repeated += run.Repeated
		rows += len(run.Lines["wandb-history.jsonl"])
	}
	t.Logf("%d requests, %d faults, %d rows: 0 lost, 0 doubled; %d lines came again at their place", requests, made, rows, repeated)
	if made < 8*int(rounds) {
		t.Errorf("only %d faults were made", made)
	}
}

// Sync is killed before and after any request, and repeated until it is done.
func TestSyncKilled(t *testing.T) {
	server := serve(t)
	r := offline(t, nil)
	everything(t, r)
	for step := r.Step(); step < 100; step++ {
		must(t, r.Log(step, map[string]any{"train/loss": 1 / float64(step)}))
	}
	must(t, r.Finish(t.Context(), 0))
	random := rand.New(rand.NewPCG(1, 2))
	var kill atomic.Pointer[context.CancelFunc]
	left := 0
	server.Fail(func(string) wandbserver.Answer {
		if left--; left > 0 {
			return wandbserver.Answer{}
		}
		(*kill.Load())()
		if random.IntN(2) == 0 {
			return wandbserver.Answer{Fault: wandbserver.Drop}
		}
		return wandbserver.Answer{Fault: wandbserver.DropLate}
	})
	kills := 0
	for ; ; kills++ {
		ctx, cancel := context.WithCancel(t.Context())
		kill.Store(&cancel)
		server.Lock()
		left = 5 + random.IntN(12)
		server.Unlock()
		s := to(server, r.settings.Root)
		s.maxRequest = 400 // a few rows
		_, err := Sync(ctx, s)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if kills > 100 {
			t.Fatal("it does not end")
		}
	}
	run := server.Run("nuclei", r.ID())
	same(t, server, run, r.logPath())
	t.Logf("%d kills, 100 rows: 0 lost, 0 doubled; %d lines came again at their place", kills, run.Repeated)
	if kills == 0 {
		t.Error("it was never killed")
	}
}

// A process that logs online is killed, and a later one continues the run: what the
// first one left is sent first.
func TestLaterLogsOnline(t *testing.T) {
	server := serve(t)
	s := to(server, t.TempDir())
	s.Mode = Online
	var logs []string
	for life := range 3 {
		r, err := Init(t.Context(), s)
		must(t, err)
		must(t, r.Config(map[string]any{fmt.Sprint("life", life): true}))
		logs = append(logs, r.logPath())
		first := r.Step()
		for step := first; step < first+40; step++ {
			must(t, r.Log(step, map[string]any{"dice": float64(step)}))
			must(t, r.Output(fmt.Sprint("line ", step), false, time.Time{}))
			if step == first+20 {
				for r.URL() == "" {
					time.Sleep(time.Millisecond)
				}
			}
		}
		if life < 2 { // killed: no end in the log, and the rest is not sent
			r.log.Close()
			r.stop()
			<-r.uploader.done
			continue
		}
		must(t, r.Finish(t.Context(), 0))
	}
	run := server.Run("nuclei", s.ID)
	same(t, server, run, logs...)
	rows, _ := run.Rows("wandb-history.jsonl")
	if len(rows) != 120 || !strings.Contains(run.Config, "life0") || !strings.Contains(run.Config, "life2") {
		t.Errorf("%d rows of 120; the configuration is %s", len(rows), run.Config)
	}
	if fmt.Sprint(run.Exits) != "[1 1 0]" {
		t.Errorf("the exits are %v", run.Exits)
	}
}

func TestServerHasOtherRows(t *testing.T) {
	server := serve(t)
	r := offline(t, nil)
	for step := range int64(10) {
		must(t, r.Log(step, map[string]any{"a": step}))
	}
	must(t, r.Finish(t.Context(), 0))
	other := offline(t, nil)
	must(t, other.Log(0, map[string]any{"b": 1}))
	must(t, other.Finish(t.Context(), 0))
	_, err := Sync(t.Context(), to(server, other.settings.Root))
	must(t, err)
	results, err := Sync(t.Context(), to(server, r.settings.Root))
	counts := new(CountError)
	if !errors.As(err, &counts) || counts.Has != 1 || results[0].Rows > 0 {
		t.Fatalf("a run that another log has begun: %v", err)
	}
	if rows, _ := server.Run("nuclei", r.ID()).Rows("wandb-history.jsonl"); len(rows) != 1 {
		t.Errorf("%d rows are there", len(rows))
	}

	// A log that was sent in part, while something else wrote to the run.
	must(t, os.WriteFile(acknowledgedPath(r.logPath()), []byte(`{"server":"`+server.URL+`","entity":"lab","project":"nuclei","run":"abcd1234","lines":{"history":5}}`), 0o600))
	server.Run("nuclei", r.ID()).Lines["wandb-history.jsonl"] = map[int]string{0: "", 1: "", 2: "", 3: "", 4: "", 5: "", 6: ""}
	if _, err = Sync(t.Context(), to(server, r.settings.Root)); !errors.As(err, &counts) || !strings.Contains(err.Error(), "the server has 7 rows of the run abcd1234, not 5") {
		t.Errorf("rows of something else: %v", err)
	}
	delete(server.Runs, "lab/nuclei/abcd1234")
	if _, err = Sync(t.Context(), to(server, r.settings.Root)); err == nil || !strings.Contains(err.Error(), "it was deleted") {
		t.Errorf("a run that was deleted: %v", err)
	}
	if _, err := os.Stat(syncedPath(r.logPath())); err == nil {
		t.Error("it counts as sent")
	}
}

// The same run is logged a second time elsewhere, as by a push from another machine: the
// server gets nothing twice.
func TestSameRunFromElsewhere(t *testing.T) {
	server := serve(t)
	for _, last := range []int64{10, 15} {
		r := offline(t, func(s *Settings) { s.Resume = ResumeAllow })
		for step := range last {
			must(t, r.Log(step, map[string]any{"a": step}))
			must(t, r.Output(fmt.Sprint("line ", step), false, time.Time{}))
		}
		must(t, r.Finish(t.Context(), 0))
		_, err := Sync(t.Context(), to(server, r.settings.Root))
		must(t, err)
	}
	run := server.Run("nuclei", "abcd1234")
	rows, err := run.Rows("wandb-history.jsonl")
	must(t, err)
	if len(rows) != 15 || run.Doubled() > 0 || len(run.Lines["output.log"]) != 15 {
		t.Errorf("%d rows of 15, %d doubled, %d lines", len(rows), run.Doubled(), len(run.Lines["output.log"]))
	}
}

func TestRefusals(t *testing.T) {
	server := serve(t)
	s := to(server, t.TempDir())
	s.Mode, s.Key = Online, NewKey(strings.Repeat("zz", 20))
	var mu sync.Mutex
	var said []Notice
	s.Notice = func(n Notice) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, n)
	}
	r, err := Init(t.Context(), s)
	must(t, err)
	<-r.uploader.done
	everything(t, r) // logging continues
	err = r.Finish(t.Context(), 0)
	if not := new(NotSentError); !errors.As(err, &not) || strings.Contains(err.Error(), "zzzz") {
		t.Errorf("finish: %v", err)
	}
	if len(said) != 1 || said[0].Kind != Failed || !strings.Contains(said[0].Text, "does not accept the key (401)") || server.Requests["Viewer"] != 1 {
		t.Errorf("a wrong key: %v, after %v", said, server.Requests)
	}
	_, err = Sync(t.Context(), to(server, s.Root)) // with the right one
	must(t, err)
	same(t, server, server.Run("nuclei", s.ID), r.logPath())

	// The storage refuses files.
	server.Fail(func(operation string) wandbserver.Answer {
		if operation == "PUT" {
			return wandbserver.Answer{Fault: wandbserver.Status, Status: 403, Message: "AccessDenied"}
		}
		return wandbserver.Answer{}
	})
	r = offline(t, func(s *Settings) { s.ID = "files" })
	everything(t, r)
	must(t, r.Finish(t.Context(), 0))
	results, err := Sync(t.Context(), to(server, r.settings.Root))
	if refused := new(RefusedError); !errors.As(err, &refused) || !strings.Contains(err.Error(), "403") || results[0].Rows != 21 {
		t.Errorf("uploads that are refused: %v", err)
	}
	server.Fail(nil)
	_, err = Sync(t.Context(), to(server, r.settings.Root))
	must(t, err)
	same(t, server, server.Run("nuclei", "files"), r.logPath())
}

// The server does not take the id of a deleted run again. A suffix makes another of it,
// which later logs keep.
func TestDeletedRun(t *testing.T) {
	server := serve(t)
	server.Deleted = map[string]bool{"abcd1234": true, "abcd1234-2": true}
	s := to(server, t.TempDir())
	var logs, said []string
	s.Notice = func(n Notice) {
		if n.Kind == Renamed {
			said = append(said, n.Text)
		}
	}
	for range 2 {
		r := offline(t, func(o *Settings) { o.Root = s.Root })
		must(t, r.Log(r.Step(), map[string]any{"a": 1}))
		must(t, r.Finish(t.Context(), 0))
		logs = append(logs, r.logPath())
		_, err := Sync(t.Context(), s)
		must(t, err)
	}
	same(t, server, server.Run("nuclei", "abcd1234-3"), logs...)
	if len(said) != 2 || !strings.Contains(said[1], "abcd1234-3") {
		t.Errorf("the notices are %q", said)
	}
}

func TestStopButton(t *testing.T) {
	server := serve(t)
	server.Stop = true
	s := to(server, t.TempDir())
	s.Mode = Online
	r, err := Init(t.Context(), s)
	must(t, err)
	must(t, r.Log(0, map[string]any{"a": 1}))
	<-r.Stopped()
	must(t, r.Finish(t.Context(), 255))
	if exits := server.Run("nuclei", s.ID).Exits; fmt.Sprint(exits) != "[255]" {
		t.Errorf("the exits are %v", exits)
	}
}

// Logging neither waits for a server that is away nor fails; Finish says what is left,
// and Sync sends it.
func TestServerAway(t *testing.T) {
	server := serve(t)
	server.Down.Store(true)
	s := to(server, t.TempDir())
	s.Mode = Online
	away := make(chan Notice, 10)
	s.Notice = func(n Notice) { away <- n }
	r, err := Init(t.Context(), s)
	must(t, err)
	everything(t, r)
	if n := <-away; n.Kind != Away || !strings.Contains(n.Text, "does not answer") {
		t.Errorf("the notice is %v", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if not := new(NotSentError); !errors.As(r.Finish(ctx, 0), &not) || not.Dir != r.Dir() {
		t.Errorf("finish says %v", not)
	}
	if len(away) > 0 {
		t.Errorf("one outage has more than one notice: %v", <-away)
	}
	server.Down.Store(false)
	_, err = Sync(t.Context(), to(server, s.Root))
	must(t, err)
	same(t, server, server.Run("nuclei", s.ID), r.logPath())
}

// A log without its end, cut within a record, is sent as a run that failed.
func TestCutLog(t *testing.T) {
	server := serve(t)
	r := offline(t, nil)
	everything(t, r)
	r.log.Close()
	info, err := os.Stat(r.logPath())
	must(t, err)
	must(t, os.Truncate(r.logPath(), info.Size()-3))
	_, err = Sync(t.Context(), to(server, r.settings.Root))
	must(t, err)
	run := server.Run("nuclei", r.ID())
	if fmt.Sprint(run.Exits) != "[1]" {
		t.Errorf("the exits are %v", run.Exits)
	}
	same(t, server, run, r.logPath())
}

// What another process is still writing is sent, and not as a run that has ended.
func TestLogBeingWritten(t *testing.T) {
	server := serve(t)
	r := offline(t, nil)
	must(t, r.Log(0, map[string]any{"a": 1}))
	if _, err := Sync(t.Context(), to(server, r.settings.Root)); !errors.Is(err, errUnfinished) {
		t.Errorf("a log that is being written: %v", err)
	}
	must(t, r.Log(1, map[string]any{"a": 2}))
	must(t, r.Finish(t.Context(), 0))
	_, err := Sync(t.Context(), to(server, r.settings.Root))
	must(t, err)
	run := server.Run("nuclei", r.ID())
	same(t, server, run, r.logPath())
	if fmt.Sprint(run.Exits) != "[0]" {
		t.Errorf("the exits are %v", run.Exits)
	}
}

func TestHeartbeat(t *testing.T) {
	server := serve(t)
	s := to(server, t.TempDir())
	s.Mode, s.Heartbeat = Online, 5*time.Millisecond
	r, err := Init(t.Context(), s)
	must(t, err)
	for {
		server.Lock()
		run := server.Runs["lab/nuclei/"+s.ID]
		beats := 0
		if run != nil {
			beats = run.Heartbeats
		}
		server.Unlock()
		if beats > 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	must(t, r.Finish(t.Context(), 0))
}

// A log of the official client is sent too. The files that belong to this one are not
// here, which is said.
func TestSyncsTheOfficialLog(t *testing.T) {
	server := serve(t)
	root := t.TempDir()
	dir := filepath.Join(root, "wandb", "offline-run-20261128_185100-official")
	must(t, os.MkdirAll(dir, 0o755))
	content, err := os.ReadFile("wandblog/testdata/official.wandb")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "run-official.wandb"), content, 0o600))
	results, err := Sync(t.Context(), to(server, root))
	if refused := new(RefusedError); !errors.As(err, &refused) || len(refused.What) != 1 || !strings.Contains(refused.What[0], " and 1 more were not sent: the file cannot be read: no such file") {
		t.Errorf("a log without its files: %v", err)
	}
	run := server.Run("nuclei", "official")
	rows, err := run.Rows("wandb-history.jsonl")
	must(t, err)
	if len(rows) != 7 || !strings.Contains(rows[0], `"nested":{"a":{"b":0}}`) || !strings.Contains(rows[5], `"val/dice":NaN`) || results[0].Rows != 7 {
		t.Errorf("the rows are %.300q", rows)
	}
	if lines, _ := run.Rows("output.log"); len(lines) != 1 || !strings.HasSuffix(lines[0], " a line") {
		t.Errorf("the console text is %q", lines)
	}
	if fmt.Sprint(run.Exits) != "[3]" || !strings.Contains(run.Config, `"lr":{"value":0.001}`) || !strings.Contains(run.Lines["wandb-summary.json"][0], `"best/dice":0.75`) {
		t.Errorf("the exits are %v, the configuration is %s", run.Exits, run.Config)
	}
}

// A pattern defines the metrics that are not defined by name, in later logs too.
func TestMetricPatterns(t *testing.T) {
	server := serve(t)
	root := ""
	for life := range int64(2) {
		r := offline(t, func(s *Settings) {
			if root == "" {
				root = s.Root
			}
			s.Root = root
		})
		if life == 0 {
			must(t, r.DefineMetric(Metric{Name: "val/*", Step: "epoch", Summary: []string{"max"}}))
			must(t, r.DefineMetric(Metric{Name: "val/loss", Summary: []string{"min"}}))
			if err := r.DefineMetric(Metric{Name: "a*b*"}); err == nil {
				t.Error("a pattern with two stars is taken")
			}
		}
		must(t, r.Log(2*life, map[string]any{"epoch": life + 1, "val/dice": 0.9 - float64(life)/10, "val/loss": 0.9 - float64(life)/10}))
		must(t, r.Log(2*life+1, map[string]any{"val/dice": 0.1}))
		must(t, r.Finish(t.Context(), 0))
	}
	_, err := Sync(t.Context(), to(server, root))
	must(t, err)
	run := server.Run("nuclei", "abcd1234")
	if want := `{"2":"val/*","5":1,"6":[1,3],"7":[2]}`; !strings.Contains(run.Config, want) {
		t.Errorf("the configuration is %s, without %s", run.Config, want)
	}
	rows, err := run.Rows("wandb-history.jsonl")
	must(t, err)
	if len(rows) != 4 || !strings.Contains(rows[3], `"epoch":2`) {
		t.Errorf("the rows are %q", rows)
	}
	summary := run.Lines["wandb-summary.json"][0]
	for _, want := range []string{`"val/dice":{"max":0.9}`, `"val/loss":{"min":0.8}`} {
		if !strings.Contains(summary, want) {
			t.Errorf("the summary is %s, without %s", summary, want)
		}
	}
}

// Sync says at once what it waits for, gives up after Wait, and tries no other log then.
// What is no server of W&B is given up at once.
func TestSyncGivesUp(t *testing.T) {
	two := func(t *testing.T) string {
		root := t.TempDir()
		for _, id := range []string{"one", "two"} {
			r := offline(t, func(s *Settings) { s.Root, s.ID = root, id })
			must(t, r.Log(0, map[string]any{"a": 1}))
			must(t, r.Finish(t.Context(), 0))
		}
		return root
	}
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	answers := func(status int, text string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	for _, c := range []struct {
		name, url, want string
		waits           bool
	}{
		{"refused", closed.URL, "has given no usable answer for 0.3 s", true},
		{"500", answers(500, ""), "has given no usable answer for 0.3 s", true},
		{"429", answers(429, ""), "has given no usable answer for 0.3 s", true},
		{"HTML", answers(200, "<!doctype html><p>hello"), "is not a server of W&B", false},
		{"empty", answers(200, "{}"), "is not a server of W&B", false},
		{"null", answers(200, `{"data":null}`), "is not a server of W&B", false},
		{"errors", answers(200, `{"errors":"no"}`), "is not a server of W&B", false},
		{"text", answers(200, `"`+strings.Repeat("x", 1<<20)+`"`), "is not a server of W&B", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Settings{
				Root: two(t), BaseURL: c.url, Key: NewKey(testKey), Getenv: noEnvironment,
				RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond, Wait: 300 * time.Millisecond,
			}
			var said []Notice
			s.Notice = func(n Notice) { said = append(said, n) }
			results, err := Sync(t.Context(), s)
			if err == nil || len(results) != 2 || results[1].Err == nil || results[1].Err.Error() != results[0].Err.Error() || !strings.Contains(results[0].Err.Error(), c.url+" "+c.want) {
				t.Errorf("%+v, %v", results, err)
			}
			if waits := len(said) == 1 && said[0].Kind == Away && strings.Contains(said[0].Text, "waiting for "+c.url); waits != c.waits {
				t.Errorf("it says %v", said)
			}
		})
	}
}
