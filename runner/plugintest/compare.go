package plugintest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/loralab/loralab/core/spec"
)

// By how much the tokens of PEFT, which are of size 1, may differ: the rounding
// of two programs in fp32, and a part of what the adapter does that no mistake
// is as small as.
const (
	peftRounding = 1e-5
	peftPart     = 1e-4
)

// peftTargets are tried in turn: not every variant adapts every layer.
var peftTargets = [][]string{
	{"query", "key", "value", "output", "fc1", "fc2"}, {"query", "key", "value", "output"}, {"query", "value"}, {"fc1"}, {"fc2"},
}

// computedByPEFT has PEFT itself load an export of every example.
func (t *trial) computedByPEFT() {
	if t.about.GetPeftType() == "" && !slices.ContainsFunc(t.built, func(b *built) bool { return b.reply.GetPeft() != nil }) {
		t.now.LeftOut = "PEFT has no form for it"
		return
	}
	if t.PEFT == nil || t.Sample == nil {
		t.now.LeftOut = "not compared with PEFT; --peft does that"
		return
	}
	dir, err := os.MkdirTemp("", "loralab-conform-")
	if err != nil {
		t.now.LeftOut = "not compared with PEFT: " + err.Error()
		return
	}
	defer os.RemoveAll(dir)
	compared, worst := 0, 0.0
	for i, example := range t.tried() {
		params, err := t.schema.Complete(example)
		if err != nil {
			continue // reported
		}
		at := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(at, 0o777); err != nil {
			t.now.LeftOut = "not compared with PEFT: " + err.Error()
			return
		}
		req := t.sample(params, at)
		if req == nil {
			continue // PEFT has no form for these parameters
		}
		name := fmt.Sprintf("{%s}, over a ViT of width %d", example, req.Arch.Dim)
		if err := t.Sample(t.ctx, req); err != nil {
			t.fault("", "an export of "+name, "%v", err)
			continue
		}
		said, err := t.PEFT(at)
		if err != nil {
			t.fault("", "PEFT to load an export of "+name, "%v", err)
			return
		}
		compared++
		t.judge(name, said, &worst)
	}
	if compared == 0 && len(t.now.Faults) == 0 {
		t.now.LeftOut = "PEFT has no form for its examples on a ViT"
		return
	}
	t.now.Note = fmt.Sprintf("largest difference between tokens %.1g", worst)
}

// judge reports what PEFT makes of one export.
func (t *trial) judge(name string, said *Said, worst *float64) {
	switch {
	case said.Error != "":
		t.fault("", "PEFT to load an export of "+name, "%s", said.Error)
		return
	case len(said.Missing) > 0:
		t.fault("", "all tensors that PEFT has for "+name, "none for %s", some(said.Missing))
		return
	case len(said.Unexpected) > 0:
		t.fault("", "tensors that PEFT knows, for "+name, "%s", some(said.Unexpected))
		return
	case len(said.Warnings) > 0:
		t.fault("", "PEFT to load an export of "+name+" without a warning", "%s", said.Warnings[0])
		return
	case said.Difference == nil:
		t.fault("", "the same tokens from PEFT for "+name, "infinite ones, or none at all (NaN)")
		return
	}
	*worst = max(*worst, *said.Difference)
	if !(*said.Difference <= peftRounding+peftPart*said.Effect) {
		t.fault("", "the same tokens from PEFT for "+name, "they differ by %.2g, and the adapter moves them by %.2g: PEFT computes another adapter from these settings and tensors", *said.Difference, said.Effect)
	}
}

func some(names []string) string {
	if len(names) > 3 {
		return fmt.Sprintf("%s and %d more", names[:3], len(names)-3)
	}
	return fmt.Sprint(names)
}

// sample asks for an export of the variant with some parameters; nil if there is
// none.
func (t *trial) sample(params, out string) *spec.SampleRequest {
	m := backbones[0].model
	for _, names := range peftTargets {
		sites := layers(m, names)
		reply, err := t.first.Build(t.ctx, t.Name, params, m, sites)
		if err != nil || len(reply.GetProblems()) > 0 || reply.GetPeft() == nil {
			continue
		}
		a := &spec.Adapter{Programs: reply.GetPrograms()}
		for i, s := range sites {
			a.Placements = append(a.Placements, &spec.Placement{Site: s, Program: reply.GetProgramOfSite()[i]})
		}
		return &spec.SampleRequest{
			Arch: architecture(m), Adapter: a, Peft: reply.GetPeft(), Seed: seed, Out: out,
		}
	}
	return nil
}
