package report

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/compare"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/foreign"
)

// Table is the result of an experiment as data: a row for each cell, in the
// order of the file.
type Table struct {
	Experiment string   `json:"experiment"`
	Metric     string   `json:"metric"` // "dice/nucleus"
	Domains    []string `json:"domains"`
	Rows       []Row    `json:"rows"`
	// Notes are what a reader must know to judge the table, one sentence or two
	// each.
	Notes []string `json:"notes"`
	// Strength are the scores at all strengths of the adapter, where there are several.
	Strength []StrengthRow `json:"strength,omitempty"`
	// Severity are the scores at every severity of corruptions, where there are several.
	Severity []SeverityRow `json:"severity,omitempty"`
	// Ensembles are the scores of ensembles next to those of their members.
	Ensembles []EnsembleRow `json:"ensembles,omitempty"`
	// FigureWidth is that of the figures, in inches; 0 is that of a page on a screen.
	FigureWidth float64 `json:"figure_width,omitempty"`
	// Comparison is every cell next to the baseline of the experiment; nil without one.
	Comparison *compare.Comparison `json:"comparison,omitempty"`
	// Presets are the settings of presets that differ from the defaults.
	Presets []PresetSetting `json:"presets"`
}

// Row is one cell.
type Row struct {
	Cell string `json:"cell"`
	// N is how many runs are trained, of Planned.
	N       int `json:"n"`
	Planned int `json:"planned"`
	// Folds is how many of them are planned, with the seeds of each; 0 without
	// cross-validation.
	Folds int `json:"folds,omitempty"`
	// Trained parameters of the three parts; 0, and null in JSON, until a run is trained.
	Backbone uint64  `json:"backbone"`
	Adapter  uint64  `json:"adapter"`
	Head     uint64  `json:"head"`
	Scores   []Score `json:"scores"` // one for each domain of the table
}

// MarshalJSON writes null for what is not known.
func (r Row) MarshalJSON() ([]byte, error) {
	type plain Row
	out := struct {
		plain
		Backbone *uint64 `json:"backbone"`
		Adapter  *uint64 `json:"adapter"`
		Head     *uint64 `json:"head"`
	}{plain: plain(r)}
	if r.N > 0 {
		out.Backbone, out.Adapter, out.Head = &r.Backbone, &r.Adapter, &r.Head
	}
	return json.Marshal(out)
}

// Trainable is the number of all trained parameters.
func (r Row) Trainable() uint64 { return r.Backbone + r.Adapter + r.Head }

// Score is a cell on a domain.
type Score struct {
	Metric Stat `json:"metric"` // the table's metric
	IoU    Stat `json:"iou"`    // mean IoU
	// Pooled is the metric from the pixel counts of all folds together, over seeds.
	Pooled *Stat `json:"pooled,omitempty"`
}

// Tabulate aggregates the results of an experiment without writing anything.
func Tabulate(exp *experiment.Experiment, results []Result) (Table, error) {
	s, err := newStudy(exp, results, nil)
	if err != nil {
		return Table{}, fmt.Errorf("tabulating %s: %w", exp.Name, err)
	}
	return s.table(), nil
}

func (s *study) table() Table {
	t := Table{Experiment: s.exp.Name, Metric: s.exp.Metric, FigureWidth: s.exp.FigureWidth, Domains: slices.Clone(s.domains())}
	for _, c := range s.cells {
		row := Row{Cell: c.name, Planned: len(c.runs)}
		if s.exp.Folds > 0 {
			row.Folds = len(s.folds())
		}
		for _, o := range c.runs {
			if o.done() {
				row.N++
			}
		}
		if o := c.first(); o != nil {
			row.Backbone, row.Adapter, row.Head = o.Summary.BackboneParams, o.Summary.AdapterParams, o.Summary.HeadParams
		}
		for _, d := range t.Domains {
			score := Score{}
			score.Metric, _ = s.sample(c, d, t.Metric)
			score.IoU, _ = s.sample(c, d, "iou/mean")
			if s.exp.Folds > 0 {
				score.Pooled = s.pooled(c, d, t.Metric)
			}
			row.Scores = append(row.Scores, score)
		}
		t.Rows = append(t.Rows, row)
	}
	t.Strength, t.Severity, t.Ensembles = s.strengths(), s.severityRows(), s.ensembles()
	t.Comparison = s.compared()
	t.Notes, t.Presets = s.notes(t), s.presets()
	return t
}

