// Package scaffold writes new plug-ins: a variant that works, with its schema
// and its test, in Go or in Python, for its author to change.
//
// A plug-in in Go needs the sdk. Inside of loralab's own sources it is there;
// elsewhere the new go.mod names it, and where runner lies in the sources it
// was built from, points there. A plug-in in Python brings its sdk along.
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
	mod, err := modFiles(dir, name)
	if err != nil {
		return nil, nil, err
	}
	if len(mod) == 1 {
		next = append(next, "go mod tidy") // the sums are not known here
	}
	return append(files, mod...), append(next,
		"go test .", "go build -o "+name+" .", "runner plugins test ./"+name, "runner plugins install ./"+name), nil
}

// fill puts the name where the template has {{.}}.
func fill(from, name string) ([]byte, error) {
	raw, err := templates.ReadFile(from)
	return bytes.ReplaceAll(raw, []byte("{{.}}"), []byte(name)), err
}

// modFiles are go.mod and go.sum of a plug-in outside of loralab's sources;
// none inside.
func modFiles(dir, name string) ([]file, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, inside := sources(abs); inside {
		return nil, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	root, ok := sources(filepath.Dir(exe))
	if !ok {
		version := "latest"
		if info, ok := debug.ReadBuildInfo(); ok && strings.HasPrefix(info.Main.Version, "v") {
			version = info.Main.Version
		}
		return []file{{"go.mod", fmt.Appendf(nil, "module %s\n\ngo 1.26\n\nrequire %s %s\n", name, module, version)}}, nil
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, err
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		return nil, err
	}
	// The sources' own requirements: what they were tested with.
	text := moduleLine.ReplaceAllLiteralString(string(mod), "module "+name)
	text += fmt.Sprintf("\nrequire %s v0.0.0\n\nreplace %s => %s\n", module, module, root)
	return []file{{"go.mod", []byte(text)}, {"go.sum", sum}}, nil
}

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
