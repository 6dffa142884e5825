package report_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/internal/browser"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/page"
	"github.com/loralab/loralab/runner/report"
)

// column is a column of the results, from the top.
func column(tab *browser.Tab, n int) (texts []string) {
	tab.Eval(fmt.Sprintf(`[...document.querySelector("[data-table]").tBodies[0].rows].map(r => r.cells[%d].textContent)`, n), &texts)
	return texts
}

func TestPageInABrowser(t *testing.T) {
	w := ranks(t, false)
	written := w.build(t.TempDir())
	b := browser.Start(t)
	address := "file://" + written.HTML
	tab := b.Open(address, browser.Screen{Width: 1280})

	inFile := []string{"rank=2", "rank=4", "rank=8", "rank=16", "head_only"}
	if got := column(tab, 0); !slices.Equal(got, inFile) {
		t.Errorf("the cells are %q", got)
	}
	// Sorting: the best first, then the worst, then the order of the file.
	sort := "[data-table] thead th:nth-child(5) button"
	for _, want := range [][]string{
		{"rank=16", "rank=8", "rank=4", "rank=2", "head_only"}, {"head_only", "rank=2", "rank=4", "rank=8", "rank=16"}, inFile,
	} {
		tab.Click(sort)
		if got := column(tab, 0); !slices.Equal(got, want) {
			t.Errorf("sorted by test: %q, want %q", got, want)
		}
	}
	// The same with keys; names sort by their numbers.
	tab.Eval(`document.querySelector("[data-table] thead th button").focus()`, nil)
	tab.Key("Enter")
	if got := column(tab, 0); !slices.Equal(got, []string{"head_only", "rank=2", "rank=4", "rank=8", "rank=16"}) {
		t.Errorf("sorted by name: %q", got)
	}
	if got := tab.String(`document.querySelector("[data-table] thead th").getAttribute("aria-sort") + ", " + document.getElementById("said").textContent`); got != "ascending, Sorted by cell, ascending" {
		t.Errorf("a screen reader says %q", got)
	}
	tab.Key("Enter")
	tab.Key("Enter")

	// Metrics, intervals, domains.
	tab.Eval(`(s => { s.value = "iou/nucleus"; s.dispatchEvent(new Event("change")) })(document.querySelector("#metric-0"))`, nil)
	if got := column(tab, 4)[0]; !regexp.MustCompile(`^0\.6\d\d ± 0\.\d+$`).MatchString(got) {
		t.Errorf("IoU of the first cell: %q", got)
	}
	tab.Click(`[data-controls="table"] > button`)
	if got := column(tab, 4)[0]; !regexp.MustCompile(`^0\.6\d\d \[0\.\d+, 0\.\d+\]$`).MatchString(got) {
		t.Errorf("its interval: %q", got)
	}
	tab.Click(`[data-controls="table"] fieldset button:last-child`)
	if got := tab.String(`document.querySelector("[data-table] thead th:last-child").checkVisibility()`); got != "false" {
		t.Error("a domain that is left out is shown")
	}

	// Curves: cells, seeds, validations.
	// A line without a place on the axis has its name next to the chart.
	tab.Wait(`[...document.querySelectorAll("[data-chart] .legend button")].some(b => b.textContent === "head_only")`)
	// Colors of cells repeat; their marks differ.
	tab.Wait(`[...document.querySelectorAll("[data-chart^=scores]")].every(c => new Set([...c.querySelectorAll(".legend button svg")].map(s => s.innerHTML)).size === 5)`)
	paths := `document.querySelectorAll("[data-curves] svg path").length`
	if got := tab.String(paths); got != "20" { // 5 cells of 3 seeds, with means
		t.Errorf("%s curves", got)
	}
	tab.Click(`[data-cells] button`)
	if got := tab.String(paths); got != "16" {
		t.Errorf("%s curves without a cell", got)
	}
	tab.Click(`[data-controls="curves"] > button`)
	if got := tab.String(paths); got != "4" {
		t.Errorf("%s curves of means", got)
	}
	label := `document.querySelector("[data-curves] svg").getAttribute("aria-label")`
	tab.Eval(`(s => { s.value = "val"; s.dispatchEvent(new Event("change")) })(document.querySelector("#curve-0"))`, nil)
	if got := tab.String(label); !strings.Contains(got, "validation Dice (nucleus) over step") {
		t.Errorf("the curves are %q", got)
	}
	tab.Eval(`document.querySelectorAll("[data-chart] details").forEach(d => d.open = true)`, nil)
	tab.Wait(`document.querySelectorAll("[data-chart] details tbody tr").length > 10`)
	if got := tab.String(`[...document.querySelector("[data-chart] details thead").querySelectorAll("th.number")].map(h => h.textContent).join(", ")`); got != "rank of the adapter (log scale), Dice (nucleus), low, high" {
		t.Errorf("the numbers of a chart are %q", got)
	}
	tab.Eval(`document.querySelectorAll("[data-chart] details").forEach(d => d.open = false)`, nil)

	// Samples: the slider with keys, errors.
	clip := `getComputedStyle(document.querySelector(".over.truth")).clipPath`
	if got := tab.String(clip); got != "inset(0px 100% 0px 0px)" {
		t.Errorf("at first the truth covers %s", got)
	}
	tab.Eval(`document.querySelector("#slider-0").focus()`, nil)
	tab.Key("End")
	if got := tab.String(clip); got != "inset(0px)" && got != "inset(0px 0% 0px 0px)" {
		t.Errorf("at its end the slider leaves %s", got)
	}
	tab.Key("ArrowLeft")
	if got := tab.String(`document.querySelector("#slider-0").getAttribute("aria-valuetext")`); !strings.HasPrefix(got, "99 percent") {
		t.Errorf("the slider says %q", got)
	}
	visible := `document.querySelector(".errors").checkVisibility()`
	if tab.String(visible) != "false" {
		t.Error("errors are shown before they are asked for")
	}
	tab.Click(`[data-controls="samples"] > button`)
	tab.Wait(visible)
	if got := tab.String(`[...document.images].every(i => i.naturalWidth > 0)`); got != "true" {
		t.Error("an image cannot be shown")
	}

	// Light and dark, chosen and as the system has it.
	back := `getComputedStyle(document.body).backgroundColor`
	light := tab.String(back)
	if bad := tab.Inaccessible(); len(bad) > 0 {
		t.Errorf("axe:\n%s", strings.Join(bad, "\n"))
	}
	tab.Click("[data-theme-button]")
	chosen := tab.String(back)
	if bad := tab.Inaccessible("color-contrast"); len(bad) > 0 {
		t.Errorf("axe, in the dark:\n%s", strings.Join(bad, "\n"))
	}
	tab.Click("[data-theme-button]")
	tab.Click("[data-theme-button]")
	tab.Show(browser.Screen{Width: 400, Dark: true})
	if got := tab.String(back); got != chosen || got == light {
		t.Errorf("light %s, dark %s, chosen %s", light, got, chosen)
	}
	// All charts fit a narrow screen, and nothing makes the page wider than it.
	tab.Wait(`[...document.querySelectorAll(".chart svg[role=img]")].every(s => s.getBoundingClientRect().right <= 400)`)
	for _, width := range []int{400, 1600} {
		tab.Show(browser.Screen{Width: width})
		tab.Wait(fmt.Sprintf(`document.documentElement.scrollWidth <= %d`, width))
		// What is wider, as a table, scrolls in a frame of its own.
		tab.Wait(fmt.Sprintf(`[...document.querySelectorAll("main *")].every(e => e.closest(".scroll, .hidden, .name, svg") || e.getBoundingClientRect().right <= %d + 1)`, width))
	}
	// Printed numbers are on one line, and no chart is wider than the paper.
	tab.Show(browser.Screen{Width: 720, Print: true})
	tab.Wait(`[...document.querySelectorAll(".chart svg[role=img]")].every(s => s.getBoundingClientRect().right <= 720)`)
	tab.Wait(`[...document.querySelectorAll("td.number")].every(c => getComputedStyle(c).whiteSpace === "nowrap")`)
	if f := tab.Faults(); len(f) > 0 {
		t.Errorf("the browser complains: %q", f)
	}
	for _, r := range tab.Requests() {
		if r != address && !strings.HasPrefix(r, "data:") {
			t.Errorf("the page asks for %s", r)
		}
	}
	if dir := os.Getenv("LORALAB_SCREENS"); dir != "" {
		screens(t, tab, dir, "ranks")
	}
}

