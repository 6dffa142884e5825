package pilot

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/claim"
)

// mounted is a directory under another path, where attributes, names and absent names are
// believed for 30 seconds, as an NFS client does.
func mounted(t *testing.T, root string) string {
	t.Helper()
	bindfs, err := exec.LookPath("bindfs")
	if err != nil {
		t.Skip("SKIPPED: there is no bindfs (Debian: apt-get install bindfs)")
	}
	at := t.TempDir()
	if out, err := exec.Command(bindfs, "-o", "attr_timeout=30,entry_timeout=30,negative_timeout=30", root, at).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this user mounts nothing: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("fusermount", "-u", "-z", at).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return at
}

// Workers on two mounts of one disk, each of which shows for 30 seconds what was, do every run
// once. Some give runs back, and some die and are started again on the other mount.
func TestWorkersOnStaleMounts(t *testing.T) {
	const runs, elements = 60, 4
	a, jobs := arrayOf(t, runs, elements)
	mounts := []string{mounted(t, a.Root), mounted(t, a.Root)}
	// Such a mount denies a file that is there.
	probe := filepath.Join(mounts[0], "probe")
	_, before := os.Stat(probe)
	if err := os.WriteFile(filepath.Join(mounts[1], "probe"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, after := os.Stat(probe); before == nil || after == nil {
		t.Errorf("the mount is not stale: %v, %v", before, after)
	}
	start := func(element, restart int) *Worker {
		root := mounts[(element+restart)%len(mounts)]
		w, err := Open(ArrayDir(root, a.Name), claim.Worker{Element: element, Restart: restart, Nonce: claim.Nonce()}, Timing{Beat: time.Hour, Idle: 2 * time.Second, Look: 5 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		w.array.Root, w.read.root = root, root
		return w
	}
	var mu sync.Mutex
	finished := map[string]int{}
	// Those that died are followed by others, which is when the last runs are done.
	for round := range 2 {
		var wg sync.WaitGroup
		for e := range elements {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(round), uint64(e)))
				restart := 1000 * round
				w := start(e, restart)
				for {
					job, done, err := w.Next(t.Context())
					if errors.Is(err, ErrLost) {
						restart++
						w = start(e, restart)
						continue
					}
					if err != nil {
						t.Errorf("element %d: %v", e, err)
					}
					if done || err != nil {
						break
					}
					if job == nil {
						time.Sleep(time.Millisecond)
						continue
					}
					run, err := w.Claim(context.Background(), job.Run.ID)
					if err != nil {
						t.Error(err)
						break
					}
					step := int(run.Checkpoint) + 1
					train(t, run.Path(), run.ID, step, step > 2)
					switch {
					case step > 2:
						err = w.Finish(t.Context(), run.ID, &spec.Summary{Id: run.ID, Steps: 3})
						mu.Lock()
						finished[run.ID]++
						mu.Unlock()
					case round == 0 && random.IntN(6) == 0: // it dies
						restart++
						w = start(e, restart)
					default:
						err = w.Stop(t.Context(), run.ID, uint64(step))
					}
					if err != nil {
						t.Error(err)
					}
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	for _, job := range jobs {
		if n := finished[job.Run.ID]; n != 1 {
			t.Errorf("run %.12s was finished %d times", job.Run.ID, n)
		}
		if _, err := os.Stat(filepath.Join(job.Dir, rundir.Result)); err != nil {
			t.Errorf("run %.12s: %v", job.Run.ID, err)
		}
	}
}

// An end that a mount denies, since it was looked for before it was there, is one all the same:
// to whom reads who has the run, and to who ends it.
func TestEndsOnAStaleMount(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, claim.Directory), 0o777); err != nil {
		t.Fatal(err)
	}
	open := func() *os.Root {
		at, err := os.OpenRoot(mounted(t, root))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { at.Close() })
		return at
	}
	here, there := open(), open()
	mine, won, err := claim.Take(here, claim.State{}, claim.Worker{Array: "a", Nonce: claim.Nonce()})
	if err != nil || !won {
		t.Fatal(won, err)
	}
	if _, err := claim.EndOf(here, 1); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("before: %v", err)
	}
	if _, won, err := claim.Finish(there, 1, claim.End{How: claim.Broken, Reason: "its node failed", By: claim.Nonce()}); err != nil || !won {
		t.Fatal(won, err)
	}
	state, err := claim.Read(here)
	if err != nil || state.Generation != 1 || state.End != nil && state.End.How != claim.Broken {
		t.Errorf("it reads %+v, %v", state, err)
	}
	end, won, err := claim.Finish(here, mine.Generation, claim.End{How: claim.Done, By: claim.Nonce()})
	if err != nil || won || end.How != claim.Broken {
		t.Errorf("it ends as %+v, %v, %v", end, won, err)
	}
}
