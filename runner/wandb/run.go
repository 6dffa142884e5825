package wandb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/loralab/loralab/runner/wandb/wandblog"
)

// Run is a run that is being logged. Its methods can be called at the same time. They
// write to the log on disk and never wait for the server. Their errors are those of
// values without a form, of steps that do not rise and of the disk.
type Run struct {
	settings Settings
	dir      string // of the run; "" if it is disabled
	log      *wandblog.Writer
	uploader *uploader // nil unless online
	stop     context.CancelFunc
	sampling sync.WaitGroup

	mu       sync.Mutex
	state    *replay // of this log and earlier ones
	metrics  map[string]*metric
	patterns []*wandblog.Metric // of metrics that are not defined by name, the first wins
	labels   map[string]string  // class labels that the configuration has
	last     map[string]string  // values of step metrics
	finished bool

	stopped chan struct{}
}

// metric is what the summary of one metric is worked out from.
type metric struct {
	defined *wandblog.Metric
	min     float64
	max     float64
	sum     float64
	count   float64
}

// ErrFinished says that a run takes no values any more.
var ErrFinished = errors.New("the run of W&B is finished")

// Version is what logs name as their producer.
const Version = "loralab-wandb 1"

// Init begins a run: it makes the directory and the log, and in online mode starts a
// goroutine that sends what the log gets. It does not wait for the server. Finish has to
// be called; a process that ends without it leaves a log that Sync sends as one of a
// run that failed.
//
// If the root has logs of the same id and project, this one continues them: steps have
// to be above theirs, and the summary starts as theirs ends.
func Init(ctx context.Context, s Settings) (*Run, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := s.resolved()
	if err != nil {
		return nil, err
	}
	r := &Run{
		settings: s, state: newReplay(), metrics: map[string]*metric{}, labels: map[string]string{}, last: map[string]string{},
		stopped: make(chan struct{}),
	}
	if s.Mode == Disabled {
		return r, nil
	}
	earlier, err := r.takeUp()
	if err != nil {
		return nil, err
	}
	if err := r.create(earlier); err != nil {
		return nil, fmt.Errorf("making the log of W&B: %w", err)
	}
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	if s.Mode == Online {
		r.uploader = newUploader(s, r.logPath(), true)
		r.uploader.onStop = sync.OnceFunc(func() { close(r.stopped) })
		go r.uploader.follow(ctx)
	}
	if s.SystemInterval > 0 {
		r.sampling.Go(func() { r.sample(ctx) })
	}
	return r, nil
}

// takeUp reads the logs that the root has of this run.
func (r *Run) takeUp() (earlier bool, err error) {
	logs, err := logsOf(folderOf(r.settings.Root), r.settings.ID)
	if err != nil {
		return false, err
	}
	for _, path := range logs {
		records, err := wandblog.ReadFile(path)
		if err != nil && !errors.Is(err, wandblog.ErrIncomplete) {
			continue // Sync says what is wrong with it
		}
		state := newReplay()
		for _, record := range records {
			state.apply(record)
		}
		if state.run == nil || state.run.Project != r.settings.Project {
			continue
		}
		if r.settings.Resume == ResumeNever {
			return false, fmt.Errorf("W&B: the run %s exists in %s, and resume is never", r.settings.ID, shown(filepath.Dir(path)))
		}
		f, err := os.Open(path)
		if err != nil {
			return false, err
		}
		free := lock(f)
		f.Close()
		if !free {
			return false, fmt.Errorf("W&B: another process is writing the run %s, in %s", r.settings.ID, shown(filepath.Dir(path)))
		}
		earlier = true
		for _, record := range records {
			r.state.apply(record)
		}
	}
	r.state.exit = nil
	for _, m := range r.state.metrics {
		r.define(m)
	}
	return earlier, nil
}

// logsOf lists the logs of a run in a folder, the oldest first.
func logsOf(folder, id string) ([]string, error) {
	dirs, err := logDirs(folder)
	return logsIn(dirs[id], id), err
}

