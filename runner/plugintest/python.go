package plugintest

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/loralab/loralab/runner/environ"
)

//go:embed ask_peft.py
var peftScript string

// PEFT is a Python process in which the library of that name loads exports.
type PEFT struct {
	Version string

	mu    sync.Mutex
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	wrote *bytes.Buffer // to standard error
}

// Said is what PEFT makes of one export.
type Said struct {
	Error               string
	Warnings            []string
	Missing, Unexpected []string // names of tensors
	// Difference is the largest between the tokens of PEFT and those of the
	// engine, nil if they are not finite; Effect how far the adapter moves them.
	Difference *float64
	Effect     float64
}

// Python is the interpreter to ask: $LORALAB_PYTHON, or python3 on PATH.
func Python() (string, error) {
	if path := os.Getenv("LORALAB_PYTHON"); path != "" {
		return path, nil
	}
	path, err := exec.LookPath("python3")
	if err != nil {
		return "", errors.New("there is no python3 on PATH; LORALAB_PYTHON names another interpreter")
	}
	return path, nil
}

// StartPEFT starts the process. It ends with ctx, or by Close.
func StartPEFT(ctx context.Context, python string) (*PEFT, error) {
	p := &PEFT{cmd: exec.CommandContext(ctx, python, "-c", peftScript), wrote: &bytes.Buffer{}}
	p.cmd.Env = append(environ.ForEngine(os.Environ()), "HF_HUB_OFFLINE=1", "TRANSFORMERS_NO_ADVISORY_WARNINGS=1", "PYTHONDONTWRITEBYTECODE=1")
	p.cmd.Stderr = p.wrote
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", python, err)
	}
	var hello struct{ PEFT, Missing string }
	if err := p.read(&hello); err != nil {
		return nil, fmt.Errorf("starting PEFT in %s: %w", python, err)
	}
	if hello.Missing != "" {
		p.Close()
		return nil, fmt.Errorf("%s has no module %s: install peft, torch, transformers and safetensors there, or name another interpreter in LORALAB_PYTHON", python, hello.Missing)
	}
	p.Version = hello.PEFT
	return p, nil
}

// Compare has PEFT load the export in dir and compute it.
func (p *PEFT) Compare(dir string) (*Said, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := io.WriteString(p.in, dir+"\n"); err != nil {
		return nil, p.ended(err)
	}
	said := &Said{}
	return said, p.read(said)
}

func (p *PEFT) read(to any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return p.ended(err)
	}
	return json.Unmarshal(line, to)
}

// ended says what a process wrote that is not there any more.
func (p *PEFT) ended(err error) error {
	p.Close()
	lines := strings.Split(strings.TrimSpace(p.wrote.String()), "\n")
	return fmt.Errorf("the process ended (%w); it wrote:\n%s", err, strings.Join(lines[max(0, len(lines)-6):], "\n"))
}

// Close ends the process.
func (p *PEFT) Close() {
	p.in.Close()
	_ = p.cmd.Wait() // it is asked for nothing any more
}
