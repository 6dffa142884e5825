package optunalog_test

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/importance"
	"github.com/loralab/loralab/runner/search/optunalog"
	"github.com/loralab/loralab/runner/search/sampler"
	"github.com/loralab/loralab/runner/search/space"
)

//go:embed testdata/optuna.json
var recorded []byte

// studies have every kind of parameter and of state. They are the same in every
// run of the tests.
func studies(t testing.TB) []optunalog.Study {
	when := func(value ...any) []space.Condition { return []space.Condition{{Param: "variant", Values: value}} }
	var all []optunalog.Study
	for i, c := range []struct {
		name   string
		d      search.Direction
		s      sampler.Sampler
		params []space.Param
		f      func(p map[string]any) float64
	}{
		{"floats", search.Minimize, sampler.TPE{}, []space.Param{{Name: "x", Low: -10, High: 10}, {Name: "y", Low: -10, High: 10}}, func(p map[string]any) float64 {
			x, y := p["x"].(float64), p["y"].(float64)
			return (x-2)*(x-2) + 0.3*(y+1)*(y+1)
		}},
		{"logs", search.Maximize, sampler.Random{}, []space.Param{
			{Name: "lr", Low: 1e-5, High: 1e-1, Log: true},
			{Name: "rank", Kind: space.Int, Low: 2, High: 64, Log: true},
			{Name: "one", Kind: space.Int, Low: 1, High: 2, Log: true},
		}, func(p map[string]any) float64 {
			return -math.Abs(math.Log10(p["lr"].(float64))+3) - 0.1*float64(p["rank"].(int))
		}},
		{"steps", search.Maximize, sampler.TPE{}, []space.Param{
			{Name: "dropout", High: 0.5, Step: 0.1},
			{Name: "blocks", Kind: space.Int, Low: 2, High: 12, Step: 2},
			{Name: "fine", Kind: space.Int, Low: 0, High: 98},
			{Name: "finer", Low: -1, High: 1, Step: 0.001},
		}, func(p map[string]any) float64 {
			return -p["dropout"].(float64) - math.Abs(float64(p["blocks"].(int))-6)/10 - math.Abs(float64(p["fine"].(int))-33)/50
		}},
		{"choices", search.Minimize, sampler.Random{}, []space.Param{
			{Name: "alpha", Kind: space.Choice, Choices: []any{4, 8.5, "a \"quoted\" word", true, nil}},
			{Name: "targets", Kind: space.Choice, Choices: []any{[]any{"query", "value"}, []any{"query"}}},
			{Name: "µ/größe", Low: 0, High: 1},
		}, func(p map[string]any) float64 {
			v := p["µ/größe"].(float64)
			if p["alpha"] == true {
				v -= 0.5
			}
			return v
		}},
		{"conditions", search.Minimize, sampler.TPE{}, []space.Param{
			{Name: "variant", Kind: space.Choice, Choices: []any{"lora", "block", "full"}},
			{Name: "lr", Low: 1e-5, High: 1e-1, Log: true},
			{Name: "rank", Kind: space.Int, Low: 2, High: 64, Log: true, When: when("lora")},
			{Name: "dropout", High: 0.5, Step: 0.1, When: when("lora")},
			{Name: "blocks", Kind: space.Int, Low: 1, High: 12, When: when("block")},
			{Name: "scale", Low: 0.01, High: 10, Log: true, When: when("block", "full")},
		}, func(p map[string]any) float64 {
			v := math.Abs(math.Log10(p["lr"].(float64)) + 3)
			switch p["variant"] {
			case "lora":
				v += math.Abs(math.Log2(float64(p["rank"].(int)))-4) + p["dropout"].(float64)
			case "block":
				v += math.Abs(float64(p["blocks"].(int)) - 8)
			default:
				v += 0.5
			}
			return v
		}},
		{"ties", search.Minimize, sampler.Random{}, []space.Param{
			{Name: "a", Kind: space.Int, Low: 0, High: 3}, {Name: "b", Low: 0, High: 1},
		}, func(p map[string]any) float64 { return float64(p["a"].(int)) }},
	} {
		s, err := space.New(c.params...)
		if err != nil {
			t.Fatal(err)
		}
		study := optunalog.Study{Name: c.name, Direction: c.d, Space: s, Metric: "dice/mean", Attrs: map[string]any{"file": "search.cue", "seed": 1}}
		var seen []search.Trial
		r := rng.New(uint64(i), "states")
		start := time.Date(2026, 11, 27, 20, 7, 0, 0, time.UTC)
		for n := range 120 {
			p, err := c.s.Ask(sampler.Ask{Seed: uint64(i), Number: n, Space: s, Direction: c.d, Seen: seen})
			if err != nil {
				t.Fatal(err)
			}
			trial := optunalog.Trial{
				Trial:  search.Trial{Number: n, Point: p, State: search.Complete, Step: 9, Value: c.f(s.Decode(p))},
				Values: map[int]float64{3: 0.5, 6: math.NaN()}, Start: start.Add(time.Duration(n) * time.Minute), End: start.Add(time.Duration(n+1) * time.Minute),
				Attrs: map[string]any{"run": fmt.Sprint("r", n)},
			}
			switch u := r.Float64(); {
			case u < 0.08:
				trial.State = search.Pruned
			case u < 0.16:
				trial.State = search.Paused
			case u < 0.22:
				trial.State = search.Failed
			case u < 0.27:
				trial.State = search.Running
			case u < 0.29:
				trial.Value = math.NaN()
			case u < 0.31:
				trial.Value = math.Inf(1)
			case u < 0.33:
				trial.Value = math.Inf(-1)
			}
			study.Trials = append(study.Trials, trial)
			seen = append(seen, trial.Trial)
		}
		all = append(all, study)
	}
	return all
}

