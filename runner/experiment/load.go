package experiment

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/load"
	"cuelang.org/go/mod/modfile"

	"github.com/loralab/loralab/schema"
)

// FindRoot is the project that a file belongs to: the nearest directory above
// it with a cue.mod, else the directory of the file.
func FindRoot(file string) string {
	abs, err := filepath.Abs(file)
	if err != nil {
		return filepath.Dir(file)
	}
	for dir := filepath.Dir(abs); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(filepath.Join(dir, "cue.mod")); err == nil && info.IsDir() {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return filepath.Dir(abs)
		}
	}
}

// A module is a project as the CUE loader sees it: its directory, with the
// schema of this program laid over it.
type module struct {
	root    string
	overlay map[string]load.Source
}

// openModule lays the embedded schema over the project at root: below
// cue.mod/pkg, where CUE looks for packages that come from no registry, or in
// place of the schema's own directory if the project is this one. Nothing is
// written. A project needs no cue.mod of its own.
func openModule(root string) (*module, error) {
	m := &module{root: root, overlay: map[string]load.Source{}}
	dir := filepath.Join(root, "cue.mod", "pkg", filepath.FromSlash(schema.ImportPath))
	file := filepath.Join(root, "cue.mod", "module.cue")
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.overlay[file] = load.FromString("module: \"experiments.local\"\nlanguage: version: \"v0.17.0\"\n")
	case err != nil:
		return nil, fmt.Errorf("reading the project's module file: %w", err)
	default:
		f, err := modfile.ParseNonStrict(data, file)
		if err != nil {
			return nil, fmt.Errorf("reading the project's module file: %w", err)
		}
		if rest, ok := strings.CutPrefix(schema.ImportPath, f.ModulePath()); ok {
			dir = filepath.Join(root, filepath.FromSlash(rest))
		}
	}
	// A file of an older schema on disk must not be mixed with this one.
	old, _ := filepath.Glob(filepath.Join(dir, "*.cue"))
	for _, file := range old {
		m.overlay[file] = load.FromString("package schema\n")
	}
	entries, err := schema.Files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		data, err := schema.Files.ReadFile(e.Name())
		if err != nil {
			return nil, err
		}
		m.overlay[filepath.Join(dir, e.Name())] = load.FromBytes(data)
	}
	return m, nil
}

// load reads one file of the project and what it imports.
func (m *module) load(file string, tags []string) *build.Instance {
	return load.Instances([]string{file}, &load.Config{
		Dir:        filepath.Dir(file),
		ModuleRoot: m.root,
		Overlay:    m.overlay,
		Tags:       tags,
	})[0]
}

// marker tells experiments from other values.
var marker = cue.MakePath(cue.Hid("_experiment", schema.ImportPath))
