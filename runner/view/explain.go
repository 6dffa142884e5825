package view

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"github.com/charmbracelet/lipgloss"
	"github.com/mitchellh/go-wordwrap"

	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
)

// Explained is a field, what is below it, and who sets it to what.
type Explained struct {
	*experiment.Field
	Variant string              `json:"variant,omitempty"` // whose parameter it is
	Types   []*experiment.Field `json:"types,omitempty"`   // definitions that its type names
	Below   []*experiment.Field `json:"below,omitempty"`
	Set     []Setting           `json:"set,omitempty"`
}

// Setting is one value that cells of an experiment have.
type Setting struct {
	Experiment string   `json:"experiment"`
	Variant    string   `json:"variant,omitempty"` // where the field is a variant's
	Cells      []string `json:"cells"`
	Of         int      `json:"of"` // cells of the experiment
	experiment.Value
}

// Explained shows fields with what the schema says of them.
func (v *View) Explained(list []Explained) {
	for i, e := range list {
		if i > 0 {
			printLine(v.out, "")
		}
		v.explained(e)
	}
}

func (v *View) explained(e Explained) {
	title := e.Path
	switch {
	case title == "":
		title = "An experiment"
	case e.Variant != "":
		title += v.dim.Render(", variant " + e.Variant)
	}
	printLine(v.out, v.bold.Render(title))
	v.paragraphs(e.Doc)
	fact := func(name, text string) {
		if text != "" {
			first, rest, _ := strings.Cut(v.wrap(text, 12), "\n")
			printf(v.out, "  %s%s\n", v.dim.Render(fmt.Sprintf("%-10s", name)), first)
			for line := range strings.Lines(rest) {
				printf(v.out, "%12s%s\n", "", strings.TrimRight(line, "\n"))
			}
		}
	}
	if e.At.Line > 0 {
		printLine(v.out, "")
	}
	if e.Path != "adapter.params" {
		fact("type", tidy(e.Type))
	}
	for _, t := range e.Types {
		kind := tidy(t.Type)
		if kind == "" {
			kind = "{ " + strings.Join(t.Fields, ", ") + " }"
		}
		fact("", t.Path+" is "+kind)
	}
	fact("rule", e.Rule)
	switch {
	case e.Default != "":
		fact("default", e.Default)
	case e.Required:
		fact("default", "none: it must be given")
	}
	if e.At.Line > 0 {
		fact("defined", e.At.String())
	}
	wide := 0
	for _, s := range e.Set {
		wide = max(wide, lipgloss.Width(setTo(e.Path, s)))
	}
	for i, s := range e.Set {
		name := ""
		if i == 0 {
			name = "set"
		}
		what := setTo(e.Path, s)
		what += strings.Repeat(" ", min(wide, 32)-min(lipgloss.Width(what), min(wide, 32)))
		printLine(v.out, clip(fmt.Sprintf("  %s%s  %s  %s", v.dim.Render(fmt.Sprintf("%-10s", name)), v.bold.Render(what),
			from(s.Value), v.dim.Render(s.where())), v.width))
	}
	if len(e.Below) == 0 {
		return
	}
	printLine(v.out, "")
	t := table{columns: texts("FIELD", "DEFAULT", "IS"), indent: 2}
	for _, f := range e.Below {
		kind, standard := f.Type, f.Default
		switch {
		case f.Required:
			standard = v.accent.Render("required")
		case len(f.Fields) > 0 || strings.HasPrefix(kind, "{"):
			// What it is, for what is in it is a page of its own.
			kind, _, _ = strings.Cut(strings.Join(strings.Fields(f.Doc), " "), ". ")
			kind = strings.TrimRight(kind, ".:")
		}
		name, _ := strings.CutPrefix(f.Path, e.Path+".")
		t.add(name, clip(standard, 24), tidy(kind))
	}
	v.table(t)
}

// Presets lists the presets, and what the schema says of them.
func (v *View) Presets(names []string, doc string) {
	for _, name := range names {
		v.Say("%s", v.bold.Render(name))
	}
	v.Say("")
	v.paragraphs(doc)
}

// Preset lists what a preset sets, each setting with the reason.
func (v *View) Preset(list []experiment.Difference) {
	for i, d := range list {
		if i > 0 {
			printLine(v.out, "")
		}
		line := v.bold.Render(cuePath(d.Path) + ": " + d.Value)
		switch d.Default {
		case "":
		case d.Value:
			line += v.dim.Render("  as by default")
		default:
			line += v.dim.Render("  by default " + d.Default)
		}
		printLine(v.out, line)
		v.paragraphs(d.Why)
	}
}

// where names the cells that have the value.
func (s Setting) where() string {
	if len(s.Cells) == s.Of {
		return s.Experiment
	}
	return s.Experiment + ": " + diagnostic.Some(s.Cells, 4, "; ")
}

// setTo is a value, with the rest of its path if it is below the field.
func setTo(path string, s Setting) string {
	rest, ok := strings.CutPrefix(s.Path, path+".")
	if list, element, in := strings.Cut(path, "["); in { // data.augment[0], [].kind: their values have data.augment.0.kind
		names := strings.Split(strings.TrimPrefix(s.Path, list+"."), ".")
		rest = strings.Join(names[min(1+strings.Count(element, "."), len(names)):], ".")
		ok = rest != ""
	}
	if ok {
		return cuePath(rest) + ": " + literal(s.Value.Value)
	}
	return literal(s.Value.Value)
}

// tidy puts a type onto one line.
func tidy(kind string) string { return strings.Join(strings.Fields(kind), " ") }

