package wandb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loralab/loralab/internal/python"
	"github.com/loralab/loralab/runner/wandb/wandblog"
)

// testKey has the form of a key and opens nothing.
var testKey = strings.Repeat("k1", 20)

// noEnvironment keeps the settings of the machine out of a test.
func noEnvironment(string) string { return "" }

func offline(t *testing.T, change func(*Settings)) *Run {
	t.Helper()
	s := Settings{Mode: Offline, Root: t.TempDir(), Project: "nuclei", ID: "abcd1234", Getenv: noEnvironment}
	if change != nil {
		change(&s)
	}
	r, err := Init(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func picture(w, h int) (*image.RGBA, *image.Gray) {
	p, m := image.NewRGBA(image.Rect(0, 0, w, h)), image.NewGray(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			p.SetRGBA(x, y, color.RGBA{uint8(x), uint8(y), 0, 255})
			m.SetGray(x, y, color.Gray{Y: uint8((x + y) % 2)})
		}
	}
	return p, m
}

// everything logs something of each kind.
func everything(t *testing.T, r *Run) {
	t.Helper()
	must(t, r.Config(map[string]any{"lr": 1e-3, "model": map[string]any{"name": "dinov2", "depth": 4}, "layers": []string{"query", "value"}}))
	must(t, r.DefineMetric(Metric{Name: "val/dice", Step: "epoch", Summary: []string{"max", "mean"}}))
	must(t, r.DefineMetric(Metric{Name: "train/loss", Summary: []string{"min"}}))
	p, m := picture(9, 5)
	img := &Image{Picture: p, Caption: "one", Masks: map[string]Mask{
		"prediction": {Labels: m, Classes: map[uint8]string{0: "background", 1: "nucleus"}},
	}}
	for step := range int64(20) {
		values := map[string]any{"train/loss": float32(1) / float32(step+1), "nested": map[string]any{"a": step}}
		if step == 3 {
			values["train/loss"] = math.NaN()
		}
		if step%5 == 4 {
			values["val/dice"], values["epoch"] = 0.5+float64(step)/100, step/5
		}
		must(t, r.Log(step, values))
		must(t, r.Output(fmt.Sprintf("step %d <done>", step), step == 7, time.Time{}))
	}
	must(t, r.Log(20, map[string]any{
		"samples/first": img, "samples/all": []*Image{img, {Picture: p}},
		"table": &Table{Columns: []string{"image", "dice"}, Rows: [][]any{{"a.png", 0.5}, {"ü.png", math.Inf(1)}}},
		"grads": NewHistogram([]float64{1, 2, 3, math.NaN()}, 4),
	}))
	must(t, r.System(map[string]float64{"cpu": 12.5, "gpu.0.temp": 40}, time.Time{}))
	must(t, r.File("plan/experiment.cue", strings.NewReader("a: 1\n")))
	weights := filepath.Join(t.TempDir(), "adapter.safetensors")
	must(t, os.WriteFile(weights, bytes.Repeat([]byte("w"), 70000), 0o644))
	must(t, r.Artifact(Artifact{Name: "model-" + r.ID(), Type: "model", Aliases: []string{"best"}, Metadata: map[string]any{"dice": 0.7}, Files: map[string]string{"adapter/w.safetensors": weights}}))
	must(t, r.Summary(map[string]any{"best/dice": 0.75}))
	must(t, r.Alert("loss is NaN", "at step 3", Warn, time.Minute))
}

// The official client reads every record of our logs and complains of none.
func TestOfficialClientReadsOurLog(t *testing.T) {
	r := offline(t, func(s *Settings) {
		s.Entity, s.Name, s.Group, s.Tags, s.Commit = "lab", "rank=4/seed=1", "rank", []string{"a", "b"}, "0123abcd"
	})
	everything(t, r)
	must(t, r.Preempting())
	must(t, r.Finish(t.Context(), 3))
	records, err := wandblog.ReadFile(r.logPath())
	must(t, err)

	out := inspect(t, r.logPath())
	if len(out) != len(records) {
		t.Fatalf("the official reader finds %d records of %d", len(out), len(records))
	}
	for i, shown := range out {
		if kind := strings.ReplaceAll(shown["type"].(string), "_", ""); kind != strings.ToLower(records[i].Kind()) {
			t.Errorf("record %d is %s to the official reader, not %s", i+1, kind, records[i].Kind())
		}
		if h := records[i].History; h != nil {
			items := shown["history"].(map[string]any)["item"].(map[string]any)
			if len(items) < len(h.Item) {
				t.Errorf("the row of step %d has %d items to the official reader, not %d", h.Step.Num, len(items), len(h.Item))
			}
		}
	}
	summary := inspect(t, r.logPath(), "--summary")[0]
	if got := fmt.Sprint(summary["exit_code"], summary["tags"], summary["config"]); !strings.HasPrefix(got, "3 [a b] map[") || !strings.Contains(got, "dinov2") {
		t.Errorf("the summary of the official reader is %v", summary)
	}
}

func inspect(t *testing.T, path string, options ...string) (shown []map[string]any) {
	t.Helper()
	// What "wandb leet inspect" starts; Python itself takes seconds for it.
	cores, _ := filepath.Glob(filepath.Join(filepath.Dir(python.Find(t)), "../lib/python3*/site-packages/wandb/bin/wandb-core"))
	if len(cores) != 1 {
		t.Fatalf("the official client is missing: %v", cores)
	}
	arguments := append([]string{"leet", "inspect", "--no-observability", "--json", "--run-file", path}, options...)
	cmd := exec.Command(cores[0], append(arguments, filepath.Dir(filepath.Dir(path)))...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "WANDB_ERROR_REPORTING=false")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil || said.Len() > 0 {
		t.Fatalf("wandb leet inspect: %v\n%s", err, said.String())
	}
	for d := json.NewDecoder(&out); d.More(); {
		var record map[string]any
		must(t, d.Decode(&record))
		shown = append(shown, record)
	}
	return shown
}

func replayOf(t *testing.T, path string) *replay {
	t.Helper()
	records, err := wandblog.ReadFile(path)
	must(t, err)
	p := newReplay()
	for _, r := range records {
		p.apply(r)
	}
	return p
}

func TestSummary(t *testing.T) {
	r := offline(t, nil)
	everything(t, r)
	must(t, r.Finish(t.Context(), 0))
	p := replayOf(t, r.logPath())
	for path, want := range map[string]string{
		"best/dice": "0.75", "_step": "20", "epoch": "3", "train/loss": `{"min":0.05}`, "val/dice": `{"max":0.69,"mean":0.615}`,
	} {
		var got string
		switch v := p.summary[path].(type) {
		case raw:
			got = string(v)
		case tree:
			got = v.String()
		}
		if got != want {
			t.Errorf("%s is %s, not %s", path, got, want)
		}
	}
	if p.exit == nil || p.exit.Code != 0 {
		t.Errorf("the exit is %+v", p.exit)
	}
}

// A second log of a run continues with steps and summary of the first.
func TestLaterLogs(t *testing.T) {
	first := offline(t, nil)
	must(t, first.DefineMetric(Metric{Name: "dice", Summary: []string{"max"}}))
	must(t, first.Config(map[string]any{"lr": 1}))
	must(t, first.Log(7, map[string]any{"dice": 0.9}))
	same := Settings{Mode: Offline, Root: first.settings.Root, Project: "nuclei", ID: first.ID(), Getenv: noEnvironment}
	if _, err := Init(t.Context(), same); err == nil || !strings.Contains(err.Error(), "another process is writing") {
		t.Errorf("two writers of one run: %v", err)
	}
	first.log.Close() // killed
	second, err := Init(t.Context(), same)
	must(t, err)
	if second.Step() != 8 {
		t.Errorf("the next step is %d, not 8", second.Step())
	}
	if err := second.Log(7, map[string]any{"dice": 1}); err == nil {
		t.Error("a step is logged twice")
	}
	must(t, second.Log(8, map[string]any{"dice": 0.5}))
	must(t, second.Finish(t.Context(), 0))
	p := replayOf(t, second.logPath())
	if got := p.summary.copyOf("dice").String(); got != `{"max":0.9}` {
		t.Errorf("the best value is %s, not 0.9", got)
	}
	if p.config["lr"] != raw("1") || !p.run.Resume || p.run.StartingStep != 8 {
		t.Errorf("the second log has config %v and run %+v", p.config, p.run)
	}
	never := same
	never.Resume = ResumeNever
	if _, err := Init(t.Context(), never); err == nil {
		t.Error("resume: never continues a run")
	}
}

func TestDisabled(t *testing.T) {
	root := t.TempDir()
	r, err := Init(t.Context(), Settings{Root: root, Getenv: func(name string) string {
		return map[string]string{"WANDB_MODE": "disabled"}[name]
	}})
	must(t, err)
	everything(t, r)
	must(t, r.Finish(t.Context(), 0))
	if entries, _ := os.ReadDir(root); len(entries) > 0 {
		t.Errorf("a disabled run writes %v", entries)
	}
}

func TestValues(t *testing.T) {
	for _, c := range []struct {
		value any
		want  string
	}{
		{float32(0.1), "0.1"},
		{0.1, "0.1"},
		{1e21, "1e+21"},
		{math.NaN(), "NaN"},
		{[]float64{math.Inf(1), math.Inf(-1)}, "[Infinity,-Infinity]"},
		{map[string]any{"b": 1, "a": nil, "<": true}, `{"<":true,"a":null,"b":1}`},
		{map[int]string{2: "b", 1: "a"}, `{"1":"a","2":"b"}`},
		{time.Unix(0, 0).UTC(), `"1970-01-01T00:00:00Z"`},
		{(*int)(nil), "null"},
		{json.Number("3"), "3"},
		{struct {
			A int `json:"a"`
		}{1}, `{"a":1}`},
	} {
		got, err := encode(c.value)
		if err != nil || got != c.want {
			t.Errorf("%v is %s (%v), not %s", c.value, got, err, c.want)
		}
		if !validJSON(got) {
			t.Errorf("%s is not taken for JSON", got)
		}
	}
	if _, err := encode(map[string]any{"f": func() {}}); err == nil {
		t.Error("a function has a form in JSON")
	}
}

func TestMediaNames(t *testing.T) {
	r := offline(t, nil)
	p, _ := picture(2, 2)
	must(t, r.Log(0, map[string]any{"../../a/[b]=1": &Image{Picture: p}}))
	must(t, r.Finish(t.Context(), 0))
	var found []string
	must(t, filepath.WalkDir(filepath.Join(r.Dir(), "files"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, filepath.Base(path))
		}
		return err
	}))
	if len(found) != 1 || !strings.HasPrefix(found[0], "_b__1_0_") {
		t.Errorf("the files are %v", found)
	}
	if err := offline(t, nil).File("../out", strings.NewReader("")); err == nil {
		t.Error("a file leads out of the run")
	}
	_, small := picture(1, 1)
	wrong := &Image{Picture: p, Masks: map[string]Mask{"m": {Labels: small}}}
	if err := offline(t, nil).Log(0, map[string]any{"a": wrong}); err == nil {
		t.Error("a mask of another size is logged")
	}
}

