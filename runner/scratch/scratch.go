// Package scratch copies what workers of a node read when they start to a disk of the node:
// the engine, libtorch and weights of backbones. A copy is made once, by the first worker
// that needs it, and found whole or not at all by the others.
//
//	SCRATCH/loralab.1000/
//	  engine-1f0c…/runner-engine
//	  libtorch-77a2…/torch/lib, nvidia
//	  backbone-9b41…/model.safetensors
package scratch

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/loralab/loralab/runner/cache"
)

// Dir is the directory of a user in the scratch of a node.
type Dir struct{ path string }

// Open makes the directory in that of the scratch, which it makes as well.
func Open(scratch string) (*Dir, error) {
	scratch, err := filepath.Abs(scratch)
	if err != nil {
		return nil, fmt.Errorf("finding the scratch of the node: %w", err)
	}
	if err := os.MkdirAll(scratch, 0o777); err != nil {
		return nil, fmt.Errorf("making the scratch of the node: %w", err)
	}
	path := filepath.Join(scratch, fmt.Sprintf("loralab.%d", os.Geteuid()))
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making a directory in the scratch of the node: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("looking at the scratch of the node: %w", err)
	}
	// Others may write in the scratch, and what lies here is executed.
	if sys, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || info.Mode().Perm()&0o022 != 0 || ok && int(sys.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s is no directory that this user alone can write: remove it, or give another resources: scratch", path)
	}
	return &Dir{path}, nil
}

// Engine is a copy of an engine, and the directory of that of its libraries; "" where it
// names none with libtorch.
func (d *Dir) Engine(ctx context.Context, engine string) (path, libraries string, err error) {
	path, err = d.File(ctx, "engine", engine)
	if err != nil {
		return "", "", err
	}
	from := libtorchOf(engine)
	if from == "" {
		return path, "", nil
	}
	const lib = "torch/lib"
	files := map[string]string{}
	err = shared(from, lib, files)
	// Its half for GPUs finds other libraries from where it is.
	others := filepath.Join(from, "..", "..", "nvidia")
	entries, e := os.ReadDir(others)
	if e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	for _, entry := range entries {
		in := filepath.Join(others, entry.Name(), "lib")
		if e := shared(in, filepath.Join("nvidia", entry.Name(), "lib"), files); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("copying libtorch to the scratch of the node: %w", err)
	}
	dir, err := d.copied(ctx, "libtorch", files)
	return path, filepath.Join(dir, lib), err
}

// shared adds the shared libraries in a directory to files, below a name.
func shared(dir, below string, files map[string]string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".so") || strings.Contains(e.Name(), ".so.") {
			files[filepath.Join(below, e.Name())] = filepath.Join(dir, e.Name())
		}
	}
	return err
}

// libtorchOf is the directory of libtorch that is in an engine; "" if none is.
func libtorchOf(engine string) string {
	f, err := elf.Open(engine)
	if err != nil {
		return "" // a script, which knows itself
	}
	defer f.Close()
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		paths, err := f.DynString(tag)
		if err != nil {
			continue
		}
		for _, dir := range filepath.SplitList(strings.Join(paths, string(filepath.ListSeparator))) {
			dir = strings.NewReplacer("$ORIGIN", filepath.Dir(engine), "${ORIGIN}", filepath.Dir(engine)).Replace(dir)
			if _, err := os.Stat(filepath.Join(dir, "libtorch_cpu.so")); err == nil {
				return dir
			}
		}
	}
	return ""
}

// File is a copy of a file under its own name. What says to users what it is. A file of the
// scratch is its own copy.
func (d *Dir) File(ctx context.Context, what, file string) (string, error) {
	if strings.HasPrefix(file, d.path+string(filepath.Separator)) {
		return file, nil
	}
	name := filepath.Base(file)
	dir, err := d.copied(ctx, what, map[string]string{name: file})
	return filepath.Join(dir, name), err
}

// copied is a directory with copies of files, by their names there.
func (d *Dir) copied(ctx context.Context, what string, files map[string]string) (string, error) {
	dir, err := d.ensure(ctx, what, files)
	if err != nil {
		return "", fmt.Errorf("copying the %s to the scratch of the node: %w", what, err)
	}
	return dir, nil
}

func (d *Dir) ensure(ctx context.Context, what string, files map[string]string) (string, error) {
	// A file that was replaced is another one.
	h := sha256.New()
	names := slices.Sorted(maps.Keys(files))
	sizes := map[string]int64{}
	var sum int64
	for _, name := range names {
		info, err := os.Stat(files[name])
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %q %d %d\n", name, files[name], info.Size(), info.ModTime().UnixNano())
		sizes[name] = info.Size()
		sum += info.Size()
	}
	dir := filepath.Join(d.path, what+"-"+hex.EncodeToString(h.Sum(nil)[:8]))
	return dir, cache.Ensure(ctx, cache.Entry{
		Dir: dir,
		// Nodes lose power, and sites remove what is old.
		Complete: func() bool {
			return !slices.ContainsFunc(names, func(name string) bool {
				info, err := os.Stat(filepath.Join(dir, name))
				return err != nil || info.Size() != sizes[name]
			})
		},
		Fill: func(ctx context.Context, temp string) error {
			if free, err := cache.Free(temp); err == nil && free < uint64(sum) {
				return fmt.Errorf("it takes %s, and %s are free in %s", cache.Bytes(uint64(sum)), cache.Bytes(free), d.path)
			}
			for _, name := range names {
				if err := copyFile(ctx, files[name], filepath.Join(temp, name)); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func copyFile(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm()|0o600)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { in.Close() })
	defer stop()
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	return nil
}
