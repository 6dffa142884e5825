package track

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/samplesheet"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/wandb"
	"github.com/loralab/loralab/runner/wandb/wandblog"
)

// WandB is the sink of Weights & Biases. A run is one run there, whose id follows from its
// identity. Which steps it has, its logs below wandb/ say; which evaluations and ends, a
// file of our own next to them.
type WandB struct {
	settings wandb.Settings
	own      bool // id, resume and sweep are of the environment, for a single run
	say      func(string)

	project string // root

	mu      sync.Mutex
	urls    []string
	logs    []string
	other   []elsewhere
	trouble wandb.NoticeKind // that was said last: Away or Failed
}

// elsewhere are runs of an experiment that are in the group of another one.
type elsewhere struct {
	group, experiment string
	runs              map[string]bool
}

// NewWandB makes the sink of one command. Settings of the environment win over those of
// the experiment. Single says that the command has one run alone. Say is called with
// lines for people, from any goroutine. The sink is nil where the mode is "disabled".
func NewWandB(project string, t experiment.TrackWandB, getenv func(string) string, single bool, say func(string)) (*WandB, error) {
	root := cmp.Or(getenv("WANDB_DIR"), project)
	s, err := wandb.Environment(root, getenv)
	if err != nil {
		return nil, err
	}
	s.Root, s.Getenv = root, getenv
	if getenv("WANDB_PROJECT") == "" {
		s.Project = cmp.Or(t.Project, "loralab")
	}
	if getenv("WANDB_ENTITY") == "" && t.Entity != "" {
		s.Entity = t.Entity
	}
	if getenv("WANDB_MODE") == "" {
		s.Mode = cmp.Or(wandb.Mode(t.Mode), s.Mode, wandb.Online)
	}
	if s.Mode == wandb.Disabled {
		return nil, nil
	}
	if s.Mode == wandb.Online && s.Key.IsZero() {
		say(fmt.Sprintf("W&B: %v; runs are logged offline", wandb.ErrNoKey))
		s.Mode = wandb.Offline
	}
	if !single {
		s.ID, s.Resume = "", ""
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	if !single && (getenv("WANDB_RUN_ID") != "" || getenv("WANDB_RESUME") != "") {
		say("W&B: WANDB_RUN_ID and WANDB_RESUME are for a single run, and are ignored")
	}
	return &WandB{settings: s, own: single, say: say, project: project}, nil
}

// Offline reports whether runs are logged on disk alone.
func (w *WandB) Offline() bool { return w.settings.Mode == wandb.Offline }

// Lacking is how many of some runs have no log. One that is in the group of another
// experiment is kept for Where.
func (w *WandB) Lacking(runs []Run) (int, error) {
	logs, err := w.logsOf(runs)
	if err != nil {
		return 0, err
	}
	lacking := map[string]bool{}
	for i := range runs {
		if of := logs[w.idOf(&runs[i])]; len(of) > 0 {
			w.groupOf(of[0], &runs[i])
		} else {
			lacking[runs[i].ID] = true
		}
	}
	return len(lacking), nil
}

// logsOf are the logs of runs, by their ids there.
func (w *WandB) logsOf(runs []Run) (map[string][]string, error) {
	var ids []string
	for i := range runs {
		ids = append(ids, w.idOf(&runs[i]))
	}
	logs, err := wandb.Logs(w.settings.Root, ids...)
	if err != nil {
		return nil, fmt.Errorf("reading the logs of W&B: %w", err)
	}
	return logs, nil
}

// groupOf is the group of a run that has a log, "" where that is not known.
func (w *WandB) groupOf(log string, run *Run) string {
	first, err := wandblog.ReadRun(log)
	if err != nil {
		return ""
	}
	if first.Group != "" && w.settings.Group == "" && first.Group != run.Experiment {
		w.shared(first.Group, run.Experiment, run.ID)
	}
	return first.Group
}

// WaitFor says how long Push waits for a server that does not answer; it is not called
// while runs are shown.
func (w *WandB) WaitFor(d time.Duration) { w.settings.Wait = d }

// idOf is the id of a run there.
func (w *WandB) idOf(run *Run) string {
	if w.own && w.settings.ID != "" {
		return w.settings.ID
	}
	return run.ID[:16]
}

// send sends what the server lacks of runs that were logged, and says what came of each.
func (w *WandB) send(ctx context.Context, runs []Shown) []error {
	failed := make([]error, len(runs))
	of := map[string][]int{} // runs by the directory of a log
	var logs []string
	var all []Run
	for _, s := range runs {
		all = append(all, s.Run)
	}
	byID, err := w.logsOf(all)
	for i := range all {
		own := byID[w.idOf(&all[i])]
		switch {
		case err != nil:
			failed[i] = err
		case len(own) == 0:
			failed[i] = fmt.Errorf("its log is not in %s any more", filepath.Join(w.settings.Root, "wandb"))
		}
		for _, log := range own {
			dir := filepath.Base(filepath.Dir(log))
			if of[dir] == nil {
				logs = append(logs, log)
			}
			of[dir] = append(of[dir], i)
		}
	}
	if len(logs) == 0 {
		return failed
	}
	s := w.settings
	s.Notice = func(n wandb.Notice) {
		if n.Kind == wandb.Away || n.Kind == wandb.Renamed { // all else is in the results
			w.say("W&B: " + n.Text)
		}
	}
	results, err := wandb.Sync(ctx, s, logs...)
	if len(results) == 0 && err != nil {
		for i := range failed {
			failed[i] = cmp.Or(failed[i], err)
		}
		return failed
	}
	for _, r := range results {
		for _, i := range of[filepath.Base(r.Dir)] {
			failed[i] = cmp.Or(failed[i], r.Err)
			if r.Err == nil && r.URL != "" {
				w.show(r.URL + " (" + runs[i].Run.Name() + ")")
			}
		}
	}
	if err := KeepPages(w.settings.Root, results); err != nil {
		w.say("W&B: " + err.Error())
	}
	return failed
}

// show keeps the address of a page for Where, and reports whether it is to be said now:
// it is new and one of few.
func (w *WandB) show(url string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Contains(w.urls, url) {
		return false
	}
	w.urls = append(w.urls, url)
	return len(w.urls) <= mostURLs
}

// Name is "W&B".
func (*WandB) Name() string { return "W&B" }

// mostURLs are named.
const mostURLs = 5

// Where are the pages of the runs, or the command that sends what was logged offline.
func (w *WandB) Where([]string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for i, url := range w.urls {
		if i == mostURLs {
			lines = append(lines, fmt.Sprintf("… and %d more", len(w.urls)-i))
			break
		}
		lines = append(lines, url)
	}
	if w.settings.Mode == wandb.Offline && len(w.logs) > 0 {
		lines = append(lines, "logged in "+w.shown(filepath.Join(w.settings.Root, "wandb"))+", and sent by: runner track sync")
	}
	for _, o := range w.other {
		n := len(o.runs)
		lines = append(lines, fmt.Sprintf("%s of %s %s in the group %s, whose experiment has the same %s", plural.Of(n, "run"), o.experiment, plural.Form(n, "is", "are"), o.group, plural.Form(n, "run", "runs")))
	}
	return lines
}

// shared keeps for Where that a run is in the group of another experiment.
func (w *WandB) shared(group, experiment, run string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.other, func(o elsewhere) bool { return o.group == group && o.experiment == experiment })
	if i < 0 {
		i = len(w.other)
		w.other = append(w.other, elsewhere{group, experiment, map[string]bool{}})
	}
	w.other[i].runs[run] = true
}

