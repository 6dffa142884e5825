// Command setup prepares a machine for building the engine. The Makefile calls
// it; people rarely need to.
//
//	setup libtorch   finds libtorch, or fetches it into the user's cache
//	setup env        the same, then prints what `go build` needs as shell exports
//	setup check      says whether everything is there, and fetches nothing
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/loralab/loralab/runner/libtorch"
)

const usage = `usage: go run ./cmd/setup libtorch | env | check

  libtorch   find libtorch ` + libtorch.Version + `, or fetch it into the user's cache
  env        the same, then print what "go build" needs as shell exports
  check      say whether everything is there; fetch nothing

LIBTORCH      a libtorch ` + libtorch.Version + ` to use
CUDA=1        fetch the libraries for NVIDIA GPUs too (2.3 GB)
LORALAB_CXX   the C++ compiler, if not g++ or clang++
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, notes io.Writer) error {
	verb := strings.Join(args, " ")
	switch verb {
	case "libtorch", "env", "check":
	default:
		fmt.Fprint(notes, usage)
		return fmt.Errorf("unknown command %q", verb)
	}
	// The compiler first: it is what a fresh machine lacks, and to hear of it
	// after a long download would be rude.
	compiler, err := libtorch.FindCompiler(ctx)
	if err != nil {
		return err
	}
	var in *libtorch.Install
	if verb == "check" {
		in, err = libtorch.Find(ctx)
	} else {
		in, err = libtorch.Ensure(ctx, func(line string) { fmt.Fprintln(notes, line) })
	}
	if err != nil {
		return err
	}
	if verb != "env" {
		in.Describe(out)
		return nil
	}
	toolchain, err := libtorch.Toolchain(ctx)
	if err != nil {
		return err
	}
	env, err := libtorch.Env(in, toolchain, compiler)
	if err != nil {
		return err
	}
	for _, v := range env {
		fmt.Fprintf(out, "export %s='%s'\n", v.Name, strings.ReplaceAll(v.Value, "'", `'\''`))
	}
	return nil
}
