// Package report writes what an experiment found: a table in Markdown and CSV,
// every run in long form, figures as PNG and SVG, sample pictures, and one page
// that holds them together with what a reader must know to judge them.
//
// All of it is a function of the resolved experiment and its results: the same
// results give the same bytes. Nothing is left out silently: cells without
// results, scores without spread and comparisons at unequal budgets are named
// under the table.
package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/page"
)

// Result is what is known of one run. A run without a result is reported as
// missing.
type Result struct {
	Run *experiment.Run
	// Summary is nil until the run is trained.
	Summary *spec.Summary
	// Evaluations by domain.
	Evaluations map[string]*spec.Metrics
	// Ensemble is what the ensemble that the run is a member of was scored, by domain.
	Ensemble map[string]*spec.Metrics
	// SampleClasses are the names of classes that the pictures of a domain were
	// drawn with; without an entry those of the run.
	SampleClasses map[string][]string
	// Dir is the run's directory, "" for none. Without its journal the run is left
	// out of the curves, and without samples out of those figures.
	Dir rundir.Dir
	// Failed is why the run failed, in one line; "" if it did not.
	Failed string
	// Page is the address of the run in W&B; "" if it has none.
	Page string
}

// Paths says what was written where, absolute.
type Paths struct {
	Experiments []Written `json:"experiments"`
}

// Written is the report of one experiment. Paths of files that were not written are "".
type Written struct {
	Experiment string `json:"experiment"`
	Table      Table  `json:"table"`
	Page       string `json:"page,omitempty"`     // report.md
	HTML       string `json:"html,omitempty"`     // report.html
	Markdown   string `json:"markdown,omitempty"` // table.md
	CSV        string `json:"csv,omitempty"`      // table.csv, aggregated
	LaTeX      string `json:"latex,omitempty"`    // table.tex
	RunsCSV    string `json:"runs_csv,omitempty"` // runs.csv, a line for each run and domain
	// RunsParquet is runs.parquet, the same columns with types.
	RunsParquet string `json:"runs_parquet,omitempty"`
	// original.csv and original_mean.csv, the tables of the original project; ""
	// where the experiment has neither its preset nor its metric.
	Original     string   `json:"original,omitempty"`
	OriginalMean string   `json:"original_mean,omitempty"`
	Figures      []string `json:"figures"`
	// Searches are what the searches of the experiment have found.
	Searches []Found `json:"searches,omitempty"`
	// Confusions are of every cell on every domain, as far as evaluations have counts.
	Confusions []Confusion `json:"confusions,omitempty"`
	// Replaced is what another report in the same place was asked for with, ""
	// for nothing but the file; nil where there was none.
	Replaced *string `json:"replaced,omitempty"`
}

// Build writes report/<experiment>/ and plots/<experiment>/ below root for every
// experiment. Results of runs and searches that belong to none of them are ignored. Asked is
// what was said on the command line beside the files, "-t scale=paper": an
// experiment has one place, whatever was asked for, so its page says it.
//
// Figures of an earlier report that this one has not are removed.
func Build(ctx context.Context, root string, exps []*experiment.Experiment, results []Result, searches []Search, asked []string) (*Paths, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("finding %s: %w", root, err)
	}
	paths := &Paths{}
	for _, exp := range exps {
		w, err := build(ctx, root, exp, results, searches, strings.Join(asked, " "))
		if err != nil {
			return nil, fmt.Errorf("reporting %s: %w", exp.Name, err)
		}
		paths.Experiments = append(paths.Experiments, *w)
	}
	return paths, nil
}