// shown is a path for people: from the root of the project, if it is below that.
func (w *WandB) shown(path string) string {
	if rel, err := filepath.Rel(w.project, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// Open prepares a run.
func (w *WandB) Open(_ context.Context, run *Info) (Session, error) {
	s := &page{sink: w, info: run, id: w.idOf(&run.Run)}
	at := filepath.Join(w.settings.Root, "wandb", "loralab")
	if err := os.MkdirAll(at, 0o777); err != nil {
		return nil, fmt.Errorf("opening the logs of W&B: %w", err)
	}
	var err error
	if s.dir, err = os.OpenRoot(at); err != nil {
		return nil, fmt.Errorf("opening the logs of W&B: %w", err)
	}
	s.name = plainName(w.settings.Project + "-" + s.id)
	if s.lock, err = hold(s.dir, s.name+".lock"); err != nil {
		return nil, errors.Join(err, s.dir.Close())
	}
	if err := s.remember(); err != nil {
		return nil, errors.Join(err, s.lock.Close(), s.dir.Close())
	}
	return s, nil
}

// remember reads what the logs have of the run. Without a log they have nothing.
func (s *page) remember() error {
	all, err := s.sink.logsOf([]Run{s.info.Run})
	if err != nil {
		return err
	}
	logs := all[s.id]
	if len(logs) == 0 {
		return nil
	}
	s.group = s.sink.groupOf(logs[0], &s.info.Run)
	for _, log := range logs {
		if _, err := os.Stat(log + ".synced"); err != nil {
			s.sink.mu.Lock()
			s.sink.logs = append(s.sink.logs, filepath.Dir(log))
			s.sink.mu.Unlock()
		}
	}
	text, err := s.dir.ReadFile(s.name + ".json")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s.has)
	}
	if err != nil {
		return fmt.Errorf("%s, which says what was logged for W&B, cannot be read (%w): remove it, and the domains of the run are logged again", s.sink.shown(filepath.Join(s.dir.Name(), s.name+".json")), err)
	}
	return nil
}

