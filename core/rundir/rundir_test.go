package rundir_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// before is a run that was written before this package was, see
// testdata/project/README.md.
const before = rundir.Dir("testdata/project/runs/tiny/7a7a03ef9660")

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(before.Path(file))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What is read and written again has the same bytes.
func TestEarlierRunsAreReadAndWrittenTheSame(t *testing.T) {
	request := &spec.RunRequest{}
	again(t, rundir.Request, request)
	if id := spec.Identity(request.GetSpec()); id != request.GetId() {
		t.Errorf("the request is of run %s, its specification of %s", request.GetId(), id)
	}
	run := rundir.Of(request)
	run.Dir = before
	summary, err := run.Summary()
	if err != nil {
		t.Fatal(err)
	}
	again(t, rundir.Result, &spec.Summary{})
	again(t, rundir.Program, &spec.Adapter{})
	for _, e := range request.GetEvaluations() {
		id := spec.EvaluationIdentity(run.ID, e)
		evaluated, err := run.Evaluation(id)
		if err != nil || evaluated.GetId() != id {
			t.Errorf("%s: %v, %v", e.GetDomain(), evaluated, err)
		}
		again(t, rundir.Evaluation(id), &spec.Evaluated{})
		if path := before.FindSample(e.GetDomain(), id); path != before.Path("samples/"+e.GetDomain()+".png") {
			t.Errorf("the samples of %s are %q", e.GetDomain(), path)
		}
	}
	for line := range bytes.Lines(read(t, rundir.Journal)) {
		event, err := rundir.UnmarshalEvent(line)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := rundir.MarshalEvent(event); err != nil || !bytes.Equal(text, line) {
			t.Errorf("%v\n%s\nbecame\n%s", err, line, text)
		}
	}
	for _, file := range []string{rundir.Last, rundir.Best} {
		f, err := run.Weights(file, summary)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p, err := rundir.ParseProgress(f.Metadata())
		if err != nil {
			t.Fatal(err)
		}
		if step, err := rundir.StepOf(f.Metadata()); err != nil || int(step) != p.Step || p.Step != 4 || p.Steps != 4 || p.ID != run.ID {
			t.Errorf("%s: %+v, step %d, %v", file, p, step, err)
		}
		meta, err := p.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		var tensors []safetensors.Tensor
		for _, name := range f.Names() {
			tensor, _ := f.Get(name)
			tensors = append(tensors, tensor)
		}
		copied := filepath.Join(t.TempDir(), "copy")
		if _, err := safetensors.WriteSealed(copied, tensors, meta); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(copied); err != nil || !bytes.Equal(text, read(t, file)) {
			t.Errorf("%s: other bytes, %v; metadata %v", file, err, meta)
		}
	}
}

func again(t *testing.T, file string, m proto.Message) {
	t.Helper()
	want := read(t, file)
	if err := rundir.Unmarshal(want, m); err != nil {
		t.Fatal(err)
	}
	if text, err := rundir.MarshalFile(m); err != nil || !bytes.Equal(text, want) {
		t.Errorf("%s: %v\n%s\nbecame\n%s", file, err, want, text)
	}
}