func TestHistogram(t *testing.T) {
	h := NewHistogram([]float64{0, 1, 1, 2, 4, math.NaN(), math.Inf(1)}, 4)
	if !slices.Equal(h.Counts, []float64{1, 2, 1, 1}) || !slices.Equal(h.Edges, []float64{0, 1, 2, 3, 4}) {
		t.Errorf("the histogram is %+v", h)
	}
	if h := NewHistogram(nil, 2); len(h.Edges) != 3 {
		t.Errorf("the empty histogram is %+v", h)
	}
}

// Many goroutines log to one run; the log holds all of it.
func TestConcurrentUse(t *testing.T) {
	r := offline(t, nil)
	done := make(chan error)
	for i := range 8 {
		go func() {
			var err error
			for j := range 50 {
				err = errors.Join(err, r.Output(fmt.Sprintf("%d %d", i, j), false, time.Time{}), r.Config(map[string]any{fmt.Sprint(i): j}))
			}
			done <- err
		}()
	}
	for range 8 {
		must(t, <-done)
	}
	must(t, r.Finish(t.Context(), 0))
	if err := r.Log(0, nil); !errors.Is(err, ErrFinished) {
		t.Errorf("a finished run takes a row: %v", err)
	}
	records, err := wandblog.ReadFile(r.logPath())
	must(t, err)
	lines := 0
	for _, record := range records {
		if record.OutputRaw != nil {
			lines++
		}
	}
	if lines != 400 {
		t.Errorf("%d lines of 400", lines)
	}
}

