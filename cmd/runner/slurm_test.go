package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/loralab/loralab/internal/slurmtest"
)

// TestSlurm runs scripts against a real Slurm.
func TestSlurm(t *testing.T) {
	files, err := filepath.Glob("testdata/slurm_*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	c := slurmtest.Start(t)
	scripts(t, files, func(env *testscript.Env) (string, error) {
		engine, err := lookPath(env, "runner-engine")
		first, rest, _ := strings.Cut(env.Getenv("PATH"), ":") // the first has runner
		env.Setenv("PATH", first+":"+c.Bin()+":"+rest)
		env.Setenv("SLURM_CONF", c.Config())
		env.Setenv("LORALAB_POLL", "2s")
		env.Setenv("LORALAB_LOOK", "200ms")
		env.Setenv("LORALAB_BEAT", "1s")
		return engine, err
	})
}