// plainName is a name without what files cannot have.
func plainName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, s)
}

// page is a run of W&B.
type page struct {
	sink *WandB
	info *Info
	id   string
	name string
	// group is that of the first log of the run: another experiment with the run
	// leaves it there. "" without a log.
	group string
	dir   *os.Root
	lock  *os.File
	has   []string   // keys
	run   *wandb.Run // nil until there is something to log
	code  int

	domains []*Scores // of this session
	alerted bool      // that the loss is no number
	// ended ends the goroutine that waits for the stop button, which closes waited.
	ended, waited chan struct{}
}

func (s *page) Has(key string) bool { return slices.Contains(s.has, key) }

// note keeps that W&B has the Scores or End of a key.
func (s *page) note(key string) error {
	s.has = append(s.has, key)
	text, err := json.Marshal(s.has)
	if err == nil {
		err = replacefile.WriteIn(s.dir, s.name+".json", text)
	}
	return err
}

// begin begins a log.
func (s *page) begin() error {
	if s.run != nil {
		return nil
	}
	t := s.sink.settings
	t.ID, t.Commit, t.Resume = s.id, s.info.Commit, wandb.ResumeAllow
	if s.sink.own {
		t.Resume = cmp.Or(s.sink.settings.Resume, t.Resume)
	} else {
		t.SweepID = ""
		t.Getenv = func(name string) string { // Init reads it again
			if name == "WANDB_SWEEP_ID" {
				return ""
			}
			return s.sink.settings.Getenv(name)
		}
	}
	repeat := strings.TrimPrefix(s.info.Name(), s.info.Experiment+"/")
	t.Name = strings.TrimSpace(t.Name + " " + repeat)
	t.Group = cmp.Or(t.Group, s.group, s.info.Experiment)
	job := "train"
	if s.info.Search {
		job = "search"
	}
	t.JobType = cmp.Or(t.JobType, job)
	t.Tags = append(slices.Clone(t.Tags), s.info.Experiment)
	if len(s.info.Command) > 0 {
		t.Program, t.Args = s.info.Command[0], s.info.Command[1:]
	}
	if !s.info.Late {
		t.SystemInterval = 15 * time.Second
	} else {
		t.Start, t.Mode = s.info.Started, wandb.Offline // Push sends it
	}
	t.Notice = s.notice
	run, err := wandb.Init(context.Background(), t)
	if err != nil {
		return err
	}
	s.run = run
	s.sink.mu.Lock()
	s.sink.logs = append(s.sink.logs, run.Dir())
	s.sink.mu.Unlock()
	if s.info.Stop != nil {
		s.ended, s.waited = make(chan struct{}), make(chan struct{})
		go s.heed()
	}
	return errors.Join(s.run.Config(s.config()), s.metrics(), s.files())
}

