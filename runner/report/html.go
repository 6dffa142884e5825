package report

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/figure"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/page"
	"github.com/loralab/loralab/runner/provenance"
)

// Page is what experiments found as one page, without writing anything. Root is that of
// the project, and links are to its files from the folder at, "" for no links.
func Page(ctx context.Context, root, at string, exps []*experiment.Experiment, results []Result, searches []Search, asked []string) (*page.Page, error) {
	p := &page.Page{}
	var names []string
	for _, exp := range exps {
		s, err := newStudy(exp, results, searches)
		if err != nil {
			return nil, fmt.Errorf("reporting %s: %w", exp.Name, err)
		}
		if err := s.readCurves(ctx); err != nil {
			return nil, fmt.Errorf("reporting %s: %w", exp.Name, err)
		}
		e, err := s.html(s.table(), s.drawings(), root, at, strings.Join(asked, " "), len(exps))
		if err != nil {
			return nil, fmt.Errorf("reporting %s: %w", exp.Name, err)
		}
		p.Experiments = append(p.Experiments, e)
		names = append(names, exp.Name)
	}
	p.Title = strings.Join(names, ", ")
	return p, nil
}

// WritePage writes a page of several experiments to report/report.html, and returns its
// path.
func WritePage(root string, p *page.Page) (string, error) {
	reports, err := openPlace(root, "report", ".")
	if err != nil {
		return "", err
	}
	defer reports.top.Close()
	content, err := p.HTML()
	if err != nil {
		return "", err
	}
	return reports.path(pageFile), reports.replace(pageFile, content)
}

// pageFile is the name of pages.
const pageFile = "report.html"

// html is the experiment on a page. The budget of the page is shared by of experiments.
func (s *study) html(t Table, figures []drawing, root, at, asked string, of int) (*page.Experiment, error) {
	e := &page.Experiment{Name: s.exp.Name, About: s.exp.About, Asked: asked, Notes: plainNotes(t.Notes)}
	for _, c := range s.cells {
		for _, o := range c.runs {
			e.Planned++
			switch {
			case o.done():
				e.Done++
			case o.Failed != "":
				e.Failed++
			}
		}
	}
	leave := func(format string, args ...any) { e.LeftOut = append(e.LeftOut, fmt.Sprintf(format, args...)) }
	made := s.readOrigins()
	e.Facts = s.facts()
	e.File, e.Source, e.Settings = s.settings(made)
	e.Table = s.htmlTable(t, page.MostScores/of, leave)
	e.Sentences = s.sentences()
	e.Tables = t.listings()
	e.Curves = s.htmlCurves(page.MostPoints/of, leave)
	for _, d := range figures {
		chart := page.ChartOf(d.figure)
		if chart == nil || d.name == lossName || d.name == validationName {
			continue
		}
		f := page.Figure{Title: d.title, Caption: Plain(d.caption), Chart: chart}
		switch i := slices.IndexFunc(s.searches, func(of *found) bool { return d.section == of.section() }); {
		case i >= 0:
			for len(e.Searches) <= i {
				e.Searches = append(e.Searches, page.Search{})
			}
			e.Searches[i].Figures = append(e.Searches[i].Figures, f)
		case d.section == tunedSection: // what a search was made for is first
			e.Figures = slices.Insert(e.Figures, 0, f)
		default:
			e.Figures = append(e.Figures, f)
		}
	}
	for i, f := range s.searches {
		for len(e.Searches) <= i {
			e.Searches = append(e.Searches, page.Search{})
		}
		e.Searches[i].Title = "Search of " + f.Cell
		for line := range strings.Lines(f.markdown(s)) {
			if line = strings.TrimPrefix(strings.TrimSpace(line), "- "); line != "" {
				e.Searches[i].Lines = append(e.Searches[i].Lines, Plain(line))
			}
		}
	}
	e.Scores = append(e.Scores, s.domainsCharts()...)
	e.Scores = append(e.Scores, s.classChart()...)
	e.Confusions = s.htmlConfusions(leave)
	var err error
	if e.Samples, err = s.htmlSamples(page.MostSamples/of, leave); err != nil {
		return nil, err
	}
	e.Costs = s.costs()
	e.Provenance = origins(made)
	e.Commands = s.commands(root, e.File, asked)
	e.Runs = s.runsListing(leave)
	e.Pages, e.MorePages = s.pages()
	s.link(e, root, at)
	e.Visible()
	return e, nil
}