// logDirs are the directories of logs in a folder, by the id of their run.
func logDirs(folder string) (map[string][]string, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	dirs := map[string][]string{}
	for _, e := range entries {
		name := strings.TrimPrefix(e.Name(), "offline-")
		if stamp, id, found := strings.Cut(strings.TrimPrefix(name, "run-"), "-"); found && len(stamp) == len(stampForm) {
			dirs[id] = append(dirs[id], filepath.Join(folder, e.Name()))
		}
	}
	return dirs, nil
}

// logsIn are the logs of a run in directories, the oldest first.
func logsIn(dirs []string, id string) (logs []string) {
	for _, dir := range dirs {
		path := filepath.Join(dir, "run-"+id+".wandb")
		if _, err := os.Stat(path); err == nil {
			logs = append(logs, path)
		}
	}
	// By the time in the name.
	slices.SortFunc(logs, func(a, b string) int {
		stamp := func(path string) string {
			return strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "offline-")
		}
		return strings.Compare(stamp(a), stamp(b))
	})
	return logs
}

const stampForm = "20060102_150405"

// create makes the directory of the run and the log with its first records.
func (r *Run) create(earlier bool) error {
	s := &r.settings
	folder := folderOf(s.Root)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	kind := "run-"
	if s.Mode == Offline {
		kind = "offline-run-"
	}
	for at := time.Now(); ; at = at.Add(time.Second) { // a directory for each start, in rising order
		r.dir = filepath.Join(folder, kind+at.Format(stampForm)+"-"+s.ID)
		if err := os.Mkdir(r.dir, 0o755); err == nil {
			break
		} else if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for _, name := range []string{"files", "logs"} {
		if err := os.Mkdir(filepath.Join(r.dir, name), 0o755); err != nil {
			return err
		}
	}
	var err error
	if r.log, err = wandblog.Create(r.logPath()); err != nil {
		return err
	}
	lock(r.log.File())
	latest := filepath.Join(folder, "latest-run")
	if err := os.Symlink(filepath.Base(r.dir), latest+"."+s.ID); err == nil { // a convenience alone
		if os.Rename(latest+"."+s.ID, latest) != nil {
			os.Remove(latest + "." + s.ID)
		}
	}
	telemetry := &wandblog.Telemetry{
		Feature: &wandblog.Feature{Offline: s.Mode == Offline}, CLIVersion: Version, CoreVersion: Version,
		Platform: runtime.GOOS + "-" + strings.Replace(runtime.GOARCH, "amd64", "x86_64", 1),
	}
	run := &wandblog.Run{
		ID: s.ID, Entity: s.Entity, Project: s.Project, Group: s.Group, JobType: s.JobType, DisplayName: s.Name,
		Notes: s.Notes, Tags: s.Tags, SweepID: s.SweepID, Host: s.Host, StartTime: wandblog.At(s.Start), Telemetry: telemetry,
		Resume: earlier || s.Resume != "" && s.Resume != ResumeNever,
	}
	if s.Remote != "" || s.Commit != "" {
		run.Git = &wandblog.Git{Remote: s.Remote, Commit: s.Commit}
	}
	if earlier {
		run.Resumed, run.StartingStep, run.Runtime = true, r.state.step+1, int32(r.state.runtime)
	}
	executable, _ := os.Executable()
	environment := &wandblog.Environment{
		OS: runtime.GOOS + "-" + runtime.GOARCH, StartedAt: wandblog.At(s.Start), Args: s.Args, Program: s.Program, Git: run.Git, Email: s.Email,
		Root: s.Root, Host: s.Host, Username: s.Username, Executable: executable,
		CPUCount: int64(runtime.NumCPU()), CPUCountLogical: int64(runtime.NumCPU()), WriterID: randomID(32),
	}
	if total := memoryTotal(); total > 0 {
		environment.Memory = &wandblog.Memory{Total: total}
	}
	if s.Mode == Offline || s.Mode == Online {
		for _, record := range []*wandblog.Record{
			{Header: &wandblog.Header{Version: &wandblog.Version{Producer: Version, MinConsumer: "0.70.0"}}},
			{Run: run},
			{Telemetry: telemetry},
			{Environment: environment},
		} {
			if err := r.append(record); err != nil {
				return err
			}
		}
	}
	if earlier {
		return r.carryOn()
	}
	return nil
}

// carryOn writes what earlier logs have set, so that this log alone gives the whole.
func (r *Run) carryOn() error {
	if items := items(nil, r.state.config); len(items) > 0 {
		if err := r.append(&wandblog.Record{Config: &wandblog.Config{Update: items}}); err != nil {
			return err
		}
	}
	for _, m := range slices.Clone(r.state.metrics) {
		if err := r.append(&wandblog.Record{Metric: m}); err != nil {
			return err
		}
	}
	if items := items(nil, r.state.summary); len(items) > 0 {
		return r.append(&wandblog.Record{Summary: &wandblog.Summary{Update: items}})
	}
	return nil
}

// items lists the values of a tree with their paths.
func items(path []string, t tree) (list []*wandblog.Item) {
	for _, k := range slices.Sorted(maps.Keys(t)) {
		at := append(slices.Clone(path), k)
		switch v := t[k].(type) {
		case tree:
			list = append(list, items(at, v)...)
		case raw:
			list = append(list, &wandblog.Item{NestedKey: at, ValueJSON: string(v)})
		}
	}
	return list
}

// append writes a record, and wakes the uploader.
func (r *Run) append(record *wandblog.Record) error {
	if err := r.log.Append(record); err != nil {
		return err
	}
	r.state.apply(record)
	if r.uploader != nil {
		r.uploader.wake()
	}
	return nil
}

// do runs a method on the open log. A disabled run does nothing.
func (r *Run) do(fn func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.log == nil {
		return nil
	}
	if r.finished {
		return ErrFinished
	}
	return fn()
}

func (r *Run) logPath() string { return filepath.Join(r.dir, "run-"+r.settings.ID+".wandb") }

// ID names the run on the server.
func (r *Run) ID() string { return r.settings.ID }

// Dir is the directory of the run, which Sync takes. It is "" if the run is disabled.
func (r *Run) Dir() string { return r.dir }

// Step is the lowest step that Log takes: above all steps of this log and of earlier
// ones of the run in the same root.
func (r *Run) Step() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.step + 1
}