// optunaReads is what testdata/read.py prints of a study.
type optunaReads struct {
	Direction  string             `json:"direction"`
	Metric     string             `json:"metric"`
	Attrs      map[string]any     `json:"attrs"`
	Best       float64            `json:"best"`
	Number     int                `json:"number"`
	Params     map[string]any     `json:"params"`
	States     map[string]int     `json:"states"`
	Steps      int                `json:"steps"`
	Importance map[string]float64 `json:"importance"`
	Continues  bool               `json:"continues"`
}

// The best trial, the number of trials by state and the importance are the same
// here and in Optuna 5.0: in what it read when testdata/optuna.json was recorded
// and, with $LORALAB_OPTUNA, in what that Python reads now.
func TestOptunaReadsTheSame(t *testing.T) {
	all := studies(t)
	output := recorded
	if python := os.Getenv("LORALAB_OPTUNA"); python != "" {
		dir := t.TempDir()
		arguments := []string{"testdata/read.py"}
		for _, s := range all {
			path := filepath.Join(dir, s.Name+".log")
			var b bytes.Buffer
			if err := optunalog.Write(&b, s); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
			arguments = append(arguments, path)
		}
		command := exec.Command(python, arguments...)
		command.Stderr = os.Stderr
		var err error
		if output, err = command.Output(); err != nil {
			t.Fatal(err)
		}
		if os.Getenv("LORALAB_UPDATE") != "" {
			if err := os.WriteFile("testdata/optuna.json", output, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	var theirs map[string]optunaReads
	if err := json.Unmarshal(output, &theirs); err != nil {
		t.Fatal(err)
	}
	if len(theirs) != len(all) {
		t.Fatalf("Optuna read %d studies of %d", len(theirs), len(all))
	}
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(b)) }
	for _, s := range all {
		r := theirs[s.Name]
		states := map[string]int{}
		steps := 0
		var seen []search.Trial
		for _, trial := range s.Trials {
			seen = append(seen, trial.Trial)
			name := map[search.State]string{
				search.Running: "RUNNING", search.Complete: "COMPLETE", search.Paused: "PRUNED", search.Pruned: "PRUNED", search.Failed: "FAIL",
			}[trial.State]
			if trial.State == search.Complete && !trial.Counts(s.Direction) {
				name = "FAIL"
			}
			states[name]++
			steps++ // step 3; step 6 is not finite
			if name == "PRUNED" {
				steps++ // the last step has the value
			}
		}
		direction := map[search.Direction]string{search.Minimize: "MINIMIZE", search.Maximize: "MAXIMIZE"}[s.Direction]
		if r.Direction != direction || r.Metric != s.Metric || r.Steps != steps || r.Attrs["file"] != "search.cue" || !r.Continues {
			t.Errorf("%s: Optuna reads %+v", s.Name, r)
		}
		if !maps.Equal(r.States, states) {
			t.Errorf("%s: Optuna reads states %v, want %v", s.Name, r.States, states)
		}
		best, _ := search.Best(s.Direction, seen)
		if !near(r.Best, best.Value) || r.Number != best.Number {
			t.Errorf("%s: Optuna's best is trial %d with %v, want %d with %v", s.Name, r.Number, r.Best, best.Number, best.Value)
		}
		params := s.Space.Decode(best.Point)
		if len(params) != len(r.Params) {
			t.Errorf("%s: Optuna's best parameters are %v, want %v", s.Name, r.Params, params)
		}
		for name, want := range params {
			got := r.Params[name]
			switch w := want.(type) {
			case float64:
				if g, ok := got.(float64); !ok || !near(g, w) {
					t.Errorf("%s: Optuna's %s is %v, want %v", s.Name, name, got, want)
				}
			case int:
				if got != float64(w) {
					t.Errorf("%s: Optuna's %s is %v, want %v", s.Name, name, got, want)
				}
			case []any:
				if text, _ := json.Marshal(w); got != string(text) {
					t.Errorf("%s: Optuna's %s is %v, want %s", s.Name, name, got, text)
				}
			default:
				if got != want {
					t.Errorf("%s: Optuna's %s is %v, want %v", s.Name, name, got, want)
				}
			}
		}
		shares, err := importance.Of(s.Space, s.Direction, seen)
		if err != nil {
			t.Fatal(err)
		}
		if len(shares) != len(r.Importance) {
			t.Errorf("%s: Optuna has %d importances, want %d", s.Name, len(r.Importance), len(shares))
		}
		for _, share := range shares {
			if x, ok := r.Importance[share.Param]; !ok || math.Abs(x-share.Value) > 1e-9 {
				t.Errorf("%s: the importance of %s is %v, and %v in Optuna", s.Name, share.Param, share.Value, x)
			}
		}
		t.Logf("%s: %v, %v", s.Name, r.States, shares)
	}
}

func TestWrittenStudiesAreRead(t *testing.T) {
	for _, s := range studies(t) {
		var b bytes.Buffer
		if err := optunalog.Write(&b, s); err != nil {
			t.Fatal(err)
		}
		records, err := optunalog.Read(&b)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) != 1 || records[0].Name != s.Name || records[0].Direction != s.Direction || records[0].Metric != s.Metric || len(records[0].Trials) != len(s.Trials) {
			t.Fatalf("%+v", records)
		}
		for i, got := range records[0].Trials {
			want := s.Trials[i]
			state, value := want.State, want.Value
			if state == search.Paused {
				state = search.Pruned
			}
			if state == search.Complete && !want.Counts(s.Direction) {
				state = search.Failed
			}
			if state == search.Running || state == search.Failed {
				value = math.NaN()
			}
			if got.Number != i || got.State != state || fmt.Sprint(got.Value) != fmt.Sprint(value) || got.Values[3] != 0.5 {
				t.Errorf("%s: got %+v, want %+v", s.Name, got, want)
			}
			if _, list := s.Space.Decode(want.Point)["targets"]; list {
				continue // a list is written as its text
			}
			p, err := s.Space.Encode(got.Params)
			if err != nil || !p.Equal(want.Point) {
				t.Errorf("%s: got %v, want %v: %v", s.Name, p, want.Point, err)
			}
		}
	}
}