// A field that is not known does no harm, unless the digest was made with it.
func TestOneFieldMore(t *testing.T) {
	id := strings.Repeat("ab", 32)
	summary := &spec.Summary{Id: id, Steps: 7}
	summary.Digest = spec.SealedDigest(summary)
	text, err := rundir.MarshalFile(summary)
	if err != nil {
		t.Fatal(err)
	}
	more := bytes.Replace(text, []byte("{\n"), []byte("{\n  \"of_tomorrow\": {\"x\": 1},\n"), 1)
	run := rundir.Run{Dir: rundir.Dir(t.TempDir()), ID: id, Revision: spec.Revision}
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"one field more": {more, ""},
		"of a newer one": {bytes.Replace(more, []byte(summary.Digest), []byte(strings.Repeat("0", 64)), 1), "a newer one may have written it"},
		"changed":        {bytes.Replace(text, []byte(`"7"`), []byte(`"8"`), 1), "its content was changed"},
		"cut":            {text[:20], "is damaged"},
	} {
		if err := os.WriteFile(run.Path(rundir.Result), c.text, 0o666); err != nil {
			t.Fatal(err)
		}
		got, err := run.Summary()
		var damaged *rundir.DamagedError
		switch {
		case c.want == "" && (err != nil || got.GetSteps() != 7):
			t.Errorf("%s: %v, %v", name, got, err)
		case c.want != "" && (!errors.As(err, &damaged) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The last checkpoint of a finished run may have been removed on purpose.
func TestNoCheckpoint(t *testing.T) {
	run := rundir.Run{Dir: rundir.Dir(t.TempDir()), ID: strings.Repeat("ab", 32), Revision: spec.Revision}
	for name, gc := range map[string]bool{rundir.Last: true, rundir.Best: false} {
		_, err := run.Weights(name, &spec.Summary{})
		if err == nil || strings.Contains(err.Error(), "use the best one") != gc || !strings.Contains(err.Error(), "runner rm abababababab") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An evaluation that was copied from another run is damaged.
func TestEvaluationOfAnotherRun(t *testing.T) {
	id, other := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	run := rundir.Run{Dir: rundir.Dir(t.TempDir()), ID: id, Revision: spec.Revision}
	for of, bad := range map[string]bool{"": false, id: false, other: true} {
		e := &spec.Evaluated{Id: "0123456789ab", Run: of}
		e.Digest = spec.SealedDigest(e)
		text, err := rundir.MarshalFile(e)
		if err := errors.Join(err, os.MkdirAll(run.Path(rundir.Evaluations), 0o777), os.WriteFile(run.Path(rundir.Evaluation(e.Id)), text, 0o666)); err != nil {
			t.Fatal(err)
		}
		var damaged *rundir.DamagedError
		if _, err := run.Evaluation(e.Id); errors.As(err, &damaged) != bad {
			t.Errorf("of run %q: %v", of, err)
		}
	}
}

func TestProgress(t *testing.T) {
	against := 0.25
	want := rundir.Progress{
		ID: "ab", Step: 3, Steps: 9, Journal: 100, JournalSum: "cd", Seconds: 1.5, Best: 2,
		BestOf: &spec.Metrics{Loss: math.Inf(1)}, BestSeal: "ef", Unscored: true, Stale: 1, Against: &against, Recent: []float64{1, 2},
		Pixels: []uint64{3, 4}, Uncounted: 1, Moves: &rundir.Moves{Start: map[string]string{"a": "b"}, Still: []string{"a"}, Updates: 2},
		Probes: map[string]string{"attention": "bmm"},
	}
	// A field that is added has to be in here, and so in Metadata.
	for i := range reflect.TypeFor[rundir.Progress]().NumField() {
		if reflect.ValueOf(want).Field(i).IsZero() {
			t.Errorf("%s is not tested", reflect.TypeFor[rundir.Progress]().Field(i).Name)
		}
	}
	meta, err := want.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	got, err := rundir.ParseProgress(rundir.AsOf("gh", meta))
	if err != nil || got.ID != "gh" || !proto.Equal(got.BestOf, want.BestOf) {
		t.Fatalf("%+v, %v", got, err)
	}
	got.ID, got.BestOf = want.ID, want.BestOf
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	meta["moves"] = "{"
	if _, err := rundir.ParseProgress(meta); err == nil {
		t.Error("moves that are cut are read")
	}
}

func TestEvents(t *testing.T) {
	for name, c := range map[string]struct {
		line string
		kind any
		bad  bool
	}{
		"a step":         {`{"type":"step","step":"3","loss":"NaN","of_tomorrow":1}`, &spec.Event_Step{}, false},
		"nothing in it":  {`{"type":"paused"}`, &spec.Event_Paused{}, false},
		"of a newer one": {`{"type":"thought","x":1}`, nil, false},
		"cut":            {`{"type":"step","st`, nil, true},
		"another type":   {`{"type":"step","step":{}}`, nil, true},
		"no object":      {`7`, nil, true},
	} {
		e, err := rundir.UnmarshalEvent([]byte(c.line))
		if reflect.TypeOf(e.GetEvent()) != reflect.TypeOf(c.kind) || (err != nil) != c.bad {
			t.Errorf("%s: %v, %v", name, e, err)
		}
	}
	if line, err := rundir.MarshalEvent(&spec.Event{}); err == nil {
		t.Errorf("no event is %s", line)
	}
	line, err := rundir.MarshalEvent(&spec.Event{Event: &spec.Event_Paused{Paused: &spec.Paused{}}})
	if err != nil || string(line) != `{"type":"paused"}`+"\n" {
		t.Errorf("%s, %v", line, err)
	}
}

func TestNames(t *testing.T) {
	id := strings.Repeat("0123456789", 6) + "abcd"
	for got, want := range map[string]string{
		rundir.Evaluation(id):                   "evaluations/012345678901.json",
		rundir.Evaluation("e1"):                 "evaluations/e1.json",
		rundir.Sample("noisy", id):              "samples/noisy-012345678901.png",
		rundir.Patch(1) + " " + rundir.Patch(2): "dirty.patch dirty-2.patch",
		rundir.Last + " " + rundir.NextBest:     "checkpoints/last.safetensors checkpoints/best.next.safetensors",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for name, want := range map[string]string{"best": rundir.Best, "last": rundir.Last, "best.next": "", "": "", "../last": ""} {
		if file, ok := rundir.Checkpoint(name); file != want || ok != (want != "") {
			t.Errorf("checkpoint %q is %q, %v", name, file, ok)
		}
	}
	for name, want := range map[string]bool{"dirty.patch": true, "dirty-12.patch": true, "dirty-.patch": false, "x/dirty.patch": false, "dirty-2.patch.png": false} {
		if rundir.IsPatch(name) != want {
			t.Errorf("IsPatch(%q) is not %v", name, want)
		}
	}
	if got := rundir.Dir("/a").Path(rundir.Last); got != filepath.FromSlash("/a/checkpoints/last.safetensors") {
		t.Error(got)
	}
}

// JSON has the same bytes every time: protojson by itself varies its white space.
func TestMarshalIsStable(t *testing.T) {
	text, err := rundir.Marshal(&spec.Summary{Id: "a", BestStep: 3, Validation: &spec.Metrics{Images: 2}})
	var compact bytes.Buffer
	if err := errors.Join(err, json.Compact(&compact, text)); err != nil || !bytes.Equal(text, compact.Bytes()) || !bytes.Contains(text, []byte(`"best_step"`)) {
		t.Errorf("%s, %v", text, err)
	}
}

// Cells of two experiments share a run, and have one name for different images: the
// sheet of the one is not shown for the other.
func TestSamplesAreOfOneEvaluation(t *testing.T) {
	dir := rundir.Dir(t.TempDir())
	if err := os.Mkdir(dir.Path(rundir.Samples), 0o777); err != nil {
		t.Fatal(err)
	}
	mine := dir.Path(rundir.Sample("tissue", "0001"))
	if err := os.WriteFile(mine, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"0001": mine, "0002": ""} {
		if got := dir.FindSample("tissue", id); got != want {
			t.Errorf("evaluation %s has %q, want %q", id, got, want)
		}
	}
}
