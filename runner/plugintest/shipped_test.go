package plugintest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/loralab/loralab/internal/python"
)

// shipped are the variants of this repository, by the folders of their
// sources.
func shipped(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, pattern := range []string{"../../plugins/*/schema.cue", "../../plugins/python/*/schema.cue"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			names[filepath.Base(filepath.Dir(file))] = true
		}
	}
	if len(names) < 2 {
		t.Fatalf("the variants of this repository are %v", names)
	}
	return names
}

// Every variant of this repository passes its own suite.
func TestShippedPlugins(t *testing.T) {
	engine := startEngine(t)
	if engine == nil {
		t.Log("nothing tested: there is no engine; see: make build")
		return
	}
	t.Setenv("LORALAB_PYTHON", python.Find(t))
	real := startPEFT(t)
	for name := range shipped(t) {
		t.Run(name, func(t *testing.T) {
			path, err := filepath.Abs(filepath.Join("../../bin/plugins", name))
			if err != nil {
				t.Fatal(err)
			}
			report, err := Run(t.Context(), Options{Name: name, Path: path, Try: engine.try, Sample: engine.sample, PEFT: real.Compare})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range report.Checks {
				if c.LeftOut != "" && c.LeftOut != "PEFT has no form for it" {
					t.Errorf("%s: not tried: %s", c.Name, c.LeftOut)
				}
				for _, f := range c.Faults {
					t.Errorf("%s: expected %s\nfound %s\n%s", c.Name, f.Expected, f.Found, f.Reproduce)
				}
			}
		})
	}
}

// Neither runner nor engine knows a variant by its name: no text in their code
// is one.
func TestNoVariantIsKnownByName(t *testing.T) {
	names := shipped(t)
	for _, root := range []string{"../../core", "../../runner", "../../cmd"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					if text, err := strconv.Unquote(l.Value); err == nil && names[strings.ToLower(text)] {
						t.Errorf("%s has the text %q", path, text)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
