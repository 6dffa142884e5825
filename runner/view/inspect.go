package view

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/inspect"
	"github.com/loralab/loralab/runner/provenance"
	"github.com/loralab/loralab/runner/store"
)

// Inspect shows all that is known of a run.
func (v *View) Inspect(r *inspect.Report) {
	run := r.Run
	v.Say("%s", v.bold.Render(run.Name()))
	state := string(run.State)
	switch {
	case run.Reason != "":
		state += ": " + run.Reason
	case run.State == store.Paused:
		state = paused(run)
	}
	v.pairs([][2]string{
		{"id", run.ID},
		{"also", strings.Join(slices.DeleteFunc(slices.Clone(r.Names), func(n string) bool { return n == run.Name() }), ", ")},
		{"state", state},
		{"step", steps(run.Step, run.Steps)},
		{"attempts", fmt.Sprint(run.Attempts)},
		{"ended", when(run.Ended)},
		{"weights", run.Summary.GetWeightsDigest()},
		{"directory", relative("", r.Dir)},
	})

	for _, fault := range r.Faults {
		v.Say("%s %s", v.bad.Render("damaged:"), fault)
	}

	v.section("Configuration")
	settings := table{columns: texts("FIELD", "VALUE", "FROM"), indent: 2}
	known := false
	for _, s := range r.Settings() {
		settings.add(s.Path, s.Value, v.dim.Render(s.From))
		known = known || s.From != ""
	}
	if !known {
		settings.columns = settings.columns[:2]
		for i := range settings.rows {
			settings.rows[i] = settings.rows[i][:2]
		}
	}
	v.table(settings)

	v.section("Made of")
	s := r.Spec
	made := [][2]string{
		{"backbone", s.GetBackbone().GetDigest()},
		{"arithmetic", fmt.Sprintf("revision %d", s.GetRevision())},
	}
	if l := r.Request.GetLabel(); l.GetVariant() != "" && s.GetAdapter() != nil {
		made = append(made, [2]string{"adapter", fmt.Sprintf("%s %s %s at %s",
			l.GetVariant(), l.GetVariantVersion(), l.GetVariantParams(), count(len(s.GetAdapter().GetPlacements()), "place"))})
	}
	for _, role := range []string{"train", "val"} {
		if split := s.GetData().GetSplits()[role]; split != nil {
			made = append(made, [2]string{"data " + role, fmt.Sprintf("%s  %s", split.GetDigest(), count(int(split.GetCount()), "image"))})
		}
	}
	for _, e := range r.Request.GetEvaluations() {
		if split := e.GetData().GetSplits()["test"]; split != nil {
			made = append(made, [2]string{"data " + e.GetDomain(), fmt.Sprintf("%s  %s", split.GetDigest(), count(int(split.GetCount()), "image"))})
		}
	}
	if sum := run.Summary; sum != nil {
		made = append(made, [2]string{"parameters", fmt.Sprintf("%s adapter, %s head, %s backbone, trained",
			amount(sum.GetAdapterParams()), amount(sum.GetHeadParams()), amount(sum.GetBackboneParams()))})
	}
	v.pairs(made)

	for i, a := range r.Record.Attempts {
		v.section(fmt.Sprintf("Attempt %d, %s", i+1, when(a.Time)))
		v.attempt(a)
	}
	if len(r.Record.Attempts) == 0 && r.Request != nil {
		v.section("Attempts")
		v.Say("  %s", v.dim.Render("not recorded"))
	}
	v.rungs(run)
	v.scores(inspect.Domains(run))
	if len(r.Log) > 0 {
		v.section("Last lines of the engine")
		for _, line := range r.Log {
			v.Say("%s", clip("  "+line, v.width))
		}
	}
	if len(r.Files) > 0 {
		v.section("Files")
		t := table{columns: slices.Concat(numbers("SIZE"), texts("FILE")), indent: 2}
		for _, f := range r.Files {
			t.add(amountOfBytes(f.Bytes), f.Path)
		}
		v.table(t)
	}
}

