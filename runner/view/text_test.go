package view

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/plugintest"
)

// hostile has what a terminal takes for orders, in 7 and in 8 bits, a line that
// looks like one of ours, and bytes that are no UTF-8.
const hostile = "a\x1b]0;owned\x07\x1b[38;5;123m\x1b[2J\u009b8mb\nerror: fake\r\tc\u202ed\xffe\x7f0123456789012345678901234567890123456789012345678901234567890123"

// filler makes values whose texts are all hostile.
type filler struct {
	yes   bool // of every bool
	proto bool // within a message, whose texts are UTF-8 or it cannot be read
	depth int
}

func (f filler) fill(v reflect.Value) {
	if f.depth > 12 {
		return
	}
	f.depth++
	switch v.Interface().(type) {
	case time.Time:
		return
	case json.RawMessage:
		text, _ := json.Marshal(hostile)
		v.SetBytes(text)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(hostile)
		if f.proto {
			v.SetString(strings.ToValidUTF8(hostile, ""))
		}
	case reflect.Bool:
		v.SetBool(f.yes)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		_, message := v.Interface().(proto.Message)
		f.proto = f.proto || message
		f.fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				f.fill(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(hostile))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		f.fill(v.Index(0))
		f.fill(v.Index(1))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		f.fill(key)
		f.fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Interface:
		for _, value := range []any{errors.New(hostile), hostile} {
			if reflect.TypeOf(value).AssignableTo(v.Type()) {
				v.Set(reflect.ValueOf(value))
				return
			}
		}
	}
}

// own are the orders that a view gives itself.
var own = regexp.MustCompile(`\x1b\[([0-9]|[1-9][0-9])?(;[0-9]+)?[mAGJK]`)

// checkShown fails where what was sent to a terminal has anything of the hostile
// text but as text.
func checkShown(t *testing.T, what, sent string) {
	t.Helper()
	rest := own.ReplaceAllString(strings.ReplaceAll(sent, "\x1b[38;5;123m", "\x1b"), "")
	for _, r := range rest {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u202e' {
			t.Errorf("%s sends %q:\n%q", what, r, rest)
			return
		}
	}
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "error: fake") {
			t.Errorf("%s lets a line through:\n%s", what, rest)
			return
		}
	}
}

// Nothing that a view is given reaches the terminal but as text, whichever field it
// is in (trial-reliability 26, trial-plugins F8).
func TestHostileText(t *testing.T) {
	// These are not for values of any kind.
	leftOut := map[string]string{
		"Progress": "below", "ProgressToError": "has no arguments", "Reading": "has no arguments", "Counting": "below", "Raw": "below", "Log": "below",
		"Say": "below", "Aside": "below", "Program": "below", "ProgramJSON": "JSON", "Schema": "shows a file as it is", "Picture": "below", "Predicted": "below", "PredictedJSON": "below",
	}
	for _, width := range []int{0, 60} {
		for _, yes := range []bool{false, true} {
			kind := reflect.TypeFor[*View]()
			for i := range kind.NumMethod() {
				method := kind.Method(i)
				if leftOut[method.Name] != "" {
					continue
				}
				v, out := terminal(width)
				args := []reflect.Value{reflect.ValueOf(v)}
				for j := 1; j < method.Type.NumIn(); j++ {
					arg := reflect.New(method.Type.In(j)).Elem()
					filler{yes: yes}.fill(arg)
					args = append(args, arg)
				}
				t.Run(fmt.Sprintf("%s/%d/%v", method.Name, width, yes), func(t *testing.T) {
					call := method.Func.Call
					if method.Type.IsVariadic() {
						call = method.Func.CallSlice
					}
					for _, result := range call(args) {
						if err, ok := result.Interface().(error); ok && err != nil {
							t.Errorf("%s: %v", method.Name, err)
						}
					}
					if out.Len() == 0 && method.Name != "Verdict" {
						t.Logf("%s shows nothing", method.Name)
					}
					checkShown(t, method.Name, out.String())
				})
			}
		}
	}

	v, out := terminal(60)
	check := func(what string) {
		t.Helper()
		checkShown(t, what, out.String())
		out.Reset()
	}
	v.Say("%s %v %s", hostile, errors.New(hostile), []byte(hostile))
	v.Aside("%s", v.bold.Render(hostile))
	check("Say")
	if err := v.Raw(strings.NewReader("\x1b[38;5;123m a\tb\r\n漢")); err != nil {
		t.Error(err)
	}
	check("Raw")
	v.live = true
	count := v.Counting()
	count(hostile, 0, 2)
	count(hostile, 2, 2)
	check("Counting")
	v.Log(hostile, []byte(hostile))
	v.Log("", []byte(`{"type": "note", "text": "a\u001b[38;5;123m\u009b\nerror: fake"}`))
	v.Log("", []byte(`{"type": "failed", "reason": "\nerror: fake"}`))
	v.Log("", []byte(`{"type": "evaluated", "domain": "\nerror: fake"}`))
	check("Log")
	typed := &program.Typed{Program: &protocol.Program{Params: []*protocol.Param{{Name: hostile}}}, Warnings: []string{hostile}}
	v.Program(typed, nil, hostile)
	check("Program")
	v.Schema("\x1b[38;5;123m\u009b\n#Params: {}\n")
	check("Schema")
	predicted := Predicted{
		Run: hostile, Checkpoint: hostile, Directory: hostile, Classes: []string{hostile},
		Pictures: []Picture{
			{Image: hostile, Picture: &spec.Picture{}, Prediction: &spec.Prediction{Width: 1, Height: 1, Pixels: []uint64{1}}},
			{Image: hostile, Picture: &spec.Picture{}, Prediction: &spec.Prediction{Failure: hostile}},
		},
	}
	for _, one := range predicted.Pictures {
		v.Picture(predicted.Classes, one)
	}
	v.Predicted(predicted)
	if err := v.PredictedJSON(predicted); err != nil {
		t.Error(err)
	}
	check("Predicted")
}

