package provenance

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// gitTimeout bounds what looking at a large repository may cost.
const gitTimeout = 20 * time.Second

// git is the state of the repository that holds root; nil where there is none,
// no commit yet, or no git.
func git(ctx context.Context, root string) *Git {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...)
		// Only look: not even the index is refreshed.
		cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C")
		out, err := cmd.Output()
		return string(out), err
	}
	commit, err := run("rev-parse", "HEAD")
	if err != nil {
		return nil
	}
	g := &Git{Commit: strings.TrimSpace(commit)}
	if branch, err := run("symbolic-ref", "--short", "-q", "HEAD"); err == nil {
		g.Branch = strings.TrimSpace(branch)
	}
	patch, err := run("diff", "HEAD", "--binary", "--no-color", "--no-ext-diff")
	switch {
	case err != nil:
		g.Dirty, g.PatchNote = true, "git diff failed"
	case len(patch) > patchMost:
		g.Dirty, g.PatchNote = true, fmt.Sprintf("left out: it has %d MiB", len(patch)>>20)
	case patch != "":
		g.Dirty, g.patch = true, []byte(patch)
	}
	if files, err := run("ls-files", "--others", "--exclude-standard", "-z"); err == nil {
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
