// Package scaffold writes new plug-ins: a variant that works, with its schema
// and its test, in Go or in Python, for its author to change.
//
// A plug-in in Go needs the sdk. Inside of loralab's own sources it is there.
// Elsewhere the new go.mod requires it. loralab is on no module proxy, so a replace
// points to the sources that runner lies in; where it lies in none, the author
// names a checkout. A plug-in in Python brings its sdk along.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/loralab/loralab/plugins/python"
	"github.com/loralab/loralab/runner/variant"
)

//go:embed go python schema.cue.txt
var templates embed.FS

const module = "github.com/loralab/loralab"

// Written is what New has made.
type Written struct {
	Files []string // in order, with the directory
	Next  []string // commands to go on with
}

// New writes a plug-in into the new directory dir/name.
func New(dir, name string, inPython bool) (*Written, error) {
	if !variant.IsName(name) {
		return nil, fmt.Errorf("a variant cannot be called %q: use lower-case letters, digits and _, a letter first", name)
	}
	if name == "none" {
		return nil, errors.New(`a variant cannot be called "none": in an experiment that is no adapter`)
	}
	target := filepath.Join(dir, name)
	if _, err := os.Lstat(target); err == nil {
		return nil, fmt.Errorf("%s is there already; nothing was written", target)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("writing the plug-in: %w", err)
	}
	files, next, err := contents(dir, name, inPython)
	if err != nil {
		return nil, fmt.Errorf("writing the plug-in: %w", err)
	}
	// All or nothing: it is written beside and then named.
	temp, err := os.MkdirTemp(dir, "."+name+".new-")
	if err != nil {
		return nil, fmt.Errorf("writing the plug-in: %w", err)
	}
	defer os.RemoveAll(temp)
	w := &Written{Next: next}
	for _, f := range files {
		to := filepath.Join(temp, filepath.FromSlash(f.name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o777), os.WriteFile(to, f.text, 0o666)); err != nil {
			return nil, fmt.Errorf("writing the plug-in: %w", err)
		}
		w.Files = append(w.Files, filepath.Join(target, filepath.FromSlash(f.name)))
	}
	if err := errors.Join(os.Chmod(temp, 0o755), os.Rename(temp, target)); err != nil {
		return nil, fmt.Errorf("writing the plug-in: %w", err)
	}
	return w, nil
}

type file struct {
	name string
	text []byte
}

// contents are the files of a plug-in and what to do with them.
func contents(dir, name string, inPython bool) (files []file, next []string, err error) {
	folder := "go"
	if inPython {
		folder = "python"
	}
	entries, err := templates.ReadDir(folder)
	if err != nil {
		return nil, nil, err
	}
	names := []string{"schema.cue.txt"}
	for _, e := range entries {
		names = append(names, path.Join(folder, e.Name()))
	}
	for _, from := range names {
		text, err := fill(from, name)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, file{strings.TrimSuffix(path.Base(from), ".txt"), text})
	}
	next = []string{"cd " + name}
	if inPython {
		err := fs.WalkDir(python.SDK, ".", func(at string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := python.SDK.ReadFile(at)
			files = append(files, file{at, text})
			return err
		})
		return files, append(next,
			"python3 -m pip install -r requirements.txt", "python3 -m unittest",
			"python3 loralab_plugin/pack.py . "+name, "runner plugins test ./"+name, "runner plugins install ./"+name), err
	}
	at, err := filepath.Abs(dir)
	if err != nil {
		return nil, nil, err
	}
	if _, inside := sources(at); !inside {
		mod, first, err := modFiles(filepath.Join(at, name), name, home())
		if err != nil {
			return nil, nil, err
		}
		files, next = append(files, mod...), append(next, first...)
	}
	return files, append(next,
		"go test .", "go build -o "+name+" .", "runner plugins test ./"+name, "runner plugins install ./"+name), nil
}

// fill puts the name where the template has {{.}}.
func fill(from, name string) ([]byte, error) {
	raw, err := templates.ReadFile(from)
	return bytes.ReplaceAll(raw, []byte("{{.}}"), []byte(name)), err
}

// home is the directory of the sources that this program lies in; "" if none.
func home() string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	root, _ := sources(filepath.Dir(exe))
	return root
}