// The same of runs as they go.
func TestHostileProgress(t *testing.T) {
	for _, width := range []int{0, 60} {
		v, out := terminal(width)
		j := job(hostile)
		j.Run.Experiment = hostile
		p := v.Progress([]*launch.Job{j}, nil, map[string]string{hostile: hostile})
		tell := func(e launch.Event) {
			e.Job = j
			p.Watch(e)
			checkShown(t, fmt.Sprintf("%+v", e), out.String())
			out.Reset()
		}
		for _, field := range []string{"Start", "Engine", "Wait", "Retry"} {
			e := launch.Event{}
			filler{}.fill(reflect.ValueOf(&e).Elem().FieldByName(field))
			tell(e)
		}
		events := (&spec.Event{}).ProtoReflect().Descriptor().Fields()
		for i := range events.Len() {
			m := (&spec.Event{}).ProtoReflect()
			value := m.Mutable(events.Get(i)).Message().Interface()
			filler{yes: true, proto: true}.fill(reflect.ValueOf(value).Elem())
			tell(launch.Event{Event: m.Interface().(*spec.Event)})
		}
		for outcome := launch.Finished; outcome <= launch.Paused; outcome++ {
			e := launch.Event{}
			filler{}.fill(reflect.ValueOf(&e).Elem().FieldByName("End"))
			e.End.Outcome = outcome
			tell(e)
		}
		e := launch.Event{}
		filler{}.fill(reflect.ValueOf(&e).Elem().FieldByName("Slot"))
		tell(e)
		p.Note(hostile)
		p.Close()
		checkShown(t, "Note", out.String())
	}
}

// What a check of the suite found is of a plug-in.
func TestHostileChecks(t *testing.T) {
	v, out := terminal(0)
	for _, c := range []plugintest.Check{{LeftOut: hostile}, {Note: hostile}, {Faults: []plugintest.Fault{{Expected: hostile, Found: hostile, Reproduce: hostile}}}} {
		c.Name, c.About = hostile, hostile
		v.Tried(c)
	}
	checkShown(t, "Tried", out.String())
}

// Our own orders arrive as they are, and nobody else's do.
func TestOrders(t *testing.T) {
	v, out := terminal(40)
	v.Say("%s %s %s", v.bad.Render("red"), v.bold.Render(v.dim.Render("both")), "\x1b[31mnot\x1b[0m")
	if got, want := out.String(), "\x1b[1;31mred\x1b[0m \x1b[1m\x1b[2mboth\x1b[0m\x1b[0m \\x1b[31mnot\\x1b[0m\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	out.Reset()
	g := &guard{w: out}
	for _, b := range []byte("漢\x1b[1;" + "123m é\xff.") { // byte by byte
		if _, err := g.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(g, order("2", 'A')); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "漢\\x1b[1;123m é\\xff.\x1b[2A"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Views write through printf, or they would have to take care themselves.
func TestViewsPrintThroughOnePlace(t *testing.T) {
	files, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Clean(file))
		if err != nil {
			t.Fatal(err)
		}
		if file != "text.go" && !strings.HasSuffix(file, "_test.go") && bytes.Contains(text, []byte("fmt.Fprint")) {
			for i, line := range strings.Split(string(text), "\n") {
				if strings.Contains(line, "fmt.Fprint") && !strings.Contains(line, "fmt.Fprintf(&b") {
					t.Errorf("%s:%d: write with printf, printLine or Say: %s", file, i+1, line)
				}
			}
		}
	}
}

// A row of a table is its first cell and, below, the others.
func TestTablesOfTopics(t *testing.T) {
	var out bytes.Buffer
	v := &View{out: &out}
	v.Markdown("# Data\n\n## Layouts\n\n| layout | classes | ignored |\n|---|---|---|\n| `voc` | 21 | 255, borders |\n| `ade20k` | 150 | |\n\nText.\n\n| | |\n|---|---|\n| `a`, `b` | each step |\n")
	want := "Data\n\nLayouts\n\n  `voc`\n      classes: 21; ignored: 255, borders\n  `ade20k`\n      classes: 150\n\n  Text.\n\n  `a`, `b`\n      each step\n"
	if out.String() != want {
		t.Errorf("it shows\n%s\nwant\n%s", out.String(), want)
	}
}
