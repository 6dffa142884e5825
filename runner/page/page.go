// Package page writes what experiments found as one HTML file that anyone can open:
// tables that sort, learning curves, figures, samples, costs, and how to do it again.
//
// The file is complete. It makes no request, its script and its styles are part of it,
// and its Content-Security-Policy lets a browser run nothing else. All text is there
// without the script, which adds charts and controls to it; the charts are data, in
// JSON. Names, notes and all else that somebody has written are shown as text.
//
// A page has a budget: samples and curves take as much of it as they may (see
// MostSamples, MostPoints), and the page says what it leaves out.
package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"reflect"
	"strings"

	"github.com/loralab/loralab/runner/foreign"
)

// Budgets of a page.
const (
	// MostSamples is how many bytes the sample images of a page have at most, as files.
	MostSamples = 1_200_000
	// MostPoints is how many points the learning curves of a page have at most.
	MostPoints = 100_000
	// MostScores is how many scores the table of an experiment has at most, over all
	// metrics that can be chosen.
	MostScores = 20_000
)

// Page is what one file shows.
type Page struct {
	Title       string
	Experiments []*Experiment
}

// Experiment is one experiment. Lists that are empty have no place on the page.
type Experiment struct {
	Name  string
	About string
	// Asked is what was said on the command line next to the file.
	Asked string
	// Done of Planned runs are trained, Failed failed.
	Done, Planned, Failed int
	Facts                 []Fact    // what was asked, and how it was run
	Settings              []Setting // all that determines the runs
	File, Source          string    // the experiment file: its name and its text
	Table                 Table
	Notes                 []string // below the table
	Sentences             []string // comparisons in words
	Tables                []Listing
	Curves                *Curves
	Figures               []Figure
	Scores                []Figure // classes, domains
	Confusions            []Confusion
	Samples               *Samples
	Searches              []Search
	Costs                 Listing
	Provenance            []Fact
	Commands              []Command
	Runs                  Listing
	LeftOut               []string
	Links                 []Link
	Pages                 []Link // of runs in W&B
	MorePages             int    // that have no link here
}

// Fact is a line of a list. Code says that its value is for machines.
type Fact struct {
	Name, Value string
	Code        bool
}

// Setting is one that determines runs, with all its values.
type Setting struct {
	Name   string
	Value  string
	Varies bool
}

// Listing is a plain table. The first column names the lines.
type Listing struct {
	Title   string
	Text    string
	Header  []string
	Lines   [][]string
	Numbers []bool // by column: aligned to the right
}

// Search is a part of the page about one search.
type Search struct {
	Title   string
	Lines   []string
	Figures []Figure
}

// Command is something to type, and what it does.
type Command struct{ Line, Does string }

// Link leads to a file next to the page.
type Link struct{ To, Text string }

// Figure is a chart with its words.
type Figure struct {
	Title   string
	Caption string
	Chart   *Chart
}

// Table is what cells scored: a row for each, in the order of the file.
type Table struct {
	// Metrics are those that can be chosen; the first is that of the experiment.
	Metrics []Metric `json:"metrics"`
	Domains []string `json:"domains"`
	Rows    []Row    `json:"rows"`
}

// Metric is one that the table can show.
type Metric struct {
	Name  string `json:"name"`
	Label string `json:"label"`
	// Less says that smaller is better.
	Less bool `json:"less,omitempty"`
}

// Row is a cell.
type Row struct {
	Name    string `json:"name"`
	N       string `json:"n"` // "3", "1 of 3"
	Adapter string `json:"adapter"`
	Trained string `json:"trained"`
	// Scores are by metric, then by domain.
	Scores [][]Score `json:"scores"`
}

// Score is a sample over seeds: mean, the text of the table, and the text with a 95 %
// interval. Value is nil without one.
type Score struct {
	Value    *Num   `json:"v"`
	Text     string `json:"t"`
	Interval string `json:"i,omitempty"`
}

// Curves are learning curves, a line for each run.
type Curves struct {
	Metric  string   `json:"metric"` // of the validations
	Cells   []string `json:"cells"`
	Colors  []string `json:"colors"`
	Runs    []Curve  `json:"runs"`
	Thinned bool     `json:"thinned"`
	Faults  string   `json:"-"` // curves that are not whole
	Shown   int      `json:"shown"`
}

// Curve is that of one run. X and Y are of its training loss, At and Val of its
// validations.
type Curve struct {
	Cell int    `json:"cell"`
	Name string `json:"name"` // "seed 1"
	X    []int  `json:"x"`
	Y    []Num  `json:"y"`
	At   []int  `json:"at"`
	Val  []Num  `json:"val"`
}

// Confusion is how often pixels of a class (lines) were given to a class (columns).
type Confusion struct {
	Title   string
	Classes []string
	// Counts is by line, then by column.
	Counts [][]uint64
}

// Share is a count as a percentage of its line.
func (c Confusion) Share(line, column int) float64 {
	var sum uint64
	for _, n := range c.Counts[line] {
		sum += n
	}
	if sum == 0 {
		return 0
	}
	return 100 * float64(c.Counts[line][column]) / float64(sum)
}

