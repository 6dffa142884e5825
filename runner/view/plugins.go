package view

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/plugintest"
	"github.com/loralab/loralab/runner/trust"
	"github.com/loralab/loralab/runner/variant"
)

// Plugin is a variant that was found.
type Plugin struct {
	Name        string
	Found       *variant.Plugin         // nil: see Err
	Description *protocol.DescribeReply // nil: see Err
	Err         error
}

// Plugins lists variants; dirs are where they were searched for.
func (v *View) Plugins(plugins []Plugin, dirs []string) {
	if len(plugins) == 0 {
		v.Say("No variants found in:")
		for _, dir := range dirs {
			v.Say("  %s", dir)
		}
		return
	}
	t := table{columns: texts("NAME", "VERSION", "WHAT", "WHERE")}
	t.columns[3].spare = 1 // the beginning of a path says little
	more := ""
	for _, p := range plugins {
		if p.Err != nil {
			var e *variant.Error
			if errors.As(p.Err, &e) && e.Untrusted {
				t.add(p.Name, "", v.warn.Render("not trusted:")+" runner plugins trust "+p.Name, e.Path)
				continue
			}
			t.add(p.broken(v)...)
			more = p.Name
			continue
		}
		t.add(p.Name, p.Description.GetVersion(), p.Description.GetAbout(), p.Found.Path)
	}
	v.table(t)
	if more != "" {
		v.Say("%s", v.dim.Render("What is wrong with one, in full: runner plugins info "+more))
	}
}

// broken is the row of a plug-in that cannot be used: one short line.
func (p Plugin) broken(v *View) []string {
	text, where := p.Err.Error(), ""
	var e *variant.Error
	if errors.As(p.Err, &e) {
		text, where = strings.TrimPrefix(e.Message, "it cannot start: "), e.Path
	}
	text, _, _ = strings.Cut(text, "\n")
	return []string{p.Name, "", v.bad.Render("broken:") + " " + clip(text, 72), where}
}

// NotPinned says that a plug-in does not answer, and so was left out.
func (v *View) NotPinned(name string, err error) {
	text := err.Error()
	var e *variant.Error
	if errors.As(err, &e) {
		text = e.Message
	}
	text, _, _ = strings.Cut(text, "\n")
	v.Warn(fmt.Sprintf("%s is not pinned: %s", name, text))
}

// pluginJSON is a variant as programs read it.
type pluginJSON struct {
	Name         string   `json:"name"`
	Version      string   `json:"version,omitempty"`
	About        string   `json:"about,omitempty"`
	Paper        string   `json:"paper,omitempty"`
	Authors      []string `json:"authors,omitempty"`
	Formula      string   `json:"formula,omitempty"`
	Parameters   string   `json:"parameters,omitempty"`
	ChangesStart bool     `json:"changes_start,omitempty"`
	PEFT         string   `json:"peft_type,omitempty"`
	Examples     []string `json:"examples,omitempty"`
	Schema       string   `json:"schema,omitempty"`
	Path         string   `json:"path,omitempty"`
	SHA256       string   `json:"sha256,omitempty"`
	Locked       bool     `json:"locked"`
	Error        string   `json:"error,omitempty"`
}

func (p Plugin) json() pluginJSON {
	j := pluginJSON{Name: p.Name}
	if f := p.Found; f != nil {
		j.Path, j.SHA256, j.Locked = f.Path, f.SHA256, f.Locked
	}
	if p.Err != nil {
		j.Error = p.Err.Error()
	}
	if d := p.Description; d != nil {
		j.Version, j.About, j.Paper, j.Authors = d.GetVersion(), d.GetAbout(), d.GetPaper(), d.GetAuthors()
		j.Formula, j.Parameters, j.PEFT = d.GetFormula(), d.GetParameters(), d.GetPeftType()
		j.ChangesStart, j.Examples, j.Schema = d.GetChangesStart(), d.GetExamples(), d.GetSchema()
	}
	return j
}

// PluginsJSON lists variants for programs.
func (v *View) PluginsJSON(plugins []Plugin, dirs []string) error {
	items := []pluginJSON{}
	for _, p := range plugins {
		items = append(items, p.json())
	}
	return v.JSON(struct {
		Plugins []pluginJSON `json:"plugins"`
		Dirs    []string     `json:"dirs"`
	}{items, dirs})
}

