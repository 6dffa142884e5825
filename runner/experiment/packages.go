package experiment

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/runner/diagnostic"
)

// Packages of the project that experiments import, and files next to them that they do not.

// exported is a name that other packages can select.
func exported(name string) string {
	if bare := []rune(strings.TrimLeft(name, "_#")); len(bare) > 0 {
		return "#" + strings.ToUpper(string(bare[:1])) + string(bare[1:])
	}
	return name
}

// neighbor is the file of the same directory that has a field of a name at its top, and
// where it is there.
func (d *document) neighbor(name string) (file, at string) {
	siblings, _ := filepath.Glob(filepath.Join(filepath.Dir(d.file), "*.cue"))
	for _, sibling := range siblings {
		if info, err := os.Stat(sibling); sibling == d.file || err != nil || !info.Mode().IsRegular() {
			continue
		}
		f, err := parser.ParseFile(sibling, nil)
		if err != nil || d.syntax == nil || f.PackageName() != d.syntax.PackageName() {
			continue
		}
		for _, decl := range f.Decls {
			if field, ok := decl.(*ast.Field); ok {
				if n, _, err := ast.LabelName(field.Label); err == nil && n == name {
					return sibling, d.at(field.Label.Pos()).String()
				}
			}
		}
	}
	return "", ""
}

// module is the path of the project's module.
func (d *document) module() string {
	const file = "cue.mod/module.cue"
	if text, err := regular.Read(filepath.Join(d.root, filepath.FromSlash(file)), maxModule); err == nil {
		if f, err := readModule(text, file); err == nil {
			return f.ModuleRootPath()
		}
	}
	return "experiments.local"
}

// packages are the paths by which experiments import the packages of the project, those
// in directories of the root and one below.
func (d *document) packages() []string {
	var paths []string
	module := d.module()
	for _, pattern := range []string{"*/*.cue", "*/*/*.cue"} {
		files, _ := filepath.Glob(filepath.Join(d.root, pattern))
		for _, file := range files {
			rel, err := filepath.Rel(d.root, filepath.Dir(file))
			if err != nil || strings.HasPrefix(rel, "cue.mod") || filepath.Dir(file) == filepath.Dir(d.file) {
				continue
			}
			if path := module + "/" + filepath.ToSlash(rel); !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// reportPackage reports what keeps a package of the project from being imported: mistakes
// of its files, or that they are of another package. It reports false for any other path.
func (d *document) reportPackage(path string, at token.Pos) bool {
	module := d.module()
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return false
	}
	rest, wanted, named := strings.Cut(rest, ":")
	if !named {
		wanted = rest[strings.LastIndex(rest, "/")+1:]
	}
	files, _ := filepath.Glob(filepath.Join(d.root, filepath.FromSlash(rest), "*.cue"))
	found := false
	var others []string
	right := false
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
			continue
		}
		f, err := parser.ParseFile(file, nil)
		if err != nil {
			found = true
			d.reportLoad(err)
			continue
		}
		if name := f.PackageName(); name == wanted {
			right = true
		} else if !slices.Contains(others, name) {
			others = append(others, name)
		}
	}
	if found || right || len(files) == 0 {
		return found
	}
	dg := diagnostic.Diagnostic{
		Message: fmt.Sprintf("no file in %s is of package %s", rest, wanted),
		Hint:    fmt.Sprintf("they are of package %s: import %q", others[0], module+"/"+rest+":"+others[0]),
	}
	if others[0] == "" {
		dg.Hint = "begin its files with: package " + wanted
	}
	d.report(d.mark(dg, at))
	return true
}

// unreadable is the mistake of a file of the packages of the project that a file imports,
// also through others: one that is no regular file and so may have no end, or that is
// not in UTF-8, which CUE may convert, and then places in it are wrong. It is nil if
// there is none.
func (d *document) unreadable(file string, seen map[string]bool) *diagnostic.Diagnostic {
	source, ok := d.text[file]
	if !ok {
		var err error
		if source, err = os.ReadFile(file); err != nil {
			return nil // reported where it is read
		}
		if bad := misencoded(source, d.display(file)); bad != nil {
			return bad
		}
	}
	f, err := parser.ParseFile(file, source, parser.ImportsOnly)
	if err != nil {
		return nil // the same
	}
	for spec := range f.ImportSpecs() {
		path := label(spec.Path.Value)
		if isSchema(path) {
			continue // all that most experiments import; their project is not asked
		}
		rest, ok := strings.CutPrefix(path, d.module()+"/")
		rest, _, _ = strings.Cut(rest, ":")
		if !ok || seen[rest] {
			continue
		}
		seen[rest] = true
		files, _ := filepath.Glob(filepath.Join(d.root, filepath.FromSlash(rest), "*.cue"))
		for _, file := range files {
			if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
				return &diagnostic.Diagnostic{
					Message: "this is no regular file", Hint: "packages of the project are read as a whole: write it to a file first",
					At: diagnostic.Position{File: d.display(file)},
				}
			}
			if bad := d.unreadable(file, seen); bad != nil {
				return bad
			}
		}
	}
	return nil
}