// screens writes screens of a page to look at.
func screens(t *testing.T, tab *browser.Tab, dir, name string) {
	for look, s := range map[string]browser.Screen{"400": {Width: 400}, "1600": {Width: 1600}, "dark": {Width: 1100, Dark: true}} {
		tab.Show(s)
		tab.Eval("new Promise(r => setTimeout(r, 300))", nil)
		if err := os.WriteFile(filepath.Join(dir, name+"-"+look+".png"), tab.Screenshot(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLook writes screens of the page $LORALAB_PAGE to $LORALAB_SCREENS, to look at.
func TestLook(t *testing.T) {
	dir, file := os.Getenv("LORALAB_SCREENS"), os.Getenv("LORALAB_PAGE")
	if dir == "" || file == "" {
		t.Skip("LORALAB_SCREENS and LORALAB_PAGE name nothing to look at")
	}
	tab := browser.Start(t).Open("file://"+file, browser.Screen{})
	screens(t, tab, dir, "page")
	if err := os.WriteFile(filepath.Join(dir, "page.pdf"), tab.PDF(), 0o644); err != nil {
		t.Fatal(err)
	}
	if f := tab.Faults(); len(f) > 0 {
		t.Errorf("the browser complains: %q", f)
	}
}

// What users write stays text, whatever it looks like.
func TestHostileNamesStayTextOnThePage(t *testing.T) {
	const hostile = `</script><script>document.title='owned'</script><img src=x onerror="document.title='owned'">&lt;b&gt;`
	w := newWorld(t, "wild", rank)
	w.exp.About = hostile + "\n\n" + hostile
	for seed := range uint64(2) {
		w.add(hostile, at(rank, hostile), seed+1, 10, 0.8, 0.6)
		w.add("b", at(rank, "'\"><i>"), seed+1, 10, 0.7, 0.5)
	}
	w.results[0].Failed = hostile
	written := w.build(t.TempDir())
	content, err := os.ReadFile(written.HTML)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(content, []byte("<img src=x")) || bytes.Count(content, []byte("</script>")) != 2 {
		t.Error("the page has HTML that a user wrote")
	}
	tab := browser.Start(t).Open("file://"+written.HTML, browser.Screen{})
	tab.Eval(`document.querySelectorAll("details").forEach(d => d.open = true)`, nil)
	tab.Click("[data-table] thead th button")
	if got := tab.String("document.title"); got != "wild" {
		t.Errorf("the title is %q", got)
	}
	if got := tab.String(`document.querySelector(".about").textContent`); got != hostile {
		t.Errorf("the text is %q", got)
	}
	if got := column(tab, 0); !slices.Contains(got, hostile) {
		t.Errorf("the cells are %q", got)
	}
	if f := tab.Faults(); len(f) > 0 {
		t.Errorf("the browser complains: %q", f)
	}
}

// One page holds several experiments, and a page without results says so.
func TestPageOfSeveralExperiments(t *testing.T) {
	w, other := ranks(t, true), newWorld(t, "empty", rank)
	other.add("rank=2", at(rank, 2.0), 1, 0)
	root := t.TempDir()
	made, err := report.Page(t.Context(), root, filepath.Join(root, "report"), []*experiment.Experiment{w.exp, other.exp}, slices.Concat(w.results, other.results), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	path, err := report.WritePage(root, made)
	if err != nil || path != filepath.Join(root, "report", "report.html") {
		t.Fatalf("the page is %q, %v", path, err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<title>ablation_rank, empty</title>", "<strong>15 of 15</strong>", "<strong>0 of 1</strong>", `href="ablation_rank/runs.csv"`} {
		if !bytes.Contains(content, []byte(want)) {
			t.Errorf("the page lacks %s", want)
		}
	}
	data, err := made.Data()
	if err != nil || !json.Valid(data) {
		t.Errorf("its data is no JSON: %v", err)
	}
	if len(made.Experiments[1].LeftOut) > 0 {
		t.Errorf("of nothing it leaves out %q", made.Experiments[1].LeftOut)
	}
}

// Curves keep the smallest and the largest value of what is left out.
func TestThinnedCurvesKeepTheirEnds(t *testing.T) {
	w := ranks(t, false)
	var lowest, highest float64
	budget := func(most int) *page.Curves { return report.CurvesOf(t, w.exp, w.results, most) }
	whole := budget(1 << 20)
	if whole.Thinned || len(whole.Runs) != 15 || len(whole.Runs[0].X) != 72 {
		t.Fatalf("whole curves: %d runs, thinned %v", len(whole.Runs), whole.Thinned)
	}
	thinned := budget(15 * 20)
	if !thinned.Thinned {
		t.Fatal("the curves are not thinned")
	}
	for i, r := range thinned.Runs {
		if len(r.X) > 20 {
			t.Errorf("%d points, more than 20", len(r.X))
		}
		lowest, highest = float64(slices.Min(whole.Runs[i].Y)), float64(slices.Max(whole.Runs[i].Y))
		if float64(slices.Min(r.Y)) != lowest || float64(slices.Max(r.Y)) != highest {
			t.Errorf("run %d: %v to %v, thinned from %v to %v", i, slices.Min(r.Y), slices.Max(r.Y), lowest, highest)
		}
		if !slices.IsSorted(r.X) {
			t.Errorf("the steps of run %d are not in order", i)
		}
	}
}

// BenchmarkReport writes the report of 1,000 runs of 1,000 steps, and says how long that
// takes, how much memory, and how large the page is:
//
//	go test -tags=netgo,osusergo -run - -bench Report -benchtime 1x ./runner/report
func BenchmarkReport(b *testing.B) {
	t := &testing.T{}
	w := newWorld(t, "large", rank)
	w.bare = true
	dir := b.TempDir()
	var log bytes.Buffer
	for cell := range 200 {
		for seed := range uint64(5) {
			r := w.add(fmt.Sprintf("rank=%d", cell+1), at(rank, float64(cell+1)), seed+1, uint64(cell)*6144, 0.7+0.001*float64(cell)+0.002*float64(seed), 0.5+0.0005*float64(cell))
			log.Reset()
			for step := 1; step <= 1000; step++ {
				fmt.Fprintf(&log, `{"type":"step","step":"%d","epoch":%d,"loss":%g,"lr":0.0012345,"grad_norm":0.98765432,"images_per_second":123.456}`+"\n", step, step/50+1, 1/float64(step)+float64((step*7+cell)%13)*0.01)
				if step%50 == 0 {
					log.WriteString(line(t, "validation", &spec.Validation{Step: uint64(step), Epoch: uint32(step/50) + 1, Metrics: metrics(0.7)}))
				}
			}
			r.Summary.Steps = 1000
			r.Dir = rundir.Dir(filepath.Join(dir, r.Run.ID[52:]))
			if err := os.Mkdir(string(r.Dir), 0o777); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(r.Dir.Path(rundir.Journal), log.Bytes(), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	root := b.TempDir()
	for b.Loop() {
		written, err := report.Build(b.Context(), root, []*experiment.Experiment{w.exp}, w.results, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		info, err := os.Stat(written.Experiments[0].HTML)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/1e6, "MB-of-page")
	}
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(used.Maxrss)/1024, "MiB-at-most")
	b.ReportMetric(float64(used.Utime.Nano()+used.Stime.Nano())/1e9, "CPU-s-in-all")
}