// heed waits for the stop button of the page.
func (s *page) heed() {
	defer close(s.waited)
	select {
	case <-s.run.Stopped():
		s.sink.say("W&B: " + s.info.Name() + " was stopped on its page: stopping after a checkpoint")
		s.info.Stop()
	case <-s.ended:
	}
}

func (s *page) notice(n wandb.Notice) {
	if n.Kind == wandb.Started {
		if err := keepPage(s.dir, s.name, Page{Run: s.info.ID, URL: n.Text}); err != nil {
			s.sink.say("W&B: " + err.Error())
		}
		n.Text += " (" + s.info.Name() + ")"
		if !s.sink.show(n.Text) {
			return
		}
	}
	if n.Kind == wandb.Failed || n.Kind == wandb.Away {
		// Of one server, and not of one run.
		s.sink.mu.Lock()
		known := s.sink.trouble == n.Kind
		s.sink.trouble = n.Kind
		s.sink.mu.Unlock()
		if known {
			return
		}
	}
	s.sink.say("W&B: " + n.Text)
}

// config is the resolved configuration, nested as in the file, and what names the run.
func (s *page) config() map[string]any {
	c := map[string]any{
		"experiment": s.info.Experiment, "cell": s.info.Cell, "seed": s.info.Seed, "identity": s.info.ID,
	}
	if n, ok := s.info.Fold.Number(); ok {
		c["fold"] = n
	}
	for _, v := range s.info.Config {
		at := c
		path := strings.Split(v.Path, ".")
		for _, key := range path[:len(path)-1] {
			below, ok := at[key].(map[string]any)
			if !ok {
				below = map[string]any{}
				at[key] = below
			}
			at = below
		}
		var value any
		if err := json.Unmarshal(v.Value, &value); err != nil {
			value = string(v.Value)
		}
		at[path[len(path)-1]] = value
	}
	return c
}

// metrics says which end of a metric the summary has.
func (s *page) metrics() error {
	best := "max"
	if metric.Better(s.info.Metric, 0, 1) {
		best = "min"
	}
	return errors.Join(
		s.run.DefineMetric(wandb.Metric{Name: "epoch"}),
		s.run.DefineMetric(wandb.Metric{Name: "val/" + s.info.Metric, Summary: []string{best, "last"}}),
	)
}

// files adds the text of the experiment and the specification.
func (s *page) files() error {
	var err error
	if s.info.Source != "" {
		err = s.run.File("experiment.cue", strings.NewReader(s.info.Source))
	}
	text, e := rundir.MarshalFile(s.info.Spec)
	if e == nil {
		e = s.run.File("spec.json", strings.NewReader(string(text)))
	}
	return errors.Join(err, e)
}

func (s *page) Last() (int64, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	return s.run.Step() - 1, nil
}