func build(ctx context.Context, root string, exp *experiment.Experiment, results []Result, searches []Search, asked string) (*Written, error) {
	s, err := newStudy(exp, results, searches)
	if err != nil {
		return nil, err
	}
	if err := s.readCurves(ctx); err != nil {
		return nil, err
	}
	table := s.table()
	reports, err := openPlace(root, "report", exp.Name)
	if err != nil {
		return nil, err
	}
	defer reports.top.Close()
	plots, err := openPlace(root, "plots", exp.Name)
	if err != nil {
		return nil, err
	}
	defer plots.top.Close()
	w := &Written{
		Experiment: exp.Name, Table: table, Confusions: s.confusions(),
		Page: reports.path("report.md"), HTML: reports.path(pageFile), Markdown: reports.path("table.md"),
		CSV: reports.path("table.csv"), RunsCSV: reports.path("runs.csv"), RunsParquet: reports.path("runs.parquet"), LaTeX: reports.path("table.tex"),
	}

	figures := s.drawings()
	for _, f := range s.searches {
		w.Searches = append(w.Searches, f.Found)
	}
	files := make([]*rendered, len(figures))
	errs := make([]error, len(figures))
	var wg sync.WaitGroup
	for i, f := range figures {
		wg.Go(func() {
			if ctx.Err() == nil {
				files[i], errs[i] = f.render()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return nil, err
	}
	for i, f := range figures {
		for _, note := range files[i].notes {
			figures[i].caption += " " + note
		}
		for _, file := range files[i].files {
			if err := plots.replace(f.name+file.suffix, file.content); err != nil {
				return nil, err
			}
			w.Figures = append(w.Figures, plots.path(f.name+file.suffix))
		}
	}

	if err := w.succeed(reports, plots, figures, asked); err != nil {
		return nil, err
	}
	relative, err := filepath.Rel(reports.path("."), plots.path("."))
	if err != nil {
		return nil, fmt.Errorf("linking the figures: %w", err)
	}
	runs := s.runTable()
	parquet, err := runs.parquet()
	if err != nil {
		return nil, err
	}
	type file struct{ name, content string }
	contents := []file{
		{"table.md", table.Markdown() + table.differencesMarkdown()},
		{"table.tex", table.LaTeX()},
		{"runs.csv", runs.csv()},
		{"runs.parquet", string(parquet)},
		{"report.md", s.page(table, figures, filepath.ToSlash(relative), asked) + s.sheets(reports.path("."))},
	}
	whole, err := s.html(table, figures, root, reports.path("."), asked, 1)
	if err != nil {
		return nil, err
	}
	html, err := (&page.Page{Title: exp.Name, Experiments: []*page.Experiment{whole}}).HTML()
	if err != nil {
		return nil, err
	}
	contents = append(contents, file{pageFile, string(html)})
	const original, mean = "original.csv", "original_mean.csv"
	if s.likeOriginal() {
		w.Original, w.OriginalMean = reports.path(original), reports.path(mean)
		contents = append(contents, file{original, s.originalCSV()}, file{mean, s.originalMeanCSV()})
	} else if err := errors.Join(reports.remove(original), reports.remove(mean)); err != nil {
		return nil, err
	}
	// The table is last: where it says what is known now, all else is there.
	for _, f := range append(contents, file{"table.csv", table.CSV()}) {
		if err := reports.replace(f.name, []byte(f.content)); err != nil {
			return nil, err
		}
	}
	return w, nil
}

const askedFor = "Asked for with `%s`."

var (
	shownFigure = regexp.MustCompile(`(?m)^!\[[^\]]*\]\([^)]*/([^/)]+)\.png\)$`)
	wasAskedFor = regexp.MustCompile("(?m)^Asked for with `(.*)`\\.$")
)

// succeed looks at the page that w is about to take the place of: it notes what
// that was asked for with, and removes those of its figures that are no more.
func (w *Written) succeed(reports, plots *place, figures []drawing, asked string) error {
	page, err := reports.read("report.md")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the earlier report: %w", err)
	}
	was := ""
	if m := wasAskedFor.FindSubmatch(page); m != nil {
		was = string(m[1])
	}
	if was != asked {
		w.Replaced = &was
	}
	for _, m := range shownFigure.FindAllSubmatch(page, -1) {
		name := string(m[1])
		if slices.ContainsFunc(figures, func(f drawing) bool { return f.name == name }) {
			continue
		}
		for _, suffix := range []string{".png", ".svg"} {
			if err := plots.remove(name + suffix); err != nil {
				return err
			}
		}
	}
	return nil
}

// place is where an experiment has its files below report/ or plots/. These may
// be links, to a scratch disk for example; below them no link leads out.
type place struct {
	top *os.Root
	dir string // below top
	abs string
}

func openPlace(root, top, experiment string) (*place, error) {
	at := filepath.Join(root, top)
	if err := os.MkdirAll(at, 0o777); err != nil {
		return nil, fmt.Errorf("making %s: %w", at, err)
	}
	r, err := os.OpenRoot(at)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", at, err)
	}
	return &place{r, experiment, filepath.Join(at, experiment)}, nil
}

func (p *place) path(name string) string { return filepath.Join(p.abs, name) }

func (p *place) read(name string) ([]byte, error) {
	info, err := p.top.Lstat(filepath.Join(p.dir, name))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fs.ErrNotExist // it is replaced, not followed
	}
	return p.top.ReadFile(filepath.Join(p.dir, name))
}