// URL is the page of the run. It is "" until the server has answered, and offline.
func (r *Run) URL() string {
	if r.uploader == nil {
		return ""
	}
	return r.uploader.url()
}

// Stopped is closed when somebody presses the stop button of the run's page.
func (r *Run) Stopped() <-chan struct{} { return r.stopped }

// Config sets values of the configuration. Values are anything with a form in JSON;
// maps become objects.
func (r *Run) Config(values map[string]any) error {
	return r.do(func() error {
		var update []*wandblog.Item
		for _, key := range slices.Sorted(maps.Keys(values)) {
			text, err := encode(values[key])
			if err != nil {
				return fmt.Errorf("config %s: %w", key, err)
			}
			update = append(update, &wandblog.Item{NestedKey: []string{key}, ValueJSON: text})
		}
		if len(update) == 0 {
			return nil
		}
		return r.append(&wandblog.Record{Config: &wandblog.Config{Update: update}})
	})
}

// Metric says how a metric is drawn and what of it the summary has.
type Metric struct {
	Name    string   // with a star at its end, all metrics that begin so and are not defined by name
	Step    string   // the metric on the x axis; rows that lack it get its last value
	Summary []string // of "min", "max", "mean", "first", "last", "none"; by default the last value
	Hidden  bool     // no panel of its own
}

