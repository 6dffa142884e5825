package provenance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// gitTimeout bounds what looking at a large repository may cost.
const gitTimeout = 20 * time.Second

// repository asks git about one. A repository can name programs in its own
// configuration that git starts when somebody looks: a watcher of the file system,
// hooks, filters, drivers for diffs, transports. None of them is started, as the
// project may be somebody else's.
type repository struct {
	ctx  context.Context
	root string
	off  []string // settings that turn off the filters of this repository
}

// safe are settings and variables for every command.
var (
	safe = []string{
		"-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat", "-c", "diff.external=",
		"-c", "submodule.recurse=false",
	}
	safeEnvironment = []string{
		"GIT_OPTIONAL_LOCKS=0",    // only look: not even the index is refreshed
		"GIT_ALLOW_PROTOCOL=none", // objects of a partial clone are not fetched
		"GIT_TERMINAL_PROMPT=0",
		"LC_ALL=C",
	}
)

func (r *repository) run(args ...string) (string, error) {
	cmd := exec.CommandContext(r.ctx, "git", slices.Concat([]string{"-C", r.root}, safe, r.off, args)...)
	cmd.Env = append(os.Environ(), safeEnvironment...)
	out, err := cmd.Output()
	return string(out), err
}

// noFilters turns off the filters that the repository itself defines; those of the
// user, git-lfs for example, stay.
func (r *repository) noFilters() error {
	// One setting is: scope, key, newline, value; the first two end with NUL.
	out, err := r.run("config", "--show-scope", "-z", "--get-regexp", `^filter\.`)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil // there is none
	}
	if err != nil {
		return err
	}
	fields := strings.Split(out, "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		scope := fields[i]
		key, _, _ := strings.Cut(fields[i+1], "\n")
		name := strings.TrimPrefix(key[:max(0, strings.LastIndexByte(key, '.'))], "filter.")
		if (scope == "local" || scope == "worktree") && name != "" {
			for _, setting := range []string{"clean=", "smudge=", "process=", "required=false"} {
				r.off = append(r.off, "-c", "filter."+name+"."+setting)
			}
		}
	}
	return nil
}

// git is the state of the repository that holds root, as far as it is about what
// is below root; nil where there is none, no commit yet, or no git.
func git(ctx context.Context, root string) *Git {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	r := &repository{ctx: ctx, root: root}
	commit, err := r.run("rev-parse", "HEAD")
	if err != nil {
		return nil
	}
	g := &Git{Commit: strings.TrimSpace(commit)}
	if branch, err := r.run("symbolic-ref", "--short", "-q", "HEAD"); err == nil {
		g.Branch = strings.TrimSpace(branch)
	}
	patch, err := "", r.noFilters()
	if err == nil {
		patch, err = r.run("diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "--relative", "--", ".")
	}
	switch {
	case err != nil:
		g.Dirty, g.PatchNote = true, "git diff failed"
	case len(patch) > patchMost:
		g.Dirty, g.PatchNote = true, fmt.Sprintf("left out: it has %d MiB", len(patch)>>20)
	case patch != "":
		g.Dirty, g.patch = true, []byte(patch)
	}
	if files, err := r.run("ls-files", "--others", "--exclude-standard", "-z"); err == nil {
		for name := range bytes.SplitSeq([]byte(files), []byte{0}) {
			if len(name) == 0 {
				continue
			}
			if len(g.Untracked) == untrackedMost {
				g.Untracked = append(g.Untracked, "…")
				break
			}
			g.Untracked = append(g.Untracked, string(name))
		}
	}
	return g
}
