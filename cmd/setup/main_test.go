package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine has a compiler and a libtorch, both fake.
func machine(t *testing.T) (libtorch string) {
	t.Helper()
	bin := t.TempDir()
	libtorch = filepath.Join(t.TempDir(), "it's here")
	err := errors.Join(
		os.WriteFile(filepath.Join(bin, "g++"), []byte("#!/bin/sh\n"), 0o755),
		os.WriteFile(filepath.Join(bin, "gcc"), []byte("#!/bin/sh\n"), 0o755),
	)
	for name, text := range map[string]string{
		"lib/libtorch_cpu.so": "", "lib/libc10.so": "", "include/ATen/ATen.h": "", "build-version": "2.11.0+cpu",
	} {
		path := filepath.Join(libtorch, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(text), 0o666))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	t.Setenv("LIBTORCH", libtorch)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("LORALAB_CXX", "")
	t.Setenv("CUDA", "")
	return libtorch
}

// The exports mean to a shell what they should, whatever is in the paths.
func TestEnvIsShell(t *testing.T) {
	dir := machine(t)
	var out, notes bytes.Buffer
	if err := run(t.Context(), []string{"env"}, &out, &notes); err != nil {
		t.Fatal(err)
	}
	got, err := exec.CommandContext(t.Context(), "sh", "-euc", out.String()+`printf %s "$CGO_LDFLAGS"`).Output()
	if err != nil || !strings.Contains(string(got), `"-L`+dir+`/lib"`) {
		t.Errorf("the shell got %s (%v) from\n%s", got, err, &out)
	}
	if notes.Len() > 0 {
		t.Errorf("said %s", &notes)
	}
}

func TestVerbs(t *testing.T) {
	dir := machine(t)
	for _, verb := range []string{"libtorch", "check"} {
		var out bytes.Buffer
		if err := run(t.Context(), []string{verb}, &out, &out); err != nil || !strings.Contains(out.String(), dir) {
			t.Errorf("%s: %s (%v)", verb, &out, err)
		}
	}
	var notes bytes.Buffer
	if err := run(t.Context(), []string{"evn"}, &notes, &notes); err == nil || !strings.Contains(notes.String(), "usage") {
		t.Errorf("%s (%v)", &notes, err)
	}
}
