package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/plan"
)

// counted PLAN RESULTS compares what a plan said of weights and steps, as JSON,
// with what the engine counted in every result.json that a pattern names.
func counted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: counted PLAN RESULTS")
	}
	var planned struct {
		Actions []struct{ Name, ID string }
		Cells   []plan.Cell
	}
	text, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(json.Unmarshal(text, &planned))
	cells := map[string]plan.Cell{}
	for _, c := range planned.Cells {
		cells[c.Experiment+"/"+c.Cell] = c
	}
	of := map[string]plan.Cell{} // by identity
	for _, a := range planned.Actions {
		of[a.ID] = cells[a.Name[:strings.LastIndex(a.Name, "/")]]
	}
	files, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if len(files) != len(of) {
		ts.Fatalf("%d results for %d runs", len(files), len(of))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		ts.Check(err)
		var s spec.Summary
		ts.Check(protojson.Unmarshal(text, &s))
		want := map[string]uint64{params.Backbone: s.GetBackboneParams(), params.Adapter: s.GetAdapterParams(), params.Head: s.GetHeadParams()}
		got := map[string]uint64{}
		c := of[s.GetId()]
		for _, g := range c.Groups {
			if !g.Frozen {
				got[g.Part] += uint64(g.Parameters)
			}
		}
		for part, n := range want {
			if got[part] != n {
				ts.Fatalf("%s: the engine trained %d weights of the %s, planned were %d", c.Cell, n, part, got[part])
			}
		}
		if c.Steps != s.GetSteps() {
			ts.Fatalf("%s: the engine made %d steps, planned were %d", c.Cell, s.GetSteps(), c.Steps)
		}
	}
}