// PluginJSON writes what a variant says of itself for programs.
func (v *View) PluginJSON(p Plugin) error { return v.JSON(p.json()) }

// Plugin shows what a variant says of itself and what its file is.
func (v *View) Plugin(p Plugin) {
	d := p.Description
	v.Say("%s %s", v.bold.Render(d.GetName()), d.GetVersion())
	v.Say("%s\n", d.GetAbout())
	start := "equal to the backbone"
	if d.GetChangesStart() {
		start = "changes the backbone"
	}
	lock := "not in " + variant.LockFile
	switch {
	case p.Found.Dev:
		lock = "not looked up in " + variant.LockFile
	case p.Found.Locked:
		lock = "pinned in " + variant.LockFile
	}
	facts := [][2]string{
		{"paper", d.GetPaper()},
		{"authors", strings.Join(d.GetAuthors(), ", ")},
		{"formula", d.GetFormula()},
		{"parameters", d.GetParameters()},
		{"start", start},
		{"in PEFT", d.GetPeftType()},
	}
	for i, example := range d.GetExamples() {
		name := ""
		if i == 0 {
			name = "examples"
		}
		facts = append(facts, [2]string{name, example})
	}
	v.facts(append(facts, [][2]string{
		{"file", p.Found.Path},
		{"sha-256", p.Found.SHA256 + ", " + lock},
	}...))
}

// facts lists what something is: a name and a text each, if there is a text.
func (v *View) facts(lines [][2]string) {
	for _, line := range lines {
		if line[1] != "" {
			v.Say("%s %s", v.dim.Render(fmt.Sprintf("%-11s", line[0])), line[1])
		}
	}
}

// Schema shows the schema of a variant's parameters, CUE.
func (v *View) Schema(text string) { v.Say("%s", block(strings.TrimSpace(text))) }

// Program shows an adapter program, and what PEFT stores of it if stored is
// not nil.
func (v *View) Program(typed *program.Typed, stored *program.Stored, config string) {
	v.Say("%s", v.dim.Render(fmt.Sprintf("# %s [%d, %d], %s",
		program.SiteName(typed.Site), typed.Site.GetOut(), typed.Site.GetIn(), count(int(typed.TrainableCount), "trainable parameter"))))
	v.Say("%s", block(strings.TrimSpace(typed.Text())))
	for _, w := range typed.Warnings {
		v.Warn(w)
	}
	if stored != nil {
		v.Say("\n%s\n%s", v.dim.Render("# stored by PEFT as "+config), block(strings.TrimSpace(stored.Text())))
	}
}

// ProgramJSON writes a program as text for programs.
func (v *View) ProgramJSON(typed *program.Typed, stored *program.Stored, config string) error {
	out := struct {
		Site      string `json:"site"`
		Program   string `json:"program"`
		Trainable int64  `json:"trainable"`
		Mergeable bool   `json:"mergeable"`
		PEFT      string `json:"peft,omitempty"`
		Config    string `json:"peft_config,omitempty"`
	}{Site: program.SiteName(typed.Site), Program: typed.Text(), Trainable: typed.TrainableCount, Mergeable: typed.Mergeable(), Config: config}
	if stored != nil {
		out.PEFT = stored.Text()
	}
	return v.JSON(out)
}

// Pinned says that a variant was pinned in a file.
func (v *View) Pinned(name, version, sum, file string) {
	v.Say("%s %s %s in %s", v.good.Render("pinned"), name, version+" "+sum[:min(12, len(sum))], file)
}

// Installed says where a plug-in is now.
func (v *View) Installed(name, version, file string, replaced bool) {
	how := "installed"
	if replaced {
		how = "replaced"
	}
	v.Say("%s %s %s at %s", v.good.Render(how), name, version, file)
}

// Trusted is a plug-in that a user has trusted.
type Trusted struct {
	Name, Path, SHA256 string
	Size               int64
	Shadows            string // the file of that name that is not used any more, ""
	Known              bool   // it was trusted before
}

// Trusted shows what a user has trusted.
func (v *View) Trusted(t Trusted) {
	how := "trusted"
	if t.Known {
		how = "trusted already"
	}
	v.Say("%s %s, which runs with your rights", v.good.Render(how), t.Name)
	v.facts([][2]string{
		{"file", t.Path},
		{"size", amountOfBytes(t.Size)},
		{"sha-256", t.SHA256},
		{"in place of", t.Shadows},
	})
}

