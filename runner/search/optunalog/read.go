package optunalog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/loralab/loralab/runner/search"
)

// Record is a study that was read.
type Record struct {
	Name      string
	Direction search.Direction
	Metric    string
	Trials    []RecordedTrial
}

// RecordedTrial is a trial that was read. Its parameters may be of any space:
// [github.com/loralab/loralab/runner/search/space.Space.Encode] says whether they
// are of a given one.
type RecordedTrial struct {
	Number int
	// State is Running for a trial that waits, too, and Failed for a complete one
	// without a finite value.
	State search.State
	// Value is the objective: of complete and pruned trials, otherwise NaN.
	Value float64
	// Params are float64, int, or a choice as JSON has it.
	Params map[string]any
	// Values are those of the objective by step.
	Values map[int]float64
}

// MaxLine is the most bytes that a line may have.
const MaxLine = 16 << 20

// Read reads all studies of a journal, also one that Optuna wrote. An error
// names the line. A last line without its end, which a process that was killed
// leaves, is not read.
func Read(r io.Reader) ([]Record, error) {
	j := &journal{studies: map[int]*Record{}}
	b := bufio.NewReaderSize(r, 1<<16)
	for n := 1; ; n++ {
		line, err := readLine(b)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = j.apply(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	var all []Record
	for id := range j.next {
		if s, ok := j.studies[id]; ok {
			all = append(all, *s)
		}
	}
	return all, nil
}

func readLine(b *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := b.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > MaxLine {
			return nil, fmt.Errorf("it has more than %d MB", MaxLine>>20)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// journal is what the lines up to one have made.
type journal struct {
	next    int // number of the next study
	studies map[int]*Record
	trials  []place // by Optuna's number over all studies
}

// place is where a trial is.
type place struct{ study, trial int }

// entry has the fields of all operations.
type entry struct {
	Op            *int                       `json:"op_code"`
	Study         int                        `json:"study_id"`
	Trial         int                        `json:"trial_id"`
	StudyName     string                     `json:"study_name"`
	Directions    []int                      `json:"directions"`
	SystemAttr    map[string]json.RawMessage `json:"system_attr"`
	State         *int                       `json:"state"`
	Value         *number                    `json:"value"`
	Values        []number                   `json:"values"`
	Distributions map[string]string          `json:"distributions"`
	Params        map[string]number          `json:"params"`
	Steps         map[string]number          `json:"intermediate_values"`
	Param         string                     `json:"param_name"`
	ParamValue    number                     `json:"param_value_internal"`
	Distribution  string                     `json:"distribution"`
	Step          int                        `json:"step"`
	StepValue     number                     `json:"intermediate_value"`
}

// number is a number of Python's JSON, which may be NaN or infinite.
type number float64

func (n *number) UnmarshalJSON(text []byte) error {
	x, err := strconv.ParseFloat(strings.Trim(string(text), `"`), 64)
	if err != nil {
		return fmt.Errorf("%s is no number", text)
	}
	*n = number(x)
	return nil
}

// quote puts Python's NaN, Infinity and -Infinity into quotes.
func quote(line []byte) []byte {
	if !bytes.Contains(line, []byte("NaN")) && !bytes.Contains(line, []byte("Infinity")) {
		return line
	}
	var out []byte
	inside := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case inside && c == '\\' && i+1 < len(line):
			out = append(out, c)
			i++
			c = line[i]
		case c == '"':
			inside = !inside
		case !inside:
			found := false
			for _, word := range []string{"NaN", "-Infinity", "Infinity"} {
				if bytes.HasPrefix(line[i:], []byte(word)) {
					out = append(out, `"`+word+`"`...)
					i += len(word) - 1
					found = true
					break
				}
			}
			if found {
				continue
			}
		}
		out = append(out, c)
	}
	return out
}

func (j *journal) apply(line []byte) error {
	var e entry
	if err := json.Unmarshal(quote(line), &e); err != nil {
		return fmt.Errorf("it is not an operation of Optuna's journal: %w", err)
	}
	if e.Op == nil {
		return errors.New("it is not an operation of Optuna's journal: it has no op_code")
	}
	switch *e.Op {
	case createStudy:
		if len(e.Directions) != 1 {
			return fmt.Errorf("study %q has %d objectives; only studies with one can be read", e.StudyName, len(e.Directions))
		}
		for _, s := range j.studies {
			if s.Name == e.StudyName {
				return nil // Optuna ignores the second
			}
		}
		s := &Record{Name: e.StudyName}
		if e.Directions[0] == maximize {
			s.Direction = search.Maximize
		}
		j.studies[j.next] = s
		j.next++
	case deleteStudy:
		delete(j.studies, e.Study)
	case studySystemAttr:
		var names []string
		if s := j.studies[e.Study]; s != nil && json.Unmarshal(e.SystemAttr[metricNames], &names) == nil && len(names) == 1 {
			s.Metric = names[0]
		}
	case createTrial:
		s := j.studies[e.Study]
		if s == nil {
			return nil
		}
		t := RecordedTrial{Number: len(s.Trials), Value: math.NaN(), Params: map[string]any{}, Values: map[int]float64{}}
		for name, x := range e.Params {
			if err := t.set(name, x, e.Distributions[name]); err != nil {
				return err
			}
		}
		for text, x := range e.Steps {
			step, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("%q is no step", text)
			}
			t.Values[step] = float64(x)
		}
		if e.Value != nil {
			t.Value = float64(*e.Value)
		}
		if err := t.end(e); err != nil {
			return err
		}
		j.trials = append(j.trials, place{e.Study, len(s.Trials)})
		s.Trials = append(s.Trials, t)
	case setParam, setState, setValue:
		if e.Trial < 0 || e.Trial >= len(j.trials) {
			return nil
		}
		at := j.trials[e.Trial]
		s := j.studies[at.study]
		if s == nil || s.Trials[at.trial].State != search.Running {
			return nil // Optuna ignores changes of what has ended
		}
		t := &s.Trials[at.trial]
		switch *e.Op {
		case setParam:
			return t.set(e.Param, e.ParamValue, e.Distribution)
		case setValue:
			t.Values[e.Step] = float64(e.StepValue)
		case setState:
			return t.end(e)
		}
	case studyAttr, setTrialAttr, setTrialSystemAttr, discardTrials:
	default:
		return fmt.Errorf("operation %d is not one of Optuna's journal", *e.Op)
	}
	return nil
}

// set sets a parameter by its internal number.
func (t *RecordedTrial) set(name string, x number, text string) error {
	var d struct {
		Name       string `json:"name"`
		Type       string `json:"type"` // the short form
		Attributes struct {
			Choices []any `json:"choices"`
		} `json:"attributes"`
		Choices []any `json:"choices"`
	}
	decoder := json.NewDecoder(bytes.NewReader(quote([]byte(text))))
	decoder.UseNumber()
	if err := decoder.Decode(&d); err != nil {
		return fmt.Errorf("parameter %q has no distribution that can be read: %w", name, err)
	}
	choices := append(d.Attributes.Choices, d.Choices...)
	switch kind := strings.ToLower(d.Name + d.Type); {
	case strings.HasPrefix(kind, "categorical"):
		i := int(x)
		if i < 0 || i >= len(choices) || number(i) != x {
			return fmt.Errorf("parameter %q has choice %v of %d", name, x, len(choices))
		}
		t.Params[name] = choices[i]
		if n, ok := choices[i].(json.Number); ok {
			if whole, err := n.Int64(); err == nil {
				t.Params[name] = int(whole)
			} else if real, err := n.Float64(); err == nil {
				t.Params[name] = real
			}
		}
	case strings.HasPrefix(kind, "int"):
		t.Params[name] = int(x)
	default:
		t.Params[name] = float64(x)
	}
	return nil
}

// end sets the state, and the value that comes with it.
func (t *RecordedTrial) end(e entry) error {
	if len(e.Values) > 0 {
		t.Value = float64(e.Values[0])
	}
	if e.State == nil {
		return nil
	}
	switch *e.State {
	case running, waiting:
		t.State = search.Running
	case complete:
		t.State = search.Complete
		if !finite(t.Value) {
			t.State = search.Failed
		}
	case pruned:
		t.State = search.Pruned
	case failed:
		t.State = search.Failed
	default:
		return fmt.Errorf("state %d is not one of Optuna's", *e.State)
	}
	if t.State == search.Running || t.State == search.Failed {
		t.Value = math.NaN()
	}
	return nil
}