// Plain is text that was made for Markdown, as text.
func Plain(s string) string {
	return strings.NewReplacer("**", "", "`", "", "&lt;", "<", `\|`, "|", `]\(`, "](").Replace(s)
}

func plainNotes(notes []string) (all []string) {
	for _, n := range notes {
		all = append(all, Plain(n))
	}
	return all
}

// facts are what was asked.
func (s *study) facts() (facts []page.Fact) {
	add := func(name, value string) { facts = append(facts, page.Fact{Name: name, Value: value}) }
	add("metric", metric.Label(s.exp.Metric)+" ("+s.exp.Metric+")")
	for _, path := range s.exp.Axes {
		var values []string
		for _, c := range s.cells {
			for _, v := range c.values {
				if text := valueText(v.Value); v.Path == path && !slices.Contains(values, text) {
					values = append(values, text)
				}
			}
		}
		add("compared", fmt.Sprintf("%s (%s): %s", wordsOf(path), path, some(values, 24)))
	}
	var names []string
	for _, c := range s.cells {
		if len(c.values) == 0 {
			names = append(names, c.name)
		}
	}
	if len(names) > 0 {
		add("cases", some(names, 24))
	}
	var seeds []string
	for _, run := range s.exp.Runs {
		if n := strconv.FormatUint(run.Seed, 10); !slices.Contains(seeds, n) {
			seeds = append(seeds, n)
		}
	}
	if len(seeds) > 0 {
		add("seeds", some(seeds, 24))
	}
	if s.exp.Folds > 0 {
		add("folds", fmt.Sprint(s.exp.Folds))
	}
	add("domains", some(s.exp.Domains, 24))
	for _, run := range s.exp.Runs {
		d := run.Spec.GetData()
		add("classes", some(d.GetClasses(), 24))
		add("images", strings.TrimSuffix(fmt.Sprintf("%d×%d pixels; %s", d.GetHeight(), d.GetWidth(), s.splits()), "; "))
		break
	}
	if text := s.checkpoints(); text != "" {
		add("scored", Plain(strings.TrimSpace(text+" "+s.seen())))
	}
	return facts
}

// splits are the sizes of the splits.
func (s *study) splits() string {
	var parts []string
	for _, split := range []string{"train", "val"} {
		low, high := uint64(math.MaxUint64), uint64(0)
		for _, run := range s.exp.Runs {
			if d := run.Spec.GetData().GetSplits()[split]; d != nil {
				low, high = min(low, uint64(d.GetCount())), max(high, uint64(d.GetCount()))
			}
		}
		switch {
		case high == 0:
		case low == high:
			parts = append(parts, fmt.Sprintf("%s %d", split, low))
		default:
			parts = append(parts, fmt.Sprintf("%s %d to %d", split, low, high))
		}
	}
	return strings.Join(parts, ", ")
}

// some joins the first of a list.
func some(list []string, most int) string {
	more := ""
	if len(list) > most {
		more = fmt.Sprintf(" and %d more", len(list)-most)
		list = list[:most]
	}
	return strings.Join(list, ", ") + more
}

// origin is what the record of a run says of what made it.
type origin struct {
	run *outcome
	*provenance.Record
}

// readOrigins reads the records of trained runs. One that cannot be read is left out:
// `runner inspect` says why.
func (s *study) readOrigins() (all []origin) {
	for _, c := range s.cells {
		for _, o := range c.runs {
			if o.Dir == "" || !o.done() {
				continue
			}
			if r, err := provenance.Read(string(o.Dir)); err == nil && r.Last() != nil {
				if o != c.first() {
					for i := range r.Attempts {
						r.Attempts[i].Source = nil // one of each cell is enough
					}
				}
				all = append(all, origin{o, r})
			}
		}
	}
	return all
}

