// Package walls holds the rules on which packages may import which. They keep
// runner a program without C that starts in milliseconds, and plug-ins free of
// both runner and libtorch. Its test compares them with what the go command says
// of every package.
package walls

import (
	"fmt"
	"slices"
	"strings"
)

// module is the prefix of the import paths of this project.
const module = "github.com/loralab/loralab/"

// Package is what the go command says of a package.
type Package struct {
	ImportPath string
	Standard   bool
	CgoFiles   []string // files with import "C"
	Deps       []string // import paths of all dependencies, direct and indirect
}

// Rule forbids dependencies to the packages below some folders.
type Rule struct {
	Of     []string // folders of the project
	Except []string // folders below them that the rule leaves out
	Not    []string // folders that they must not reach
	Cgo    bool     // they may reach packages with C
	Why    string
}

// Rules are those of the project. docs/architecture.md gives the reasons.
var Rules = []Rule{
	{Of: []string{"runner", "cmd/runner"}, Not: []string{"core/engine"}, Why: "runner runs where there is no libtorch"},
	{Of: []string{"core"}, Not: []string{"runner", "cmd"}, Cgo: true, Why: "the engine knows nothing of experiments, plans and reports"},
	{Of: []string{"core"}, Except: []string{"core/engine"}, Not: []string{"core/engine"}, Why: "what both processes share needs no libtorch"},
	{Of: []string{"plugins"}, Not: []string{"runner", "core", "cmd"}, Why: "a plug-in depends on the protocol alone"},
}

// under reports whether a package is in a folder of the project or below it.
func under(path string, folders []string) bool {
	rel, ours := strings.CutPrefix(path, module)
	return ours && slices.ContainsFunc(folders, func(f string) bool { return rel == f || strings.HasPrefix(rel, f+"/") })
}

// Broken lists what packages reach against the rules: one sentence for each
// package and dependency. The packages include all dependencies.
func Broken(packages []Package, rules []Rule) (broken []string) {
	c := map[string]bool{}
	for _, p := range packages {
		c[p.ImportPath] = len(p.CgoFiles) > 0 && !p.Standard
	}
	for _, p := range packages {
		for _, r := range rules {
			if !under(p.ImportPath, r.Of) || under(p.ImportPath, r.Except) {
				continue
			}
			for _, d := range append([]string{p.ImportPath}, p.Deps...) {
				switch {
				case under(d, r.Not):
					broken = append(broken, fmt.Sprintf("%s imports %s: %s", p.ImportPath, d, r.Why))
				case c[d] && !r.Cgo:
					broken = append(broken, fmt.Sprintf("%s imports %s, which has C: %s", p.ImportPath, d, r.Why))
				}
			}
		}
	}
	return broken
}
