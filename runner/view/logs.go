package view

import (
	"fmt"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/store"
)

// Log shows one line of a run's metrics.jsonl for people: an event of the
// engine. A line that is none is shown as it is. Name tells runs apart where
// there are several, "" where there is one.
func (v *View) Log(name string, line []byte) {
	event, err := rundir.UnmarshalEvent(line)
	if err != nil || event.GetEvent() == nil {
		v.Line(name, []byte(strings.TrimSpace(string(line))))
		return
	}
	if text := v.logLine(event); text != "" {
		v.Line(name, []byte(text))
	}
}

// Line shows a line of text as it is.
func (v *View) Line(name string, line []byte) {
	if name != "" {
		name = v.dim.Render(name) + "  "
	}
	v.Say("%s%s", name, line)
}

// Failed says why a run failed; name as for Log.
func (v *View) Failed(name, reason string) {
	v.Line(name, []byte(v.bad.Render("failed:")+" "+reason))
}

// Paused says at which step a run is paused; name as for Log.
func (v *View) Paused(name string, run *store.Run) {
	v.Line(name, []byte(v.warn.Render(paused(run))))
}

// paused is where a paused run is: "paused after step 9 of 27".
func paused(run *store.Run) string {
	text := fmt.Sprintf("paused after step %d", run.Step)
	if run.Steps > 0 {
		text += fmt.Sprintf(" of %d", run.Steps)
	}
	return text
}

func (v *View) logLine(event *spec.Event) string {
	scores := func(m *spec.Metrics) string {
		var parts []string
		for _, name := range []string{"dice/mean", "iou/mean", "accuracy"} {
			if value, ok := metric.Value(m, name); ok {
				parts = append(parts, name+" "+score(value))
			}
		}
		return strings.Join(parts, "  ")
	}
	switch e := event.GetEvent().(type) {
	case *spec.Event_Started:
		if e.Started.GetStep() > 0 {
			return v.bold.Render(fmt.Sprintf("goes on after step %d of %d", e.Started.GetStep(), e.Started.GetSteps()))
		}
		return v.bold.Render("started, " + count(int(e.Started.GetSteps()), "step"))
	case *spec.Event_Step:
		s := e.Step
		if s.GetUncounted() {
			return fmt.Sprintf("step %d  epoch %d  no pixel counts", s.GetStep(), s.GetEpoch())
		}
		return fmt.Sprintf("step %d  epoch %d  loss %.4f  lr %.3g  |g| %.3g  %.1f images/s",
			s.GetStep(), s.GetEpoch(), s.GetLoss(), s.GetLr(), s.GetGradNorm(), s.GetImagesPerSecond())
	case *spec.Event_Validation:
		text := fmt.Sprintf("validation after step %d  ", e.Validation.GetStep())
		if loss, ok := metric.Value(e.Validation.GetMetrics(), "loss"); ok {
			text += fmt.Sprintf("loss %.4f  ", loss)
		}
		text += scores(e.Validation.GetMetrics())
		if e.Validation.GetBest() {
			text += " (best)"
		}
		return v.accent.Render(text)
	case *spec.Event_Checkpoint:
		return v.dim.Render(fmt.Sprintf("checkpoint after step %d", e.Checkpoint.GetStep()))
	case *spec.Event_Evaluated:
		return v.accent.Render("evaluated on " + e.Evaluated.GetDomain() + "  " + scores(e.Evaluated.GetMetrics()))
	case *spec.Event_Finished:
		return v.good.Render("done")
	case *spec.Event_Paused:
		return v.warn.Render(fmt.Sprintf("paused after step %d", e.Paused.GetStep()))
	case *spec.Event_Stopped:
		return v.warn.Render(fmt.Sprintf("stopped after step %d", e.Stopped.GetStep()))
	case *spec.Event_Failed:
		return v.bad.Render("failed:") + " " + e.Failed.GetReason()
	case *spec.Event_Note:
		return e.Note.GetText()
	}
	return ""
}
