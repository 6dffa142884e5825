package main

import (
	"encoding/json"
	"os"
	"reflect"

	"github.com/rogpeppe/go-internal/testscript"
)

// network FILE puts a small style network of random weights there.
func network(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: network FILE")
	}
	content, err := os.ReadFile("../../core/engine/stylenet/testdata/network.safetensors")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content, 0o666))
}

// agree A B holds the metrics of two domains against each other, in what runner
// inspect -json has written.
func agree(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: agree A B")
	}
	var run struct {
		Evaluations map[string]struct {
			Metrics map[string]any `json:"metrics"`
		} `json:"evaluations"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &run))
	a, b := run.Evaluations[args[0]].Metrics, run.Evaluations[args[1]].Metrics
	if len(a) == 0 || len(b) == 0 {
		ts.Fatalf("%s or %s is not scored", args[0], args[1])
	}
	if reflect.DeepEqual(a, b) == neg {
		ts.Fatalf("%s scores\n%v\n%s scores\n%v", args[0], a, args[1], b)
	}
}