// paragraphs writes a comment of the schema, indented; lines that are indented
// themselves stay as they are.
func (v *View) paragraphs(text string) {
	var paragraph []string
	flush := func() {
		if len(paragraph) > 0 {
			for line := range strings.Lines(v.wrap(strings.Join(paragraph, " "), 2)) {
				printf(v.out, "  %s\n", strings.TrimRight(line, "\n"))
			}
			paragraph = nil
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "" || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "  "):
			flush()
			if line != "" {
				line = "    " + strings.TrimLeft(line, "\t")
			}
			printLine(v.out, line)
		default:
			paragraph = append(paragraph, line)
		}
	}
	flush()
}

// wrap breaks text into lines that fit beside an indent.
func (v *View) wrap(text string, indent int) string {
	return wordwrap.WrapString(text, uint(v.column(indent)))
}

// from says who gives a value.
func from(v experiment.Value) string {
	if where := at(v.At); where != "" {
		switch v.From {
		case experiment.FromFile, experiment.FromAdapter:
			return where
		case experiment.FromSchema, experiment.FromVariant:
			return fmt.Sprintf("default of %s:%d", v.At.File, v.At.Line)
		case experiment.FromPreset:
			return fmt.Sprintf("preset %s, %s:%d", v.Preset, v.At.File, v.At.Line)
		default:
			return v.From + " " + where
		}
	}
	return v.From
}

// at is a place as a user can open it: file and line.
func at(p diagnostic.Position) string {
	if p.File == diagnostic.CommandLine {
		return ""
	}
	return p.String()
}

// ResolvedCell is the configuration of one cell.
type ResolvedCell struct {
	Experiment string             `json:"experiment"`
	Cell       string             `json:"cell"`
	Values     []experiment.Value `json:"values"`
}

// Resolved writes configurations as CUE, a line for each value: of several
// cells of an experiment first what they have in common, then what is their
// own. With origin a comment says who gives each.
func (v *View) Resolved(list []ResolvedCell, origin bool) {
	for i := 0; i < len(list); {
		end := i + 1
		for end < len(list) && list[end].Experiment == list[i].Experiment {
			end++
		}
		if i > 0 {
			printLine(v.out, "")
		}
		v.resolved(list[i:end], origin)
		i = end
	}
}

func (v *View) resolved(list []ResolvedCell, origin bool) {
	if len(list) == 1 {
		v.heading("%s, cell %s", list[0].Experiment, list[0].Cell)
		v.values(list[0].Values, origin)
		return
	}
	common := slices.DeleteFunc(slices.Clone(list[0].Values), func(x experiment.Value) bool {
		return slices.ContainsFunc(list[1:], func(c ResolvedCell) bool { return !has(c, x) })
	})
	v.heading("%s, all %d cells", list[0].Experiment, len(list))
	v.values(common, origin)
	for _, c := range list {
		printLine(v.out, "")
		v.heading("%s, cell %s", c.Experiment, c.Cell)
		v.values(slices.DeleteFunc(slices.Clone(c.Values), func(x experiment.Value) bool { return has(ResolvedCell{Values: common}, x) }), origin)
	}
}

func has(c ResolvedCell, x experiment.Value) bool {
	return slices.ContainsFunc(c.Values, func(y experiment.Value) bool {
		return x.Path == y.Path && string(x.Value) == string(y.Value) && x.From == y.From && x.At == y.At
	})
}

func (v *View) heading(format string, args ...any) {
	printLine(v.out, v.bold.Render("// "+fmt.Sprintf(format, args...)))
}

// values writes a line for each value, with comments in one column.
func (v *View) values(list []experiment.Value, origin bool) {
	lines := make([]string, len(list))
	column, comments := 0, 0
	for i, x := range list {
		lines[i] = cuePath(x.Path) + ": " + literal(x.Value)
		if x.Remark {
			lines[i] = "// " + lines[i]
		}
		comments = max(comments, lipgloss.Width("  // "+from(x)))
	}
	most := 48
	if v.width > 0 {
		most = min(most, v.width-comments)
	}
	for _, line := range lines {
		if w := lipgloss.Width(line); w <= most {
			column = max(column, w)
		}
	}
	for i, x := range list {
		line := lines[i]
		if section, _, _ := strings.Cut(x.Path, "."); i > 0 && len(list) > 20 && !strings.HasPrefix(list[i-1].Path, section+".") {
			printLine(v.out, "")
		}
		if !origin {
			printLine(v.out, line)
			continue
		}
		comment := "// " + from(x)
		gap := strings.Repeat(" ", max(1, column+2-lipgloss.Width(line)))
		if v.width > 0 && lipgloss.Width(line+gap+comment) > v.width {
			printLine(v.out, v.dim.Render(comment))
			printLine(v.out, line)
			continue
		}
		printLine(v.out, line+gap+v.dim.Render(comment))
	}
}

// cuePath is a path as labels: "optim: lr: adapter".
func cuePath(path string) string {
	parsed := cue.ParsePath(path)
	if parsed.Err() != nil {
		return path
	}
	var labels []string
	for _, s := range parsed.Selectors() {
		labels = append(labels, s.String())
	}
	return strings.Join(labels, ": ")
}

// literal is a JSON value as people write it in CUE.
func literal(value json.RawMessage) string {
	text := string(value)
	switch {
	case strings.HasPrefix(text, "["):
		var list []json.RawMessage
		if json.Unmarshal(value, &list) == nil {
			parts := make([]string, len(list))
			for i := range list {
				parts[i] = literal(list[i])
			}
			return "[" + strings.Join(parts, ", ") + "]"
		}
	case text != "" && strings.ContainsRune("-0123456789", rune(text[0])):
		return strings.ReplaceAll(text, "E", "e")
	}
	return text
}
