package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
)

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// FuzzArchive unpacks and reads archives of anybody: none makes the reader
// panic, and none writes outside of its directory or makes a link.
func FuzzArchive(f *testing.F) {
	id := spec.Identity(&spec.RunSpec{Seed: 1})
	request := `{"id":"` + id + `","spec":{"seed":"1"},"label":{"experiment":"e","cell":"c"}}`
	add := func(head *tar.Header, manifest *Manifest, files map[string]string) {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		text, err := json.Marshal(manifest)
		if err == nil {
			err = entry(w, manifestName, int64(len(text)), bytes.NewReader(text))
		}
		for _, file := range manifest.Files {
			if err == nil {
				err = entry(w, file.Path, int64(len(files[file.Path])), strings.NewReader(files[file.Path]))
			}
		}
		if err == nil && head != nil {
			err = w.WriteHeader(head)
		}
		if err := errors.Join(err, w.Close()); err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes())
	}
	manifest := func(files ...File) *Manifest {
		return &Manifest{Format: format, ID: id, Experiment: "e", Cell: "c", Seed: 1, Files: files}
	}
	all := map[string]string{"request.json": request, "result.json": `{"id":"` + id + `"}`, "../outside": "x", "a/../../outside": "x"}
	sum := func(name string) File { return File{name, int64(len(all[name])), digest(all[name])} }
	add(nil, manifest(sum("request.json")), all)
	add(nil, manifest(sum("request.json"), sum("result.json")), all)
	add(nil, manifest(sum("../outside")), all)
	add(nil, manifest(sum("a/../../outside")), all)
	add(nil, manifest(sum("request.json"), sum("request.json")), all)
	add(&tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, manifest(), all)
	add(&tar.Header{Name: "pipe", Typeflag: tar.TypeFifo}, manifest(File{Path: "pipe"}), all)
	add(nil, manifest(File{Path: "request.json", Size: 1 << 60}), all)
	f.Fuzz(func(t *testing.T, content []byte) {
		root := t.TempDir()
		inside := filepath.Join(root, "inside")
		r := tar.NewReader(bytes.NewReader(content))
		m, err := readManifest(r)
		if err != nil {
			return
		}
		dir := filepath.Join(inside, m.ID[:12])
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		into, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer into.Close()
		if room(into, m, 1<<20) == nil && unpack(t.Context(), r, m, into) == nil {
			_ = verify(into, m)
		}
		if entries, _ := os.ReadDir(root); len(entries) != 1 {
			t.Fatalf("outside there are %v", entries)
		}
		err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !d.Type().IsRegular() {
				t.Errorf("%s is a %v", path, d.Type())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
