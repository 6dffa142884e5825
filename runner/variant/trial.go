package variant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/bounded"
)

// The schema of a plug-in is CUE from elsewhere: its evaluation may never end, or
// need all memory, and CUE has no way to end an evaluation. So a schema is tried
// once, in a process of its own that can be killed, before this process evaluates
// it.

// describedKey is the key of kept descriptions whose schema was tried.
const describedKey = "described"

// trialVariable makes a process that links this package try the schema on its
// standard input, and nothing else.
const trialVariable = "LORALAB_TRY_SCHEMA"

// What a schema may take. A schema of the shipped variants takes a few
// milliseconds.
var trialLimits = bounded.Limits{CPU: 2 * time.Second, Memory: 512 << 20}

const (
	refused   = 3                // exit status of a trial, with the reason on standard output
	endTrial  = 10               // seconds of computing after which the system ends it
	waitTrial = 60 * time.Second // for a machine that does nothing else
	maxStack  = 128 << 20
)

func init() {
	if os.Getenv(trialVariable) != "" {
		os.Exit(trial(os.Stdin, os.Stdout))
	}
}

// trial is the process that tries a schema.
func trial(in io.Reader, out io.Writer) int {
	limit := &syscall.Rlimit{Cur: endTrial, Max: endTrial}
	_ = syscall.Setrlimit(syscall.RLIMIT_CPU, limit) // the other limits hold without it
	debug.SetMaxStack(maxStack)
	text, err := io.ReadAll(in)
	if err == nil {
		err = bounded.Do(context.Background(), trialLimits, func() { evaluate(string(text)) })
	}
	if err != nil {
		fmt.Fprint(out, err)
		return refused
	}
	return 0
}

// evaluate looks at all of a schema. What is wrong with it is reported by the
// commands that use it.
func evaluate(text string) {
	c := cuecontext.New()
	params := c.CompileString(text).LookupPath(cue.ParsePath("#Params"))
	if params.Exists() {
		_ = params.Validate()
		_ = params.Unify(c.CompileString("{}")).Validate(cue.Concrete(true), cue.Final())
	}
}

// evaluable tries the schema of a variant.
func evaluable(ctx context.Context, p *Plugin, d *protocol.DescribeReply) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("trying the schema of variant %s: %w", p.Name, err)
	}
	limited, cancel := context.WithTimeout(ctx, waitTrial)
	defer cancel()
	cmd := exec.CommandContext(limited, exe)
	cmd.Env = append(os.Environ(), trialVariable+"=1", "GOMAXPROCS=2")
	cmd.Stdin = strings.NewReader(d.GetSchema())
	var said, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &failed
	err = cmd.Run()
	fail := func(message string) error {
		return &Error{Variant: p.Name, Path: p.Path, Doing: "Describe", Message: message, Hint: hintAuthor}
	}
	var ended *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("trying the schema of variant %s: %w", p.Name, ctx.Err())
	case !errors.As(err, &ended):
		return fmt.Errorf("trying the schema of variant %s: %w", p.Name, err)
	case ended.ExitCode() == refused:
		return fail("its schema cannot be evaluated: " + said.String())
	case limited.Err() != nil || ended.Sys().(syscall.WaitStatus).Signaled():
		return fail("its schema takes too long to evaluate")
	case strings.Contains(failed.String(), "stack exceeds"):
		return fail("its schema is nested too deep")
	}
	line, _, _ := strings.Cut(failed.String(), "\n")
	return fail("its schema cannot be evaluated: " + line)
}