// Header names the columns of Cells. Notes say what they leave out: the metric's
// class, and what the names of all domains share.
func (t Table) Header() []string {
	h := []string{"cell", "n", "adapter", "trained"}
	domains, _ := spec.Unseen(t.Domains)
	for _, d := range domains {
		h = append(h, d+" "+metric.Short(t.Metric))
		if t.Metric != "iou/mean" {
			h = append(h, d+" IoU")
		}
	}
	for _, i := range t.pooledDomains() {
		h = append(h, fmt.Sprintf("%s %s, pooled", domains[i], metric.Short(t.Metric)))
	}
	return h
}

// columnsNote says what the columns of the header are.
func (t Table) columnsNote() string {
	text := "Columns adapter and trained count parameters: of the adapter, and all that are trained."
	_, of, _ := strings.Cut(t.Metric, "/")
	switch label := metric.Short(t.Metric); {
	case of == "mean" && t.Metric != "iou/mean":
		text += fmt.Sprintf(" %s and IoU are means over classes.", label)
	case of == "" || of == "mean" || strings.HasPrefix(t.Metric, "original/"):
		text += " IoU is the mean over classes."
	default:
		text += fmt.Sprintf(" %s is that of the class %s, IoU the mean over classes.", capital(label), of)
	}
	return text
}

// Spare is above 0 for columns of Header that a narrow terminal may leave out:
// mean IoU before the parameters of the adapter, which are a part of those
// that train.
func (t Table) Spare(column int) int {
	const fixed = 4 // before the scores
	switch {
	case column == 2:
		return 1
	case column >= fixed && column < fixed+2*len(t.Domains) && t.Metric != "iou/mean" && (column-fixed)%2 == 1:
		return 2
	}
	return 0
}

// Cells is the table as text, a line for each row under Header.
func (t Table) Cells() [][]string {
	var lines [][]string
	for _, r := range t.Rows {
		line := []string{r.Cell, r.counted(), "–", "–"}
		if r.N > 0 {
			line[2], line[3] = thousands(r.Adapter), thousands(r.Trainable())
		}
		for _, s := range r.Scores {
			line = append(line, s.Metric.String())
			if t.Metric != "iou/mean" {
				line = append(line, s.IoU.String())
			}
		}
		for _, i := range t.pooledDomains() {
			text := "–"
			if p := r.Scores[i].Pooled; p != nil {
				text = p.String()
			}
			line = append(line, text)
		}
		lines = append(lines, line)
	}
	return lines
}

// mostWide is how wide a table in Markdown is where names allow it.
const mostWide = 100

// Markdown is the table with its notes. The columns line up in plain text too. Where
// a table would be wider than 100 columns, the scores that have no room are in
// further tables below it, first those of the metric, then IoU.
func (t Table) Markdown() string {
	lines := append([][]string{t.Header()}, t.Cells()...)
	widths := make([]int, len(lines[0]))
	for _, l := range lines {
		for i, c := range l {
			widths[i] = max(widths[i], runes(c), 4)
		}
	}
	var b strings.Builder
	for i, columns := range t.blocks(widths) {
		if i > 0 {
			b.WriteByte('\n')
		}
		markdownTable(&b, lines, columns, widths)
	}
	b.WriteByte('\n')
	for _, n := range t.Notes {
		fmt.Fprintf(&b, "- %s\n", foreign.Markdown(foreign.Line(n)))
	}
	return b.String()
}

// blocks are the columns of the tables that the table is cut into: each has the
// cells, and at least one column more.
func (t Table) blocks(widths []int) [][]int {
	wide := func(columns []int) int {
		sum := 1
		for _, i := range columns {
			sum += widths[i] + 3
		}
		return sum
	}
	all := make([]int, len(widths))
	for i := range all {
		all[i] = i
	}
	if wide(all) <= mostWide {
		return [][]int{all}
	}
	blocks := [][]int{{0}}
	add := func(of []int) {
		for _, i := range of {
			last := &blocks[len(blocks)-1]
			if len(*last) > 1 && wide(append(slices.Clone(*last), i)) > mostWide {
				blocks = append(blocks, []int{0})
				last = &blocks[len(blocks)-1]
			}
			*last = append(*last, i)
		}
	}
	var scores, overlaps []int
	for i := range all {
		if t.Spare(i) == 2 {
			overlaps = append(overlaps, i)
		} else if i > 0 {
			scores = append(scores, i)
		}
	}
	add(scores)
	if len(overlaps) > 0 {
		blocks = append(blocks, []int{0})
		add(overlaps)
	}
	return blocks
}

