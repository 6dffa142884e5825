package view

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/lipgloss"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/store"
)

// redrawEvery bounds how often bars are drawn.
const redrawEvery = 100 * time.Millisecond

// Progress shows runs as they go: bars that are drawn over on a terminal, a
// line for each epoch elsewhere, or for each validation where these are counted in
// steps.
type Progress struct {
	v       *View
	metrics map[string]string // experiment -> what it shows
	numbers map[string]int    // of runs, by identity
	more    Expected
	fixed   int // runs that are no matter of more
	name    int // columns for the name of a run

	mu       sync.Mutex
	trained  []time.Duration   // of the runs that were trained here
	uncached map[string]bool   // reasons that were shown
	ended    map[string]bool   // runs, by identity
	names    map[string]string // of those that were done here, by identity
	drawn    int               // lines of bars on the screen
	drew     time.Time
	runs     []*progressRun // in progress, oldest first
	most     int            // at once
	waiting  string         // for whom
}

// progressRun is a run in progress.
type progressRun struct {
	job      *launch.Job
	began    time.Time
	state    string // while no step was made
	start    *spec.Started
	step     *spec.Step
	first    uint64 // step
	firstAt  time.Time
	lossSum  float64 // since the last line
	losses   int
	epoch    uint32
	told     uint32 // last epoch with a line
	metrics  *spec.Metrics
	evaluate []string
}

// Expected is what is known of jobs that a source will give: the runs of all that it
// has given and will give, and what to say of them.
type Expected interface {
	Expected() (runs int, note string)
}

// Progress shows jobs to come, and those that a source gives; nil for none.
// Metrics names, for each experiment, the metric to show.
func (v *View) Progress(jobs []*launch.Job, more Expected, metrics map[string]string) *Progress {
	p := &Progress{v: v, numbers: map[string]int{}, uncached: map[string]bool{}, ended: map[string]bool{}, names: map[string]string{}, more: more, metrics: metrics}
	for _, job := range jobs {
		p.number(job)
	}
	p.fixed = len(p.numbers)
	return p
}

// number is the place of a job among all.
func (p *Progress) number(job *launch.Job) int {
	n, known := p.numbers[job.Run.ID]
	if !known {
		n = len(p.numbers) + 1
		p.numbers[job.Run.ID] = n
		p.name = max(p.name, min(lipgloss.Width(shortName(job)), 30))
	}
	return n
}

// total is how many runs there are, and what the source says of them.
func (p *Progress) total() (int, string) {
	if p.more == nil {
		return len(p.numbers), ""
	}
	runs, note := p.more.Expected()
	return max(runs+p.fixed, len(p.numbers)), note
}

func shortName(job *launch.Job) string {
	return job.Run.Cell + " " + strings.ReplaceAll(job.Run.Repeat().String(), "/", " ")
}

// of is the run of a job, which may begin now.
func (p *Progress) of(job *launch.Job) *progressRun {
	for _, r := range p.runs {
		if r.job == job {
			return r
		}
	}
	r := &progressRun{job: job, began: time.Now()}
	p.runs = append(p.runs, r)
	p.most = max(p.most, len(p.runs))
	return r
}

// Watch shows an event.
func (p *Progress) Watch(e launch.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Wait != nil {
		p.wait(e.Wait)
		return
	}
	r := p.of(e.Job)
	p.waiting = ""
	force := true
	switch {
	case e.Start != nil:
		if !e.Start.When.IsZero() && e.Start.Attempt == 1 {
			r.began = e.Start.When
		}
		*r = progressRun{job: e.Job, began: r.began, state: "starting"}
	case e.Engine != nil:
		p.engine(e.Engine)
	case e.Slot != nil:
		p.runs = slices.DeleteFunc(p.runs, func(other *progressRun) bool { return other == r })
		p.print(p.v.warn.Render("warning:") + " " + e.Slot.Reason + "; the other engines continue")
	case e.Retry != nil:
		p.line(r, fmt.Sprintf("%s %s; try %d of %d", p.v.warn.Render("retrying:"), e.Retry.Reason, e.Retry.Attempt, e.Retry.Of))
	case e.End != nil:
		p.end(r, e.End)
	case e.Event != nil:
		force = p.said(r, e.Event)
	}
	p.draw(force)
}