// rungs shows the validations at steps where a run paused. All metrics are in the
// output for programs.
func (v *View) rungs(run *store.Run) {
	if len(run.Rungs) == 0 {
		return
	}
	v.section("Pauses")
	columns := []string{"loss", "dice/mean", "iou/mean", "accuracy"}
	t := table{columns: numbers(append([]string{"STEP"}, columns...)...), indent: 2}
	for _, r := range run.Rungs {
		row := []string{fmt.Sprint(r.Step)}
		for _, name := range columns {
			text := "–"
			if value, ok := metric.Value(r.Metrics, name); ok {
				text = score(value)
			}
			row = append(row, text)
		}
		t.add(row...)
	}
	v.table(t)
}

func (v *View) attempt(a provenance.Attempt) {
	e, m := a.Engine, a.Machine
	device := e.Device
	if e.DeviceName != "" {
		device += " (" + e.DeviceName + ")"
	}
	if e.CPUCapability != "" {
		device += ", " + e.CPUCapability
	}
	rows := [][2]string{
		{"command", foreign.Command(a.Command...)},
		{"engine", fmt.Sprintf("loralab %s, libtorch %s, %s", e.Version, e.Libtorch, count(int(e.Threads), "thread"))},
		{"engine SHA-256", a.EngineSHA256},
		{"device", device},
		{"runner", fmt.Sprintf("%s, %s, %d libraries", a.Loralab.Version, a.Loralab.Go, len(a.Loralab.Libraries))},
		{"machine", fmt.Sprintf("%s: %s, %d CPUs, %s, %s", m.Host, m.CPU, m.CPUs, amountOfBytes(int64(m.Memory)), m.System)},
		{"driver", m.NVIDIA},
		{"source", ""},
		{"git", "not under version control"},
	}
	if a.Source != nil {
		rows[7][1] = a.Source.File
	}
	if g := a.Git; g != nil {
		text := g.Commit
		if g.Branch != "" {
			text += " on " + g.Branch
		}
		switch {
		case a.Patch != "":
			text += ", with changes: " + a.Patch
		case g.Dirty:
			text += ", with changes (" + g.PatchNote + ")"
		}
		if n := len(g.Untracked); n > 0 {
			text += ", " + count(n, "untracked file")
		}
		rows[8][1] = text
	}
	if a.Lock != "" {
		rows = append(rows, [2]string{"runner.lock", fmt.Sprintf("recorded, %d bytes", len(a.Lock))})
	}
	var names []string
	for name := range a.Environment {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = name + "=" + a.Environment[name]
	}
	v.pairs(append(rows, [2]string{"environment", strings.Join(names, " ")}))
}

// scores shows the metrics of every domain.
func (v *View) scores(domains map[string]*spec.Metrics) {
	if len(domains) == 0 {
		return
	}
	v.section("Scores")
	var columns []string
	for _, m := range domains {
		var classes []string
		for _, c := range m.GetClasses() {
			classes = append(classes, c.GetName())
		}
		if names := metric.Names(classes); len(names) > len(columns) {
			columns = names
		}
	}
	columns = slices.DeleteFunc(columns, func(name string) bool {
		for _, m := range domains {
			if _, ok := metric.Value(m, name); ok {
				return perClass(name)
			}
		}
		return true // no domain has it
	})
	t := table{columns: append(texts("DOMAIN"), numbers(columns...)...), indent: 2}
	for _, domain := range inspect.Order(domains) {
		row := []string{domain}
		for _, name := range columns {
			text := "–"
			if value, ok := metric.Value(domains[domain], name); ok {
				text = score(value)
			}
			row = append(row, text)
		}
		t.add(row...)
	}
	v.table(t)
}

