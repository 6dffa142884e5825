package wheel

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// build makes a wheel in memory.
func build(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// fakePython puts a python3 on PATH that runs a shell script instead of pip.
// In the script $out is the directory that pip is to fill.
func fakePython(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\nout=; previous=\nfor a; do [ \"$previous\" = -d ] && out=$a; previous=$a; done\n" + script
	if err := os.WriteFile(filepath.Join(dir, "python3"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
}

func pin(content []byte) Wheel {
	sum := sha256.Sum256(content)
	return Wheel{Name: "some-thing", Version: "1.0", SHA256: hex.EncodeToString(sum[:]), Size: uint64(len(content))}
}

func TestDownload(t *testing.T) {
	content := build(t, "a/b.txt", "hello", "a/c.txt", "other", "top.txt", "x")
	source := filepath.Join(t.TempDir(), "source.whl")
	if err := os.WriteFile(source, content, 0o666); err != nil {
		t.Fatal(err)
	}
	w := pin(content)
	// The fake insists on what makes the download safe.
	fakePython(t, `case "$*" in *--no-deps*--only-binary=:all:*--require-hashes*) ;; *) exit 9 ;; esac
grep -q '^some-thing==1.0 --hash=sha256:`+w.SHA256+`$' "$out/requirements.txt" || exit 8
cp `+source+` "$out/some_thing-1.0-py3-none-any.whl"`)
	dir := t.TempDir()
	var said []string
	paths, err := Download(t.Context(), dir, []Wheel{w}, func(s string) { said = append(said, s) })
	if err != nil {
		t.Fatal(err)
	}
	if len(said) < 2 || !strings.Contains(said[0], "some-thing 1.0") {
		t.Errorf("said %q", said)
	}
	if b, err := Read(paths[0], "a/b.txt"); err != nil || string(b) != "hello" {
		t.Errorf("read %q, %v", b, err)
	}
	to := t.TempDir()
	if err := Unpack(t.Context(), paths[0], to, func(name string) bool { return strings.HasPrefix(name, "a/") }); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "a", "c.txt")); err != nil || string(b) != "other" {
		t.Errorf("unpacked %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(to, "top.txt")); err == nil {
		t.Error("unpacked what was not wanted")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

// Each way a download fails gives one message that says what to do.
func TestDownloadFailures(t *testing.T) {
	good := build(t, "a", "b")
	half := filepath.Join(t.TempDir(), "half")
	if err := os.WriteFile(half, good[:len(good)/2], 0o666); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ script, want string }{
		"no pip": {"echo '/usr/bin/python3: No module named pip' >&2; exit 1", "apt-get install python3-pip"},
		"no network": {
			`echo "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...: [Errno -3] Temporary failure in name resolution)'" >&2
echo 'ERROR: Could not find a version that satisfies the requirement some-thing==1.0 (from versions: none)' >&2
echo 'ERROR: No matching distribution found for some-thing==1.0' >&2; exit 1`, "check the network",
		},
		"proxy certificate": {"echo 'SSLError(SSLCertVerificationError(1, [SSL: CERTIFICATE_VERIFY_FAILED]))'; exit 1", "PIP_CERT"},
		"hash mismatch": {
			`echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.' >&2; exit 1`, "not the pinned one",
		},
		"disk full": {"echo 'ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device' >&2; exit 1", "make room"},
		"other index": {
			"echo 'ERROR: No matching distribution found for some-thing==1.0' >&2; exit 1", "PIP_INDEX_URL",
		},
		"old pip":       {"echo 'no such option: --platform' >&2; exit 2", "too old"},
		"something new": {"echo 'the moon is down' >&2; exit 3", "the moon is down"},
		"silent":        {"exit 4", "exit status 4"},
		"half a file":   {`cp ` + half + ` "$out/some_thing-1.0-py3-none-any.whl"`, "damaged"},
		"no file":       {"exit 0", "0 wheels"},
	} {
		t.Run(name, func(t *testing.T) {
			fakePython(t, c.script)
			_, err := Download(t.Context(), t.TempDir(), []Wheel{pin(good)}, func(string) {})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "some-thing 1.0") {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
	t.Run("no python", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := Download(t.Context(), t.TempDir(), []Wheel{pin(good)}, func(string) {})
		if err == nil || !strings.Contains(err.Error(), "apt-get install python3") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		fakePython(t, "exec sleep 60")
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Download(ctx, t.TempDir(), []Wheel{pin(good)}, func(string) { cancel() })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// A wheel cannot write outside the directory, and a damaged one is noticed.
func TestUnpackRefuses(t *testing.T) {
	write := func(content []byte) string {
		path := filepath.Join(t.TempDir(), "x.whl")
		if err := os.WriteFile(path, content, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	all := func(string) bool { return true }
	parent := t.TempDir()
	to := filepath.Join(parent, "to")
	if err := Unpack(t.Context(), write(build(t, "../evil", "x")), to, all); err == nil {
		t.Error("wrote outside")
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	long := strings.Repeat("some text that is stored ", 40)
	content := build(t, "a", long)
	content[60] ^= 0x55
	if err := Unpack(t.Context(), write(content), to, all); err == nil {
		t.Error("took a damaged file")
	}
	if err := Unpack(t.Context(), write([]byte("no zip")), to, all); err == nil {
		t.Error("opened what is no wheel")
	}
}