// Shade is a class of CSS for a share, shade-0 to shade-10.
func (c Confusion) Shade(line, column int) string {
	return fmt.Sprintf("shade-%d", int(c.Share(line, column)/10+0.5))
}

// Samples are images with their truth, and what cells predict.
type Samples struct {
	Text    string
	Classes []Key
	Groups  []SampleGroup
}

// Key is a class in its color, as of the predictions.
type Key struct {
	Name  string
	Color template.URL // of a small image
}

// SampleGroup is a domain.
type SampleGroup struct {
	Domain string
	Images []Sample
}

// Sample is an image.
type Sample struct {
	Name         string
	Image, Truth template.URL
	Width        int
	Height       int
	Predictions  []Prediction
}

// Prediction is that of a cell. Errors is an image that covers what is wrong.
type Prediction struct {
	Cell          string
	Image, Errors template.URL
}

// Num is a number with five digits, null in JSON if it is none.
type Num float64

//go:embed page.css
var css string

//go:embed page.js
var script string

//go:embed page.tmpl
var text string

var tmpl = template.Must(template.New("page").Funcs(template.FuncMap{
	"add":   func(a, b int) int { return a + b },
	"id":    func(i int, name string) string { return fmt.Sprintf("e%d-%s", i, name) },
	"share": func(v float64) string { return fmt.Sprintf("%.1f", v) },
	"in":    func(e *Experiment, i int) numbered { return numbered{e, i} },
	"fig": func(prefix string, i, k int, f Figure) numberedFigure {
		return numberedFigure{fmt.Sprintf("%s-%d-%d", prefix, i, k), f}
	},
}).Parse(text))

// numbered is an experiment with its place on the page.
type numbered struct {
	*Experiment
	I int
}

type numberedFigure struct {
	ID string
	Figure
}

// HTML is the page as a file.
func (p *Page) HTML() ([]byte, error) {
	body, err := p.Body()
	if err != nil {
		return nil, err
	}
	data, err := p.Data()
	if err != nil {
		return nil, err
	}
	return execute("file", map[string]any{
		"Title": p.Title, "CSS": template.CSS(css), "Script": template.JS(script), "Body": template.HTML(body), "Data": template.JS(data),
		"Policy": fmt.Sprintf("default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src '%s'; script-src '%s'", hash(css), hash(script)),
	})
}

// Body is what the page shows, without its head and its data.
func (p *Page) Body() ([]byte, error) { return execute("body", p) }

// Data is what the script of the page draws, as JSON that can be a part of HTML.
func (p *Page) Data() ([]byte, error) {
	type experiment struct {
		Table  *Table            `json:"table"`
		Curves *Curves           `json:"curves,omitempty"`
		Charts map[string]*Chart `json:"charts"`
	}
	all := []experiment{}
	for i, e := range p.Experiments {
		charts := map[string]*Chart{}
		for prefix, figures := range map[string][]Figure{"figure": e.Figures, "scores": e.Scores} {
			for k, f := range figures {
				charts[fmt.Sprintf("%s-%d-%d", prefix, i, k)] = f.Chart
			}
		}
		for n, s := range e.Searches {
			for k, f := range s.Figures {
				charts[fmt.Sprintf("search%d-%d-%d", n, i, k)] = f.Chart
			}
		}
		all = append(all, experiment{&e.Table, e.Curves, charts})
	}
	data, err := json.Marshal(map[string]any{"experiments": all})
	if err != nil {
		return nil, fmt.Errorf("writing the data of the page: %w", err)
	}
	return data, nil
}

// Style and Script are those of the page, for one that is served.
func Style() string  { return css }
func Script() string { return script }

func execute(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	if err := tmpl.ExecuteTemplate(&b, name, data); err != nil {
		return nil, fmt.Errorf("writing the page: %w", err)
	}
	return b.Bytes(), nil
}

// hash is how a Content-Security-Policy names a script or a style.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Image is a file as a part of a page.
func Image(kind string, content []byte) template.URL {
	return template.URL("data:image/" + kind + ";base64," + base64.StdEncoding.EncodeToString(content))
}

// Visible shows the hidden characters of all texts, which may be of users.
func (e *Experiment) Visible() {
	about, source := lines(e.About), lines(e.Source)
	visible(reflect.ValueOf(e).Elem())
	e.About, e.Source = about, source
}

func lines(text string) string {
	all := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i, line := range all {
		all[i] = strings.ReplaceAll(foreign.Line(strings.ReplaceAll(line, "\t", "    ")), "\r", "")
	}
	return strings.Join(all, "\n")
}

// visible goes through all that a page is made of.
func visible(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(foreign.Line(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			visible(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			visible(v.Field(i))
		}
	case reflect.Slice:
		switch v.Type().Elem().Kind() {
		case reflect.String, reflect.Pointer, reflect.Struct, reflect.Slice:
			for i := range v.Len() {
				visible(v.Index(i))
			}
		}
	}
}

// Paragraphs are the paragraphs of a text.
func (e *Experiment) Paragraphs() []string {
	var all []string
	for _, p := range strings.Split(strings.ReplaceAll(e.About, "\r\n", "\n"), "\n\n") {
		if p = strings.TrimSpace(p); p != "" {
			all = append(all, p)
		}
	}
	return all
}