// settings are the experiment file, and all values of it that determine runs, as the
// first trained run of each cell has recorded them.
func (s *study) settings(made []origin) (file, text string, all []page.Setting) {
	type value struct {
		texts []string
		cells int
	}
	var order []string
	values, cells := map[string]*value{}, 0
	for _, o := range made {
		src := o.Last().Source
		if src == nil {
			continue
		}
		cells++
		file, text = src.File, src.Text
		for _, v := range src.Values {
			if v.Remark || v.Path == "about" || strings.HasPrefix(v.Path, "report.") {
				continue
			}
			known := values[v.Path]
			if known == nil {
				known = &value{}
				values[v.Path] = known
				order = append(order, v.Path)
			}
			known.cells++
			shown := strings.Trim(string(v.Value), `"`)
			if !slices.Contains(known.texts, shown) {
				known.texts = append(known.texts, shown)
			}
		}
	}
	for _, path := range order {
		v := values[path]
		set := page.Setting{Name: path, Value: foreign.Line(some(v.texts, 12)), Varies: len(v.texts) > 1 || v.cells < cells}
		if v.cells < cells && len(v.texts) == 1 {
			set.Value += " (in some cells)"
		}
		all = append(all, set)
	}
	return file, text, all
}

// origins is what made the runs: each fact with its values.
func origins(made []origin) (facts []page.Fact) {
	var order []string
	values := map[string][]string{}
	add := func(name, value string) {
		if value == "" {
			return
		}
		if values[name] == nil {
			order = append(order, name)
		}
		if !slices.Contains(values[name], value) {
			values[name] = append(values[name], value)
		}
	}
	for _, o := range made {
		a := o.Last()
		add("command", foreign.Command(a.Command...))
		if a.Git != nil {
			text := a.Git.Commit
			if a.Git.Dirty {
				text += " with changes that were not committed"
			}
			add("commit", text)
		}
		add("loralab", strings.TrimSpace(a.Loralab.Version+" "+a.Loralab.Revision))
		if a.Variant.Name != "" {
			add("variant", strings.TrimSpace(a.Variant.Name+" "+a.Variant.Version))
		}
		add("libtorch", a.Engine.Libtorch)
		device := a.Engine.Device
		if a.Engine.DeviceName != "" {
			device += " (" + a.Engine.DeviceName + ")"
		}
		add("device", device)
		add("processor", fmt.Sprintf("%s, %s, %s", cmp.Or(a.Machine.CPU, a.Machine.Arch), plural.Of(a.Machine.CPUs, "CPU"), bytesText(a.Machine.Memory)))
		add("system", a.Machine.System)
		add("Go", a.Loralab.Go)
		add("engine, SHA-256", a.EngineSHA256)
	}
	for _, name := range order {
		facts = append(facts, page.Fact{Name: name, Value: some(values[name], 6), Code: name == "command" || name == "commit" || name == "engine, SHA-256"})
	}
	return facts
}