// TrustList shows what a user trusts; the list is in file.
func (v *View) TrustList(entries []trust.Entry, file string) {
	if len(entries) == 0 {
		v.Say("No plug-in of a project is trusted.")
		return
	}
	t := table{columns: texts("NAME", "SHA-256", "SINCE", "WHERE IT WAS")}
	for _, e := range entries {
		t.add(e.Name, e.SHA256[:min(12, len(e.SHA256))], e.Date.Local().Format(time.DateOnly), e.Path)
	}
	v.table(t)
	v.Say("%s", v.dim.Render("in "+file))
}

// Revoked says which plug-ins are trusted no longer.
func (v *View) Revoked(entries []trust.Entry) {
	for _, e := range entries {
		v.Say("%s %s %s", v.good.Render("revoked"), e.Name, e.SHA256[:min(12, len(e.SHA256))])
	}
}

// Tried shows a check when it is done.
func (v *View) Tried(c plugintest.Check) {
	switch {
	case c.LeftOut != "":
		v.Say("%s %-14s %s", v.dim.Render("-"), c.Name, v.dim.Render("not tried: "+c.LeftOut))
	case len(c.Faults) == 0:
		note := ""
		if c.Note != "" {
			note = v.dim.Render("  (" + c.Note + ")")
		}
		v.Say("%s %-14s %s%s", v.good.Render("✓"), c.Name, c.About, note)
	default:
		v.Say("%s %-14s %s", v.bad.Render("✗"), c.Name, c.About)
		for _, f := range c.Faults {
			v.Say("    %s %s", v.dim.Render("expected "), indented(f.Expected))
			v.Say("    %s %s", v.dim.Render("found    "), indented(f.Found))
			if f.Reproduce != "" {
				v.Say("    %s %s", v.dim.Render("reproduce"), f.Reproduce)
			}
		}
	}
}

// indented puts further lines of a text below its first.
func indented(text string) block {
	return block(strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n              "))
}

// Conformed sums up a trial.
func (v *View) Conformed(r *plugintest.Report) {
	passed, failed, left := 0, 0, 0
	for _, c := range r.Checks {
		switch {
		case c.LeftOut != "":
			left++
		case len(c.Faults) > 0:
			failed++
		default:
			passed++
		}
	}
	verdict := v.good.Render("conforms")
	if failed > 0 {
		verdict = v.bad.Render("does not conform")
	}
	text := fmt.Sprintf("%s %s %s: %s passed", r.Variant, r.Version, verdict, count(passed, "check"))
	if failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	if left > 0 {
		text += fmt.Sprintf(", %d not tried", left)
	}
	v.Say("\n%s", text)
}

// Variant is a row of the table of variants.
type Variant struct {
	Description *protocol.DescribeReply
	Example     string // parameters
	Trainable   int64  // with these, on query and value of a ViT-B/16
	Merge       string // yes | no | sometimes
}

// VariantTable writes the table of variants as Markdown.
func (v *View) VariantTable(rows []Variant) {
	v.Say("| variant | adapted layer | trainable parameters of a layer | ViT-B/16, query and value | merges | PEFT type | paper |")
	v.Say("|---|---|---|---|---|---|---|")
	for _, r := range rows {
		d := r.Description
		v.Say("| `%s` | %s | %s | %s: %s | %s | %s | %s |", d.GetName(), cell(d.GetFormula()), code(d.GetParameters(), "–"),
			code(r.Example, "defaults"), grouped(r.Trainable), r.Merge, orDash(d.GetPeftType()), paper(d.GetPaper()))
	}
}

// cell keeps a text within a cell of a Markdown table.
func cell(text string) string {
	text = foreign.MarkdownCell(strings.Join(strings.Fields(text), " "))
	return orDash(strings.NewReplacer("_", `\_`, "*", `\*`).Replace(text))
}

func code(text, none string) string {
	if text == "" {
		return none
	}
	return "`" + strings.ReplaceAll(text, "|", `\|`) + "`"
}

// paper is a cell that links the number of a paper on arXiv.
func paper(text string) string {
	if id, ok := strings.CutPrefix(text, "arXiv:"); ok && arXiv.MatchString(id) {
		return fmt.Sprintf("[%s](https://arxiv.org/abs/%s)", text, id)
	}
	return cell(text)
}

var arXiv = regexp.MustCompile(`^[A-Za-z0-9./-]+$`)

func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// grouped writes 147456 as 147,456.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
