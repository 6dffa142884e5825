package view

import (
	"strings"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/hub"
)

// Model is a backbone that loralab knows.
type Model struct {
	Name     string
	Backbone *hub.Backbone // nil: not here
	Missing  string        // what to do then
}

// Models lists backbones.
func (v *View) Models(models []Model) {
	t := table{header: []string{"NAME", "BLOCKS", "DIM", "PATCH", "WHERE"}, right: map[int]bool{1: true, 2: true, 3: true}}
	for _, m := range models {
		if m.Backbone == nil {
			t.rows = append(t.rows, []string{m.Name, "", "", "", v.dim.Render("not here: " + m.Missing)})
			continue
		}
		arch := m.Backbone.Arch
		t.rows = append(t.rows, []string{
			m.Name, amount(uint64(arch.GetDepth())), amount(uint64(arch.GetDim())), amount(uint64(arch.GetPatch())), m.Backbone.Path,
		})
	}
	v.table(t)
}

// Plugin is a variant that was found.
type Plugin struct {
	Name        string
	Path        string
	Description *protocol.DescribeReply // nil: see Err
	Err         error
}

// Plugins lists variants; dirs are where they were searched for.
func (v *View) Plugins(plugins []Plugin, dirs []string) {
	if len(plugins) == 0 {
		v.Say("No variants found in:\n  %s", strings.Join(dirs, "\n  "))
		return
	}
	t := table{header: []string{"NAME", "VERSION", "WHAT", "WHERE"}}
	for _, p := range plugins {
		if p.Err != nil {
			first, _, _ := strings.Cut(p.Err.Error(), "\n")
			t.rows = append(t.rows, []string{p.Name, "", v.bad.Render("broken"), first})
			continue
		}
		t.rows = append(t.rows, []string{p.Name, p.Description.GetVersion(), p.Description.GetAbout(), p.Path})
	}
	v.table(t)
}

// Plugin shows what a variant says of itself.
func (v *View) Plugin(d *protocol.DescribeReply) {
	v.Say("%s %s", v.bold.Render(d.GetName()), d.GetVersion())
	for _, line := range []struct{ what, text string }{
		{"", d.GetAbout()},
		{"paper", d.GetPaper()},
		{"formula", d.GetFormula()},
		{"parameters per site", d.GetParameters()},
		{"in PEFT", d.GetPeftType()},
	} {
		switch {
		case line.text == "":
		case line.what == "":
			v.Say("%s", line.text)
		default:
			v.Say("%s %s", v.dim.Render(line.what+":"), line.text)
		}
	}
	v.Say("\n%s", strings.TrimSpace(d.GetSchema()))
}

// Program shows an adapter program.
func (v *View) Program(text string) {
	v.Say("\n%s", strings.TrimSpace(text))
}

// Pinned says that a variant was pinned in a file.
func (v *View) Pinned(name, version, sum, file string) {
	v.Say("%s %s %s in %s", v.good.Render("pinned"), name, version+" "+sum[:min(12, len(sum))], file)
}

// Initialised says what init wrote and what to do next.
func (v *View) Initialised(written []string, next []string) {
	for _, file := range written {
		v.Say("%s %s", v.good.Render("+"), file)
	}
	v.Say("\nNow type:\n")
	for _, line := range next {
		v.Say("  %s", v.bold.Render(line))
	}
}
