package slurm

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/pilot"
)

// Owned are the options of sbatch that are the launcher's, with why.
var Owned = map[string]string{
	"array": "the workers are its elements: see resources.workers", "output": "the log of each element has its place", "error": "the log of each element has its place",
	"input": "nothing is read", "signal": "it tells a worker to stop", "requeue": "a restarted worker continues", "no-requeue": "a restarted worker continues",
	"job-name": "it finds the array again", "export": "values are in the script", "export-file": "values are in the script", "open-mode": "a restarted worker adds to its log",
	"propagate": "limits of this machine mean nothing there", "parsable": "it is the launcher's", "wrap": "the script is the launcher's", "chdir": "the script knows its places",
	"kill-on-invalid-dep": "a worker that can never start would stay for ever", "test-only": "see --dry-run", "wait": "see --detach", "hold": "it would wait for ever",
	"ntasks": "a worker is one task", "nodes": "a worker has one node", "time": "write resources.time, which workers plan by",
}

// shortOptions are the one-letter forms of options that are owned.
var shortOptions = map[byte]string{'a': "array", 'o': "output", 'e': "error", 'i': "input", 'J': "job-name", 'D': "chdir", 'W': "wait", 'H': "hold", 'n': "ntasks", 'N': "nodes", 't': "time"}

// OwnedOption is the option of Owned that a text of resources.options is, "" if it is none.
func OwnedOption(text string) string {
	if name, long := strings.CutPrefix(text, "--"); long {
		name, _, _ = strings.Cut(name, "=")
		name, _, _ = strings.Cut(name, " ")
		if _, owned := Owned[name]; owned {
			return name
		}
		return ""
	}
	if len(text) > 1 && text[0] == '-' {
		return shortOptions[text[1]]
	}
	return ""
}

// warning is how long before the end of its time Slurm tells a worker: workers count
// themselves, and this is for the time that a site takes away.
const warning = 2 * time.Minute

// Job is what a script is made of, in addition to the array.
type Job struct {
	Resources *experiment.Resources
	Runner    string            // path of the program on the nodes
	Env       map[string]string // variables of the worker
}

// Script is the batch script of a part of an array.
func (j Job) Script(a *pilot.Array, c Chunk) (string, error) {
	r := j.Resources
	limit, err := r.Limit()
	if err != nil {
		return "", err
	}
	dir := pilot.ArrayDir(a.Root, a.Name)
	for _, path := range []string{dir, j.Runner, a.Root} {
		if strings.ContainsAny(path, "\n\"\\") {
			return "", fmt.Errorf("sbatch cannot take the path %q", path)
		}
	}
	var b strings.Builder
	option := func(name, value string) {
		switch {
		case value == "":
		case strings.ContainsAny(value, " \t#"):
			fmt.Fprintf(&b, "#SBATCH --%s=\"%s\"\n", name, value)
		default:
			fmt.Fprintf(&b, "#SBATCH --%s=%s\n", name, value)
		}
	}
	flag := func(name string) { fmt.Fprintf(&b, "#SBATCH --%s\n", name) }
	fmt.Fprintf(&b, "#!/bin/bash\n# Workers %d to %d of array %s: each takes run after run of\n# %s\n\n", c.First, c.First+c.Count-1, a.Name, dir)
	option("job-name", c.Name)
	array := fmt.Sprintf("0-%d", c.Count-1)
	if r.Parallel > 0 {
		array += fmt.Sprintf("%%%d", r.Parallel)
	}
	option("array", array)
	option("time", slurmTime(limit))
	b.WriteString("\n# What a worker gets.\n")
	option("partition", r.Partition)
	option("account", r.Account)
	option("qos", r.QOS)
	option("reservation", r.Reservation)
	if r.GPUs > 0 {
		gres := "gpu"
		if r.GPUType != "" {
			gres += ":" + r.GPUType
		}
		option("gres", fmt.Sprintf("%s:%d", gres, r.GPUs))
	}
	option("ntasks", "1")
	if r.CPUs > 0 {
		option("cpus-per-task", fmt.Sprint(r.CPUs))
	}
	option("mem", r.Memory)
	option("constraint", r.Constraint)
	option("exclude", r.Exclude)
	option("dependency", r.Dependency)
	if r.Mail != "" {
		option("mail-user", r.Mail)
		option("mail-type", "END,FAIL")
	}
	for _, o := range r.Options {
		fmt.Fprintf(&b, "#SBATCH %s\n", o)
	}
	b.WriteString("\n# A worker hears of it before its time is over, and continues after a restart.\n")
	option("signal", fmt.Sprintf("B:USR1@%d", int(warning.Seconds())))
	flag("requeue")
	option("open-mode", "append")
	option("kill-on-invalid-dep", "yes")
	option("chdir", percent(a.Root))
	option("output", percent(filepath.Join(dir, "log"))+"/"+logName(c))
	b.WriteString("# Limits of the machine that submits mean nothing there.\n")
	option("propagate", "NONE")
	b.WriteString("\n")
	for _, m := range r.Modules {
		fmt.Fprintf(&b, "module load %s\n", m)
	}
	for _, line := range r.Setup {
		fmt.Fprintln(&b, line)
	}
	if r.Scratch != "" {
		// It may name variables of the job, so only the shell knows it.
		fmt.Fprintf(&b, "export TMPDIR=\"%s\"\n", strings.ReplaceAll(r.Scratch, `"`, `\"`))
	}
	var names []string
	for name := range j.Env {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "export %s=%s\n", name, Quote(j.Env[name]))
	}
	command := fmt.Sprintf("%s work --first %d %s", Quote(j.Runner), c.First, Quote(dir))
	if r.Image != "" {
		nv := ""
		if r.GPUs > 0 {
			nv = "--nv "
		}
		command = fmt.Sprintf("apptainer exec %s--bind %s %s %s", nv, Quote(a.Root), Quote(r.Image), command)
	}
	// The last line is the worker itself: a shell around it would hear signals only
	// after it has ended.
	fmt.Fprintf(&b, "exec %s\n", command)
	return b.String(), nil
}

// logName is the file of an element, which its restarts add to.
func logName(c Chunk) string {
	if c.First == 0 {
		return "%a.txt"
	}
	return fmt.Sprintf("%d+%%a.txt", c.First)
}

// percent keeps sbatch from filling in what a path has.
func percent(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// slurmTime is a time as Slurm writes it; Slurm counts minutes.
func slurmTime(d time.Duration) string {
	minutes := int((d + time.Minute - 1) / time.Minute)
	return fmt.Sprintf("%d-%02d:%02d:00", minutes/(24*60), minutes/60%24, minutes%60)
}

// Quote is a text as one word of a shell.
func Quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@%+,-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
