package slurm

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loralab/loralab/runner/pilot"
)

// commands puts commands of Slurm on PATH that are lines of shell.
func commands(t *testing.T, lines map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range lines {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

// listed is a line of squeue.
func listed(values ...string) string {
	var b strings.Builder
	for i, col := range columns {
		b.WriteString(values[i] + strings.Repeat(" ", col.width-len(values[i])))
	}
	return b.String() + "\n"
}

// Elements that were cancelled before they began are one line without an index.
func TestParseCancelledBeforeItBegan(t *testing.T) {
	all, err := parse(listed("a.16", "110", "N/A", "CANCELLED", "0", "", "0", "PartitionDown") + listed("a.16", "110", "1", "RUNNING", "0", "n1", "0", "None"))
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if e := all[0]; e.Index != pilot.Others || e.Array != "a" || e.Life != pilot.Over || e.Reason != pilot.WasCancelled+" (PartitionDown)" {
		t.Errorf("%+v", e)
	}
	if e := all[1]; e.Index != 17 || e.Life != pilot.Running {
		t.Errorf("%+v", e)
	}
	if _, err := parse(listed("a", "110", "N/A", "PENDING", "0", "", "0", "Priority")); err == nil {
		t.Error("elements that wait have no index, and that is no error")
	}
}

// A submission is one when sbatch gives the number of its job.
func TestNumberOfASubmission(t *testing.T) {
	for text, submitted := range map[string]bool{
		"12": true, "12;cluster": true, "Welcome to lab 42\n12\n": true, "": false, "Submitted batch job 12\n": false, "please read the news\n": false,
	} {
		commands(t, map[string]string{"sbatch": "printf '" + strings.ReplaceAll(text, "\n", `\n`) + "'", "squeue": "true"})
		c := &Client{Look: 40 * time.Millisecond, Script: func(*pilot.Array, Chunk) (string, error) { return "", nil }}
		err := c.Submit(t.Context(), &pilot.Array{Name: "a", Workers: 1})
		if submitted && err != nil || !submitted && !errors.Is(err, pilot.ErrUnknown) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A Ctrl-C does not reach sbatch. What a signal of somebody else has ended may have submitted.
func TestSignalsOfSbatch(t *testing.T) {
	dir := commands(t, map[string]string{"sbatch": `ps -o pgid= -p $$ >"$0.group"; kill -INT $$; sleep 5`, "squeue": "true"})
	c := &Client{Look: 40 * time.Millisecond, Script: func(*pilot.Array, Chunk) (string, error) { return "", nil }}
	err := c.Submit(t.Context(), &pilot.Array{Name: "a", Workers: 1})
	if !errors.Is(err, pilot.ErrUnknown) || !strings.Contains(err.Error(), "signal: interrupt") {
		t.Errorf("%v", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "sbatch.group"))
	if err != nil {
		t.Fatal(err)
	}
	if group, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || group == syscall.Getpgrp() {
		t.Errorf("sbatch is in the group %q of this process: %v", text, err)
	}
}
