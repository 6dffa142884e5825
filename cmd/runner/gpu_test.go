package main

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/loralab/loralab/internal/fakecuda"
)

// TestGPUs runs the real engine on fake GPUs, two for each script.
func TestGPUs(t *testing.T) {
	files, err := filepath.Glob("testdata/gpu_*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	engine := realEngine(t)
	if engine == "" {
		return
	}
	for _, file := range files {
		fake := fakecuda.New(t, 2)
		scripts(t, []string{file}, func(env *testscript.Env) (string, error) {
			for _, entry := range fake.Environment() {
				name, value, _ := strings.Cut(entry, "=")
				env.Setenv(name, value)
			}
			return engine, nil
		})
	}
}

// gpus changes the fake GPUs: "gpus memory BYTES", "gpus lose KERNELS", "gpus found".
func gpus(ts *testscript.TestScript, neg bool, args []string) {
	fake, err := fakecuda.Of(ts.Getenv)
	ts.Check(err)
	n := int64(0)
	if len(args) == 2 {
		n, err = strconv.ParseInt(args[1], 10, 64)
		ts.Check(err)
	}
	switch {
	case neg || fake == nil || len(args) == 0:
		ts.Fatalf("usage, on GPUs: gpus memory BYTES | lose KERNELS | found")
	case args[0] == "memory":
		fake.Memory(n)
	case args[0] == "lose":
		fake.Lose(n)
	case args[0] == "found":
		fake.Found()
	}
}