// As Optuna writes it: a trial over several operations, words that JSON does not
// have, and what it ignores.
func TestOptunasOwnJournals(t *testing.T) {
	records, err := optunalog.Read(strings.NewReader(`{"op_code": 0, "worker_id": "w", "study_name": "deleted", "directions": [1]}
{"op_code": 4, "worker_id": "w", "study_id": 0, "datetime_start": "2026-11-28T14:00:00.000000+00:00"}
{"op_code": 1, "worker_id": "w", "study_id": 0}
{"op_code": 0, "worker_id": "w", "study_name": "NaN \"s\"", "directions": [2]}
{"op_code": 0, "worker_id": "w", "study_name": "NaN \"s\"", "directions": [1]}
{"op_code": 2, "worker_id": "w", "study_id": 1, "user_attr": {"NaN": NaN}}
{"op_code": 4, "worker_id": "w", "study_id": 1, "datetime_start": "2026-11-28T14:00:00.000000+00:00"}
{"op_code": 5, "worker_id": "w", "trial_id": 1, "param_name": "lr", "param_value_internal": 0.01, "distribution": "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 1e-05, \"high\": 0.1, \"log\": true}}"}
{"op_code": 5, "worker_id": "w", "trial_id": 1, "param_name": "rank", "param_value_internal": 8.0, "distribution": "{\"name\": \"IntDistribution\", \"attributes\": {\"log\": false, \"step\": 1, \"low\": 2, \"high\": 64}}"}
{"op_code": 5, "worker_id": "w", "trial_id": 1, "param_name": "v", "param_value_internal": 2, "distribution": "{\"name\": \"CategoricalDistribution\", \"attributes\": {\"choices\": [\"a\", 1.5, 4, null]}}"}
{"op_code": 7, "worker_id": "w", "trial_id": 1, "step": 3, "intermediate_value": -Infinity}
{"op_code": 6, "worker_id": "w", "trial_id": 1, "state": 1, "values": [0.75], "datetime_complete": "2026-11-28T14:00:01.000000+00:00"}
{"op_code": 6, "worker_id": "w", "trial_id": 1, "state": 3, "values": null, "datetime_complete": "2026-11-28T14:00:02.000000+00:00"}
{"op_code": 4, "worker_id": "w", "study_id": 1, "datetime_start": null, "state": 4, "value": null}
{"op_code": 4, "worker_id": "w", "study_id": 1, "datetime_start": "2026-11-28T14:00:00.000000+00:00", "state": 1, "value": NaN}
{"op_code": 10, "worker_id": "w", "study_id": 1}
{"op_code": 4, "worker_id": "w", "study_id": 1, "datetime_st`))
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1 || records[0].Name != `NaN "s"` || records[0].Direction != search.Maximize || len(records[0].Trials) != 3 {
		t.Fatalf("%+v", records)
	}
	first := records[0].Trials[0]
	if !reflect.DeepEqual(first.Params, map[string]any{"lr": 0.01, "rank": 8, "v": 4}) || first.Value != 0.75 || first.State != search.Complete || !math.IsInf(first.Values[3], -1) {
		t.Errorf("%+v", first)
	}
	if s := []search.State{records[0].Trials[1].State, records[0].Trials[2].State}; !slices.Equal(s, []search.State{search.Running, search.Failed}) {
		t.Error(s)
	}
}

