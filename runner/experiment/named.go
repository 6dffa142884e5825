package experiment

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"

	"github.com/loralab/loralab/runner/diagnostic"
)

// whereIs is the hint for a path that is no file: the file that has an experiment of this
// name, or the files that the project has. It is "" if it has none.
func (l *loader) whereIs(path string) string {
	root := l.env.Root
	if root == "" {
		root = FindRoot(path)
	}
	var files, names []string
	in := map[string]string{} // name of an experiment or of a file -> file
	for _, pattern := range []string{filepath.Join(filepath.Dir(path), "*.cue"), filepath.Join(root, "experiments", "*.cue")} {
		matches, _ := filepath.Glob(pattern)
		for _, file := range matches {
			abs, err := filepath.Abs(file)
			if info, statErr := os.Stat(file); err != nil || statErr != nil || !info.Mode().IsRegular() || slices.Contains(files, l.display(abs)) {
				continue
			}
			shown := l.display(abs)
			files = append(files, shown)
			for _, name := range append(fieldsAtTop(file), strings.TrimSuffix(filepath.Base(file), ".cue")) {
				if in[name] == "" {
					in[name] = shown
					names = append(names, name)
				}
			}
		}
	}
	wanted, _, _ := strings.Cut(filepath.ToSlash(path), "/") // experiment/cell/seed=1
	if strings.HasSuffix(path, ".cue") {
		wanted = strings.TrimSuffix(filepath.Base(path), ".cue")
	}
	if file := in[wanted]; file != "" {
		return fmt.Sprintf("%q is in %s", wanted, file)
	}
	if near := diagnostic.DidYouMean(wanted, names); near != "" {
		return fmt.Sprintf("did you mean %q? It is in %s", near, in[near])
	}
	if len(files) == 0 {
		return ""
	}
	return "files: " + diagnostic.Some(files, 8, ", ")
}

// fieldsAtTop are the names of the fields of a file that experiments may be.
func fieldsAtTop(file string) []string {
	f, err := parser.ParseFile(file, nil)
	if err != nil {
		return nil
	}
	var names []string
	for _, decl := range f.Decls {
		if field, ok := decl.(*ast.Field); ok {
			if name, _, err := ast.LabelName(field.Label); err == nil && !strings.HasPrefix(name, "_") && !strings.HasPrefix(name, "#") {
				names = append(names, name)
			}
		}
	}
	return names
}
