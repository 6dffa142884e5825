package view

import (
	"strings"

	"github.com/loralab/loralab/runner/doctor"
)

// Doctor shows what was found on this machine and what to do about the rest.
func (v *View) Doctor(checks []doctor.Check) {
	width := 0
	for _, c := range checks {
		width = max(width, len(c.Name))
	}
	failed := 0
	for _, c := range checks {
		mark := v.good.Render("✓")
		switch c.State {
		case doctor.Warn:
			mark = v.warn.Render("!")
		case doctor.Fail:
			mark = v.bad.Render("✗")
			failed++
		}
		indent := strings.Repeat(" ", width+4)
		value := block(strings.ReplaceAll(strings.TrimSpace(c.Value), "\n", "\n"+indent))
		v.Say("%s %-*s  %s", mark, width, c.Name, value)
		if c.Cure != "" {
			v.Say("%s%s %s", indent, v.accent.Render("→"), block(strings.ReplaceAll(c.Cure, "\n", "\n"+indent+"  ")))
		}
	}
	if failed > 0 {
		v.Say("\n%s", v.bad.Render(count(failed, "thing")+" missing"))
	}
}
