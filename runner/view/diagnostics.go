package view

import (
	"strings"

	"github.com/loralab/loralab/runner/diagnostic"
)

// Diagnostics shows every mistake with its place on standard error. The layout
// is that of package diagnostic; a view adds colors and the terminal's width.
func (v *View) Diagnostics(list diagnostic.List) {
	v.passing.clear(v)
	looks := map[diagnostic.Role]style{
		diagnostic.Error: v.bad, diagnostic.Warning: v.warn, diagnostic.Headline: v.bold,
		diagnostic.Frame: v.dim, diagnostic.Label: v.accent,
	}
	for _, line := range list.Lines(v.width) {
		var b strings.Builder
		for _, span := range line {
			if look, ok := looks[span.Role]; ok {
				b.WriteString(look.Render(span.Text))
			} else {
				b.WriteString(span.Text)
			}
		}
		printLine(v.err, b.String())
	}
}