// DefineMetric says how a metric is drawn. Rows that are logged afterwards follow it.
func (r *Run) DefineMetric(m Metric) error {
	return r.do(func() error {
		record := &wandblog.Metric{
			Name: m.Name, StepMetric: m.Step,
			Options: &wandblog.MetricOptions{StepSync: m.Step != "", Hidden: m.Hidden, Defined: true},
		}
		switch before, pattern := strings.CutSuffix(m.Name, "*"); {
		case m.Name == "" || strings.Contains(before, "*"):
			return fmt.Errorf("the metric %q is neither a name nor the begin of names with a star at its end", m.Name)
		case pattern:
			record.Name, record.Glob = "", m.Name
		}
		if len(m.Summary) > 0 {
			record.Summary = &wandblog.MetricSummary{}
		}
		for _, s := range m.Summary {
			switch s {
			case "min":
				record.Summary.Min = true
			case "max":
				record.Summary.Max = true
			case "mean":
				record.Summary.Mean = true
			case "first":
				record.Summary.First = true
			case "last":
				record.Summary.Last = true
			case "none":
				record.Summary.None = true
			default:
				return fmt.Errorf("the summary of metric %s is %q, not min, max, mean, first, last or none", m.Name, s)
			}
		}
		if m.Step != "" && r.metrics[m.Step] == nil {
			step := &wandblog.Metric{Name: m.Step, Options: &wandblog.MetricOptions{Defined: true}}
			r.define(step)
			if err := r.append(&wandblog.Record{Metric: step}); err != nil {
				return err
			}
		}
		r.define(record)
		return r.append(&wandblog.Record{Metric: record})
	})
}

// define takes up the definition of a metric or of a pattern.
func (r *Run) define(m *wandblog.Metric) {
	if m.Glob == "" {
		r.metrics[m.Name] = r.metricFrom(m)
		return
	}
	r.patterns = append(r.patterns, m)
}

// metric is what is defined for a metric, by its name or else by a pattern; nil for none.
func (r *Run) metric(key string) *metric {
	if m := r.metrics[key]; m != nil || strings.HasPrefix(key, "_") {
		return m
	}
	for _, p := range r.patterns {
		if strings.HasPrefix(key, strings.TrimSuffix(p.Glob, "*")) {
			one := *p
			one.Name, one.Glob = key, ""
			r.metrics[key] = r.metricFrom(&one)
			return r.metrics[key]
		}
	}
	return nil
}

// metricFrom takes up what the summary has of a metric.
func (r *Run) metricFrom(m *wandblog.Metric) *metric {
	known := &metric{defined: m, min: math.Inf(1), max: math.Inf(-1)}
	if old := r.state.summary.copyOf(m.Name); m.Summary != nil {
		if _, there := old["min"]; there {
			known.min = old.number("min")
		}
		if _, there := old["max"]; there {
			known.max = old.number("max")
		}
	}
	return known
}

// Log writes one row. Its step has to be above that of the row before. A value is
// anything with a form in JSON, NaN included, or one of *Image, []*Image, *Table and
// *Histogram. The summary gets the last value of each, or what DefineMetric says.
//
// A row has the time of the call. The keys "_timestamp", in Unix seconds, and
// "_runtime", in seconds since the start, give it another.
func (r *Run) Log(step int64, values map[string]any) error {
	return r.do(func() error {
		if step <= r.state.step {
			return fmt.Errorf("step %d does not follow step %d", step, r.state.step)
		}
		row := map[string]any{}
		maps.Copy(row, values)
		now, given := seconds(row["_timestamp"])
		if !given {
			now = unix(time.Now())
		}
		row["_timestamp"] = now
		if _, given := row["_runtime"]; !given {
			row["_runtime"] = max(0, now-unix(r.settings.Start)) + float64(r.state.runtimeBefore())
		}
		row["_step"] = step
		texts := map[string]string{}
		for _, key := range slices.Sorted(maps.Keys(row)) {
			text, err := r.value(key, step, row[key])
			if err != nil {
				return fmt.Errorf("logging %s at step %d: %w", key, step, err)
			}
			texts[key] = text
		}
		for _, key := range slices.Sorted(maps.Keys(row)) {
			m := r.metric(key)
			if m == nil || m.defined.StepMetric == "" {
				continue
			}
			if _, there := texts[m.defined.StepMetric]; !there && r.last[m.defined.StepMetric] != "" {
				texts[m.defined.StepMetric] = r.last[m.defined.StepMetric]
			}
		}
		history := &wandblog.History{Step: &wandblog.Step{Num: step}}
		summary := &wandblog.Summary{}
		for _, key := range slices.Sorted(maps.Keys(texts)) {
			history.Item = append(history.Item, &wandblog.Item{NestedKey: []string{key}, ValueJSON: texts[key]})
			summary.Update = append(summary.Update, r.summarize(key, texts[key])...)
			r.last[key] = texts[key]
		}
		summary.Update = append(summary.Update, runtimeItem(r.state.runtime))
		if err := r.append(&wandblog.Record{Summary: summary}); err != nil {
			return err
		}
		return r.append(&wandblog.Record{History: history})
	})
}

