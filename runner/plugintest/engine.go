package plugintest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/program"
)

// What the programs do on random layers, in fp64.

// Limits of relative differences, all far above rounding and far below what a
// mistake in a formula gives.
const (
	startLimit    = 1e-9
	gradientLimit = 1e-5
	mergeLimit    = 1e-9
)

// seed of the trials; any would do.
const seed = 20

// ran is what one program did at one layer.
type ran struct {
	of *built
	at int // index of the site
	*spec.Conformance
}

func (t *trial) runs() {
	for _, b := range t.built {
		a := &spec.Adapter{Programs: b.reply.GetPrograms()}
		for i, s := range b.sites {
			a.Placements = append(a.Placements, &spec.Placement{Site: s, Program: b.reply.GetProgramOfSite()[i]})
		}
		reply, err := t.Try(t.ctx, &spec.ConformRequest{Model: b.backbone.model, Adapter: a, Seed: seed})
		if err != nil {
			t.fault("", "the programs of "+b.String()+" to run", "the engine failed: %v", err)
			t.end("the programs do not run")
			return
		}
		for i, c := range reply.GetSites() {
			r := &ran{of: b, at: i, Conformance: c}
			switch {
			case c.GetFailure() != "":
				t.report(r, "to run", "%s", c.GetFailure())
				continue
			case !c.GetFinite():
				t.report(r, "finite values and gradients", "infinite ones, or none at all (NaN): %s", c.GetNotFinite())
				continue // nor is any difference
			}
			t.ran = append(t.ran, r)
		}
	}
	if len(t.ran) == 0 {
		t.end("no program runs")
	}
}

// report is a fault of one program.
func (t *trial) report(r *ran, expected, format string, args ...any) {
	s := r.of.sites[r.at]
	t.fault(t.show(r.of.example, s), fmt.Sprintf("%s with {%s}: %s", program.SiteName(s), r.of.example, expected), format, args...)
}

func (t *trial) noOp() {
	declared, changed := t.about.GetChangesStart(), false
	worst := 0.0
	for _, r := range t.ran {
		worst = max(worst, r.GetStart())
		if r.GetStart() <= startLimit {
			continue
		}
		changed = true
		if !declared {
			t.report(r, "the output of the frozen layer; or declare that the start changes", "a relative difference of %.2g", r.GetStart())
		}
	}
	switch {
	case declared && !changed:
		t.fault("info "+t.Path, "a start that changes, as it declares", "the output of the frozen layer, everywhere")
	case declared:
		t.now.Note = fmt.Sprintf("declared to change the start; by up to %.2g", worst)
	}
}

func (t *trial) gradient() {
	worst := 0.0
	for _, r := range t.ran {
		if slices.Contains(r.GetNoGradient(), r.GetGradientAt()) {
			continue // the next check says so
		}
		worst = max(worst, r.GetGradient())
		if !(r.GetGradient() <= gradientLimit) {
			t.report(r, "a gradient that agrees with finite differences", "for %s it is off by %.2g, relative", r.GetGradientAt(), r.GetGradient())
		}
	}
	t.now.Note = fmt.Sprintf("largest relative difference %.1g", worst)
}

func (t *trial) allTrain() {
	for _, r := range t.ran {
		for _, p := range r.GetNoGradient() {
			t.report(r, "a gradient for every trainable parameter", "%s never gets one: is it detached, or should it be frozen?", p)
		}
	}
}

func (t *trial) moves() {
	for _, r := range t.ran {
		names := slices.DeleteFunc(slices.Clone(r.GetUnmoved()), func(p string) bool { return slices.Contains(r.GetNoGradient(), p) })
		switch {
		case len(names) == 0: // the check before says the rest
		case r.GetDead():
			t.report(r, "a parameter with a gradient at the start", "none has one, and after three steps %s still as at the start: are all factors of a product zero?", areAs(names))
		default:
			t.report(r, "every trainable parameter to move in three steps", "%s still as at the start: is it multiplied by what stays zero?", areAs(names))
		}
	}
}

// areAs begins a sentence about parameters.
func areAs(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names, ", ") + " are"
}

func (t *trial) seeds() {
	for _, r := range t.ran {
		switch {
		case !r.GetRepeats():
			t.report(r, "the same start with the same seed", "another one")
		case !r.GetSeedsDiffer():
			t.report(r, "another start with another seed", "the same one")
		}
	}
}

func (t *trial) order() {
	for _, r := range t.ran {
		if !r.GetAnyOrder() {
			t.report(r, "the same start alone and among other layers", "another one")
		}
	}
}

func (t *trial) tokens() {
	for _, r := range t.ran {
		if !r.GetTokensApart() {
			t.report(r, "an output of each token by itself", "one that depends on the others")
		}
	}
}

func (t *trial) merge() {
	mergeable, worst := 0, 0.0
	for _, r := range t.ran {
		if !r.GetMergeable() {
			continue
		}
		mergeable++
		worst = max(worst, r.GetMerge())
		if !(r.GetMerge() <= mergeLimit) {
			t.report(r, "xW'ᵀ + b' to be F(x)", "a relative difference of %.2g", r.GetMerge())
		}
	}
	switch {
	case mergeable == 0:
		t.now.Note = "it cannot be merged: its output is not affine in x"
	case mergeable < len(t.ran):
		t.now.Note = fmt.Sprintf("%d of %d programs can be merged", mergeable, len(t.ran))
	default:
		t.now.Note = fmt.Sprintf("largest relative difference %.1g", worst)
	}
}

func (t *trial) save() {
	for _, r := range t.ran {
		if !r.GetSaved() {
			t.report(r, "the output that was saved", "another one")
		}
	}
}
