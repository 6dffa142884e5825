// Package experiment turns CUE files into resolved runs: it loads and checks
// them, expands the matrix, resolves backbone, adapter program and data, and
// gives every run its identity.
//
// An experiment is one value in a file; a cell is one point of its matrix; a
// run is a cell with a seed, and with a fold where data.split has folds.
package experiment

import (
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
)

// Experiment is one checked and expanded experiment.
type Experiment struct {
	Name  string // field name in the file, "ablation_rank"
	File  string // absolute
	About string
	// Axes are the swept paths in the order of the file, "adapter.params.rank".
	Axes []string
	// Zipped are those of zip, which move together, and Ablated those of ablate, of
	// which a cell sets one.
	Zipped, Ablated []string
	// Metric is what tables and figures show, "dice/nucleus".
	Metric string
	// Track is where runs are shown.
	Track Track
	// Resources are what workers on a cluster get; nil: the file does not say.
	Resources *Resources
	// Baseline is the cell that the others are compared with, "" for none.
	Baseline string
	// FigureWidth is that of figures, in inches; 0 is that of a page on a screen.
	FigureWidth float64
	// Domains in order of the tables; the first is "test", in domain.
	Domains []string
	// Strengths of the adapter that the domains are scored at, ascending, with 1; nil:
	// as trained alone.
	Strengths []float64
	// Ensemble is "seeds" or "folds" where the runs of a cell are scored together, too.
	Ensemble string
	// Folds is how many the data is divided into; 0 without cross-validation. Runs may
	// be of some of them.
	Folds uint32
	// Differences are what presets set otherwise than the defaults, by preset in
	// the order of the cells.
	Differences []Difference
	// LeftOut are the cells whose plug-in fails (Env.KeepGoing).
	LeftOut []string
	// RandomHead are the cells whose head is neither trained nor read from files, so
	// that their scores mean nothing.
	RandomHead []string
	// Overlaps are the domains with images that runs are trained on.
	Overlaps []Overlap
	// Runs are those that are known from the file: of a cell that is searched there
	// are none.
	Runs []*Run
	// Studies are the searches, one for each cell that is searched.
	Studies []*Study

	expansion *expansion
	cells     []*cell
	smoke     *smoke // nil: the runs are whole
}

// Track is where runs are shown in addition to files of the project.
type Track struct {
	TensorBoard bool        `json:"tensorboard"`
	WandB       *TrackWandB `json:"wandb"` // nil: not there
}

// TrackWandB is where runs are shown in Weights & Biases.
type TrackWandB struct {
	Project string `json:"project"`
	Entity  string `json:"entity"` // "": that of the key
	Mode    string `json:"mode"`   // online, offline or disabled
}

// AllStrengths are the strengths that the domains are scored at, 1 first.
func (e *Experiment) AllStrengths() []float64 {
	all := []float64{1}
	for _, t := range e.Strengths {
		if t != 1 {
			all = append(all, t)
		}
	}
	return all
}

// Adapted reports whether the run has an adapter.
func (r *Run) Adapted() bool { return len(r.Spec.GetAdapter().GetPlacements()) > 0 }

// Overlap is how many images of a domain are, by content, among those that runs
// are trained on, or were made of such.
type Overlap struct {
	Domain string
	Images int
	Of     int
	Some   bool // cells differ in it, and this is the most
}

// Run is a cell with a seed, and a fold in cross-validation, resolved: the engine needs nothing else.
type Run struct {
	Experiment string
	Cell       string // "rank=8", "head_only"
	// Values of the cell on the axes of its experiment; a named case has none.
	Values []AxisValue
	Fold   name.Fold // none without cross-validation
	Seed   uint64
	// Point is what a search has in place of the values of the cell; nil: the run is
	// of no search.
	Point []Setting
	// Fraction of the data, as data.fraction has it.
	Fraction float64

	ID          string // identity of Spec, 64 hex digits
	Spec        *spec.RunSpec
	Evaluations []Evaluation
	Label       *spec.Label
	Places      *spec.Places   // without run_dir
	PEFT        *protocol.Peft // how PEFT would store the adapter; nil: it cannot
}

// AxisValue is where a cell stands on one axis.
type AxisValue struct {
	Path  string // "adapter.params.rank"
	Value any    // as decoded from CUE: float64, string, bool
}

// Evaluation is one domain a run is scored on.
type Evaluation struct {
	ID   string // identity, given the run
	Spec *spec.Evaluation
}

// Name is how people refer to a run: "ablation_rank/rank=8/seed=1".
func (r *Run) Name() string {
	return name.Run(r.Experiment, r.Cell, r.Repeat())
}

// Repeat tells it from the other runs of its cell.
func (r *Run) Repeat() name.Repeat { return name.Repeat{Fold: r.Fold, Seed: r.Seed} }
