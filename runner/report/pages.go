package report

import (
	"fmt"
	"strings"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/page"
)

// mostPages is how many pages of runs in W&B a report links.
const mostPages = 24

// pages are links to the runs in W&B, and how many more there are.
func (s *study) pages() (links []page.Link, more int) {
	for _, c := range s.cells {
		for _, o := range c.runs {
			switch {
			case o.Page == "":
			case len(links) == mostPages:
				more++
			default:
				links = append(links, page.Link{To: o.Page, Text: c.name + "/" + o.Run.Repeat().String()})
			}
		}
	}
	return links, more
}

// pagesMarkdown is the part of report.md about the runs in W&B, "" without any.
func (s *study) pagesMarkdown() string {
	links, more := s.pages()
	if len(links) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n## Runs in W&B\n\n")
	for _, l := range links {
		fmt.Fprintf(&b, "- %s: <%s>\n", foreign.Markdown(foreign.Line(l.Text)), l.To)
	}
	if more > 0 {
		fmt.Fprintf(&b, "\nThe group there has %s more.\n", plural.Of(more, "run"))
	}
	return b.String()
}