// bytesText is a size in memory.
func bytesText(n uint64) string {
	switch {
	case n == 0:
		return "–"
	case n < 1<<30:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// htmlTable is the table with all metrics that there is room for.
func (s *study) htmlTable(t Table, most int, leave func(string, ...any)) page.Table {
	out := page.Table{Rows: []page.Row{}}
	for _, d := range t.Domains {
		out.Domains = append(out.Domains, s.short[d])
		if s.short[d] == "" {
			out.Domains[len(out.Domains)-1] = d
		}
	}
	names := []string{t.Metric}
	var classes []string
	for _, run := range s.exp.Runs {
		for _, c := range run.Spec.GetData().GetClasses() {
			if !slices.Contains(classes, c) {
				classes = append(classes, c)
			}
		}
	}
	for _, n := range metric.Names(classes) {
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	for _, row := range t.Rows {
		r := page.Row{Name: row.Cell, N: row.counted(), Adapter: "–", Trained: "–", Scores: [][]page.Score{}}
		if row.N > 0 {
			r.Adapter, r.Trained = thousands(row.Adapter), thousands(row.Trainable())
		}
		out.Rows = append(out.Rows, r)
	}
	scores := 0
	var left []string
	for _, n := range names {
		columns := make([][]page.Score, len(s.cells))
		any := false
		for i, c := range s.cells {
			for _, d := range t.Domains {
				st, _ := s.sample(c, d, n)
				any = any || st.N > 0
				columns[i] = append(columns[i], score(st))
			}
		}
		if !any && n != t.Metric {
			continue
		}
		if scores += len(s.cells) * len(t.Domains); scores > most && n != t.Metric {
			left = append(left, n)
			continue
		}
		out.Metrics = append(out.Metrics, page.Metric{Name: n, Label: metric.Label(n), Less: metric.Better(n, 0, 1)})
		for i := range out.Rows {
			out.Rows[i].Scores = append(out.Rows[i].Scores, columns[i])
		}
	}
	if len(left) > 0 {
		leave("Metrics that the table has no room for: %s. runs.csv has all.", some(left, 6))
	}
	return out
}

func score(st Stat) page.Score {
	if st.N == 0 {
		return page.Score{Text: "–"}
	}
	v := page.Num(st.Mean)
	sc := page.Score{Value: &v, Text: st.String()}
	if st.Interval.Known() {
		sc.Interval = fmt.Sprintf("%.3f [%.3f, %.3f]", st.Mean, *st.Interval.Low, *st.Interval.High)
	}
	return sc
}

// mostSentences is how many comparisons the page says in words.
const mostSentences = 24

// sentences compare each cell with the baseline of the experiment. Without one that is
// the first case or, where there is none, the first cell. They are nil where fewer than
// two have scores.
func (s *study) sentences() (all []string) {
	named := s.baseline()
	base, scored := named, 0
	for _, c := range s.cells {
		if !s.scored(c) {
			continue
		}
		scored++
		if named == nil && (base == nil || len(base.values) > 0 && len(c.values) == 0) {
			base = c
		}
	}
	if scored < 2 || scored > mostSentences {
		return nil
	}
	domains := s.domains()
	if scored*len(domains) > mostSentences {
		domains = domains[:1]
	}
	for _, d := range s.comparedWith(base, domains).Domains {
		for _, r := range d.Rows {
			if r.Sentence != "" {
				all = append(all, strings.Replace(r.Sentence, " on "+d.Name+" ", " on "+s.short[d.Name]+" ", 1))
			}
		}
	}
	return all
}

// listings are further tables: strengths, severities and ensembles.
func (t Table) listings() (all []page.Listing) {
	if len(t.Strength) > 0 {
		all = append(all, levelListing("Strength of the adapter", t.strengthText(), t.strengthTable()))
	}
	if len(t.Severity) > 0 {
		all = append(all, levelListing("Corruptions by severity", t.severityText(), t.severityTable()))
	}
	if len(t.Ensembles) > 0 {
		l := page.Listing{Title: "Ensembles", Header: []string{"cell", "domain", "n", "members", "ensemble"}, Numbers: []bool{false, false, true, true, true}}
		for _, r := range t.Ensembles {
			l.Lines = append(l.Lines, []string{r.Cell, r.Domain, strconv.Itoa(r.Members.N), r.Members.String(), fmt.Sprintf("%.3f", r.Ensemble)})
		}
		all = append(all, l)
	}
	return all
}

// levelListing is a table with a column for each level.
func levelListing(title, text string, lines [][]string) page.Listing {
	l := page.Listing{Title: title, Text: text, Header: lines[0], Lines: lines[1:], Numbers: make([]bool, len(lines[0]))}
	for i := range l.Numbers {
		l.Numbers[i] = i > 1
	}
	return l
}

// costs is what the cells took.
func (s *study) costs() page.Listing {
	l := page.Listing{
		Title:   "Cost",
		Header:  []string{"cell", "steps of a run", "seconds of a run", "images/s", "peak memory", "runs", "seconds in all"},
		Numbers: []bool{false, true, true, true, true, true, true},
	}
	var all float64
	for _, c := range s.cells {
		var steps, seconds, speed []float64
		peak := uint64(0)
		for _, o := range c.runs {
			if o.done() {
				steps = append(steps, float64(o.Summary.Steps))
				seconds = append(seconds, o.Summary.Seconds)
				speed = append(speed, o.Summary.ImagesPerSecond)
				peak = max(peak, o.Summary.PeakMemory)
			}
		}
		if len(steps) == 0 {
			continue
		}
		sum := newStat(seconds).Mean * float64(len(seconds))
		all += sum
		l.Lines = append(l.Lines, []string{
			c.name, fmt.Sprintf("%.0f", newStat(steps).Mean), fmt.Sprintf("%.1f", newStat(seconds).Mean), fmt.Sprintf("%.1f", newStat(speed).Mean),
			bytesText(peak), strconv.Itoa(len(steps)), fmt.Sprintf("%.0f", sum),
		})
	}
	if len(l.Lines) > 0 {
		without := ""
		if len(s.exp.Studies) > 0 {
			without = ", without the trials of searches"
		}
		l.Text = fmt.Sprintf("Means over the runs of a cell; peak memory is the largest. Training took %s in all%s.", durationText(all), without)
	}
	return l
}

func durationText(seconds float64) string {
	switch {
	case seconds < 120:
		return fmt.Sprintf("%.0f s", seconds)
	case seconds < 7200:
		return fmt.Sprintf("%.0f min", seconds/60)
	}
	return fmt.Sprintf("%.1f h", seconds/3600)
}

// commands are what to type to get the same, where the page was asked for with these
// flags.
func (s *study) commands(root, file, asked string) (all []page.Command) {
	if file == "" {
		if rel, err := filepath.Rel(root, s.exp.File); err == nil {
			file = filepath.ToSlash(rel)
		}
	}
	file = foreign.Word(file)
	if asked != "" {
		file += " " + asked
	}
	all = append(all, page.Command{Line: "runner plan " + file, Does: "shows what would be run"},
		page.Command{Line: "runner apply " + file, Does: "trains what is missing, and writes this page"})
	for _, c := range s.cells {
		if o := c.first(); o != nil {
			run := foreign.Word(name.Run(s.exp.Name, c.name, o.Run.Repeat()))
			return append(all, page.Command{Line: "runner reproduce " + run, Does: "trains one run again elsewhere, and compares"},
				page.Command{Line: "runner inspect " + run, Does: "shows all that made a run"})
		}
	}
	return all
}

// mostListed is how many runs the page lists.
const mostListed = 200

// runsListing is the runs with their identities.
func (s *study) runsListing(leave func(string, ...any)) page.Listing {
	l := page.Listing{Header: []string{"run", "state", "steps", "best step", "identity", "weights, SHA-256"}, Numbers: []bool{false, false, true, true, false, false}}
	n := 0
	for _, c := range s.cells {
		for _, o := range c.runs {
			if n++; n > mostListed {
				continue
			}
			line := []string{c.name + "/" + o.Run.Repeat().String(), "missing", "", "", rundir.Short(o.Run.ID), ""}
			switch {
			case o.done():
				line[1], line[2], line[3] = "trained", strconv.FormatUint(o.Summary.Steps, 10), strconv.FormatUint(o.Summary.BestStep, 10)
				line[5] = rundir.Short(o.Summary.WeightsDigest)
			case o.Failed != "":
				line[1] = "failed: " + foreign.Line(o.Failed)
			}
			l.Lines = append(l.Lines, line)
		}
	}
	if n > mostListed {
		leave("%d of %d runs are listed. runs.csv has all.", mostListed, n)
	}
	return l
}

// link adds links to the files next to the page.
func (s *study) link(e *page.Experiment, root, at string) {
	if at == "" {
		return
	}
	add := func(path, text string) {
		if to, err := filepath.Rel(at, path); err == nil {
			e.Links = append(e.Links, page.Link{To: filepath.ToSlash(to), Text: text})
		}
	}
	dir := filepath.Join(root, "report", s.exp.Name)
	add(filepath.Join(dir, "runs.csv"), "runs.csv: every run, in full precision")
	add(filepath.Join(dir, "runs.parquet"), "runs.parquet: the same with types, for pandas and R")
	add(filepath.Join(dir, "table.csv"), "table.csv: the table, in full precision")
	add(filepath.Join(dir, "report.md"), "report.md: this report as Markdown")
	add(filepath.Join(root, "plots", s.exp.Name), "plots: figures as PNG and SVG")
	if logs := filepath.Join(root, "logs", s.exp.Name); exists(logs) {
		add(logs, "logs: metrics.jsonl of every run, all steps")
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// classChart shows the score of each class.
func (s *study) classChart() []page.Figure {
	kind, _, _ := strings.Cut(strings.TrimPrefix(s.exp.Metric, "original/"), "/")
	if kind != "dice" && kind != "iou" {
		kind = "dice"
	}
	var classes []string
	for _, run := range s.exp.Runs {
		if classes = run.Spec.GetData().GetClasses(); len(classes) > 0 {
			break
		}
	}
	var cells []*cell
	var left []string
	for _, c := range s.cells {
		switch {
		case !s.scored(c):
		case len(cells) < 6:
			cells = append(cells, c)
		default:
			left = append(left, c.name)
		}
	}
	domains := s.domains()
	domains = domains[:min(len(domains), 6)]
	if len(cells) == 0 || len(classes) < 2 || len(classes) > 64 {
		return nil
	}
	looks := s.looks()
	r := &figure.Rows{X: figure.Axis{Title: metric.Label(kind), Unit: true}}
	section := figure.Section{}
	for _, d := range domains {
		r.Panels = append(r.Panels, figure.Columned{Title: s.short[d], Scale: "all"})
	}
	for _, class := range classes {
		row := figure.Row{Name: class}
		for _, d := range domains {
			var dots []figure.Dot
			for k, c := range cells {
				if st, _ := s.sample(c, d, kind+"/"+class); st.N > 0 {
					look := looks[c]
					look.Mark = k % figure.Marks
					dots = append(dots, figure.Dot{Name: c.name, Look: look, X: st.Mean, Low: st.Mean - st.deviation(), High: st.Mean + st.deviation()})
				}
			}
			row.Dots = append(row.Dots, dots)
		}
		section.Rows = append(section.Rows, row)
	}
	r.Sections = []figure.Section{section}
	caption := fmt.Sprintf("%s of each class, %s.%s", metric.Label(kind), s.seedsText(), s.barsText()) + Plain(leftOut(left))
	return []page.Figure{{Title: metric.Label(kind) + " of each class", Caption: caption, Chart: page.ChartOf(r)}}
}

// domainsCharts show the metric out of domain over that in domain.
func (s *study) domainsCharts() []page.Figure {
	domains := s.domains()
	if len(domains) < 2 {
		return nil
	}
	looks := s.looks()
	chart := &page.Chart{Kind: "lines", Y: &page.Axis{Title: metric.Label(s.exp.Metric) + " out of domain"}}
	in := domains[0]
	named := len(s.cells) <= 12
	for _, d := range domains[1:min(len(domains), 7)] {
		panel := page.Panel{Title: s.short[d], X: &page.Axis{Title: metric.Label(s.exp.Metric) + ", " + s.short[in]}}
		for _, c := range s.cells {
			x, _ := s.sample(c, in, s.exp.Metric)
			y, _ := s.sample(c, d, s.exp.Metric)
			if x.N == 0 || y.N == 0 {
				continue
			}
			l := looks[c]
			m := page.Mark{Of: c.name, Look: page.Look{Color: page.Color(l.Color), Mark: len(panel.Marks) % figure.Marks}, X: page.Num(x.Mean), Y: page.Num(y.Mean)}
			if named {
				m.Name = c.name
			}
			if sd := y.deviation(); sd > 0 {
				m.Bars = []page.Num{page.Num(y.Mean - sd), page.Num(y.Mean + sd)}
			}
			if sd := x.deviation(); sd > 0 {
				m.Wide = []page.Num{page.Num(x.Mean - sd), page.Num(x.Mean + sd)}
			}
			panel.Marks = append(panel.Marks, m)
		}
		if len(panel.Marks) > 1 {
			chart.Panels = append(chart.Panels, panel)
		}
	}
	if len(chart.Panels) == 0 {
		return nil
	}
	return []page.Figure{{
		Title: "In domain and out of it", Chart: chart,
		Caption: fmt.Sprintf("A mark for each cell: %s on other domains, over that on %s, %s.%s", metric.Label(s.exp.Metric), s.short[in], s.seedsText(), s.barsText()),
	}}
}

// mostCurves is how many cells the learning curves show before a reader chooses.
const mostCurves = 6

// htmlCurves are the learning curves, thinned to a number of points.
func (s *study) htmlCurves(most int, leave func(string, ...any)) *page.Curves {
	runs := 0
	for _, c := range s.cells {
		for _, o := range c.runs {
			if o.curve != nil && len(o.curve.steps) > 0 {
				runs++
			}
		}
	}
	if runs == 0 {
		return nil
	}
	each := max(16, most/runs)
	looks := s.looks()
	out := &page.Curves{Metric: metric.Label(s.exp.Metric), Runs: []page.Curve{}, Shown: mostCurves, Faults: Plain(s.faults())}
	longest := 0
	for _, c := range s.cells {
		k := len(out.Cells)
		out.Cells = append(out.Cells, c.name)
		out.Colors = append(out.Colors, page.Color(looks[c].Color))
		for _, o := range c.runs {
			if o.curve == nil || len(o.curve.steps) == 0 {
				continue
			}
			one := page.Curve{Cell: k, Name: o.Run.Repeat().Words(), X: []int{}, Y: []page.Num{}, At: []int{}, Val: []page.Num{}}
			longest = max(longest, len(o.curve.steps))
			for _, p := range thin(o.curve.steps, each*4/5) {
				one.X, one.Y = append(one.X, int(p.x)), append(one.Y, page.Num(p.y))
			}
			scores := make([]point, len(o.curve.scores))
			for i, p := range o.curve.scores {
				scores[i] = point{p.step, p.value}
			}
			for _, p := range thin(scores, each-each*4/5) {
				one.At, one.Val = append(one.At, int(p.x)), append(one.Val, page.Num(p.y))
			}
			out.Thinned = out.Thinned || len(one.X) < len(o.curve.steps) || len(one.At) < len(scores)
			out.Runs = append(out.Runs, one)
		}
	}
	if out.Thinned {
		leave("Learning curves have at most %d points a run, of %d: of each part of a training the smallest and the largest value. metrics.jsonl has all.", each, longest)
	}
	return out
}

// thin keeps at most n points, n being 4 or more: the first, the last, and of equal
// parts between them the lowest and the highest.
func thin(points []point, n int) []point {
	if n = max(n, 4); len(points) <= n {
		return points
	}
	inner := points[1 : len(points)-1]
	parts := (n - 2) / 2
	out := []point{points[0]}
	for k := range parts {
		part := inner[k*len(inner)/parts : (k+1)*len(inner)/parts]
		low, high := 0, 0
		for i, p := range part {
			// What is no number is neither: it breaks the line in the whole data alone.
			if p.y < part[low].y || math.IsNaN(part[low].y) {
				low = i
			}
			if p.y > part[high].y || math.IsNaN(part[high].y) {
				high = i
			}
		}
		out = append(out, part[min(low, high)])
		if low != high {
			out = append(out, part[max(low, high)])
		}
	}
	return append(out, points[len(points)-1])
}
