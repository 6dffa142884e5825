package python_test

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/loralab/loralab/internal/python"
	"github.com/loralab/loralab/plugins/protocol"
)

func run(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(python.Find(t), append([]string{"-B"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// The tests of the sdk and of each variant that is written in it.
func TestPython(t *testing.T) {
	files, err := filepath.Glob("*/test_*.py")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no variant has a test")
	}
	for _, file := range append(files, "test_graph.py") {
		dir := filepath.Dir(file)
		t.Run(file, func(t *testing.T) {
			here, err := filepath.Abs(".")
			if err != nil {
				t.Fatal(err)
			}
			out := run(t, dir, []string{"PYTHONPATH=" + here}, "-m", "unittest", "-v", strings.TrimSuffix(filepath.Base(file), ".py"))
			if !strings.Contains(out, "\nOK") {
				t.Errorf("%s", out)
			}
		})
	}
}

// The messages in Python are those of the protocol: `make proto` writes both.
func TestProtocolIsCurrent(t *testing.T) {
	raw, err := os.ReadFile("loralab_plugin/variant.binpb")
	if err != nil {
		t.Fatal(err)
	}
	got := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(raw, got); err != nil {
		t.Fatal(err)
	}
	want := protodesc.ToFileDescriptorProto(protocol.File_variant_proto)
	if len(got.GetFile()) != 1 || !proto.Equal(got.GetFile()[0], want) {
		t.Error("loralab_plugin/variant.binpb is not of variant.proto; run: make proto")
	}
}

// Packed twice, a variant is the same file; what runs is in it and tests are
// not.
func TestPack(t *testing.T) {
	dir := t.TempDir()
	for _, out := range []string{"a", "b"} {
		run(t, ".", nil, "loralab_plugin/pack.py", "delora", filepath.Join(dir, out))
	}
	a, err := os.ReadFile(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("packed twice, the file differs")
	}
	info, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	names := strings.Fields(run(t, ".", nil, "-c", "import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist())", filepath.Join(dir, "a")))
	for _, want := range []string{"__main__.py", "main.py", "schema.cue", "loralab_plugin/graph.py", "loralab_plugin/variant.binpb"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not in %v", want, names)
		}
	}
	if slices.Contains(names, "test_delora.py") {
		t.Error("the test is packed too")
	}
}

// By hand it explains itself, and without its packages it says what to install.
func TestStartedByHand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "delora")
	run(t, ".", nil, "loralab_plugin/pack.py", "delora", file)
	for want, env := range map[string][]string{
		"It is not meant to be run by itself":               {"LORALAB_PYTHON=" + python.Find(t)},
		"-m pip install grpcio protobuf cryptography":       {"LORALAB_PYTHON=" + python.Find(t), "PYTHONPATH=" + broken(t)},
		"error: there is no no-such-python: install Python": {"LORALAB_PYTHON=no-such-python"},
	} {
		cmd := exec.Command(file)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %v\n%s\nwant %q", env, err, out, want)
		}
	}
}

// What main.py prints when it is imported does not take the place of the handshake
// (trial-plugins F5).
func TestPrintedAtImport(t *testing.T) {
	dir := t.TempDir()
	const main = "from loralab_plugin import Variant\nprint('hello')\nvariant = Variant(dict, name='x', version='1.0.0', schema='')\n"
	if err := os.WriteFile(filepath.Join(dir, "main.py"), []byte(main), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "x")
	run(t, ".", nil, "loralab_plugin/pack.py", dir, file)
	cmd := exec.Command(file)
	cmd.Env = append(os.Environ(), "LORALAB_PYTHON="+python.Find(t), protocol.Handshake.MagicCookieKey+"="+protocol.Handshake.MagicCookieValue, "PLUGIN_UNIX_SOCKET_DIR="+dir)
	var printed bytes.Buffer
	cmd.Stderr = &printed
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if !strings.HasPrefix(line, "1|1|unix|") {
		t.Errorf("the first line is %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if !strings.Contains(printed.String(), "hello") {
		t.Errorf("standard error has %q", printed.String())
	}
}

// A plug-in ends with its runner, also when that dies before the plug-in runs.
func TestOrphanEnds(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "delora")
	run(t, ".", nil, "loralab_plugin/pack.py", "delora", file)
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ours.Close() // as the system does for a process that was killed
	cmd := exec.CommandContext(t.Context(), file)
	cmd.Env = append(os.Environ(), "LORALAB_PYTHON="+python.Find(t), "PLUGIN_UNIX_SOCKET_DIR="+dir,
		protocol.Handshake.MagicCookieKey+"="+protocol.Handshake.MagicCookieValue, protocol.Lifeline+"=3")
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Run()
	theirs.Close()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v, want exit status 1", err)
	}
}

// broken is a folder in which gRPC cannot be imported.
func broken(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "grpc.py"), []byte("raise ImportError('no gRPC here')"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