// Row logs the values of a step, and its lines as console text.
func (s *page) Row(row *Row) error {
	if err := s.begin(); err != nil {
		return err
	}
	for _, l := range row.Lines {
		if err := s.run.Output(l.Text, l.Warning, row.Time); err != nil {
			return err
		}
	}
	if len(row.Values) == 0 {
		return nil
	}
	values := map[string]any{}
	for tag, v := range row.Values {
		values[tag] = v
	}
	if images := masked(row.Samples, s.info.Spec.GetData().GetClasses(), "validation"); len(images) > 0 {
		values[validationTag] = images
	}
	s.at(values, row.Time)
	err := s.run.Log(row.Step, values)
	if loss := row.Values["train/loss"]; (math.IsNaN(loss) || math.IsInf(loss, 0)) && !s.alerted && !s.info.Late {
		s.alerted = true
		text := fmt.Sprintf("The training loss at step %d is %v.", row.Step, loss)
		err = errors.Join(err, s.run.Alert("the loss of "+s.info.Name()+" is not a number", text, wandb.Warn, 0))
	}
	return err
}

// at gives a row of a run that was over before its own time.
func (s *page) at(values map[string]any, at time.Time) {
	if s.info.Late {
		values["_timestamp"] = float64(at.UnixMicro()) / 1e6
		values["_runtime"] = max(0, at.Sub(s.info.Started).Seconds())
	}
}

// masked are pictures with the truth and the prediction as masks, which the pages of W&B
// draw over the image and turn on and off. All have one size, or there are none.
func masked(all []samplesheet.Parts, classes []string, of string) []*wandb.Image {
	names := map[uint8]string{raster.Ignored: "ignored"}
	for i, c := range classes[:min(len(classes), raster.Ignored)] {
		names[uint8(i)] = c
	}
	var images []*wandb.Image
	for i, p := range all {
		size := all[0].Image.Bounds().Size()
		if p.Image.Bounds().Size() != size || p.Truth.Rect.Size() != size || p.Prediction.Rect.Size() != size {
			return nil
		}
		images = append(images, &wandb.Image{
			Picture: p.Image, Caption: fmt.Sprintf("%s, image %d", of, i+1),
			Masks: map[string]wandb.Mask{
				"prediction":   {Labels: gray(p.Prediction), Classes: names},
				"ground_truth": {Labels: gray(p.Truth), Classes: names},
			},
		})
	}
	return images
}

// gray is a mask whose pixels are the numbers of classes.
func gray(m *image.Paletted) *image.Gray {
	return &image.Gray{Pix: m.Pix, Stride: m.Stride, Rect: m.Rect}
}

// Scores puts the metrics of a domain into the summary, and logs the pictures of its
// samples in a row behind the steps.
func (s *page) Scores(scores *Scores) error {
	if err := s.begin(); err != nil {
		return err
	}
	summary := map[string]any{}
	for tag, v := range tagged(domainTags+scores.Domain+"/", scores.Metrics) {
		summary[tag] = v
	}
	if err := s.run.Summary(summary); err != nil {
		return err
	}
	parts, err := scores.parts()
	if err != nil {
		return err
	}
	var classes []string
	for _, c := range scores.Metrics.GetClasses() {
		classes = append(classes, c.GetName())
	}
	values := map[string]any{}
	if images := masked(parts, classes, scores.Domain); len(images) > 0 {
		values[sampleTags+scores.Domain] = images
	} else if scores.Sample != "" {
		text, err := os.ReadFile(scores.Sample)
		if err != nil {
			return fmt.Errorf("reading samples: %w", err)
		}
		values[sampleTags+scores.Domain] = &wandb.Image{PNG: text, Caption: scores.Domain + ": image, truth, prediction, errors"}
	}
	if len(values) > 0 {
		s.at(values, scores.Time)
		if err := s.run.Log(max(s.run.Step(), scores.Step), values); err != nil {
			return err
		}
	}
	if err := s.curves(scores); err != nil {
		return err
	}
	s.domains = append(s.domains, scores)
	return s.note(scores.Key)
}

