package view

import (
	"slices"

	"github.com/loralab/loralab/runner/backbone"
)

// Model is a backbone that loralab knows.
type Model struct {
	Name     string
	Backbone *backbone.Backbone // nil: not here
	Missing  string             // what to do then
}

// Models lists backbones.
func (v *View) Models(models []Model) {
	t := table{columns: slices.Concat(texts("NAME"), numbers("BLOCKS", "DIM", "PATCH"), texts("WHERE"))}
	for _, m := range models {
		if m.Backbone == nil {
			t.add(m.Name, "", "", "", v.dim.Render("not here: "+m.Missing))
			continue
		}
		arch := m.Backbone.Arch
		t.add(m.Name, amount(uint64(arch.GetDepth())), amount(uint64(arch.GetDim())), amount(uint64(arch.GetPatch())), m.Backbone.Path)
	}
	v.table(t)
}

// Initialised says what init wrote and what to do next.
func (v *View) Initialised(written []string, next []string) {
	for _, file := range written {
		v.Say("%s %s", v.good.Render("+"), file)
	}
	if len(next) == 0 {
		return
	}
	v.Say("\nNow type:\n")
	for _, line := range next {
		v.Say("  %s", v.bold.Render(line))
	}
}
