package report

import (
	"fmt"
	"strings"

	"github.com/loralab/loralab/runner/compare"
	"github.com/loralab/loralab/runner/foreign"
)

// LaTeX is the table for a paper: a tabular with the rules of the package booktabs, and
// one for each domain with the differences from the baseline, if there is one. Notes are
// comments.
func (t Table) LaTeX() string {
	var b strings.Builder
	comment := func(text string) { fmt.Fprintf(&b, "%% %s\n", foreign.Line(text)) }
	comment("In the preamble: \\usepackage{booktabs}")
	comment(t.Experiment)
	if t.FigureWidth > 0 {
		comment(fmt.Sprintf("Its figures are %g inches wide.", t.FigureWidth))
	}
	for _, n := range t.Notes {
		comment(n)
	}
	tabular(&b, t.Header(), t.Cells())
	if t.Comparison == nil {
		return b.String()
	}
	for _, d := range t.Comparison.Domains {
		b.WriteByte('\n')
		comment(fmt.Sprintf("Differences from %s on %s. %s", t.Comparison.Baseline, d.Name, t.comparisonNote()))
		sentences(d, comment)
		tabular(&b, comparisonHeader, t.comparisonLines(d))
	}
	return b.String()
}

func sentences(d compare.Domain, write func(text string)) {
	for _, r := range d.Rows {
		if r.Sentence != "" {
			write(r.Sentence)
		}
	}
}

// tabular writes lines under a header: the first column is text, the others are numbers.
func tabular(b *strings.Builder, header []string, lines [][]string) {
	fmt.Fprintf(b, "\\begin{tabular}{l%s}\n\\toprule\n", strings.Repeat("r", len(header)-1))
	row := func(line []string) {
		cells := make([]string, len(line))
		for i, text := range line {
			cells[i] = latex(text)
		}
		// \\ and \midrule take what follows in brackets, or a star, as an argument.
		if strings.HasPrefix(cells[0], "[") || strings.HasPrefix(cells[0], "*") {
			cells[0] = "{}" + cells[0]
		}
		fmt.Fprintf(b, "%s \\\\\n", strings.Join(cells, " & "))
	}
	row(header)
	b.WriteString("\\midrule\n")
	for _, line := range lines {
		row(line)
	}
	b.WriteString("\\bottomrule\n\\end{tabular}\n")
}

// forLaTeX are characters that LaTeX takes as more than themselves, and signs that its
// text fonts lack.
var forLaTeX = strings.NewReplacer(
	`\`, `\textbackslash{}`, "{", `\{`, "}", `\}`, "$", `\$`, "&", `\&`, "%", `\%`, "#", `\#`, "_", `\_`,
	"~", `\textasciitilde{}`, "^", `\textasciicircum{}`, "<", `\textless{}`, ">", `\textgreater{}`, "|", `\textbar{}`,
	`"`, `\textquotedbl{}`, "`", `\textasciigrave{}`, "±", `$\pm$`, "×", `$\times$`, "\u2212", "$-$", "–", "--", "…", `\dots{}`,
)

// latex is text as LaTeX shows it.
func latex(text string) string { return forLaTeX.Replace(foreign.Line(text)) }
