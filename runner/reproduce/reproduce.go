// Package reproduce says whether a run that was run again came out the same.
//
// On the CPU, the same engine on the same kind of processor with as many
// threads computes the same bits: then nothing less counts. Anywhere else sums
// are taken in another order, training magnifies the last bits, and scores
// agree within a tolerance or they do not.
package reproduce

import (
	"fmt"
	"maps"
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
	Domains  []Domain `json:"domains"`
}

// Domain is how the scores on one came out.
type Domain struct {
	Domain string `json:"domain"`
	// Same says that every score is the same to the last bit.
	Same   bool `json:"same"`
	Agrees bool `json:"agrees"`
	// Missing is why it was not scored again, "" if it was. Then nothing else
	// counts, here and for the verdict.
	Missing string `json:"missing,omitempty"`
}

// Judge holds a run against its repetition. Tolerance is absolute for values up
// to 1, which all scores are, and relative to larger ones, which a loss may be.
// gone says of evaluations, by identity, why they were not made again.
func Judge(was, now *inspect.Report, tolerance float64, gone map[string]string) *Verdict {
	v := &Verdict{Bits: was.Run.Summary.GetWeightsDigest() == now.Run.Summary.GetWeightsDigest()}
	v.Expected, v.Why = expected(was.Record, now.Record)
	v.domain("validation", was.Run.Named(was.Run.Summary.GetValidation()), was.Run.Named(now.Run.Summary.GetValidation()), tolerance, "")
	// Two evaluations may go by one name: of data that changed, or of both
	// checkpoints.
	ids := map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(was.Run.Evaluations)) {
		name := was.Run.Evaluations[id].GetDomain()
		ids[name] = append(ids[name], id)
	}
	for _, name := range inspect.Order(inspect.Domains(was.Run)) {
		for _, id := range ids[name] {
			v.domain(name, was.Run.Named(was.Run.Evaluations[id].GetMetrics()), was.Run.Named(now.Run.Evaluations[id].GetMetrics()), tolerance, gone[id])
		}
	}
	v.Agrees = v.Bits || !v.Expected
	for _, d := range v.Domains {
		v.Agrees = v.Agrees && (d.Agrees || d.Missing != "")
	}
	return v
}

func (v *Verdict) domain(name string, was, now *spec.Metrics, tolerance float64, missing string) {
	d := Domain{Domain: name, Missing: missing}
	switch {
	case was == nil:
		return
	case now == nil:
		if d.Missing == "" {
			d.Missing = "it is not known any more what it was scored on"
		}
	default:
		all := scores(name, was, now, tolerance)
		d.Same, d.Agrees = true, true
		for _, s := range all {
			d.Same, d.Agrees = d.Same && s.Was == s.Now, d.Agrees && s.Agrees
		}
		v.Scores = append(v.Scores, all...)
	}
	v.Domains = append(v.Domains, d)
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