// remove removes a file of an earlier report, if it is there.
func (p *place) remove(name string) error {
	// A place that may not be written says so even of what is not there.
	if _, err := p.top.Lstat(filepath.Join(p.dir, name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := p.top.Remove(filepath.Join(p.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what the earlier report had: %w", err)
	}
	return nil
}

// replace writes a file whole or not at all, and leaves it alone when it
// already holds the content.
func (p *place) replace(name string, content []byte) error {
	if old, err := p.read(name); err == nil && bytes.Equal(old, content) {
		return nil
	}
	return replacefile.WriteIn(p.top, filepath.Join(p.dir, name), content)
}

// drawings are all figures.
func (s *study) drawings() []drawing { return slices.Concat(s.figures(), s.searchFigures()) }

// page is report.md.
func (s *study) page(t Table, figures []drawing, plots, asked string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", escape(s.exp.Name))
	if s.exp.About != "" {
		fmt.Fprintf(&b, "%s\n\n", foreign.Markdown(s.exp.About))
	}
	if asked != "" {
		fmt.Fprintf(&b, askedFor+"\n\n", asked)
	}
	show := func(of string, level string) {
		for _, f := range figures {
			if f.section == of {
				fmt.Fprintf(&b, "\n%s %s\n\n![%s](%s/%s.png)\n\n%s\n", level, foreign.Markdown(f.title), foreign.Markdown(f.title), plots, f.name, foreign.Markdown(f.caption))
			}
		}
	}
	// What a search was made for is first.
	if text := s.tunedMarkdown(); text != "" {
		b.WriteString(strings.TrimPrefix(text, "\n"))
		show(tunedSection, "###")
		b.WriteString("\n## All cells\n\n")
	}
	b.WriteString(t.Markdown())
	b.WriteString("\n`table.csv` holds these figures in full precision, `table.tex` the table for LaTeX, `runs.csv` every run; `runs.parquet` has the columns of `runs.csv` with their types, for pandas and R.\n")
	if s.likeOriginal() {
		b.WriteString("`original.csv` and `original_mean.csv` are the tables of the original project: its Dice and IoU of every run, and their mean with the standard deviation of the population.\n")
	}
	b.WriteString(t.comparisonMarkdown())
	b.WriteString(t.differencesMarkdown())
	b.WriteString(t.strengthMarkdown())
	b.WriteString(t.severityMarkdown())
	b.WriteString(t.ensembleMarkdown())
	curves := slices.ContainsFunc(figures, func(f drawing) bool { return f.name == lossName })
	if text := s.faults(); text != "" && !curves {
		fmt.Fprintf(&b, "\nNo curves are drawn. %s\n", text)
	}
	show("", "##")
	for _, f := range s.searches {
		fmt.Fprintf(&b, "\n## Search of %s\n\n%s", escape(f.Cell), f.markdown(s))
		show(f.section(), "###")
	}
	b.WriteString(s.pagesMarkdown())
	return b.String()
}