func markdownTable(b *strings.Builder, lines [][]string, columns, widths []int) {
	for k, l := range lines {
		for _, i := range columns {
			pad := strings.Repeat(" ", widths[i]-runes(l[i]))
			if i == 0 {
				fmt.Fprintf(b, "| %s%s ", escape(l[i]), pad)
			} else {
				fmt.Fprintf(b, "| %s%s ", pad, escape(l[i]))
			}
		}
		b.WriteString("|\n")
		if k == 0 {
			for _, i := range columns {
				if i == 0 {
					b.WriteString("|" + strings.Repeat("-", widths[i]+2))
				} else {
					b.WriteString("|" + strings.Repeat("-", widths[i]+1) + ":")
				}
			}
			b.WriteString("|\n")
		}
	}
}

// CSV is the aggregated table in long form and full precision: a line for each
// cell and domain. What is not known is empty.
func (t Table) CSV() string {
	lines := [][]string{{
		"experiment", "cell", "domain", "metric", "n", "planned", "mean", "sample_std", "min", "max",
		"iou_mean", "iou_sample_std", "backbone_params", "adapter_params", "head_params", "trainable_params", "low95", "high95",
	}}
	folds := slices.ContainsFunc(t.Rows, func(r Row) bool { return r.Folds > 0 })
	if folds {
		lines[0] = append(lines[0], foldCSV...)
	}
	for _, r := range t.Rows {
		for i, d := range t.Domains {
			m, u := r.Scores[i].Metric, r.Scores[i].IoU
			line := []string{
				t.Experiment, r.Cell, d, t.Metric, strconv.Itoa(m.N), strconv.Itoa(r.Planned),
				number(m.Mean), number(m.Std), number(m.Min), number(m.Max), number(u.Mean), number(u.Std),
			}
			for _, p := range []uint64{r.Backbone, r.Adapter, r.Head, r.Trainable()} {
				if r.N == 0 {
					line = append(line, "")
				} else {
					line = append(line, strconv.FormatUint(p, 10))
				}
			}
			line = append(line, optional(m.Interval.Low), optional(m.Interval.High))
			if folds {
				line = append(line, r.Scores[i].foldCSV()...)
			}
			lines = append(lines, line)
		}
	}
	return toCSV(slices.Concat(lines, t.strengthLines(), t.ensembleLines()))
}