// perClass reports whether a metric is one of many for single classes. Dice
// stands for them; JSON has them all.
func perClass(name string) bool {
	kind, of, ok := strings.Cut(name, "/")
	return ok && of != "mean" && kind != "dice" && kind != "original"
}

func (v *View) section(title string) {
	v.Say("")
	v.Say("%s", v.bold.Render(title))
}

// pairs shows names and what they are; those that are nothing are left out.
// What is too long for the terminal goes on below itself.
func (v *View) pairs(rows [][2]string) {
	width := 0
	for _, row := range rows {
		if row[1] != "" {
			width = max(width, len(row[0]))
		}
	}
	for _, row := range rows {
		if row[1] == "" {
			continue
		}
		name := v.dim.Render(fmt.Sprintf("  %-*s", width, row[0]))
		for i, line := range wrapped(row[1], v.width-width-4) {
			if i > 0 {
				name = strings.Repeat(" ", width+2)
			}
			v.Say("%s  %s", name, line)
		}
	}
}

// wrapped cuts text into lines at spaces, or anywhere in a word that is longer
// than a line. With a width below 20 it stays one line.
func wrapped(text string, width int) []string {
	if width < 20 {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Split(text, " ") {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
		for len([]rune(line)) > width {
			r := []rune(line)
			lines, line = append(lines, string(r[:width])), string(r[width:])
		}
	}
	return append(lines, line)
}

func steps(step, of uint64) string {
	switch {
	case of > 0:
		return fmt.Sprintf("%d of %d", step, of)
	case step > 0:
		return fmt.Sprint(step)
	}
	return ""
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

// InspectJSON writes the same for programs.
func (v *View) InspectJSON(r *inspect.Report) error {
	var request, summary json.RawMessage
	var err error
	if r.Request != nil {
		if request, err = rundir.Marshal(r.Request); err != nil {
			return fmt.Errorf("writing what the engine was told: %w", err)
		}
	}
	if r.Run.Summary != nil {
		now := proto.CloneOf(r.Run.Summary)
		now.Validation = r.Run.Named(now.Validation)
		if summary, err = rundir.Marshal(now); err != nil {
			return fmt.Errorf("writing the result: %w", err)
		}
	}
	pauses, err := rungs(r.Run)
	if err != nil {
		return err
	}
	evaluations := map[string]json.RawMessage{}
	for _, e := range r.Run.Scored() {
		e = proto.CloneOf(e)
		e.Metrics = r.Run.Named(e.Metrics)
		if evaluations[e.GetDomain()], err = rundir.Marshal(e); err != nil {
			return fmt.Errorf("writing the scores: %w", err)
		}
	}
	return v.JSON(struct {
		ID            string                     `json:"id"`
		Name          string                     `json:"name"`
		Names         []string                   `json:"names"`
		State         string                     `json:"state"`
		Reason        string                     `json:"reason,omitempty"`
		Step          uint64                     `json:"step"`
		Steps         uint64                     `json:"steps"`
		Attempts      int                        `json:"attempts"`
		Ended         *time.Time                 `json:"ended,omitempty"`
		Damage        []string                   `json:"damage,omitempty"`
		Dir           string                     `json:"dir"`
		Configuration []inspect.Setting          `json:"configuration"`
		Request       json.RawMessage            `json:"request,omitempty"`
		Record        *provenance.Record         `json:"record"`
		Summary       json.RawMessage            `json:"summary,omitempty"`
		Evaluations   map[string]json.RawMessage `json:"evaluations"`
		Rungs         []rung                     `json:"rungs,omitempty"`
		Files         []inspect.File             `json:"files"`
	}{
		r.Run.ID, r.Run.Name(), r.Names, string(r.Run.State), r.Run.Reason, r.Run.Step, r.Run.Steps, r.Run.Attempts,
		moment(r.Run.Ended), r.Faults, r.Dir, r.Settings(), request, r.Record, summary, evaluations, pauses, r.Files,
	})
}