// modules are those that the packages of plugins/sdk import packages of. A plug-in
// requires them in the versions that loralab is tested with.
var modules = []string{
	"cuelang.org/go",
	"github.com/cockroachdb/apd/v3",
	"github.com/emicklei/proto",
	"github.com/fatih/color",
	"github.com/golang/protobuf",
	"github.com/google/uuid",
	"github.com/hashicorp/go-hclog",
	"github.com/hashicorp/go-plugin",
	"github.com/hashicorp/yamux",
	"github.com/mattn/go-colorable",
	"github.com/mattn/go-isatty",
	"github.com/mitchellh/go-wordwrap",
	"github.com/oklog/run",
	"github.com/pelletier/go-toml/v2",
	"github.com/protocolbuffers/txtpbfmt",
	"go.yaml.in/yaml/v3",
	"golang.org/x/net",
	"golang.org/x/sys",
	"golang.org/x/text",
	"google.golang.org/genproto/googleapis/rpc",
	"google.golang.org/grpc",
	"google.golang.org/protobuf",
}

// modFiles are go.mod and go.sum of a plug-in in the directory at, outside of
// loralab's sources, and what to type before it builds. root has the sources; if it
// is "", the sums are not known.
func modFiles(at, name, root string) (files []file, first []string, err error) {
	if root == "" {
		mod, first := modAlone(name)
		return []file{{"go.mod", mod}}, first, nil
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, nil, err
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		return nil, nil, err
	}
	var text, sums bytes.Buffer
	fmt.Fprintf(&text, "module %s\n\n%s\n\nrequire %s v0.0.0\n\nrequire (\n", name, goLine.FindString(string(mod)), module)
	for _, m := range modules {
		required := regexp.MustCompile(`(?m)^\t` + regexp.QuoteMeta(m) + ` (v\S+)`).FindSubmatch(mod)
		if required == nil {
			return nil, nil, fmt.Errorf("%s requires no %s, which plug-ins need: this runner is not of these sources", filepath.Join(root, "go.mod"), m)
		}
		fmt.Fprintf(&text, "\t%s %s // indirect\n", m, required[1])
		for line := range bytes.Lines(sum) {
			if rest, ok := bytes.CutPrefix(line, fmt.Appendf(nil, "%s %s", m, required[1])); ok && (rest[0] == ' ' || rest[0] == '/') {
				sums.Write(line)
			}
		}
	}
	fmt.Fprintf(&text, ")\n\n%sreplace %s => %s\n", replaceNote, module, replacement(at, root))
	return []file{{"go.mod", text.Bytes()}, {"go.sum", sums.Bytes()}}, nil, nil
}

const replaceNote = `// loralab is on no module proxy. This is the checkout of its sources that runner was
// built in; on another machine, write the path of the checkout there. The built
// plug-in needs neither.
`

// modAlone is go.mod of a plug-in where runner lies in no sources, and what its
// author has to type.
func modAlone(name string) (mod []byte, first []string) {
	version, note := "v0.0.0", ""
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Sum != "" { // built from a module proxy
		version = info.Main.Version
	} else {
		edit := "go mod edit -replace " + module + "=YOUR-CHECKOUT"
		note = "// loralab is on no module proxy. Name a checkout of its sources:\n//\n//\t" + edit + "\n"
		first = append(first, edit)
	}
	return fmt.Appendf(nil, "module %s\n\ngo 1.26.0\n\n%srequire %s %s\n", name, note, module, version), append(first, "go mod tidy")
}

// replacement is how go.mod in the directory at names the sources: by a relative
// path if both are in one directory, which may be moved or checked out elsewhere.
func replacement(at, root string) string {
	path := root
	if strings.HasPrefix(at, filepath.Dir(root)+string(filepath.Separator)) {
		if rel, err := filepath.Rel(at, root); err == nil {
			path = rel
		}
	}
	if strings.ContainsAny(path, " \t\"'`()[]{},") {
		return strconv.Quote(path)
	}
	return path
}

var goLine = regexp.MustCompile(`(?m)^go .*$`)

var moduleLine = regexp.MustCompile(`(?m)^module .*$`)

// sources is the directory, this one or above it, of loralab's sources.
func sources(dir string) (string, bool) {
	for ; ; dir = filepath.Dir(dir) {
		if mod, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil {
			return dir, moduleLine.FindString(string(mod)) == "module "+module
		}
		if dir == filepath.Dir(dir) {
			return "", false
		}
	}
}
