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

// warning is how long before the end of its time Slurm tells a worker at most: workers count
// themselves, and this is for the time that a site takes away.
const warning = 2 * time.Minute

// Job is what a script is made of, in addition to the array.
type Job struct {
	Resources *experiment.Resources
	Runner    string            // path of the program on the nodes
	Env       map[string]string // variables of the worker
	Bind      []string          // what an image sees in addition to the project
}

// CheckRoot says why workers cannot run in a project at a path.
func CheckRoot(root string) error {
	// A line cannot have the first; after the second sbatch fills in no %a.
	if strings.ContainsAny(root, "\n\\") {
		return fmt.Errorf("sbatch takes no path with a line break or a backslash: move the project from %q", root)
	}
	return nil
}

// Script is the batch script of a part of an array.
func (j Job) Script(a *pilot.Array, c Chunk) (string, error) {
	r := j.Resources
	limit, err := r.Limit()
	if err != nil {
		return "", err
	}
	dir := pilot.ArrayDir(a.Root, a.Name)
	if err := CheckRoot(a.Root); err != nil {
		return "", err
	}
	var b strings.Builder
	option := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "#SBATCH --%s=%s\n", name, word(value))
		}
	}
	flag := func(name string) { fmt.Fprintf(&b, "#SBATCH --%s\n", name) }
	fmt.Fprintf(&b, "#!/bin/bash\n# Workers %d to %d of array %s: each takes run after run of\n# %s\n\n", c.First, c.First+c.Count-1, a.Name, dir)
	option("job-name", c.Name)
	array := fmt.Sprintf("0-%d", c.Count-1)
	if r.Parallel > 0 {
		// Each array has a limit of its own, so each gets its part.
		array += fmt.Sprintf("%%%d", max(1, r.Parallel*c.Count/a.Workers))
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
	option("exclude", strings.Join(slices.DeleteFunc(append([]string{r.Exclude}, a.Exclude...), func(s string) bool { return s == "" }), ","))
	option("dependency", r.Dependency)
	if r.Mail != "" {
		option("mail-user", r.Mail)
		option("mail-type", "END,FAIL")
	}
	for _, o := range r.Options {
		fmt.Fprintf(&b, "#SBATCH %s\n", o)
	}
	b.WriteString("\n# A worker hears of it before its time is over, and continues after a restart.\n")
	option("signal", fmt.Sprintf("B:USR1@%d", int(min(warning, limit/4).Seconds())))
	flag("requeue")
	option("open-mode", "append")
	option("kill-on-invalid-dep", "yes")
	option("chdir", a.Root)
	option("output", percent(filepath.Join(dir, "log"))+"/"+logName(c))
	b.WriteString("# Limits of the machine that submits mean nothing there.\n")
	option("propagate", "NONE")
	b.WriteString("\n")
	if len(r.Modules) > 0 {
		b.WriteString("command -v module >/dev/null || . /etc/profile\n")
	}
	for _, m := range r.Modules {
		fmt.Fprintf(&b, "module load %s || exit\n", m)
	}
	if len(r.Setup) > 0 {
		// The first line that fails ends the worker.
		fmt.Fprintf(&b, "set -e\n%s\nset +e\n", strings.Join(r.Setup, "\n"))
	}
	if r.Scratch != "" {
		// It may name variables of the job, so only the shell knows it.
		// Where it cannot be made, the worker says so of its node.
		fmt.Fprintf(&b, "export TMPDIR=\"%s\"\nmkdir -p \"$TMPDIR\"\n", strings.ReplaceAll(r.Scratch, `"`, `\"`))
	}
	var names []string
	for name := range j.Env {
		names = append(names, name)
	}
	slices.Sort(names)
	if _, said := j.Env["LORALAB_THREADS"]; !said {
		// Not those of the node: others have the rest.
		b.WriteString("export LORALAB_THREADS=\"${LORALAB_THREADS:-$SLURM_CPUS_ON_NODE}\"\n")
	}
	for _, name := range names {
		fmt.Fprintf(&b, "export %s=%s\n", name, Quote(j.Env[name]))
	}
	command := fmt.Sprintf("%s work --first %d", Quote(j.Runner), c.First)
	if r.Scratch != "" {
		command += ` --scratch "$TMPDIR"`
	}
	command += " " + Quote(dir)
	if r.Image != "" {
		inside := "apptainer exec"
		if r.GPUs > 0 {
			inside += " --nv"
		}
		// What the image need not have: the project, this program, the temporary files.
		inside += " --bind " + Quote(a.Root) + " --bind " + Quote(filepath.Dir(j.Runner))
		for _, dir := range j.Bind {
			inside += " --bind " + Quote(dir)
		}
		if r.Scratch != "" {
			inside += ` --bind "$TMPDIR"`
		}
		command = inside + " " + Quote(r.Image) + " " + command
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

// plain are the characters that mean themselves to sbatch and to shells.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@%+,-"

// word is a value of an option as sbatch reads it from a script.
func word(s string) string {
	if strings.Trim(s, plain) == "" {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Quote is a text as one word of a shell.
func Quote(s string) string {
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
