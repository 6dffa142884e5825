package view

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/lipgloss"
	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/report"
	"github.com/loralab/loralab/runner/statistics"
	"github.com/loralab/loralab/runner/variant"
)

// terminal is a view of a terminal of a given width in columns, in color, and what it
// was sent.
func terminal(width int) (*View, *bytes.Buffer) {
	var out bytes.Buffer
	w := &guard{w: &out}
	v := &View{out: w, err: w, progress: w, live: width > 0, width: width, size: func() int { return width }}
	v.style(width > 0)
	return v, &out
}

// screen is what is seen of what was sent to a terminal, without colors.
func screen(t interface{ Fatalf(string, ...any) }, sent string) []string {
	lines, row := []string{""}, 0
	for _, token := range regexp.MustCompile(`\x1b\[\d*[A-Za-z]|\x1b\[[\d;]*m|\n|[^\x1b\n]+`).FindAllString(sent, -1) {
		var n int
		switch {
		case token == "\n":
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
		case token == "\x1b[2K", token == "\x1b[K":
			lines[row] = ""
		case token == "\x1b[J":
			lines = append(lines[:row], "")
		case strings.HasSuffix(token, "A") && token[0] == '\x1b':
			fmt.Sscanf(token, "\x1b[%dA", &n)
			if row -= n; row < 0 {
				t.Fatalf("the cursor leaves the screen")
			}
		case token[0] != '\x1b':
			lines[row] += token
		}
	}
	return lines
}

func job(cell string) *launch.Job {
	return &launch.Job{Train: true, Run: &experiment.Run{Experiment: "e", Cell: cell, Seed: 1}}
}

func event(j *launch.Job, e *spec.Event) launch.Event { return launch.Event{Job: j, Event: e} }

func step(j *launch.Job, n uint64) launch.Event {
	return event(j, &spec.Event{Event: &spec.Event_Step{Step: &spec.Step{Step: n, Epoch: 1, Loss: 0.5, ImagesPerSecond: 41}}})
}

func started(j *launch.Job, steps uint64) launch.Event {
	return event(j, &spec.Event{Event: &spec.Event_Started{Started: &spec.Started{Steps: steps, Epochs: 2}}})
}

// Bars never wrap, whatever is shown, and are gone in the end; what is said
// stays.
func TestBarsOnATerminal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(20, 160).Draw(t, "width")
		v, out := terminal(width)
		jobs := []*launch.Job{job(rapid.StringMatching(`[a-z=,漢.]{1,40}`).Draw(t, "cell")), job("other")}
		p := v.Progress(jobs, nil, nil)
		said := 0
		for _, j := range jobs {
			p.Watch(launch.Event{Job: j, Start: &launch.Start{Attempt: 1}})
			steps := rapid.Uint64Range(1, 1<<40).Draw(t, "steps")
			p.Watch(started(j, steps))
			for range rapid.IntRange(0, 4).Draw(t, "events") {
				p.drew = time.Time{} // as if some time had passed
				switch rapid.IntRange(0, 2).Draw(t, "event") {
				case 0:
					p.Watch(step(j, rapid.Uint64Range(0, steps).Draw(t, "step")))
				case 1:
					p.Note("a note")
					said++
				case 2:
					p.Watch(event(j, &spec.Event{Event: &spec.Event_Evaluated{Evaluated: &spec.Evaluated{Domain: "test"}}}))
				}
				lines := screen(t, out.String())
				if n := len(lines); n < 3 || !strings.HasPrefix(lines[n-2], clip("all", p.name)) || lines[n-1] != "" {
					t.Fatalf("no bars at the end of %q", lines)
				}
				for _, line := range lines[len(lines)-3:] {
					if lipgloss.Width(line) > width {
						t.Fatalf("%d columns in a terminal of %d: %q", lipgloss.Width(line), width, line)
					}
				}
			}
			p.Watch(launch.Event{Job: j, End: &launch.End{Outcome: launch.Finished, Summary: &spec.Summary{}}})
			said++
		}
		p.Close()
		lines := screen(t, out.String())
		if len(lines) != said+1 || strings.Contains(strings.Join(lines, ""), "━") {
			t.Fatalf("after the end %d lines, not %d: %q", len(lines), said+1, lines)
		}
	})
}

