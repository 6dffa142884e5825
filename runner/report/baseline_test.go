package report

import (
	"strings"
	"testing"
)

// With a baseline the page has the difference of every cell, with interval, effect and
// test, and a sentence to quote; LaTeX has the same.
func TestBaseline(t *testing.T) {
	e := newExample("e", false, "adapter.params.rank")
	e.exp.Domains = []string{"test", "histology"}
	ranked(e, 3)
	if table := e.study(t).table(); table.Comparison != nil || table.comparisonMarkdown() != "" {
		t.Error("differences from no baseline")
	}
	e.exp.Baseline = "rank=2"
	table := e.study(t).table()
	c := table.Comparison
	if c == nil || c.Baseline != "rank=2" || len(c.Domains) != 2 || c.Tests != 4 {
		t.Fatalf("the comparison is %+v", c)
	}
	if words := strings.Join(e.study(t).sentences(), "\n"); strings.Count(words, " than rank=2 in ") != 4 {
		t.Errorf("in words on the page:\n%s", words)
	}
	text := table.comparisonMarkdown()
	for _, want := range []string{
		"## Differences from rank=2\n", "### On test\n", "### On histology\n", "adjusted after Holm for 4 comparisons",
		"| cell   |    n |  mean |", "baseline",
		"(95 % interval ", ", 3 seeds, paired t-test, p ", " after Holm's correction for 4 comparisons).",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if n := strings.Count(text, " than rank=2 in "); n != 4 {
		t.Errorf("%d sentences in\n%s", n, text)
	}
	if tex := table.LaTeX(); strings.Count(tex, `\begin{tabular}`) != 3 || strings.Count(tex, `\bottomrule`) != 3 || !strings.Contains(tex, "rank=2 & 3 & ") {
		t.Errorf("LaTeX is\n%s", tex)
	}

	for i := range e.results {
		if e.results[i].Run.Cell == "rank=2" {
			e.results[i].Summary, e.results[i].Evaluations = nil, nil
		}
	}
	table = e.study(t).table()
	if table.Comparison != nil || !strings.Contains(strings.Join(table.Notes, "\n"), "no differences from the baseline rank=2 yet") {
		t.Errorf("without scores of the baseline: %v", table.Notes)
	}
}

// No name ends a cell or a line, begins a command, or is an argument of the rule above.
func TestLaTeXOfForeignNames(t *testing.T) {
	var b strings.Builder
	tabular(&b, []string{"cell", "a_b"}, [][]string{
		{`50 % of $x & {y} \input{z} #1 ~^`, "0.5 ± 0.1"},
		{"[2em] two\nlines", "3×2"},
		{"*", "−1 <0.001 –"},
	})
	want := `\begin{tabular}{lr}
\toprule
cell & a\_b \\
\midrule
50 \% of \$x \& \{y\} \textbackslash{}input\{z\} \#1 \textasciitilde{}\textasciicircum{} & 0.5 $\pm$ 0.1 \\
{}[2em] two\textbackslash{}nlines & 3$\times$2 \\
{}* & $-$1 \textless{}0.001 -- \\
\bottomrule
\end{tabular}
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
