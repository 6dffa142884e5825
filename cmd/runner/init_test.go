package main

import (
	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/load"
	"github.com/rogpeppe/go-internal/testscript"
)

// vet DIR does what `cue vet -c ./...` and an editor do in a project: it reads
// what is on disk, without runner and without a registry.
func vet(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: vet DIR")
	}
	var failed error
	for _, inst := range load.Instances([]string{"./..."}, &load.Config{
		Dir: ts.MkAbs(args[0]), Env: []string{"CUE_REGISTRY=none", "HOME=" + ts.MkAbs("."), "CUE_CACHE_DIR=" + ts.MkAbs(".cuecache")},
	}) {
		if failed == nil {
			failed = inst.Err
		}
		if failed == nil {
			failed = cuecontext.New().BuildInstance(inst).Validate(cue.Concrete(true))
		}
	}
	switch {
	case neg && failed == nil:
		ts.Fatalf("nothing is wrong")
	case !neg:
		ts.Check(failed)
	}
}
