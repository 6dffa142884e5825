package rundir_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/rundir"
)

// apart are files that name other files of the same names.
var apart = []string{
	"core/spec/exported.go", // those of an export
}

// Files of a run directory are named here alone. Literals with a space are text for
// people.
func TestFilesAreNamedOnce(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		switch name = filepath.ToSlash(name); {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || name != "." && d.Name()[0] == '.' || name == "core/rundir"):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".pb.go") || slices.Contains(apart, name):
			return nil
		}
		files := token.NewFileSet()
		tree, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		seen++
		for _, at := range literals(tree) {
			t.Errorf("%s:%d names a file of a run directory: take the name of core/rundir", name, files.Position(at).Line)
		}
		return nil
	})
	if err != nil || seen < 100 {
		t.Fatalf("%d files were read, %v", seen, err)
	}
}

// literals are the places of strings that are names of a run directory: of files
// anywhere, of directories where they are put together to a path.
func literals(tree *ast.File) []token.Pos {
	files := []string{
		rundir.Record, rundir.Request, rundir.Result, rundir.Journal, rundir.Log, rundir.Environment,
		rundir.Adapter, rundir.Program, rundir.Head, rundir.DamagedJournal, "last.safetensors", "best.safetensors", "best.next", "dirty.patch",
	}
	directories := []string{rundir.Checkpoints, rundir.Evaluations, rundir.Samples}
	var found []token.Pos
	text := func(e ast.Node) string {
		if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if s, err := strconv.Unquote(l.Value); err == nil && !strings.Contains(s, " ") {
				return s
			}
		}
		return ""
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			s := text(n)
			if slices.ContainsFunc(files, func(f string) bool { return strings.Contains(s, f) }) ||
				slices.ContainsFunc(directories, func(d string) bool { return strings.HasPrefix(s, d+"/") }) {
				found = append(found, n.Pos())
			}
		case *ast.CallExpr:
			f, _ := n.Fun.(*ast.SelectorExpr)
			for _, a := range n.Args {
				if f != nil && f.Sel.Name == "Join" && slices.Contains(append(directories, rundir.Lock), text(a)) {
					found = append(found, a.Pos())
				}
			}
		}
		return true
	})
	return found
}

func TestLiterals(t *testing.T) {
	tree, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
import "path"
var a = "result.json"
var b = "evaluations/" + a
var c = path.Join(a, "checkpoints")
var d = path.Join(a, "checkpoints/best.safetensors")
var e = "checkpoints"
var f = "the lines of metrics.jsonl as they are"
`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(literals(tree)); got != 4 {
		t.Errorf("%d of 4 literals are found", got)
	}
}
