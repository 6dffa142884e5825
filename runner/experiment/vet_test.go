package experiment

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/load"
)

// vet is what `cue vet FILE` does: it reads the file and the schema on disk,
// and asks that everything be valid and concrete.
func vet(file string) error {
	inst := load.Instances([]string{file}, &load.Config{})[0]
	if inst.Err != nil {
		return inst.Err
	}
	v := cuecontext.New().BuildInstance(inst)
	return v.Validate(cue.Attributes(true), cue.Definitions(true), cue.Hidden(true), cue.Optional(true), cue.Concrete(true))
}

// Plain CUE accepts every experiment of the project, and refuses every broken
// file but those that say it cannot know.
func TestPlainCUE(t *testing.T) {
	t.Setenv("CUE_REGISTRY", "none")
	t.Setenv("CUE_CACHE_DIR", t.TempDir())
	sound, err := filepath.Glob("../../experiments/*.cue")
	if err != nil || len(sound) < 4 {
		t.Fatalf("%d experiments, %v", len(sound), err)
	}
	for _, file := range sound {
		if err := vet(file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	broken, err := filepath.Glob("testdata/broken/*.cue")
	if err != nil || len(broken) < 40 {
		t.Fatalf("%d broken files, %v", len(broken), err)
	}
	judged := 0
	for _, file := range broken {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		runnerOnly := bytes.Contains(text, []byte("// only runner can judge this"))
		switch err := vet("./" + file); {
		case err == nil && !runnerOnly:
			t.Errorf("%s: plain CUE accepts it; if it cannot know better, say so behind the package clause", file)
		case err != nil && runnerOnly:
			t.Errorf("%s: plain CUE knows of it: %v", file, err)
		case err != nil:
			judged++
		}
	}
	t.Logf("%d of %d broken files are refused by plain CUE", judged, len(broken))
}
