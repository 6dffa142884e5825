package peft

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/head/design"
	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// readHead is the head beside an adapter of ours if it is one for the run, nil
// otherwise.
func readHead(s Source) ([]safetensors.Tensor, error) {
	text, err := regular.Read(filepath.Join(s.Dir, spec.ExportedFile), 1<<30)
	if errors.Is(err, fs.ErrNotExist) || s.Head == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	about, err := exported(text)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(s.Dir, spec.ExportedFile), err)
	}
	of := about.GetSpec()
	if !sameHead(of.GetHead(), s.Head, s.Arch) || !slices.Equal(of.GetData().GetClasses(), s.Classes) {
		return nil, nil
	}
	file, err := safetensors.Open(filepath.Join(s.Dir, spec.ExportedHeadFile))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if want := about.GetFiles()[spec.ExportedHeadFile]; want != "" && file.Sum() != want {
		return nil, fmt.Errorf("%s is damaged: its SHA-256 is %.12s, and %s was written with %.12s", filepath.Join(s.Dir, spec.ExportedHeadFile), file.Sum(), spec.ExportedFile, want)
	}
	var out []safetensors.Tensor
	for _, name := range file.Names() {
		t, _ := file.Get(name)
		t.Data = slices.Clone(t.Data) // the file is closed
		out = append(out, t)
	}
	return out, nil
}

// asExported compares the weights with what loralab.json, if there is one, says that
// they were.
func (d *directory) asExported(dir string) error {
	path := filepath.Join(dir, spec.ExportedFile)
	text, err := regular.Read(path, 1<<30)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	about, err := exported(text)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if want := about.GetFiles()[weightFile]; want != "" && d.tensors.Sum() != want {
		return fmt.Errorf("%s is not as it was written: its SHA-256 is %.12s, and %s has %.12s; if you have changed the adapter, remove %s", filepath.Join(dir, weightFile), d.tensors.Sum(), spec.ExportedFile, want, path)
	}
	return nil
}

// sameHead reports whether two heads compute the same of the same tensors: they
// differ in dropout at most.
func sameHead(a, b *spec.Head, arch *spec.Architecture) bool {
	settled := func(h *spec.Head) *spec.Head {
		h = design.Settle(h, int(arch.GetDim()))
		h.Dropout = 0
		return h
	}
	return a != nil && proto.Equal(settled(a), settled(b))
}

// exported reads loralab.json.
func exported(text []byte) (*spec.Exported, error) {
	about := &spec.Exported{}
	return about, rundir.Unmarshal(text, about)
}

// keep writes starting values under their digest.
func (r *Reader) keep(values []safetensors.Tensor) (path, digest string, err error) {
	dir := filepath.Join(r.Cache, "adapters")
	temp := filepath.Join(dir, ".new-"+strconv.FormatUint(rand.Uint64(), 36))
	if err := safetensors.Write(temp, values, map[string]string{"format": "pt"}); err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, remove(temp)) }()
	if digest, err = filehash.Of(temp); err != nil {
		return "", "", err
	}
	path = filepath.Join(dir, digest+".safetensors")
	return path, digest, os.Rename(temp, path)
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