// wait says once that others have what is left.
func (p *Progress) wait(h *store.Holder) {
	text := fmt.Sprintf("waiting for %s, which works on what is left", h)
	if text != p.waiting {
		p.print(p.v.dim.Render(text))
		p.waiting = text
		p.draw(true)
	}
}

// Note shows a line of text between the runs.
func (p *Progress) Note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print(text)
	p.draw(true)
}

// Close takes the bars off the screen.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.runs = nil
}

func (p *Progress) engine(info *spec.EngineInfo) {
	name := info.GetDevice()
	if n := info.GetDeviceName(); n != "" {
		name += " (" + n + ")"
	}
	text := fmt.Sprintf("engine on %s, libtorch %s", name, info.GetLibtorch())
	if n := info.GetThreads(); n > 0 {
		text += ", " + count(int(n), "thread")
	}
	p.print(p.v.dim.Render(text))
}

// said shows what the engine said, and reports whether bars must be drawn at
// once.
func (p *Progress) said(r *progressRun, event *spec.Event) bool {
	switch e := event.GetEvent().(type) {
	case *spec.Event_Started:
		r.start, r.state = e.Started, "preparing"
		if p.v.live {
			break
		}
		text := "started"
		if e.Started.GetStep() > 0 {
			text = fmt.Sprintf("goes on after step %d", e.Started.GetStep())
		}
		var parts []string
		for _, part := range []struct {
			n    uint64
			what string
		}{
			{e.Started.GetAdapterParams(), "adapter"},
			{e.Started.GetHeadParams(), "head"},
			{e.Started.GetBackboneParams(), "backbone"},
		} {
			if part.n > 0 {
				parts = append(parts, amount(part.n)+" "+part.what)
			}
		}
		if len(parts) > 0 {
			text += ": " + strings.Join(parts, " + ") + " parameters"
		}
		if n := e.Started.GetCachedBlocks(); n > 0 {
			text += fmt.Sprintf(", %s cached", count(int(n), "block"))
			if views := e.Started.GetCachedViews(); views > 1 {
				text += fmt.Sprintf(" for %d views of each image", views)
			}
		} else if why := e.Started.GetUncached(); why != "" && !p.uncached[why] {
			text += ", no block cached: " + why
			p.uncached[why] = true
		}
		p.line(r, text)
	case *spec.Event_Step:
		s := e.Step
		if r.step == nil {
			r.first, r.firstAt = s.GetStep(), time.Now()
		}
		switch {
		case r.job.Run.Spec.GetTrain().GetEvalSteps() > 0:
			r.epoch = s.GetEpoch()
		case s.GetEpoch() != r.epoch:
			if r.epoch > r.told {
				p.epoch(r, nil)
			}
			r.epoch, r.lossSum, r.losses = s.GetEpoch(), 0, 0
		}
		r.step = s
		r.lossSum += s.GetLoss()
		r.losses++
		return false
	case *spec.Event_Validation:
		r.metrics = e.Validation.GetMetrics()
		r.epoch = e.Validation.GetEpoch()
		p.epoch(r, e.Validation)
	case *spec.Event_Evaluated:
		r.evaluate = append(r.evaluate, e.Evaluated.GetDomain())
		r.state = "evaluating"
		if !p.v.live {
			text := "evaluated on " + e.Evaluated.GetDomain()
			if value, ok := p.value(r, e.Evaluated.GetMetrics()); ok {
				text += fmt.Sprintf(": %s %s", p.metric(r), score(value))
			}
			p.line(r, text)
		}
	case *spec.Event_Note:
		if e.Note.GetWarning() {
			p.line(r, p.v.warn.Render("warning:")+" "+e.Note.GetText())
		} else if !p.v.live {
			p.line(r, e.Note.GetText())
		}
	}
	return true
}

// epoch writes the line of an epoch, with the validation that it ended with, or of a
// validation in an epoch.
func (p *Progress) epoch(r *progressRun, validation *spec.Validation) {
	r.told = r.epoch
	lossSum, losses := r.lossSum, r.losses
	r.lossSum, r.losses = 0, 0
	if p.v.live {
		return
	}
	text := fmt.Sprintf("epoch %d", r.epoch)
	if n := r.start.GetEpochs(); n > 0 {
		text += fmt.Sprintf("/%d", n)
	}
	if r.step != nil {
		text += fmt.Sprintf("  step %d/%d", r.step.GetStep(), r.start.GetSteps())
	}
	if losses > 0 {
		text += fmt.Sprintf("  loss %.4f", lossSum/float64(losses))
	}
	if validation != nil {
		if value, ok := p.value(r, validation.GetMetrics()); ok {
			text += fmt.Sprintf("  validation %s %s", p.metric(r), score(value))
		}
		if validation.GetBest() {
			text += " (best)"
		}
	}
	if r.step != nil {
		text += fmt.Sprintf("  %.1f images/s", r.step.GetImagesPerSecond())
	}
	p.line(r, text)
}

