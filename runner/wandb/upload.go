package wandb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/loralab/loralab/runner/wandb/wandblog"
)

// uploader sends a log. One goroutine reads the log, keeps what is not acknowledged yet
// and sends rows, system metrics and console text; another one sends files, artifacts
// and alerts, which may take long.
type uploader struct {
	settings Settings
	path     string // of the log
	live     bool   // the log is being written by this process
	quiet    bool   // says nothing of its page
	onStop   func() // the stop button was pressed

	api   *client
	woken chan struct{}
	done  chan struct{} // of follow
	err   error         // of follow, when done is closed

	noticing sync.Mutex

	mu    sync.Mutex
	page  string
	away  time.Time // since when the server does not answer; zero if it does
	tries int       // without an answer
	told  bool      // that it is away

	// The rest belongs to the goroutine that reads.
	reader   *wandblog.Reader
	state    *replay
	has      *acknowledged
	seen     lines // of the log, up to where it is read
	partial  map[int32]string
	pending  pending
	alerts   int
	media    *worker
	result   Result
	refusals map[string]*refusal // by reason

	structured bool // console text as JSON
	lastPost   time.Time
	notBefore  time.Time // as the server limits requests
	lastUpsert time.Time
}

// pending is what was read and is not acknowledged.
type pending struct {
	history, events, output []string
	size                    int
	summary, config         bool // changed
	preempting              bool
	late                    []string // files that are sent at the end
	exit                    *wandblog.Exit
}

func (p *pending) lines() lines {
	return lines{len(p.history), len(p.events), len(p.output)}
}

const (
	// maxLine is what the server takes of a line, and defaultRequest less than what it
	// takes of a request, in bytes.
	maxLine        = 10<<20 - 100<<10
	defaultRequest = 8 << 20
)

func newUploader(s Settings, path string, live bool) *uploader {
	u := &uploader{
		settings: s, path: path, live: live, onStop: func() {},
		woken: make(chan struct{}, 1), done: make(chan struct{}), state: newReplay(), partial: map[int32]string{},
	}
	patience := s.Wait
	if live {
		patience = 0
	}
	u.api = newClient(s, patience, u.trouble)
	u.result = Result{Dir: filepath.Dir(path)}
	return u
}

// follow sends the log until its end, and says once if it cannot.
func (u *uploader) follow(ctx context.Context) {
	defer close(u.done)
	u.err = u.sendAll(ctx)
	if u.err != nil && ctx.Err() == nil {
		u.notice(Failed, u.err.Error()+"; the log stays in "+shown(u.result.Dir))
	}
}

// sendAll sends earlier logs of the run, which a killed process has left, and this one.
func (u *uploader) sendAll(ctx context.Context) error {
	logs, err := logsOf(filepath.Dir(filepath.Dir(u.path)), u.settings.ID)
	if err != nil {
		return err
	}
	for _, path := range logs {
		if path == u.path {
			break
		}
		if _, err := os.Stat(syncedPath(path)); err == nil {
			continue
		}
		earlier := newUploader(u.settings, path, false)
		earlier.api, earlier.quiet = u.api, true
		if err := earlier.send(ctx); err != nil {
			return fmt.Errorf("sending the earlier log %s: %w", shown(filepath.Dir(path)), err)
		}
	}
	return u.send(ctx)
}

func (u *uploader) wake() {
	select {
	case u.woken <- struct{}{}:
	default:
	}
}

func (u *uploader) url() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.page
}

func (u *uploader) notice(kind NoticeKind, text string) {
	u.noticing.Lock()
	defer u.noticing.Unlock()
	if u.settings.Notice != nil {
		u.settings.Notice(Notice{kind, text})
	}
}

// patience is how many tries fail before a person hears of it, and how long Finish waits for
// a server that is away.
const (
	patienceTries  = 3
	patienceFinish = 10 * time.Second
)

