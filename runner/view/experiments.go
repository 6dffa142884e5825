package view

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/report"
)

// Validated shows what is wrong with experiments, or what is in them.
func (v *View) Validated(experiments []*experiment.Experiment, found diagnostic.List) {
	v.Diagnostics(found)
	if found.HasErrors() {
		return
	}
	for _, e := range experiments {
		what := count(len(e.Runs), "run") + " in " + count(cellsOf(e), "cell")
		if n := len(e.Studies); n > 0 {
			if what += ", "; len(e.Runs) == 0 {
				what = ""
			}
			if what += fmt.Sprintf("%d searches", n); n == 1 {
				what = strings.TrimSuffix(what, "es")
			}
		}
		v.Say("%s %s: %s, scored on %s", v.good.Render("ok"), e.Name, what, some(e.Domains, 6))
	}
}

// some lists names, the first few of many.
func some(names []string, most int) string { return diagnostic.Some(names, most, ", ") }

func cellsOf(e *experiment.Experiment) int {
	names := map[string]bool{}
	for _, run := range e.Runs {
		names[run.Cell] = true
	}
	return len(names)
}

// ValidatedJSON writes the same for programs, files by their path from root.
func (v *View) ValidatedJSON(root string, experiments []*experiment.Experiment, found diagnostic.List) error {
	type item struct {
		Name    string   `json:"name"`
		File    string   `json:"file"`
		Axes    []string `json:"axes"`
		Metric  string   `json:"metric"`
		Domains []string `json:"domains"`
		Runs    int      `json:"runs"`
		Cells   int      `json:"cells"`
	}
	items := []item{}
	for _, e := range experiments {
		items = append(items, item{e.Name, InProject(root, e.File), append([]string{}, e.Axes...), e.Metric, e.Domains, len(e.Runs), cellsOf(e)})
	}
	return v.JSON(struct {
		Valid       bool            `json:"valid"`
		Experiments []item          `json:"experiments"`
		Diagnostics diagnostic.List `json:"diagnostics"`
	}{!found.HasErrors(), items, append(diagnostic.List{}, found...)})
}

// Stopped says how to go on after Ctrl-C.
func (v *View) Stopped(t launch.Totals) {
	printf(v.err, "%s after %s; run the same command to continue\n", v.warn.Render("stopped"), count(t.Finished, "finished run"))
}

// SomeFailed says that an apply ended with failures.
func (v *View) SomeFailed(t launch.Totals) {
	rest := ""
	if t.Stopped {
		rest = "; the rest was not tried"
	}
	printf(v.err, "%s%s; the same command tries again, and runner status says why\n", v.bad.Render(count(t.Failed, "run")+" failed"), rest)
}

// Damaged says that an apply left out runs that cannot be read.
func (v *View) Damaged(n int) {
	printf(v.err, "%s; the plan above names the files and what to do\n", v.bad.Render(count(n, "run")+" left out because they are damaged"))
}

// LeftOut says which cells did not run because their plug-in fails.
func (v *View) LeftOut(cells []string) {
	printf(v.err, "%s: their plug-ins fail, as the warnings say; the same command tries again\n",
		v.bad.Render(count(len(cells), "cell")+" left out, "+diagnostic.Some(cells, 4, "; ")))
}

// Results shows the table of each experiment and where the rest lies.
func (v *View) Results(root string, all []report.Written) {
	for _, w := range all {
		v.Say("")
		v.Say("%s", v.bold.Render(w.Experiment))
		header := w.Table.Header()
		t := table{columns: append(texts(header[0]), numbers(header[1:]...)...), rows: w.Table.Cells()}
		for i := range t.columns {
			t.columns[i].spare = w.Table.Spare(i)
		}
		width := v.width
		if width == 0 { // what has no room in a file of text is in table.md
			width = max(100, t.without())
		}
		v.tableIn(t, width)
		for _, note := range slices.Concat(w.Table.Notes, w.Table.Differences()) {
			note = report.Plain(note)
			if v.width > 0 {
				note = v.wrap(note, 2)
			}
			for line := range strings.Lines(note) {
				v.Say("%s", v.dim.Render("  "+strings.TrimRight(line, "\n")))
			}
		}
		if w.Page == "" {
			continue // it could not be written
		}
		v.Say("")
		v.Say("report   %s", relative(root, w.Page))
		if w.HTML != "" {
			v.Say("page     %s", relative(root, w.HTML))
		}
		if was := w.Replaced; was != nil {
			v.Say("%s", v.warn.Render(fmt.Sprintf("         replaces the report that was made with %s", cmp.Or(*was, "the file alone"))))
		}
		for _, dir := range figureDirs(w.Figures) {
			v.Say("figures  %s", relative(root, dir)+string(filepath.Separator))
		}
	}
}

func figureDirs(figures []string) []string {
	var dirs []string
	for _, figure := range figures {
		if dir := filepath.Dir(figure); len(dirs) == 0 || dirs[len(dirs)-1] != dir {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// InProject names a file by its path from the root of its project.
func InProject(root, file string) string {
	if rel, err := filepath.Rel(root, file); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return file
}

// relative names a file below the current directory by the shorter path.
func relative(root, file string) string {
	base, err := filepath.Abs(".")
	if err != nil {
		base = root
	}
	if rel, err := filepath.Rel(base, file); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return file
}

// Page says where the page of several experiments is.
func (v *View) Page(root, path string) { v.Say("page     %s", relative(root, path)) }