// end writes the one line that stays of a run.
func (p *Progress) end(r *progressRun, end *launch.End) {
	if end.Outcome != launch.Stopped {
		p.ended[r.job.Run.ID] = true
	}
	p.runs = slices.DeleteFunc(p.runs, func(other *progressRun) bool { return other == r })
	took := time.Since(r.began)
	if !end.When.IsZero() {
		took = end.When.Sub(r.began)
	}
	switch end.Outcome {
	case launch.Elsewhere:
		text := p.v.good.Render("done") + " by another process"
		if name := p.names[r.job.Run.ID]; name != "" {
			text = p.v.good.Render("done") + ", the same run as " + name
		}
		if scores := p.scores(r, end.Summary); scores != "" {
			text += "  " + scores
		}
		p.line(r, text)
	case launch.Finished:
		if r.job.Train {
			p.trained = append(p.trained, took)
		}
		p.names[r.job.Run.ID] = r.job.Run.Name()
		text := p.v.good.Render("done") + " in " + span(took)
		if scores := p.scores(r, end.Summary); scores != "" {
			text += "  " + scores
		} else if value, ok := p.value(r, end.Summary.GetValidation()); ok && r.job.Trial {
			text += fmt.Sprintf("  validation %s %s", p.metric(r), score(value))
		}
		p.line(r, text)
	case launch.Paused:
		text := fmt.Sprintf("paused after step %d", end.Step)
		if value, ok := p.value(r, end.Validation); ok {
			text += fmt.Sprintf("  validation %s %s", p.metric(r), score(value))
		}
		p.line(r, text)
	case launch.Stopped:
		text := "stopped"
		if end.Step > 0 {
			text += fmt.Sprintf(" after step %d", end.Step)
		}
		p.line(r, p.v.warn.Render(text))
	case launch.Failed:
		p.line(r, p.v.bad.Render("failed:")+" "+end.Reason)
		if detail := strings.TrimSpace(end.Detail); detail != "" && detail != end.Reason {
			for line := range strings.Lines(detail) {
				p.print(p.v.dim.Render("    " + strings.TrimRight(line, "\n")))
			}
		}
	}
}