// notes says what the numbers do not say by themselves.
func (s *study) notes(t Table) []string {
	var notes []string
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }

	single, few := false, false
	for _, r := range t.Rows {
		single = single || r.N == 1
		few = few || (r.N > 1 && r.N < 6)
	}
	add("%s", t.columnsNote())
	if s.shared != "" {
		add("%s", s.sharedText())
	}
	if s.exp.Folds > 0 {
		notes = append(notes, s.foldNotes(t)...)
	} else {
		add("Mean ± sample standard deviation (n−1) over n seeds. Scores come from pixel counts over a whole split; a mean over classes leaves out those that neither occur nor are predicted.")
	}
	if strings.HasPrefix(t.Metric, "original/") {
		add("The %s is that of the original project and of no other: soft, its classes weighted by the inverse of their pixels in a batch, so that the rarest counts most, and the mean over batches as large as those of training.", metric.Label(t.Metric))
	}
	if sizes := s.domainSizes(); sizes != "" {
		add("Images scored: %s.", sizes)
	}
	if cells := s.exp.RandomHead; len(cells) > 0 {
		add("**Random head**: the head of %s is neither trained nor read from files. Its scores say nothing about the adapter.", strings.Join(cells, ", "))
	}
	for _, o := range s.exp.Overlaps {
		most := ""
		if o.Some {
			most = "up to "
		}
		add("**Trained on**: %s%d of %d images of %s are in the training split, or were made of images that are. Scores on them say nothing about new images.", most, o.Images, o.Of, cmp.Or(s.short[o.Domain], o.Domain))
	}
	if text := s.checkpoints(); text != "" {
		add("%s", text)
	}
	if text := s.seen(); text != "" {
		add("%s", text)
	}
	if text := s.views(); text != "" {
		add("%s", text)
	}
	if len(t.Strength) > 0 {
		add("The adapter is at strength 1, as trained; `report.md` has the scores at the strengths %s.", numbersText(s.exp.Strengths))
	}
	if len(t.Ensembles) > 0 {
		add("`report.md` has the scores of ensembles, in which the runs of a cell predict together.")
	}
	if single {
		add("Cells with n = 1 have no spread: their differences may be chance.")
	}
	if few && s.exp.Folds == 0 {
		add("Fewer than six seeds: differences of the order of the spread are a hint, not a finding.")
	}
	notes = append(notes, s.budgets()...)
	if s.exp.Baseline != "" {
		if t.Comparison == nil {
			add("There are no differences from the baseline %s yet: it has no score.", s.exp.Baseline)
		} else {
			add("`report.md` has the differences from %s, with intervals and tests.", s.exp.Baseline)
		}
	}

	for i, d := range t.Domains {
		var short []string
		for _, r := range t.Rows {
			if n := r.Scores[i].Metric.N; n < r.N {
				short = append(short, fmt.Sprintf("%s (%d of %d)", r.Cell, n, r.N))
			}
		}
		if len(short) > 0 {
			add("Not every trained run has a score on %s: %s.", s.short[d], strings.Join(short, ", "))
		}
	}
	for _, c := range s.cells {
		for _, o := range c.runs {
			if n := o.Summary.GetUnmoved(); len(n) > 0 {
				shown := strings.Join(n[:min(4, len(n))], ", ")
				if more := len(n) - 4; more > 0 {
					shown += fmt.Sprintf(" and %d more", more)
				}
				add("**Never moved**: %s, %s: adapter tensors %s are what they were at the start.", c.name, o.Run.Repeat().Words(), shown)
			}
			if n := o.Summary.GetUncounted(); n > 0 {
				add("In %d of %d updates of %s, %s, no pixel counted: nothing trained in them.", n, o.Summary.GetSteps(), c.name, o.Run.Repeat().Words())
			}
		}
	}
	var missing []string
	for _, c := range s.cells {
		last, texts := name.Fold{}, []string(nil)
		for _, o := range c.runs {
			switch r := o.Run.Repeat(); {
			case o.done() || o.Failed != "":
			case len(texts) > 0 && r.Fold == last:
				texts[len(texts)-1] += fmt.Sprintf(", %d", r.Seed)
			default:
				texts, last = append(texts, r.Words()), r.Fold
			}
		}
		if len(texts) > 0 {
			missing = append(missing, fmt.Sprintf("%s (%s)", c.name, strings.Join(texts, "; ")))
		}
	}
	if len(missing) > 0 {
		add("**Missing**, not trained yet: %s.", strings.Join(missing, "; "))
	}
	for _, c := range s.cells {
		for _, o := range c.runs {
			if !o.done() && o.Failed != "" {
				add("**Failed**: %s, %s: %s", c.name, o.Run.Repeat().Words(), strings.Join(strings.Fields(o.Failed), " "))
			}
		}
	}
	return notes
}

// domainSizes is "test 60, histology 40", or "" where nothing is scored.
func (s *study) domainSizes() string {
	var parts []string
	for _, d := range s.pictured() {
		var sizes []uint64
		images := map[name.Fold]map[string]bool{}
		all := map[string]bool{}
		for _, c := range s.cells {
			for _, o := range c.runs {
				m := o.Evaluations[d]
				if m == nil {
					continue
				}
				if !slices.Contains(sizes, m.Images) {
					sizes = append(sizes, m.Images)
				}
				if images[o.Run.Fold] == nil {
					images[o.Run.Fold] = map[string]bool{}
				}
				digest := o.testDigest(d)
				images[o.Run.Fold][digest], all[digest] = true, true
			}
		}
		slices.Sort(sizes)
		different := false // runs of the same fold, or of none
		for _, of := range images {
			different = different || len(of) > 1 && !s.repeated()
		}
		column := d
		if !slices.Contains(s.domains(), d) {
			column = "each of the " + strings.TrimSuffix(s.families[d], s.shared)
		} else {
			column = s.short[d]
		}
		switch {
		case len(sizes) == 0:
		case s.exp.Folds > 0 && (len(sizes) > 1 || len(all) > 1):
			text := fmt.Sprintf("%s %d", column, sizes[0])
			if last := sizes[len(sizes)-1]; last > sizes[0] {
				text += fmt.Sprintf(" to %d", last)
			}
			text += " in a fold"
			if different {
				text += " (**the runs of a fold do not share their images**)"
			}
			parts = append(parts, text)
		case len(sizes) == 1:
			text := fmt.Sprintf("%s %d", column, sizes[0])
			if different {
				text += " (**the runs do not share their images**)"
			}
			parts = append(parts, text)
		default:
			parts = append(parts, fmt.Sprintf("%s %d to %d (**the cells do not share their images**)", column, sizes[0], sizes[len(sizes)-1]))
		}
	}
	return strings.Join(parts, ", ")
}

