package slurmtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A job runs, is counted, and the site's words reach a client.
func TestCluster(t *testing.T) {
	began := time.Now()
	c := Start(t)
	t.Logf("started in %v", time.Since(began))
	c.Use(t)
	dir := t.TempDir()
	cmd := exec.Command("sbatch", "--parsable", "--array=0-3", "--output="+dir+"/%a.txt", "--gres=gpu:1")
	cmd.Stdin = strings.NewReader("#!/bin/sh\necho $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES done\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"0.txt", "1.txt", "2.txt", "3.txt"} {
		Wait(t, "the job", func() bool {
			text, _ := os.ReadFile(filepath.Join(dir, name))
			return bytes.HasSuffix(text, []byte(" done\n"))
		})
	}
	out, err := exec.Command("sbatch", "--account="+Refused, "--wrap=true").CombinedOutput()
	if err == nil || !strings.Contains(string(out), RefusedWords) {
		t.Errorf("%v: %s", err, out)
	}
	if calls := c.Calls("sbatch"); len(calls) != 2 || !strings.HasPrefix(calls[0], "--parsable --array=0-3 ") {
		t.Errorf("counted %q", calls)
	}
	c.Fault("squeue", `"$program" "$@"; echo 'squeue: error: later' >&2; exit 1`)
	if out, err := exec.Command("squeue").CombinedOutput(); err == nil || !strings.Contains(string(out), "JOBID") {
		t.Errorf("with a fault: %v: %s", err, out)
	}
	c.Heal("squeue")
	if out, err := exec.Command("squeue").CombinedOutput(); err != nil {
		t.Errorf("without it: %v: %s", err, out)
	}
}

// Nothing outlives a test process that is killed: no daemon, no job, no file.
func TestEndsWithAKilledTest(t *testing.T) {
	if dir := os.Getenv("SLURMTEST_HOLD"); dir != "" {
		c := Start(t)
		c.Do(t, "sbatch", "--output=/dev/null", "--wrap=touch "+dir+"/runs; exec sleep 1000")
		Wait(t, "the job", func() bool { _, err := os.Stat(dir + "/runs"); return err == nil })
		if err := os.WriteFile(dir+"/cluster", []byte(c.dir), 0o666); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	if missing := Missing(); missing != "" {
		t.Skip(missing)
	}
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestEndsWithAKilledTest$")
	cmd.Env = append(os.Environ(), "SLURMTEST_HOLD="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var cluster []byte
	Wait(t, "the job of the test", func() bool {
		var err error
		cluster, err = os.ReadFile(dir + "/cluster")
		return err == nil && len(cluster) > 0
	})
	if n := len(processesOf(string(cluster))); n < 6 {
		t.Errorf("%d processes are of the cluster, of munged, slurmctld, three slurmd and a job", n)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	Wait(t, "the end of the cluster", func() bool {
		_, err := os.Stat(string(cluster))
		return os.IsNotExist(err) && len(processesOf(string(cluster))) == 0
	})
}

// processesOf are those with a directory in their environment.
func processesOf(dir string) (all []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte(dir+"/")) {
			all = append(all, file)
		}
	}
	return all
}
