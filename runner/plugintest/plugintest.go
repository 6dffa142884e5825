// Package plugintest tries a variant plug-in, anyone's, as `runner plugins
// test` does: it asks for what an author cannot see by training once.
//
// The checks stand in one list, in the order in which they build on each
// other. What a variant says of itself is held against what it does: the
// schema against parameters it has to refuse, the declared number of
// parameters against the programs, the settings of PEFT against themselves.
// Two processes are asked the same in different order, so that chance and
// memory show. The programs are then tried on random layers of three small
// backbones, one of them with prime widths, by the engine in fp64; the limits
// that its figures are held to stand here.
//
// Each check says what it expected, what it found, and a command that shows
// the place.
package plugintest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/variant"
)

// Options of a trial.
type Options struct {
	Name, Path string // of the variant and its file
	// Try is the engine's Conform. Without it the programs are not run, and
	// the checks that need it are left out.
	Try func(context.Context, *spec.ConformRequest) (*spec.ConformReply, error)
	// Sample is the engine's call of that name, and PEFT compares what it wrote
	// with PEFT. Without them that is left out.
	Sample func(context.Context, *spec.SampleRequest) error
	PEFT   func(dir string) (*Said, error)
	// Watch hears of each check when it is done; may be nil.
	Watch func(Check)

	StartTimeout, CallTimeout time.Duration // 0: those of package variant
	Quick                     time.Duration // longest answer for a ViT-B/16; 0: 5 s
}

// quickLimit is generous: who validates an experiment waits for each cell.
const quickLimit = 5 * time.Second

// Report is what a trial found.
type Report struct {
	Variant string  `json:"variant"`
	Version string  `json:"version"`
	Path    string  `json:"path"`
	Checks  []Check `json:"checks"`
	// Printed is what the plug-in has printed.
	Printed string `json:"printed,omitempty"`
}

// Failed reports whether any check found a fault.
func (r *Report) Failed() bool {
	for _, c := range r.Checks {
		if len(c.Faults) > 0 {
			return true
		}
	}
	return false
}

// Compared reports whether PEFT computed what the plug-in writes for it, and the
// same.
func (r *Report) Compared() bool {
	return slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Name == peftCheck && c.LeftOut == "" && len(c.Faults) == 0 })
}

// Check is one thing that was looked at. It passed if it has no faults and was
// not left out.
type Check struct {
	Name    string  `json:"name"`
	About   string  `json:"about"`              // what holds if it passes
	Faults  []Fault `json:"faults,omitempty"`   // a few of each kind
	LeftOut string  `json:"left_out,omitempty"` // why it was not tried
	Note    string  `json:"note,omitempty"`     // what a reader of a passed check may want to know
}

// Fault is where a plug-in falls short.
type Fault struct {
	Expected  string `json:"expected"`
	Found     string `json:"found"`
	Reproduce string `json:"reproduce,omitempty"` // a command
}

// check is a row of the list.
type check struct {
	name, about string
	engine      bool // needs Options.Try
	run         func(*trial)
}

const peftCheck = "PEFT"