// seen says how images are scored that are not at the model's size; one
// experiment has one way.
func (s *study) seen() string {
	var e *spec.Evaluation
	for _, run := range s.exp.Runs {
		if len(run.Evaluations) > 0 {
			e = run.Evaluations[0].Spec
		}
	}
	views := ""
	if t := e.GetTestTime(); t != nil {
		views = fmt.Sprintf("Test-time augmentation: the probabilities of %d views of each image are averaged", len(t.Views()))
		if len(t.Scales) > 0 {
			views += fmt.Sprintf(", at the scales %s", numbersText(t.Scales))
		}
		if t.Flip {
			views += ", mirrored as well"
		}
		views += "."
	}
	if e.GetResolution() != spec.Original {
		return views
	}
	text := "Scored at the size of each mask as it lies in its file"
	if w := e.GetWindow(); w != nil {
		text += fmt.Sprintf(", by windows of %d×%d pixels, %d×%d apart, on images ", e.GetData().GetHeight(), e.GetData().GetWidth(), w.StrideH, w.StrideW)
		if w.Scale == 0 {
			text += "as large as it takes for both sides to reach a window's"
		} else {
			text += fmt.Sprintf("scaled by %g", w.Scale)
		}
	}
	return strings.TrimSuffix(text+". "+views, " ")
}

// numbersText is "0.75, 1 and 1.25".
func numbersText(scales []float64) string {
	texts := make([]string, len(scales))
	for i, scale := range scales {
		texts[i] = fmt.Sprintf("%g", scale)
	}
	last := len(texts) - 1
	if last == 0 {
		return texts[0]
	}
	return strings.Join(texts[:last], ", ") + " and " + texts[last]
}

// views says which views of their images the runs are trained on, where there is a
// bank of them: seeds that share their views differ less than seeds that do not.
func (s *study) views() string {
	var counts []string
	shared := false
	for _, run := range s.exp.Runs {
		v := run.Spec.GetData().GetViews()
		if v == nil {
			continue
		}
		if n := fmt.Sprint(v.Count); !slices.Contains(counts, n) {
			counts = append(counts, n)
		}
		shared = shared || v.Seed != run.Seed
	}
	if len(counts) == 0 {
		return ""
	}
	text := fmt.Sprintf("Trained on %s views of each image, which augmentation makes once", strings.Join(counts, " or "))
	if shared {
		return text + "; seeds share them."
	}
	return text + ", by the seed of each run."
}

// checkpoints says which weights are scored.
func (s *study) checkpoints() string {
	var kinds, monitors []string
	for _, run := range s.exp.Runs {
		if m := run.Spec.GetTrain().GetMonitor(); m != "" && !slices.Contains(monitors, m) {
			monitors = append(monitors, m)
		}
		for _, e := range run.Evaluations {
			if k := e.Spec.GetCheckpoint(); k != "" && !slices.Contains(kinds, k) {
				kinds = append(kinds, k)
			}
		}
	}
	switch {
	case slices.Equal(kinds, []string{"last"}):
		return "Scored after the last step."
	case slices.Equal(kinds, []string{"best"}) && len(monitors) > 0:
		return fmt.Sprintf("Scored at the checkpoint with the best validation %s.", strings.Join(monitors, ", "))
	case len(kinds) > 1:
		return "**Some cells are scored at the best checkpoint, some at the last.**"
	default:
		return ""
	}
}

// optional is a number, "" for none.
func optional(v *float64) string {
	if v == nil {
		return ""
	}
	return number(*v)
}

func number(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// toCSV writes lines as CSV. Numbers are of our own, and all else is foreign.
func toCSV(lines [][]string) string {
	for _, line := range lines {
		for i := range line {
			line[i] = foreign.CSV(line[i])
		}
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.WriteAll(lines) // a bytes.Buffer takes everything
	return b.String()
}

// thousands writes 1234567 as 1,234,567.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// runes is the width of a name in plain text: Chinese characters take two columns.
func runes(s string) int { return ansi.StringWidth(escape(s)) }

// escape keeps a name from ending a Markdown cell, and from being more than text.
func escape(s string) string { return foreign.MarkdownCell(s) }