// trouble keeps count of a server that does not answer.
func (u *uploader) trouble(err error) {
	u.mu.Lock()
	var kind NoticeKind
	text := ""
	switch {
	case err != nil:
		if u.away.IsZero() {
			u.away = time.Now()
			if errors.Is(err, errSlow) {
				u.away = u.away.Add(-slowAnswer)
			}
		}
		if u.tries++; u.told {
			break
		}
		switch {
		case !u.live && u.api.patience > 0:
			u.told = true
			kind, text = Away, fmt.Sprintf("waiting for %s (%v), for %s at most", u.settings.BaseURL, err, inSeconds(u.api.patience))
		case u.tries == patienceTries || errors.Is(err, errSlow):
			u.told = true
			kind, text = Away, fmt.Sprintf("%s does not answer (%v); everything is logged in %s, and sent if it answers", u.settings.BaseURL, err, shown(filepath.Dir(u.path)))
		}
	case u.told && !u.live:
		u.tries, u.away, u.told = 0, time.Time{}, false
	case u.told:
		kind, text = Back, u.settings.BaseURL+" answers"
		fallthrough
	default:
		u.tries, u.away, u.told = 0, time.Time{}, false
	}
	u.mu.Unlock()
	if text != "" {
		u.notice(kind, text)
	}
}

// NotSentError says that a part of a run was not sent. Its log is complete, and Sync
// sends the rest.
type NotSentError struct {
	Dir string // of the run
	Why error
}

func (e *NotSentError) Error() string {
	return fmt.Sprintf("not all of the run was sent to W&B (%v); the rest is in %s", e.Why, shown(e.Dir))
}

func (e *NotSentError) Unwrap() error { return e.Why }

// finish waits until the log is sent, until ctx is done or until the server has been away
// for too long, and ends the goroutine.
func (u *uploader) finish(ctx context.Context, stop context.CancelFunc) error {
	began := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var why error
	for why == nil {
		select {
		case <-u.done:
			if u.err != nil {
				return &NotSentError{u.result.Dir, u.err}
			}
			return nil
		case <-ctx.Done():
			why = ctx.Err()
		case <-tick.C:
			u.mu.Lock()
			if since := u.away; !since.IsZero() && time.Since(since) > patienceFinish && time.Since(began) > patienceFinish {
				why = errors.New("the server does not answer")
			}
			u.mu.Unlock()
		}
	}
	stop()
	<-u.done
	if u.err == nil { // it was just done
		return nil
	}
	return &NotSentError{u.result.Dir, why}
}

// errUnfinished says that another process is still writing a log.
var errUnfinished = errors.New("the run is still being written; what there is of it was sent")