func runtimeItem(runtime float64) *wandblog.Item {
	return &wandblog.Item{NestedKey: []string{"_wandb", "runtime"}, ValueJSON: strconv.Itoa(int(runtime))}
}

// runtimeBefore is what earlier logs took, in seconds.
func (p *replay) runtimeBefore() int32 {
	if p.run == nil {
		return 0
	}
	return p.run.Runtime
}

func unix(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

func seconds(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case int64:
		return float64(n), true
	case int:
		return float64(n), true
	}
	return 0, false
}

// summarize is what the summary gets of a value in a row.
func (r *Run) summarize(key, text string) []*wandblog.Item {
	plain := []*wandblog.Item{{NestedKey: []string{key}, ValueJSON: text}}
	m := r.metric(key)
	if m == nil || m.defined.Summary == nil {
		return plain
	}
	f, err := strconv.ParseFloat(text, 64) // NaN and Infinity as well
	if err != nil || m.defined.Summary.None {
		return nil
	}
	s := m.defined.Summary
	var update []*wandblog.Item
	put := func(name string, value float64) {
		update = append(update, &wandblog.Item{NestedKey: []string{key, name}, ValueJSON: string(appendNumber(nil, value, 64))})
	}
	if s.First && m.count == 0 && len(r.state.summary.copyOf(key)) == 0 {
		put("first", f)
	}
	if s.Last {
		put("last", f)
	}
	m.count++
	m.sum += f
	if s.Mean {
		put("mean", m.sum/m.count)
	}
	if s.Min && f < m.min { // never NaN
		m.min = f
		put("min", f)
	}
	if s.Max && f > m.max {
		m.max = f
		put("max", f)
	}
	return update
}

// Summary sets values of the summary, which stay until they are set again. Values are
// as in Log.
func (r *Run) Summary(values map[string]any) error {
	return r.do(func() error {
		var update []*wandblog.Item
		for _, key := range slices.Sorted(maps.Keys(values)) {
			text, err := r.value(key, max(0, r.state.step), values[key])
			if err != nil {
				return fmt.Errorf("summary %s: %w", key, err)
			}
			update = append(update, &wandblog.Item{NestedKey: []string{key}, ValueJSON: text})
		}
		if len(update) == 0 {
			return nil
		}
		return r.append(&wandblog.Record{Summary: &wandblog.Summary{Update: update}})
	})
}

// Output adds a line to the console text of the run. The time is that of the line; zero
// is now.
func (r *Run) Output(line string, isError bool, at time.Time) error {
	return r.do(func() error {
		if at.IsZero() {
			at = time.Now()
		}
		kind := int32(1)
		if isError {
			kind = 0
		}
		for line := range strings.Lines(line) {
			record := &wandblog.OutputRaw{Type: kind, Timestamp: wandblog.At(at), Line: strings.TrimRight(line, "\r\n") + "\n"}
			if err := r.append(&wandblog.Record{OutputRaw: record}); err != nil {
				return err
			}
		}
		return nil
	})
}