// scores lists the metric on every domain: "dice/nucleus 0.842 test, 0.590
// histology".
func (p *Progress) scores(r *progressRun, summary *spec.Summary) string {
	var parts []string
	for _, e := range summary.GetEvaluations() {
		if value, ok := p.value(r, e.GetMetrics()); ok {
			parts = append(parts, score(value)+" "+e.GetDomain())
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return p.metric(r) + " " + some(parts, 4)
}

func (p *Progress) metric(r *progressRun) string {
	if name := p.metrics[r.job.Run.Experiment]; name != "" {
		return name
	}
	return "dice/mean"
}

func (p *Progress) value(r *progressRun, m *spec.Metrics) (float64, bool) {
	if m == nil {
		return 0, false
	}
	return metric.Value(m, p.metric(r))
}

func score(value float64) string { return fmt.Sprintf("%.3f", value) }

// line writes a line about a run that stays.
func (p *Progress) line(r *progressRun, text string) {
	number := p.number(r.job)
	total, _ := p.total()
	place := p.v.dim.Render(fmt.Sprintf("[%d/%d]", number, total))
	p.print(place + " " + r.job.Run.Name() + "  " + text)
}

// print writes a line above the bars.
func (p *Progress) print(text string) {
	p.erase()
	printLine(p.v.progress, text)
}

func (p *Progress) erase() {
	if p.drawn > 0 {
		printf(p.v.progress, "%s", up(p.drawn))
		p.drawn = 0
	}
}

// up goes up some lines and clears what is below. The cursor may be behind a ^C
// that the terminal has shown.
func up(lines int) string { return order("", 'G') + order(fmt.Sprint(lines), 'A') + order("", 'J') }

// barsMost is how many runs have a bar; further ones are counted.
const barsMost = 8

// draw draws a bar for each run in progress, and one for all.
func (p *Progress) draw(force bool) {
	if !p.v.live || (!force && time.Since(p.drew) < redrawEvery) {
		return
	}
	p.drew = time.Now()
	width := p.v.size()
	bar := min(max(width-p.name-textWidth, 8), 30)
	var lines []string
	for _, r := range p.runs[:min(len(p.runs), barsMost)] {
		lines = append(lines, p.runBar(r, bar))
	}
	if more := len(p.runs) - barsMost; more > 0 {
		lines = append(lines, p.v.dim.Render(fmt.Sprintf("and %s more", count(more, "run"))))
	}
	lines = append(lines, p.allBar(bar))
	var b strings.Builder
	if p.drawn > 0 {
		b.WriteString(up(p.drawn))
	}
	for _, line := range lines {
		b.WriteString(clip(visible(line, false, false), width) + "\n")
	}
	p.drawn = len(lines)
	printf(p.v.progress, "%s", block(b.String()))
}

// textWidth is how many columns the text behind a bar takes, about.
const textWidth = 64

func (p *Progress) runBar(r *progressRun, width int) string {
	name := fmt.Sprintf("%-*s", p.name, clip(shortName(r.job), p.name))
	if r.step == nil {
		return name + " " + p.bar(0, width) + "  " + p.v.dim.Render(r.state)
	}
	steps := r.start.GetSteps()
	text := fmt.Sprintf("%s %s  %d/%d", name, p.bar(r.done(), width), r.step.GetStep(), steps)
	if r.state == "evaluating" {
		return text + "  " + p.v.dim.Render("evaluated on "+some(r.evaluate, 4))
	}
	if left, ok := r.left(); ok {
		text += "  " + span(left) + " left"
	}
	text += fmt.Sprintf("  loss %.3f", r.step.GetLoss())
	if value, ok := p.value(r, r.metrics); ok {
		text += fmt.Sprintf("  %s %s", p.metric(r), score(value))
	}
	return text + fmt.Sprintf("  %.1f images/s", r.step.GetImagesPerSecond())
}

func (p *Progress) allBar(width int) string {
	done := float64(len(p.ended))
	total, note := p.total()
	for _, r := range p.runs {
		if !p.ended[r.job.Run.ID] {
			done += r.done()
		}
	}
	text := fmt.Sprintf("%-*s %s  %d/%d runs", p.name, "all", p.bar(done/float64(max(total, 1)), width), len(p.ended), total)
	if left, ok := p.left(done); ok {
		text += "  " + span(left) + " left"
	}
	if note != "" {
		text += "  " + note
	}
	return text
}

func (p *Progress) bar(fraction float64, width int) string {
	full := int(min(max(fraction, 0), 1) * float64(width))
	return p.v.accent.Render(strings.Repeat("━", full)) + p.v.dim.Render(strings.Repeat("─", width-full))
}

// done is the fraction of the run in progress that is done, in steps.
func (r *progressRun) done() float64 {
	if r.step == nil || r.start.GetSteps() == 0 {
		return 0
	}
	return float64(r.step.GetStep()) / float64(r.start.GetSteps())
}

// left is the time the steps that are left will take, judged by those that
// were made.
func (r *progressRun) left() (time.Duration, bool) {
	made := r.step.GetStep() - r.first
	if made == 0 || r.start.GetSteps() <= r.step.GetStep() {
		return 0, false
	}
	each := time.Since(r.firstAt) / time.Duration(made)
	return each * time.Duration(r.start.GetSteps()-r.step.GetStep()), true
}

// left is the time that all runs will take, judged by those that were trained,
// or by the oldest in progress. As many run at once as have so far.
func (p *Progress) left(done float64) (time.Duration, bool) {
	total, _ := p.total()
	runs := (float64(total) - done) / float64(max(p.most, 1))
	if runs <= 0 {
		return 0, false
	}
	if n := len(p.trained); n > 0 {
		var sum time.Duration
		for _, d := range p.trained {
			sum += d
		}
		return time.Duration(float64(sum) / float64(n) * runs), true
	}
	if len(p.runs) > 0 {
		if here := p.runs[0].done(); here > 0.05 {
			return time.Duration(float64(time.Since(p.runs[0].began)) / here * runs), true
		}
	}
	return 0, false
}