// send sends one log, from the last acknowledged line on.
func (u *uploader) send(ctx context.Context) error {
	dir, err := os.Open(filepath.Dir(u.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if !lock(dir) {
		return errors.New("another process is sending the run")
	}
	if _, err := os.Stat(syncedPath(u.path)); err == nil {
		u.result.Already = true
		has, err := readAcknowledged(u.path) // the official client leaves none
		if err == nil && has != nil {
			err = u.same(has)
		}
		return err
	}
	f, err := os.Open(u.path)
	if err != nil {
		return err
	}
	defer f.Close()
	writing := u.live || !lock(f)
	if u.reader, err = wandblog.NewReader(f); err != nil {
		return err
	}
	if u.has, err = readAcknowledged(u.path); err != nil {
		return err
	}
	if err := u.findRun(); err != nil {
		return err
	}
	if err := u.contact(ctx); err != nil {
		return err
	}
	// The log is read again from its start, now that it is known which lines are to
	// be sent.
	if u.reader, err = wandblog.NewReader(f); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	u.media = newWorker(u)
	defer u.media.wait()
	defer cancel()
	u.media.start(ctx)
	return u.loop(ctx, writing)
}

// findRun reads up to the record of the run.
func (u *uploader) findRun() error {
	state := newReplay()
	for state.run == nil {
		r, err := u.reader.Next()
		if err == io.EOF || errors.Is(err, wandblog.ErrIncomplete) {
			return errors.New("the log ends before it says which run it is of; there is nothing to send")
		} else if err != nil {
			return err
		}
		state.apply(r)
	}
	u.state.run = state.run
	return CheckID(state.run.ID)
}

// loop reads, sends and waits, until the log is at its end.
func (u *uploader) loop(ctx context.Context, writing bool) error {
	for {
		end, err := u.read()
		if err != nil {
			return err
		}
		ended := u.pending.exit != nil || end && !writing
		if err := u.collect(); err != nil {
			return err
		}
		switch {
		case ended:
			return u.end(ctx)
		case end && !u.live: // another process is writing
			if err := u.post(ctx, nil); err != nil {
				return err
			}
			return errUnfinished
		case !end || u.pending.size >= u.settings.maxRequest || u.pending.preempting:
			if err := u.post(ctx, nil); err != nil {
				return err
			}
			continue
		}
		now := time.Now()
		if u.pending.config && now.Sub(u.lastUpsert) >= min(5*time.Second, u.settings.Transmit) {
			if err := u.upsertConfig(ctx); err != nil {
				return err
			}
		}
		due := u.lastPost.Add(u.settings.Heartbeat)
		if u.pending.any() || len(u.has.Unlisted) > 0 {
			due = u.lastPost.Add(u.settings.Transmit)
		}
		if due.Before(u.notBefore) {
			due = u.notBefore
		}
		if !now.Before(due) {
			if err := u.post(ctx, nil); err != nil {
				return err
			}
			continue
		}
		// Rows are not sent one by one: what comes meanwhile is read when something
		// is due, or when the end may have come.
		if err := u.rest(ctx, due.Sub(now)); err != nil {
			return err
		}
	}
}

func (p *pending) any() bool {
	return p.lines() != lines{} || p.summary || p.preempting
}

// rest waits for the time, for something new in the log, or for a result.
func (u *uploader) rest(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	case <-u.woken:
	case r := <-u.media.results:
		return u.take(r)
	}
	return nil
}

// collect takes the results that are there.
func (u *uploader) collect() error {
	for {
		select {
		case r := <-u.media.results:
			if err := u.take(r); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// take keeps what the worker has done.
func (u *uploader) take(r mediaResult) error {
	u.media.taken()
	if r.err != nil {
		aside := errors.Is(r.err, errLocal) || errors.Is(r.err, errStorage)
		if code := status(r.err); !aside && (code == http.StatusUnauthorized || code == 0) {
			return r.err // the key, or the server is away for good
		}
		u.refuse(r.what, r.err.Error())
		return nil
	}
	switch {
	case r.path != "":
		if u.has.Files == nil {
			u.has.Files = map[string]string{}
		}
		u.has.Files[r.path] = r.digest
		u.has.Unlisted = append(u.has.Unlisted, r.path)
		u.result.Files++
	case r.artifact != "":
		if u.has.Artifacts == nil {
			u.has.Artifacts = map[string]bool{}
		}
		u.has.Artifacts[r.artifact] = true
		u.result.Artifacts++
	case r.alert > 0:
		u.has.Alerts = max(u.has.Alerts, r.alert)
	}
	return u.has.write(u.path)
}

// refusal is what was not sent for one reason.
type refusal struct {
	at    int // in the list of the result
	first string
	more  int
}

// refuse keeps that something was not sent. All with one reason are one line, and the
// first is said.
func (u *uploader) refuse(what, why string) {
	if u.refusals == nil {
		u.refusals = map[string]*refusal{}
	}
	if r := u.refusals[why]; r != nil {
		r.more++
		u.result.Refused[r.at] = fmt.Sprintf("%s and %d more were not sent: %s", r.first, r.more, why)
		return
	}
	u.refusals[why] = &refusal{at: len(u.result.Refused), first: what}
	text := fmt.Sprintf("%s was not sent: %s", what, why)
	u.result.Refused = append(u.result.Refused, text)
	u.notice(Refused, text)
}

// read reads records until the end of the log or until there is enough for a request.
func (u *uploader) read() (end bool, err error) {
	for u.pending.size < u.settings.maxRequest && u.pending.exit == nil {
		r, err := u.reader.Next()
		damaged := new(wandblog.DamagedError)
		switch {
		case err == io.EOF || errors.Is(err, wandblog.ErrIncomplete):
			return true, nil
		case errors.As(err, &damaged):
			text := fmt.Sprintf("%s: %v; the records after it are sent", shown(u.path), err)
			u.result.Refused = append(u.result.Refused, text)
			u.notice(Damaged, text)
			continue
		case err != nil:
			return false, err
		}
		u.add(r)
	}
	return false, nil
}

// add makes what is sent of a record.
func (u *uploader) add(r *wandblog.Record) {
	before := u.state.step
	if r.Run == nil || r.Run.ID != u.state.run.ID || r.Run.Config != nil {
		u.state.apply(r)
	}
	switch {
	case r.Config != nil || r.Metric != nil || r.Environment != nil || r.Telemetry != nil:
		u.pending.config = true
		if r.Environment != nil {
			u.client("wandb-metadata.json", []byte(u.metadata()))
		}
	case r.Summary != nil:
		u.pending.summary = true
	case r.History != nil:
		row := rowOf(r.History)
		if u.has.AfterStep != nil && row.step(before) <= *u.has.AfterStep {
			return
		}
		u.line(&u.pending.history, &u.seen.History, u.has.Lines.History, row.String())
	case r.Stats != nil:
		taken := r.Stats.Timestamp.Time()
		at, since := unix(taken), taken.Sub(u.state.run.StartTime.Time()).Seconds()
		if at <= u.has.AfterTime {
			return
		}
		row := tree{"_wandb": raw("true")}
		row["_timestamp"] = raw(appendNumber(nil, at, 64))
		row["_runtime"] = raw(appendNumber(nil, max(0, since)+float64(u.state.run.Runtime), 64))
		for _, i := range r.Stats.Item {
			row["system."+i.Key] = raw(i.ValueJSON)
		}
		u.line(&u.pending.events, &u.seen.Events, u.has.Lines.Events, row.String())
	case r.OutputRaw != nil:
		text := u.partial[r.OutputRaw.Type] + r.OutputRaw.Line
		for line := range strings.Lines(text) {
			if text = line; strings.HasSuffix(line, "\n") {
				u.output(r.OutputRaw, strings.TrimRight(line, "\r\n"))
				text = ""
			}
		}
		u.partial[r.OutputRaw.Type] = text
	case r.Files != nil:
		for _, f := range r.Files.Files {
			if f.Policy == wandblog.PolicyNow {
				u.media.add(job{path: f.Path})
			} else {
				u.pending.late = append(u.pending.late, f.Path)
			}
		}
	case r.Artifact != nil:
		if !u.has.Artifacts[r.Artifact.ClientID] {
			u.media.add(job{artifact: r.Artifact})
		}
	case r.Alert != nil:
		if u.alerts++; u.alerts > u.has.Alerts {
			u.media.add(job{alert: r.Alert, number: u.alerts})
		}
	case r.Preempting != nil:
		u.pending.preempting = true
	case r.Exit != nil:
		u.pending.exit = r.Exit
	}
}

// output adds a line of console text.
func (u *uploader) output(r *wandblog.OutputRaw, text string) {
	if u.has.SkipOutput > u.result.skipped {
		u.result.skipped++
		return
	}
	at := r.Timestamp.Time().UTC().Format("2006-01-02T15:04:05.000000")
	line := at + " " + text
	if r.Type == 0 {
		line = "ERROR " + line
	}
	if u.structured {
		form := map[string]any{"ts": at, "content": text}
		if r.Type == 0 {
			form["level"] = "error"
		}
		line, _ = encode(form)
	}
	u.line(&u.pending.output, &u.seen.Output, u.has.Lines.Output, line)
}

// line adds a line unless it was acknowledged. Lines that no server takes do not count.
func (u *uploader) line(to *[]string, seen *int, acknowledged int, text string) {
	if len(text) > maxLine {
		said := fmt.Sprintf("a line of %d MiB was not sent: the server takes 10", len(text)>>20)
		u.result.Refused = append(u.result.Refused, said)
		u.notice(Refused, said)
		return
	}
	if *seen++; *seen > acknowledged {
		*to = append(*to, text)
		u.pending.size += len(text)
	}
}

// metadata is the content of wandb-metadata.json.
func (u *uploader) metadata() string {
	text, _ := encode(metadata(u.state.environment, u.state.run))
	return text
}

// client writes a file that the client makes itself, and sends it.
func (u *uploader) client(name string, content []byte) {
	path := filepath.Join(filepath.Dir(u.path), "files", name)
	if os.MkdirAll(filepath.Dir(path), 0o755) == nil && writeWhole(path, strings.NewReader(string(content))) == nil {
		u.media.add(job{path: name})
	}
}

// end sends all that is left and says how the run ended.
func (u *uploader) end(ctx context.Context) error {
	for _, stream := range []int32{0, 1} {
		if text := u.partial[stream]; text != "" {
			u.output(&wandblog.OutputRaw{Type: stream, Timestamp: wandblog.At(time.Now())}, text)
		}
	}
	for _, path := range u.pending.late {
		u.media.add(job{path: path})
	}
	u.client("config.yaml", []byte(u.state.configYAML()))
	if u.pending.any() { // rows do not wait for files
		if err := u.post(ctx, nil); err != nil {
			return err
		}
	}
	if u.pending.config {
		if err := u.upsertConfig(ctx); err != nil {
			return err
		}
	}
	for u.media.busy() {
		wait := u.settings.Heartbeat
		if err := u.rest(ctx, wait); err != nil {
			return err
		}
		if time.Since(u.lastPost) >= u.settings.Heartbeat {
			if err := u.post(ctx, nil); err != nil {
				return err
			}
		}
	}
	if err := u.collect(); err != nil {
		return err
	}
	code := int32(1) // of a process that was killed
	if u.pending.exit != nil {
		code = u.pending.exit.Code
	}
	if err := u.post(ctx, &code); err != nil {
		return err
	}
	u.has.Complete = true
	if err := u.has.write(u.path); err != nil {
		return err
	}
	if len(u.result.Refused) > 0 {
		return &RefusedError{u.result.Refused}
	}
	return writeWhole(syncedPath(u.path), strings.NewReader(""))
}

// RefusedError says what of a run a server refused, or could not be read. All else was
// sent.
type RefusedError struct{ What []string }

func (e *RefusedError) Error() string {
	text := e.What[0]
	if more := len(e.What) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

// streamed is a part of one of the files that grow.
type streamed struct {
	Offset  int      `json:"offset"`
	Content []string `json:"content"`
}

// post sends what is pending. Without anything it is a sign of life. With an exit
// code it ends the run.
func (u *uploader) post(ctx context.Context, exit *int32) error {
	body := map[string]any{}
	files := map[string]streamed{}
	at := u.has.Base.plus(u.has.Lines)
	for _, f := range []struct {
		name   string
		offset int
		lines  []string
	}{
		{"wandb-history.jsonl", at.History, u.pending.history},
		{"wandb-events.jsonl", at.Events, u.pending.events},
		{"output.log", at.Output, u.pending.output},
	} {
		if len(f.lines) > 0 {
			files[f.name] = streamed{f.offset, f.lines}
		}
	}
	if u.pending.summary || exit != nil {
		files["wandb-summary.json"] = streamed{0, []string{u.state.summary.String()}}
	}
	if len(files) > 0 {
		body["files"] = files
	}
	if len(u.has.Unlisted) > 0 {
		body["uploaded"] = u.has.Unlisted
	}
	if u.pending.preempting {
		body["preempting"] = true
	}
	if exit != nil {
		body["complete"], body["exitcode"] = true, *exit
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	u.has.Sending = u.pending.lines()
	if u.has.Sending != (lines{}) {
		if err := u.has.write(u.path); err != nil {
			return err
		}
	}
	if wait := time.Until(u.notBefore); wait > 0 && exit == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	var answer struct{ Stopped bool }
	_, header, err := u.api.send(ctx, request{
		name: "the rows of the run", method: "POST", timeout: u.settings.Timeout, body: text,
		url:    u.settings.BaseURL + "/files/" + url.PathEscape(u.has.Entity) + "/" + url.PathEscape(u.has.Project) + "/" + url.PathEscape(u.has.Run) + "/file_stream",
		header: http.Header{"Content-Type": {"application/json"}},
		check: func(body []byte) error {
			if len(body) == 0 {
				return nil
			}
			return parse(body, &answer)
		},
	})
	if err != nil {
		return err
	}
	u.lastPost = time.Now()
	if header.Get("RateLimit-Remaining") == "0" {
		if reset, err := time.ParseDuration(header.Get("RateLimit-Reset") + "s"); err == nil {
			u.notBefore = u.lastPost.Add(min(reset, time.Minute))
		}
	}
	u.result.Rows += u.has.Sending.History
	u.result.Output += u.has.Sending.Output
	u.result.Events += u.has.Sending.Events
	changed := u.has.Sending != lines{} || len(u.has.Unlisted) > 0
	u.has.Lines, u.has.Sending = u.has.Lines.plus(u.has.Sending), lines{}
	u.has.Unlisted = nil
	u.pending.history, u.pending.events, u.pending.output, u.pending.size = nil, nil, nil, 0
	u.pending.summary, u.pending.preempting = false, false
	if answer.Stopped {
		u.onStop()
	}
	if changed {
		return u.has.write(u.path)
	}
	return nil
}
