// Benchmark writes what experiments/benchmark.cue and experiments/sampler.cue found
// into docs/benchmark.md: the parts between two marks, <!-- NAME --> and <!-- /NAME -->.
// The words around them are written by hand.
//
//	cd tools && go run ./benchmark        # of the project above
//	cd tools && go run ./benchmark DIR    # of another project
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const page = "docs/benchmark.md"

func main() {
	dir := ".."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := write(dir); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	parts := map[string]string{}
	ran := func(what string, err error) bool {
		if err != nil {
			fmt.Fprintf(os.Stderr, "benchmark: the comparison of %s stays as it is: %v\n", what, err)
		}
		return err == nil
	}
	picture, err := cells(dir, parts)
	ofCells := ran("cells", err)
	if !ran("samplers", samplers(dir, parts)) && !ofCells {
		return errors.New("run experiments/benchmark.cue or experiments/sampler.cue first")
	}
	text, err := os.ReadFile(filepath.Join(dir, page))
	if err != nil {
		return err
	}
	for name, part := range parts {
		if text, err = replace(text, name, part); err != nil {
			return err
		}
	}
	if ofCells {
		if err := os.WriteFile(filepath.Join(dir, "docs", "images", "benchmark.png"), picture, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, page), text, 0o644)
}

// cells sets the parts of experiments/benchmark.cue, and returns its figure.
func cells(dir string, parts map[string]string) (picture []byte, err error) {
	report, err := os.ReadFile(filepath.Join(dir, "report", "benchmark", "report.md"))
	if err != nil {
		return nil, err
	}
	comparison, err := comparisonOf(string(report))
	if err != nil {
		return nil, err
	}
	searches, err := trials(dir, "experiments/benchmark.cue")
	if err != nil {
		return nil, err
	}
	if picture, err = os.ReadFile(filepath.Join(dir, "plots", "benchmark", "tuned.png")); err != nil {
		return nil, err
	}
	parts["comparison"], parts["best"] = comparison, bestTable(searches, string(report))
	return picture, nil
}

// samplers sets the part of experiments/sampler.cue.
func samplers(dir string, parts map[string]string) error {
	searches, err := trials(dir, "experiments/sampler.cue")
	if err != nil {
		return err
	}
	table, err := samplersTable(searches)
	if err == nil {
		parts["samplers"] = table
	}
	return err
}

// replace sets the part of a page between the marks of a name.
func replace(page []byte, name, part string) ([]byte, error) {
	from, to := []byte("<!-- "+name+" -->\n"), []byte("<!-- /"+name+" -->")
	before, rest, ok := bytes.Cut(page, from)
	_, after, closed := bytes.Cut(rest, to)
	if !ok || !closed {
		return nil, fmt.Errorf("the page has no part %s", name)
	}
	return slices.Concat(before, from, []byte("\n"+strings.TrimSpace(part)+"\n\n"), to, after), nil
}

// comparisonOf is the table of cells at their best, with its notes, from the report of
// the experiment.
func comparisonOf(report string) (string, error) {
	_, part, ok := strings.Cut(report, "\n## Each cell at its best\n")
	if !ok {
		return "", errors.New("the report has no cells at their best: is the search over?")
	}
	part, _, _ = strings.Cut(part, "\n##")
	return part, nil
}

// A search is the trials of a search, as runner search trials --json writes them.
type search struct {
	Experiment, Cell, Objective string
	Over                        bool
	Best                        *int
	Trials                      []trial
}

type trial struct {
	Number     int
	State      string
	Value      *float64
	Steps      float64
	Parameters map[string]any
}

func trials(dir, file string) ([]search, error) {
	cmd := exec.Command("bin/runner", "search", "trials", "--json", file)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("reading the trials of %s: %w", file, err)
	}
	var all []search
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, fmt.Errorf("reading the trials of %s: %w", file, err)
	}
	for _, s := range all {
		if !s.Over || s.Best == nil {
			return nil, fmt.Errorf("the search %s/%s is not over: apply %s again", s.Experiment, s.Cell, file)
		}
	}
	return all, nil
}

// edge is what the report says of a value at the end of what is searched.
var edge = regexp.MustCompile("\\*\\*At the edge\\*\\*: the best value of `([^`]+)`")

