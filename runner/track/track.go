// Package track shows runs in trackers of others: TensorBoard and Weights & Biases.
//
// A sink is such a tracker. A follower reads the directory of a run, which is the truth
// about it: the journal while the run trains, then result, evaluations and samples. It
// hands what is new to a session of a sink. A run that trains here, one that another
// process trained and one that was finished long ago are all read in this one way.
//
// A run that is killed and continues repeats the steps after its checkpoint, and the
// journal is cut back to it. A step reaches a sink once, in rising order: a session says
// which step it has last, from what the sink itself has kept, and the follower leaves out
// all up to that. Where repeated steps have other values, as on GPUs, the sink keeps
// those that came first, while the journal has those that the weights come from. A step
// is handed over when all of it is known: when the next step, or the end of the training,
// is in the directory. The last step of a run that failed or was stopped waits until the
// run continues.
//
// Sinks never hold up or fail a run: each run and sink has a goroutine of its own, which
// waits for nobody but the sink, and the directory is the buffer. What a sink did not
// take before the end, Push hands over later.
package track

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/samplesheet"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/store"
)

// Sink is a tracker.
type Sink interface {
	// Name is what people call it: "TensorBoard".
	Name() string
	// Open prepares to show a run. It writes nothing yet. The error is ErrHeld where
	// another process shows the run there.
	Open(ctx context.Context, run *Info) (Session, error)
	// Where says, a line each, how people see the runs of experiments there.
	Where(experiments []string) []string
}

// ErrHeld says that another process shows the run in the sink.
var ErrHeld = errors.New("another process tracks the run")

// Session shows one run. It is for one goroutine. An error ends it.
type Session interface {
	// Has reports whether the sink has the Scores or the End of a key.
	Has(key string) bool
	// Last is the last step whose row the sink has, -1 for none.
	Last() (int64, error)
	// Row shows what was logged at a step. Steps rise.
	Row(*Row) error
	// Scores shows an evaluation.
	Scores(*Scores) error
	// End shows how the run ended, after all else. A run may continue after its end.
	End(context.Context, *End) error
	// Close gives the session back. The run may go on in another.
	Close(context.Context) error
}

// Run is a run under one name.
type Run struct {
	ID         string
	Experiment string
	Cell       string
	Fold       name.Fold
	Seed       uint64
	Dir        string // absolute
	Search     bool   // it is a trial
	// Metric is what the experiment reports: "dice/nucleus".
	Metric string
	// Single says that the command has no other run.
	Single bool
	// Late says that the run was over before it was shown; it is set by Push.
	Late bool
	// Varied are the paths that tell the cells of the experiment apart.
	Varied []string
	// Evaluations are those that the experiment asks for.
	Evaluations []Evaluation
	// Stop ends the training after a checkpoint, where people can ask a tracker for that.
	// It is nil where nothing trains, and may be called from any goroutine.
	Stop func()
}

// Evaluation is one that an experiment asks for.
type Evaluation struct {
	ID string // identity
	// Size is that of the images; zero where it is that of the run's.
	Size raster.Size
	// Severities are the curves that the evaluation is a point of: one of a corrupted
	// domain, all of the test split as it is.
	Severities []Severity
}

// Severity is a point of the curve of a corruption.
type Severity struct {
	Corruption string
	Severity   uint32 // 0: as it is
}

// Asked are evaluations of an experiment, in its order. A corruption that is asked for at
// one severity alone has no curve.
func Asked(ids []string, specs []*spec.Evaluation) []Evaluation {
	levels := map[string]int{}
	for _, e := range specs {
		if c := e.GetData().GetCorruption(); c != nil && spec.StrengthOf(e) == 1 {
			levels[c.Kind]++
		}
	}
	all := make([]Evaluation, len(specs))
	for i, e := range specs {
		all[i] = Evaluation{ID: ids[i], Size: data.SizeOf(e.GetData())}
		c := e.GetData().GetCorruption()
		switch {
		case spec.StrengthOf(e) != 1:
		case c != nil && levels[c.Kind] > 1:
			all[i].Severities = []Severity{{c.Kind, c.Severity}}
		case c == nil && e.GetDomain() == e.ColumnName("test"):
			for _, kind := range slices.Sorted(maps.Keys(levels)) {
				if levels[kind] > 1 {
					all[i].Severities = append(all[i].Severities, Severity{kind, 0})
				}
			}
		}
	}
	return all
}

// Name is how people refer to the run.
func (r *Run) Name() string {
	return name.Run(r.Experiment, r.Cell, name.Repeat{Fold: r.Fold, Seed: r.Seed})
}

// Info is a run with what its directory says of it when it is opened.
type Info struct {
	Run
	Project string // root of the project
	Spec    *spec.RunSpec
	Config  []Value // as resolved; nil where it is not known
	// Command is that which began it, without secrets.
	Command []string
	Commit  string // of git, "" for none
	Source  string // the text of the experiment's file
	Started time.Time
}

// Value is a value of the configuration.
type Value struct {
	Path  string
	Value json.RawMessage
}

// Row is what was logged at one step.
type Row struct {
	Step int64
	Time time.Time
	// Values by tag: train/loss, val/dice/mean.
	Values map[string]float64
	// Lines are what the engine told people.
	Lines []Line
	// Samples are images of the validation split with what was predicted at this step;
	// nil where the step has none.
	Samples []samplesheet.Parts

	validated bool
}

// Line is a line for people.
type Line struct {
	Text    string
	Warning bool
}

// Scores is one evaluation of a trained run.
type Scores struct {
	Key     string // identifies it
	Domain  string
	Step    int64 // the end of the training
	Time    time.Time
	Metrics *spec.Metrics
	Sample  string // a file with the sheet of samples; "" for none
	// Drawn has the names of classes and Size the size of images that the sheet was
	// drawn with.
	Drawn *spec.Metrics
	Size  raster.Size
	// Severities are the curves that it is a point of.
	Severities []Severity
}

// End is how a run ended.
type End struct {
	Key     string
	State   store.State // Done, Failed, Stopped or Paused
	Reason  string      // of a failure
	Summary *spec.Summary
	Step    int64
	Time    time.Time
	// Preempted says that the run was stopped because the machine is taken from it.
	Preempted bool
}