func TestSystemMetrics(t *testing.T) {
	values := map[string]float64{}
	parseGPUs("0, 97, 40, 1024, 4096, 61, 150, 300\n1, [N/A], [N/A], 0, 4096, 40, [N/A], [N/A]\n", values)
	want := map[string]float64{
		"gpu.0.gpu": 97, "gpu.0.memory": 40, "gpu.0.temp": 61, "gpu.0.powerWatts": 150, "gpu.0.enforcedPowerLimitWatts": 300,
		"gpu.0.memoryAllocatedBytes": 1 << 30, "gpu.0.memoryAllocated": 25, "gpu.0.powerPercent": 50,
		"gpu.1.temp": 40, "gpu.1.memoryAllocatedBytes": 0, "gpu.1.memoryAllocated": 0,
	}
	if !reflect.DeepEqual(values, want) {
		t.Errorf("the metrics of GPUs are %v", values)
	}
	if _, err := os.Stat("/proc/meminfo"); err != nil {
		t.Skip("no /proc")
	}
	var s Sampler
	s.Sample(context.Background())
	for range 1000000 {
		_ = fmt.Sprint()
	}
	if v := s.Sample(context.Background()); v["proc.memory.rssMB"] <= 0 || v["memory_percent"] <= 0 || v["proc.cpu.threads"] < 1 {
		t.Errorf("the system metrics are %v", v)
	}
}

// Messages name places in the working directory from there.
func TestShownPaths(t *testing.T) {
	t.Chdir(t.TempDir())
	r := offline(t, func(s *Settings) { s.Root = "." })
	_, err := Init(t.Context(), r.settings)
	if want := "in wandb/" + filepath.Base(r.Dir()); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("the error is %v, without %q", err, want)
	}
	must(t, r.Finish(t.Context(), 0))
}
