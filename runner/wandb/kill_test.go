package wandb

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/loralab/loralab/internal/wandbserver"
)

const killedRows = 300

// A process that logs online, to a server with faults, is killed again and again. Every
// row that a log has arrives once.
func TestKilledProcess(t *testing.T) {
	if root := os.Getenv("LORALAB_TEST_ROOT"); root != "" {
		logAll(t, root, os.Getenv("LORALAB_TEST_URL"))
		return
	}
	server := serve(t)
	faults(server, 7)
	root := t.TempDir()
	random := rand.New(rand.NewPCG(3, 4))
	kills := 0
	for done := false; !done; {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
		cmd.Env = append(os.Environ(), "LORALAB_TEST_ROOT="+root, "LORALAB_TEST_URL="+server.URL)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		rows := bufio.NewScanner(out)
		for left := 20 + random.IntN(60); left > 0 && rows.Scan(); left-- {
			done = rows.Text() == "PASS"
		}
		if !done {
			must(t, cmd.Process.Kill())
			kills++
		}
		if err := cmd.Wait(); done && err != nil {
			t.Fatal(err)
		}
		if kills > 50 {
			t.Fatal("it does not end")
		}
	}
	logs, err := logsOf(filepath.Join(root, "wandb"), "abcd1234")
	must(t, err)
	run := server.Run("nuclei", "abcd1234")
	same(t, server, run, logs...)
	rows, err := run.Rows("wandb-history.jsonl")
	must(t, err)
	if len(rows) != killedRows {
		t.Errorf("%d rows of %d", len(rows), killedRows)
	}
	t.Logf("%d kills, %d logs, %d rows: 0 lost, 0 doubled; %d lines came again at their place", kills, len(logs), len(rows), run.Repeated)
}

// logAll logs what is missing of the rows, and says so after each.
func logAll(t *testing.T, root, url string) {
	s := to(&wandbserver.Server{URL: url}, root)
	s.Mode = Online
	r, err := Init(t.Context(), s)
	must(t, err)
	for step := r.Step(); step < killedRows; step++ {
		must(t, r.Log(step, map[string]any{"loss": 1 / float64(step+1)}))
		must(t, r.Output(fmt.Sprint("line ", step), false, time.Time{}))
		fmt.Println(step)
		time.Sleep(time.Millisecond)
	}
	must(t, r.Finish(t.Context(), 0))
}