// bestTable lists the best values of each cell. A value at the edge of its range has
// an arrow.
func bestTable(cells []search, report string) string {
	var b strings.Builder
	b.WriteString("| cell | validation | best values | trials complete | steps |\n|---|---:|---|---:|---:|\n")
	arrows := false
	for _, s := range cells {
		_, part, _ := strings.Cut(report, "\n## Search of "+s.Cell+"\n")
		part, _, _ = strings.Cut(part, "\n## ")
		var edges []string
		for _, m := range edge.FindAllStringSubmatch(part, -1) {
			edges = append(edges, m[1])
		}
		complete, steps := 0, 0.0
		for _, t := range s.Trials {
			if t.State == "complete" {
				complete++
			}
			steps += t.Steps
		}
		best := s.Trials[slices.IndexFunc(s.Trials, func(t trial) bool { return t.Number == *s.Best })]
		var values []string
		for _, path := range slices.Sorted(keys(best.Parameters)) {
			text := fmt.Sprintf("`%s` %s", path, short(best.Parameters[path]))
			if slices.Contains(edges, path) {
				text, arrows = text+" ↔", true
			}
			values = append(values, text)
		}
		fmt.Fprintf(&b, "| %s | %.3f | %s | %d of %d | %.0f |\n", s.Cell, *best.Value, strings.Join(values, ", "), complete, len(s.Trials), steps)
	}
	if arrows {
		b.WriteString("\n↔ lies at an end of what is searched: better values may lie beyond it.\n")
	}
	return b.String()
}

func keys(m map[string]any) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func short(v any) string {
	if f, ok := v.(float64); ok {
		return fmt.Sprintf("%.3g", f)
	}
	return fmt.Sprint(v)
}

// A point of a history: the best complete trial after a number of steps.
type point struct{ steps, best float64 }

// history is how the best value rises with the steps of all trials up to each one.
func history(s search) (h []point) {
	steps, best := 0.0, math.Inf(-1)
	for _, t := range s.Trials {
		steps += t.Steps
		if t.State == "complete" && t.Value != nil && *t.Value > best {
			best = *t.Value
			h = append(h, point{steps, best})
		}
	}
	return h
}

// reached is the number of steps after which a history is at least as good as value.
func reached(h []point, value float64) float64 {
	for _, p := range h {
		if p.best >= value {
			return p.steps
		}
	}
	return math.Inf(1)
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// samplersTable compares each search by TPE and ASHA with the random search of the
// same number.
func samplersTable(all []search) (string, error) {
	of := map[string]search{}
	for _, s := range all {
		of[s.Experiment] = s
	}
	var b strings.Builder
	b.WriteString("| search | random: best | trials | found after | TPE + ASHA: best | trials | as good as random's after | ratio |\n|---|---:|---:|---:|---:|---:|---:|---:|\n")
	var ratios, differences []float64
	better := 0
	for n := 1; ; n++ {
		random, ok := of[fmt.Sprintf("sampler_random_%d", n)]
		tpe, both := of[fmt.Sprintf("sampler_tpe_%d", n)]
		if !ok || !both {
			if n == 1 {
				return "", errors.New("experiments/sampler.cue has no searches sampler_random_1 and sampler_tpe_1")
			}
			break
		}
		r, t := history(random), history(tpe)
		worst, best := r[len(r)-1], t[len(t)-1]
		at := reached(t, worst.best)
		ratio := at / worst.steps
		ratios, differences = append(ratios, ratio), append(differences, best.best-worst.best)
		if best.best > worst.best {
			better++
		}
		fmt.Fprintf(&b, "| %d | %.4f | %d | %.0f steps | %.4f | %d | %s | %s |\n", n,
			worst.best, len(random.Trials), worst.steps, best.best, len(tpe.Trials), finite(at, "%.0f steps"), finite(ratio, "%.2f"))
	}
	fmt.Fprintf(&b, "\nTPE + ASHA is better at the end in %d of %d searches, by %+.4f in the median. It reaches the best of random search after %s of the steps that random search took to find it (median of the ratios; smaller is better).\n",
		better, len(ratios), median(differences), finite(median(ratios), "%.2f"))
	return b.String(), nil
}

func finite(v float64, format string) string {
	if math.IsInf(v, 0) {
		return "not within the budget"
	}
	return fmt.Sprintf(format, cmp.Or(v, 0))
}