func TestFaultsOfJournals(t *testing.T) {
	for want, text := range map[string]string{
		"line 1: it is not an operation of Optuna's journal":                   "hello\n",
		"line 1: it is not an operation of Optuna's journal: it has no op":     "{}\n",
		"line 2: operation 77 is not one of Optuna's journal":                  "{\"op_code\": 2}\n{\"op_code\": 77}\n",
		`line 1: study "a" has 2 objectives; only studies with one`:            "{\"op_code\": 0, \"study_name\": \"a\", \"directions\": [1, 2]}\n",
		`line 2: parameter "x" has choice 5 of 1`:                              study + `"params": {"x": 5}, "distributions": {"x": "{\"name\": \"CategoricalDistribution\", \"attributes\": {\"choices\": [1]}}"}}` + "\n",
		`line 2: parameter "x" has no distribution that can be read`:           study + `"params": {"x": 5}}` + "\n",
		`line 2: "first" is no step`:                                           study + `"intermediate_values": {"first": 5}}` + "\n",
		`line 2: state 9 is not one of Optuna's`:                               study + `"state": 9}` + "\n",
		"line 1: it has more than 16 MB":                                       strings.Repeat("x", optunalog.MaxLine+1),
		`line 2: it is not an operation of Optuna's journal: "a" is no number`: study + `"value": "a"}` + "\n",
	} {
		if _, err := optunalog.Read(strings.NewReader(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

const study = `{"op_code": 0, "study_name": "a", "directions": [1]}` + "\n" + `{"op_code": 4, "study_id": 0, `

func TestImportanceNeedsTrials(t *testing.T) {
	s := studies(t)[0]
	var seen []search.Trial
	complete := 0
	for _, trial := range s.Trials {
		if trial.State == search.Complete && trial.Counts(s.Direction) {
			complete++
		}
		if complete == importance.Least {
			break
		}
		seen = append(seen, trial.Trial)
	}
	_, err := importance.Of(s.Space, s.Direction, seen)
	var few *importance.FewError
	if !errors.As(err, &few) || err.Error() != "importance needs 50 complete trials, and there are 49" {
		t.Error(err)
	}
}

// The whole text of a small study, as Optuna 5.0 reads it.
func TestLinesOfAJournal(t *testing.T) {
	s, err := space.New(
		space.Param{Name: "variant", Kind: space.Choice, Choices: []any{"lora", 4, nil, true}},
		space.Param{Name: "lr", Low: 1e-5, High: 0.1, Log: true},
		space.Param{Name: "dropout", High: 0.5, Step: 0.1},
		space.Param{Name: "rank", Kind: space.Int, Low: 2, High: 12, Step: 2, When: []space.Condition{{Param: "variant", Values: []any{"lora"}}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	point, err := s.Encode(map[string]any{"variant": "lora", "lr": 0.001, "dropout": 0.3, "rank": 4})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 27, 20, 7, 0, 0, time.FixedZone("", 3600))
	var b bytes.Buffer
	err = optunalog.Write(&b, optunalog.Study{
		Name: "search_lora", Direction: search.Maximize, Space: s, Metric: "dice/mean", Attrs: map[string]any{"file": "search.cue"},
		Trials: []optunalog.Trial{
			{Trial: search.Trial{Number: 1, Point: point, State: search.Complete, Value: math.NaN()}, Start: at, End: at.Add(time.Minute)},
			{Trial: search.Trial{Number: 0, Point: point, State: search.Complete, Value: 0.81}, Start: at, End: at.Add(time.Minute), Values: map[int]float64{1: 0.5, 2: math.Inf(1)}, Attrs: map[string]any{"run": "<r07>"}},
			{Trial: search.Trial{Number: 2, Point: point, State: search.Paused, Step: 3, Value: 0.7}, Start: at},
			{Trial: search.Trial{Number: 3, Point: point, State: search.Running}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	distributions := strings.NewReplacer("DISTRIBUTIONS", `"distributions":{`+
		`"dropout":"{\"name\":\"FloatDistribution\",\"attributes\":{\"high\":0.5,\"log\":false,\"low\":0,\"step\":0.1}}",`+
		`"lr":"{\"name\":\"FloatDistribution\",\"attributes\":{\"high\":0.1,\"log\":true,\"low\":0.00001,\"step\":null}}",`+
		`"rank":"{\"name\":\"IntDistribution\",\"attributes\":{\"high\":12,\"log\":false,\"low\":2,\"step\":2}}",`+
		`"variant":"{\"name\":\"CategoricalDistribution\",\"attributes\":{\"choices\":[\"lora\",4,null,true]}}"},`+
		`"params":{"dropout":0.3,"lr":0.001,"rank":4,"variant":0}`)
	want := distributions.Replace(`{"directions":[2],"op_code":0,"study_name":"search_lora","worker_id":"loralab"}
{"op_code":2,"study_id":0,"user_attr":{"file":"search.cue"},"worker_id":"loralab"}
{"op_code":3,"study_id":0,"system_attr":{"study:metric_names":["dice/mean"]},"worker_id":"loralab"}
{"op_code":4,"worker_id":"loralab","study_id":0,"datetime_start":"2026-11-27T19:07:00.000000+00:00","datetime_complete":"2026-11-27T19:08:00.000000+00:00","state":1,"value":0.81,"values":null,DISTRIBUTIONS,"user_attrs":{"run":"<r07>"},"system_attrs":{},"intermediate_values":{"1":0.5}}
{"op_code":4,"worker_id":"loralab","study_id":0,"datetime_start":"2026-11-27T19:07:00.000000+00:00","datetime_complete":"2026-11-27T19:08:00.000000+00:00","state":3,"value":null,"values":null,DISTRIBUTIONS,"user_attrs":{},"system_attrs":{},"intermediate_values":{}}
{"op_code":4,"worker_id":"loralab","study_id":0,"datetime_start":"2026-11-27T19:07:00.000000+00:00","datetime_complete":"2026-11-27T19:07:00.000000+00:00","state":2,"value":0.7,"values":null,DISTRIBUTIONS,"user_attrs":{},"system_attrs":{},"intermediate_values":{"3":0.7}}
{"op_code":4,"worker_id":"loralab","study_id":0,"datetime_start":"1970-01-01T00:00:00.000000+00:00","state":0,"value":null,"values":null,DISTRIBUTIONS,"user_attrs":{},"system_attrs":{},"intermediate_values":{}}
`)
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestStudiesShareAFile(t *testing.T) {
	all := studies(t)
	var b bytes.Buffer
	if err := optunalog.Write(&b, all...); err != nil {
		t.Fatal(err)
	}
	records, err := optunalog.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != len(all) {
		t.Fatalf("got %d studies, want %d", len(records), len(all))
	}
	for i, s := range all {
		if records[i].Name != s.Name || len(records[i].Trials) != len(s.Trials) || records[i].Trials[0].Number != 0 {
			t.Errorf("study %d: got %s with %d trials, want %s with %d", i, records[i].Name, len(records[i].Trials), s.Name, len(s.Trials))
		}
	}
}