// System adds system metrics. Names are those of W&B without the prefix "system.", as
// "cpu" and "gpu.0.temp". A zero time is now.
func (r *Run) System(values map[string]float64, at time.Time) error {
	return r.do(func() error {
		if at.IsZero() {
			at = time.Now()
		}
		stats := &wandblog.Stats{Timestamp: wandblog.At(at)}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			stats.Item = append(stats.Item, &wandblog.StatsItem{Key: key, ValueJSON: string(appendNumber(nil, values[key], 64))})
		}
		if len(stats.Item) == 0 {
			return nil
		}
		return r.append(&wandblog.Record{Stats: stats})
	})
}

// Level says how much an alert matters.
type Level string

const (
	Info  Level = "INFO"
	Warn  Level = "WARN"
	Error Level = "ERROR"
)

// Alert sends a message to the people who follow the run, by the ways that they have
// chosen on the server. A second one of the same title within wait is not sent.
func (r *Run) Alert(title, text string, level Level, wait time.Duration) error {
	return r.do(func() error {
		return r.append(&wandblog.Record{Alert: &wandblog.Alert{Title: title, Text: text, Level: string(level), Wait: int64(wait)}})
	})
}

// Preempting says that the machine is about to be taken from the run.
func (r *Run) Preempting() error {
	return r.do(func() error { return r.append(&wandblog.Record{Preempting: &wandblog.Empty{}}) })
}

// File adds a file to the run, under a path with slashes.
func (r *Run) File(path string, content io.Reader) error {
	return r.do(func() error {
		if err := r.write(path, content); err != nil {
			return err
		}
		return r.append(filesRecord(path, wandblog.TypeOther))
	})
}

func filesRecord(path string, kind int32) *wandblog.Record {
	return &wandblog.Record{Files: &wandblog.Files{Files: []*wandblog.File{{Path: path, Policy: wandblog.PolicyNow, Type: kind}}}}
}

// write makes a file in files/. It is there whole or not at all.
func (r *Run) write(path string, content io.Reader) error {
	if !filepath.IsLocal(filepath.FromSlash(path)) || path == "." || strings.ContainsAny(path, `[]\`) {
		return fmt.Errorf("a file of a run cannot be called %q", path)
	}
	to := filepath.Join(r.dir, "files", filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return writeWhole(to, content)
}

// writeWhole replaces a file in one step.
func writeWhole(path string, content io.Reader) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = io.Copy(f, content); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Finish ends the run with an exit code; a run that failed has another than 0. In online
// mode it then sends what is left. It waits for that until ctx is done, and no longer
// than the server is away for ten seconds; NotSentError says that something is left for
// Sync. The log is complete in any case.
func (r *Run) Finish(ctx context.Context, exitCode int) error {
	err := r.do(func() error {
		runtime := max(r.state.runtime, float64(int(time.Since(r.settings.Start).Seconds()))+float64(r.state.runtimeBefore()))
		if r.state.step >= 0 { // of rows that have times of their own
			runtime = r.state.runtime
		}
		r.finished = true
		defer r.log.Close()
		for _, record := range []*wandblog.Record{
			{Summary: &wandblog.Summary{Update: []*wandblog.Item{runtimeItem(runtime)}}},
			{Exit: &wandblog.Exit{Code: int32(exitCode), Runtime: int32(runtime)}},
			{Final: &wandblog.Empty{}},
			{Footer: &wandblog.Empty{}},
		} {
			if err := r.append(record); err != nil {
				return err
			}
		}
		return nil
	})
	if r.log == nil {
		return err
	}
	if r.uploader != nil {
		err = errors.Join(err, r.uploader.finish(ctx, r.stop))
	}
	r.stop()
	r.sampling.Wait()
	return err
}

// sample logs system metrics until ctx is done.
func (r *Run) sample(ctx context.Context) {
	var s Sampler
	s.Sample(ctx) // processor time is a difference
	tick := time.NewTicker(r.settings.SystemInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if r.System(s.Sample(ctx), time.Time{}) != nil {
				return
			}
		}
	}
}

func parseStamp(text string) (time.Time, error) {
	return time.ParseInLocation(stampForm, text, time.Local)
}