// curves logs the points of curves over the severity of corruptions in a row of their
// own, with the severity as the metric of their x axis.
func (s *page) curves(scores *Scores) error {
	v, ok := metric.Value(scores.Metrics, s.info.Metric)
	if !ok || len(scores.Severities) == 0 {
		return nil
	}
	const x = severityTags + "severity"
	values := map[string]any{}
	for _, at := range scores.Severities {
		tag := severityTags + at.Corruption + "/" + s.info.Metric
		if err := s.run.DefineMetric(wandb.Metric{Name: tag, Step: x}); err != nil {
			return err
		}
		values[tag], values[x] = v, at.Severity
	}
	s.at(values, scores.Time)
	return s.run.Log(max(s.run.Step(), scores.Step), values)
}

// End puts the best values into the summary, and for a trained run the domains as a table
// and the adapter as an artifact. It decides on the exit code.
func (s *page) End(_ context.Context, end *End) error {
	if err := s.begin(); err != nil {
		return err
	}
	var err error
	switch end.State {
	case store.Done:
		err = s.trained(end)
	case store.Failed:
		s.code = 1
		err = errors.Join(s.run.Output("failed: "+end.Reason, true, end.Time), s.run.Alert(s.info.Name()+" failed", end.Reason, wandb.Error, 0))
	case store.Stopped:
		s.code = 255 // as the official client has it after Ctrl-C
		if end.Preempted {
			err = s.run.Preempting()
		}
	}
	return errors.Join(err, s.note(end.Key))
}

func (s *page) trained(end *End) error {
	sum := end.Summary
	summary := map[string]any{
		"best/step": sum.GetBestStep(), "steps": sum.GetSteps(), "seconds": sum.GetSeconds(),
		"images_per_second": sum.GetImagesPerSecond(), "peak_memory_bytes": sum.GetPeakMemory(),
		"params/adapter": sum.GetAdapterParams(), "params/head": sum.GetHeadParams(), "params/backbone": sum.GetBackboneParams(),
	}
	for tag, v := range tagged("best/val/", sum.GetValidation()) {
		summary[tag] = v
	}
	if err := s.run.Summary(summary); err != nil {
		return err
	}
	if len(s.domains) > 1 {
		table := &wandb.Table{Columns: []string{"domain"}}
		values := make([]map[string]float64, len(s.domains))
		for i, d := range s.domains {
			values[i] = maps.Collect(tagged("", d.Metrics))
			for _, tag := range slices.Sorted(maps.Keys(values[i])) {
				if !slices.Contains(table.Columns, tag) {
					table.Columns = append(table.Columns, tag)
				}
			}
		}
		for i, d := range s.domains {
			row := []any{d.Domain}
			for _, tag := range table.Columns[1:] {
				if v, ok := values[i][tag]; ok {
					row = append(row, v)
				} else {
					row = append(row, nil)
				}
			}
			table.Rows = append(table.Rows, row)
		}
		row := map[string]any{"domains": table}
		s.at(row, end.Time)
		if err := s.run.Log(s.run.Step(), row); err != nil {
			return err
		}
	}
	files := map[string]string{}
	for _, name := range []string{rundir.Adapter, rundir.Program, rundir.Head} {
		path := rundir.Dir(s.info.Dir).Path(name)
		if _, err := os.Stat(path); err == nil {
			files[name] = path
		}
	}
	if len(files) == 0 {
		return nil
	}
	score, _ := metric.Value(sum.GetValidation(), s.info.Metric)
	return s.run.Artifact(wandb.Artifact{
		Name: "model-" + s.id, Type: "model", Aliases: []string{"best"}, Files: files,
		Metadata: map[string]any{"identity": s.info.ID, "step": sum.GetBestStep(), s.info.Metric: score, "files": sum.GetFiles()},
	})
}

// Close ends the log, and waits until it is sent.
func (s *page) Close(ctx context.Context) error {
	var err error
	if s.run != nil {
		err = s.run.Finish(ctx, s.code)
	}
	if s.ended != nil {
		close(s.ended)
		<-s.waited
	}
	return errors.Join(err, s.lock.Close(), s.dir.Close())
}
