package walls

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// listed is what the go command says of all packages of the project and of what
// they depend on. Cgo is on, so that it sees the files with C.
func listed(t *testing.T) (packages []Package) {
	t.Helper()
	// The go command repeats the result of a test until a file changes that the test
	// itself has opened.
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-tags=netgo,osusergo", "-deps", "-json=ImportPath,Standard,CgoFiles,Deps", "./...")
	var failed bytes.Buffer
	cmd.Dir, cmd.Stderr = "../..", &failed
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, failed.String())
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p Package
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestWalls(t *testing.T) {
	packages := listed(t)
	for _, said := range Broken(packages, Rules) {
		t.Error(said)
	}

	// A rule that applies to nothing, or forbids what does not exist, checks nothing.
	for _, r := range Rules {
		for _, folder := range slices.Concat(r.Of, r.Except, r.Not) {
			if !slices.ContainsFunc(packages, func(p Package) bool { return under(p.ImportPath, []string{folder}) }) {
				t.Errorf("a rule names %s, where no package is", folder)
			}
		}
	}

	// Every rule refuses an import that it forbids.
	for _, r := range Rules {
		for _, of := range r.Of {
			for _, not := range r.Not {
				bad := Package{ImportPath: module + of + "/new", Deps: []string{"fmt", module + not + "/other"}}
				if len(Broken([]Package{bad}, []Rule{r})) != 1 {
					t.Errorf("%s may import %s", of, not)
				}
			}
			c := []Package{{ImportPath: "example.com/c", CgoFiles: []string{"c.go"}}, {ImportPath: module + of + "/new", Deps: []string{"example.com/c"}}}
			if broken := Broken(c, []Rule{r}); (len(broken) == 0) != r.Cgo {
				t.Errorf("%s and a package with C: %v", of, broken)
			}
		}
	}
}

// Runner is built without a C compiler, for the systems that people have at their
// desks too.
func TestRunnerNeedsNoC(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector sees nothing here")
	}
	for _, system := range []string{"linux/amd64", "darwin/arm64"} {
		name, arch, _ := strings.Cut(system, "/")
		cmd := exec.Command("go", "build", "-tags=netgo,osusergo", "-o", os.DevNull, "./cmd/runner")
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+name, "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("runner for %s: %v\n%s", system, err, out)
		}
	}
}

// docs/architecture.md has a row or a word about every package of the project.
func TestArchitectureListsEveryPackage(t *testing.T) {
	page, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range listed(t) {
		rel, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || strings.HasPrefix(rel, "plugins/") || strings.HasPrefix(rel, "bench/") { // each has its own page
			continue
		}
		if !strings.Contains(string(page), "`"+rel+"`") {
			t.Errorf("docs/architecture.md does not name %s", rel)
		}
	}
}
