// Package reproduce says whether a run that was run again came out the same.
//
// On the CPU, the same engine on the same kind of processor with as many
// threads computes the same bits: then nothing less counts. Anywhere else sums
// are taken in another order, training magnifies the last bits, and scores
// agree within a tolerance or they do not.
package reproduce

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/inspect"
	"github.com/loralab/loralab/runner/provenance"
)

// Score is one metric before and now.
type Score struct {
	Domain    string  `json:"domain"`
	Metric    string  `json:"metric"`
	Was       float64 `json:"was"`
	Now       float64 `json:"now"`
	Tolerance float64 `json:"tolerance"`
	Agrees    bool    `json:"agrees"`
}

// Verdict is how a run came out the second time.
type Verdict struct {
	// Agrees says that the run was reproduced: bit for bit where that was to be
	// expected, else within tolerance.
	Agrees bool `json:"agrees"`
	Bits   bool `json:"bits"` // the weights are the same, bit for bit
	// Expected is true where the bits should be the same; Why says why not.
	Expected bool     `json:"bits_expected"`
	Why      string   `json:"why,omitempty"`
	Scores   []Score  `json:"scores"`
	Missing  []string `json:"missing,omitempty"` // domains that were not scored again
}

// Judge holds a run against its repetition. Tolerance is absolute for values up
// to 1, which all scores are, and relative to larger ones, which a loss may be.
func Judge(was, now *inspect.Report, tolerance float64) *Verdict {
	v := &Verdict{Bits: was.Run.Summary.GetWeightsDigest() == now.Run.Summary.GetWeightsDigest()}
	v.Expected, v.Why = expected(was.Record, now.Record)
	before, after := inspect.Domains(was.Run), inspect.Domains(now.Run)
	for _, domain := range inspect.Order(before) {
		if after[domain] == nil {
			v.Missing = append(v.Missing, domain)
			continue
		}
		v.Scores = append(v.Scores, scores(domain, before[domain], after[domain], tolerance)...)
	}
	v.Agrees = v.Bits || !v.Expected
	for _, s := range v.Scores {
		v.Agrees = v.Agrees && s.Agrees
	}
	return v
}

func scores(domain string, was, now *spec.Metrics, tolerance float64) []Score {
	var classes []string
	for _, c := range was.GetClasses() {
		classes = append(classes, c.GetName())
	}
	var all []Score
	for _, name := range metric.Names(classes) {
		a, had := metric.Value(was, name)
		b, has := metric.Value(now, name)
		if !had && !has {
			continue
		}
		s := Score{Domain: domain, Metric: name, Was: a, Now: b, Tolerance: tolerance * max(1, math.Abs(a))}
		s.Agrees = had && has && math.Abs(a-b) <= s.Tolerance
		all = append(all, s)
	}
	return all
}

// expected reports whether two records promise the same bits, and if not, why.
func expected(was, now *provenance.Record) (bool, string) {
	if len(was.Attempts) == 0 || len(now.Attempts) == 0 {
		return false, "it was not recorded what the run was made with"
	}
	engine := now.Last().Engine
	if kind, _, _ := strings.Cut(engine.Device, ":"); kind != "cpu" {
		return false, "sums on " + engine.Device + " are not always taken in the same order"
	}
	i := slices.IndexFunc(was.Attempts, func(a provenance.Attempt) bool { return !a.Engine.Same(engine) })
	if i < 0 {
		return true, ""
	}
	other := was.Attempts[i].Engine
	for _, d := range []struct{ what, was, now string }{
		{"device", other.Device, engine.Device},
		{"processor", other.DeviceName, engine.DeviceName},
		{"instruction set", other.CPUCapability, engine.CPUCapability},
		{"version of loralab", other.Version, engine.Version},
		{"libtorch", other.Libtorch, engine.Libtorch},
		{"number of threads", fmt.Sprint(other.Threads), fmt.Sprint(engine.Threads)},
	} {
		if d.was != d.now {
			return false, fmt.Sprintf("another %s: it was %s, it is %s", d.what, d.was, d.now)
		}
	}
	return false, "the probes of the engine chose other forms"
}