func TestPlainLinesHaveNoEscapes(t *testing.T) {
	v, out := terminal(0)
	j := job("rank=8")
	p := v.Progress([]*launch.Job{j}, nil, nil)
	p.Watch(launch.Event{Job: j, Start: &launch.Start{Attempt: 1}})
	p.Watch(started(j, 4))
	for n := range uint64(4) {
		p.Watch(step(j, n+1))
	}
	p.Watch(event(j, &spec.Event{Event: &spec.Event_Note{Note: &spec.Note{Text: "careful", Warning: true}}}))
	p.Watch(launch.Event{Job: j, Retry: &launch.Retry{Reason: "out of memory", Attempt: 2, Of: 3}})
	p.Watch(launch.Event{Job: j, End: &launch.End{Outcome: launch.Failed, Reason: "no luck", Detail: "at all\n"}})
	p.Close()
	want := `[1/1] e/rank=8/seed=1  started
[1/1] e/rank=8/seed=1  warning: careful
[1/1] e/rank=8/seed=1  retrying: out of memory; try 2 of 3
[1/1] e/rank=8/seed=1  failed: no luck
    at all
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

// Of two jobs for one run, the second says whose result it shares.
func TestJobsForOneRun(t *testing.T) {
	v, out := terminal(0)
	first, second, other := job("trial-1"), job("trial-2"), job("trial-3")
	first.Run.ID, second.Run.ID, other.Run.ID = "a", "a", "b"
	p := v.Progress([]*launch.Job{first}, nil, nil)
	p.Watch(launch.Event{Job: first, End: &launch.End{Outcome: launch.Finished, Summary: &spec.Summary{}}})
	p.Watch(launch.Event{Job: second, End: &launch.End{Outcome: launch.Elsewhere, Summary: &spec.Summary{}}})
	p.Watch(launch.Event{Job: other, End: &launch.End{Outcome: launch.Elsewhere, Summary: &spec.Summary{}}})
	p.Close()
	for _, want := range []string{"e/trial-2/seed=1  done, the same run as e/trial-1/seed=1\n", "e/trial-3/seed=1  done by another process\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// A result table loses columns that do not fit, never figures of the metric.
func TestResultsFitTheTerminal(t *testing.T) {
	written := report.Written{Experiment: "e", Table: report.Table{
		Metric: "dice/nucleus", Domains: []string{"test", "histology"},
		Rows: []report.Row{{Cell: "rank=8", N: 3, Planned: 3, Adapter: 1234, Scores: make([]report.Score, 2)}},
	}}
	for _, width := range []int{0, 100, 60} {
		v, out := terminal(width)
		v.Results("/", []report.Written{written})
		text := strings.Join(screen(t, out.String()), "\n")
		if got := strings.Contains(text, "TEST IOU  "); got != (width != 60) {
			t.Errorf("%d columns: IoU is shown: %v\n%s", width, got, text)
		}
		if !strings.Contains(text, "HISTOLOGY DICE") || !strings.Contains(text, "TRAINED") {
			t.Errorf("%d columns: the main columns miss\n%s", width, text)
		}
	}
}

// In a file of text a result table is 100 columns wide where the names allow it, and
// what all domains share is said once, below the table.
func TestTablesFit100Columns(t *testing.T) {
	const seen = "@window-252-scale-1.96875"
	table := report.Table{Metric: "dice/nucleus", Domains: []string{"test" + seen, "histology" + seen, "dark" + seen}}
	for range 5 {
		table.Rows = append(table.Rows, report.Row{Cell: "rank=8", N: 3, Planned: 3, Adapter: 1234, Scores: make([]report.Score, 3)})
	}
	for i := range table.Rows {
		for k := range table.Rows[i].Scores {
			table.Rows[i].Scores[k].Metric = report.Stat{Sample: statistics.Sample{N: 3, Mean: 0.5, Std: 0.1}}
			table.Rows[i].Scores[k].IoU = report.Stat{Sample: statistics.Sample{N: 3, Mean: 0.5, Std: 0.1}}
		}
	}
	v, out := terminal(0)
	v.Results("/", []report.Written{{Experiment: "e", Table: table}})
	for line := range strings.Lines(out.String()) {
		if len([]rune(line)) > 101 {
			t.Errorf("%d columns: %s", len([]rune(line)), line)
		}
	}
	for _, want := range []string{"HISTOLOGY DICE", "DARK DICE", "do not fit: HISTOLOGY IOU, DARK IOU"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}

	v, out = terminal(0)
	m := &spec.Metrics{Pixels: 1, Dice: 0.5}
	v.Scores(&Scores{Run: "r", Checkpoint: "best", Domains: []Domain{{Name: "test" + seen, Metrics: m}, {Name: "dark" + seen, Metrics: m}}})
	if text := out.String(); strings.Count(text, seen) != 1 || !strings.Contains(text, "All domains are seen as "+seen+".") {
		t.Errorf("got\n%s", text)
	}
}

// A view adds colors to what package diagnostic renders, and nothing else.
func TestDiagnosticsAreColoredOnly(t *testing.T) {
	list := diagnostic.List{
		{
			Message: "two\nlines", Hint: "build\none", Cells: []string{"a", "b"}, Of: 3, Source: "\tx: 漢y\x1b[2J " + strings.Repeat("long ", 40),
			At: diagnostic.Position{File: "e.cue", Line: 12, Column: 5, Width: 2},
		},
		{Message: "odd", Warning: true},
	}
	for _, width := range []int{0, 60} {
		v, out := terminal(width)
		v.Diagnostics(list)
		want := []string{}
		for _, line := range list.Lines(width) {
			want = append(want, line.String())
		}
		if got := screen(t, out.String()); !slices.Equal(got, append(want, "")) {
			t.Errorf("%d columns: got\n%s\nwant\n%s", width, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if colored := regexp.MustCompile(`\x1b\[[\d;]+m *\^\^`).MatchString(out.String()); colored != (width > 0) {
			t.Errorf("%d columns: the carets are colored: %v", width, colored)
		}
	}
}

func TestError(t *testing.T) {
	v, out := terminal(0)
	v.Error(errors.New("it broke:\nfirst\nsecond\n"))
	if want := "error: it broke:\n  first\n  second\n"; out.String() != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ms", 850 * time.Millisecond: "850 ms", 1500 * time.Millisecond: "1.5 s", 42 * time.Second: "42 s",
		185 * time.Second: "3 min 05 s", 2*time.Hour + 7*time.Minute: "2 h 07 min",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 664707: "664,707", 1234567: "1.23 M", 22e9: "22.00 G"} {
		if got := amount(n); got != want {
			t.Errorf("amount(%d) = %q, want %q", n, got, want)
		}
	}
}

// On a narrow terminal plug-ins have what they do, and not the beginning of their path.
func TestPluginsOnNarrowTerminals(t *testing.T) {
	var plugins []Plugin
	for _, name := range []string{"lora", "localized_lora"} {
		plugins = append(plugins, Plugin{
			Name: name, Found: &variant.Plugin{Path: "/home/somebody/projects/segmentation/plugins.d/" + name},
			Description: &protocol.DescribeReply{Version: "1.0.0", About: "A low-rank update for each block of the weight"},
		})
	}
	for width, want := range map[int][]string{
		60:  {"A low-rank update for each block o…", "1 column does not fit: WHERE"},
		80:  {"A low-rank update for each block of the weight", "1 column does not fit: WHERE"},
		140: {"A low-rank update for each block of the weight", "/home/somebody/projects/segmentation/plugins.d/localized_lora"},
		0:   {"A low-rank update for each block of the weight", "/home/somebody/projects/segmentation/plugins.d/localized_lora"},
	} {
		v, out := terminal(width)
		v.Plugins(plugins, nil)
		got := strings.Join(screen(t, out.String()), "\n")
		for _, text := range want {
			if !strings.Contains(got, text) {
				t.Errorf("%d columns: no %q in\n%s", width, text, got)
			}
		}
	}
}

// Where validations are counted in steps, each has a line and epochs have none.
func TestLinesOfValidationsInSteps(t *testing.T) {
	v, out := terminal(0)
	j := job("rank=8")
	j.Run.Spec = &spec.RunSpec{Train: &spec.Train{Steps: 6, EvalSteps: 3}}
	p := v.Progress([]*launch.Job{j}, nil, nil)
	p.Watch(launch.Event{Job: j, Start: &launch.Start{Attempt: 1}})
	p.Watch(started(j, 6))
	for n := range uint64(6) {
		s := &spec.Step{Step: n + 1, Epoch: uint32(n/2 + 1), Loss: float64(n), ImagesPerSecond: 41}
		p.Watch(event(j, &spec.Event{Event: &spec.Event_Step{Step: s}}))
		if n%3 == 2 {
			p.Watch(event(j, &spec.Event{Event: &spec.Event_Validation{Validation: &spec.Validation{Step: n + 1, Epoch: s.Epoch, Best: n == 2, Metrics: &spec.Metrics{}}}}))
		}
	}
	p.Close()
	want := `[1/1] e/rank=8/seed=1  started
[1/1] e/rank=8/seed=1  epoch 2/2  step 3/6  loss 1.0000 (best)  41.0 images/s
[1/1] e/rank=8/seed=1  epoch 3/2  step 6/6  loss 4.0000  41.0 images/s
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}