// checks in order. One that could not go on ends the trial.
var checks = []check{
	{"start", "it starts, speaks the protocol and answers", false, (*trial).start},
	{"description", "it has a name, a version, a paper and a line about itself", false, (*trial).description},
	{"schema", "the schema of the parameters compiles", false, (*trial).schemaCompiles},
	{"closed", "the schema refuses what it does not know", false, (*trial).closed},
	{"documented", "every parameter is explained", false, (*trial).documented},
	{"bounded", "every whole number has a bound", false, (*trial).bounded},
	{"messages", "bounds refuse in words", false, (*trial).messages},
	{"examples", "the examples are accepted and build", false, (*trial).examples},
	{"sites", "layers of any kind and size are adapted, or refused in words", false, (*trial).sites},
	{"bad parameters", "parameters that skip the schema are an error, not a crash", false, (*trial).badParameters},
	{"deterministic", "the same parameters give the same programs, in any process and order", false, (*trial).deterministic},
	{"quick", "the programs of a ViT-B/16 come in a moment", false, (*trial).quick},
	{"unused", "every node and parameter of the programs is used", false, (*trial).unused},
	{"count", "the declared number of parameters is that of the programs", false, (*trial).count},
	{"PEFT file", "what is stored for PEFT is complete", false, (*trial).peft},
	{"runs", "the programs run, and all values and gradients are finite, from the first step on", true, (*trial).runs},
	{"no-op", "a fresh adapter leaves the layer as it is, or is declared to change it", true, (*trial).noOp},
	{"gradient", "gradients agree with finite differences", true, (*trial).gradient},
	{"all train", "every trainable parameter gets a gradient", true, (*trial).allTrain},
	{"moves", "in three steps of training every trainable parameter leaves its start", true, (*trial).moves},
	{"seeds", "a seed always gives the same start, another one another", true, (*trial).seeds},
	{"order", "the start of a layer does not depend on the other layers", true, (*trial).order},
	{"tokens", "the output of a token does not depend on other tokens", true, (*trial).tokens},
	{"merge", "an adapter that can be merged is, to rounding", true, (*trial).merge},
	{"save", "what is saved and read again gives the same output", true, (*trial).save},
	{peftCheck, "PEFT computes the same from an export", true, (*trial).computedByPEFT},
}

// trial is what the checks have learnt so far.
type trial struct {
	Options
	ctx    context.Context
	now    *Check
	ended  string // why nothing further can be tried
	first  *variant.Registry
	second *variant.Registry // another process

	about  *protocol.DescribeReply
	schema *variant.Schema
	built  []*built
	broken *breakdown // in the middle of the examples
	ran    []*ran
}

// Run tries a plug-in. Its error is that of ctx or of the engine; whatever the
// plug-in does is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Quick == 0 {
		o.Quick = quickLimit
	}
	t := &trial{Options: o, ctx: ctx}
	open := func() *variant.Registry {
		return variant.Open(variant.Options{
			Dirs: []string{}, Dev: map[string]string{o.Name: o.Path},
			StartTimeout: o.StartTimeout, CallTimeout: o.CallTimeout,
		})
	}
	t.first, t.second = open(), open()
	defer t.first.Close()
	defer t.second.Close()

	report := &Report{Variant: o.Name, Path: o.Path}
	for _, c := range checks {
		t.now = &Check{Name: c.name, About: c.about}
		switch {
		case t.ended != "":
			t.now.LeftOut = t.ended
		case c.engine && o.Try == nil:
			t.now.LeftOut = "there is no engine to run programs with"
		default:
			c.run(t)
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("trying variant %s: %w", o.Name, err)
		}
		report.Version = t.about.GetVersion()
		report.Checks = append(report.Checks, *t.now)
		if o.Watch != nil {
			o.Watch(*t.now)
		}
	}
	t.first.Close()
	report.Printed = t.first.Printed()
	return report, nil
}

const mostFaults = 3 // of a check; more say the same

// fault notes what the check in progress found. reproduce is arguments of
// `runner plugins`, or "".
func (t *trial) fault(reproduce, expected, format string, args ...any) {
	if len(t.now.Faults) == mostFaults {
		return
	}
	f := Fault{Expected: expected, Found: fmt.Sprintf(format, args...)}
	if reproduce != "" {
		f.Reproduce = "runner plugins " + reproduce
	}
	t.now.Faults = append(t.now.Faults, f)
}

// said is what an error of a plug-in says, without its name and with the lines of
// its stack only that say most: the first ones of Go's, the last ones of Python's.
func said(err error) string {
	var e *variant.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	text := e.Message
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Stack != "" {
		const most, mostOfPython = 4, 6
		lines := strings.Split(strings.TrimSpace(e.Stack), "\n")
		if slices.Contains(lines, "Traceback (most recent call last):") {
			lines = lines[max(0, len(lines)-mostOfPython):]
		} else {
			lines = lines[:min(most, len(lines))]
		}
		text += "\n" + strings.Join(lines, "\n")
	}
	return text
}

// end says that the checks that follow have nothing to go by.
func (t *trial) end(why string) { t.ended = why }

// crashed reports whether the plug-in broke down instead of answering.
func crashed(err error) bool {
	var e *variant.Error
	return errors.As(err, &e) && (e.Crashed || e.Doing == "start")
}
