// Package slurm asks Slurm by its commands: sbatch, squeue and scancel, in the forms that
// all versions from 20.11 on have. It needs no accounting; where there is one, sacct says how
// workers ended that squeue has forgotten.
//
// What Slurm says is believed as far as it goes:
//
//   - An array is known by its unique name. A controller that was killed may give the
//     number of a job that it has forgotten to the next one.
//   - An sbatch that fails or takes too long may have submitted: the name is looked up
//     before it is called an error.
//   - A squeue that fails says nothing. An element that is not in its answer is over.
package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/loralab/loralab/runner/pilot"
)

// Client asks Slurm. The zero value is ready. Its methods may be called from several
// goroutines.
type Client struct {
	// Script is what elements of an array run.
	Script func(a *pilot.Array, c Chunk) (string, error)
	// Patience is how long a command may take; 0: a minute.
	Patience time.Duration
	// Look is how long a submission that failed is looked up; 0: two minutes.
	Look time.Duration

	unaccounted atomic.Bool // the site has no accounting
}

// Chunk is a part of an array that is submitted at once: Slurm bounds the index of an
// element.
type Chunk struct {
	Name  string // of the jobs
	First int    // element of the array that has index 0
	Count int
}

// Chunks are the parts of an array.
func Chunks(a *pilot.Array) []Chunk {
	size := a.Chunk
	if size <= 0 || size >= a.Workers {
		return []Chunk{{a.Name, 0, a.Workers}}
	}
	var all []Chunk
	for first := 0; first < a.Workers; first += size {
		all = append(all, Chunk{fmt.Sprintf("%s.%d", a.Name, first), first, min(size, a.Workers-first)})
	}
	return all
}

// MaxArray is how many elements an array of jobs may have here.
func (c *Client) MaxArray(ctx context.Context) (int, error) {
	text, err := c.run(ctx, "", "scontrol", "show", "config")
	if err != nil {
		return 0, err
	}
	m := maxArray.FindStringSubmatch(text)
	if m == nil {
		return 0, errors.New("scontrol show config names no MaxArraySize")
	}
	return strconv.Atoi(m[1])
}

var maxArray = regexp.MustCompile(`(?m)^MaxArraySize\s*=\s*([0-9]+)\s*$`)

// Submit starts the elements of an array. The error is a *RefusedError with Slurm's words;
// one that wraps pilot.ErrUnknown says that part of it may have been submitted, which Poll shows.
func (c *Client) Submit(ctx context.Context, a *pilot.Array) error {
	for _, chunk := range Chunks(a) {
		script, err := c.Script(a, chunk)
		if err == nil {
			err = c.submit(ctx, script, chunk)
		}
		if err != nil {
			return fmt.Errorf("submitting array %s: %w", chunk.Name, err)
		}
	}
	return nil
}

func (c *Client) submit(ctx context.Context, script string, chunk Chunk) error {
	// It is not stopped half-way by a Ctrl-C: then nobody knows what it did.
	ctx = context.WithoutCancel(ctx)
	text, failed := c.run(ctx, script, "sbatch", "--parsable")
	if failed == nil {
		if number.MatchString(strings.TrimSpace(text)) {
			return nil
		}
		// A wrapper of the site, say.
		failed = fmt.Errorf("%w: sbatch ends with success and gives no number of a job: %.200q", pilot.ErrUnknown, text)
	}
	look := c.Look
	if look == 0 {
		look = 2 * time.Minute
	}
	absent := 0
	for deadline := time.Now().Add(look); ; {
		elements, err := c.poll(ctx, []Chunk{chunk})
		// What Slurm refuses because no node can have it, it may list as failed.
		submitted := slices.ContainsFunc(elements, func(e pilot.Element) bool { return e.Life != pilot.Over || e.Node != "" })
		switch {
		case err == nil && submitted:
			return nil
		case err == nil:
			absent++
		}
		// A refusal is final when a look finds nothing. After silence the controller
		// may take the submission up later, so it is looked for twice, apart.
		refused := !errors.Is(failed, pilot.ErrUnknown)
		if absent > 0 && refused || absent > 1 {
			return failed
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: %w", pilot.ErrUnknown, failed)
		}
		time.Sleep(min(5*time.Second, look/4))
	}
}

// number is what sbatch says of what it has submitted: the number of the job, in some
// versions the cluster. A site may have it say more before.
var number = regexp.MustCompile(`(?m)^[0-9]+(;\S*)?\z`)

// The columns that squeue is asked for, each as wide as its content may be.
var columns = []struct {
	name  string
	width int
}{
	{"Name", 80}, {"ArrayJobID", 20}, {"ArrayTaskID", 20}, {"State", 24}, {"RestartCnt", 12}, {"NodeList", 80}, {"exit_code", 12}, {"Reason", 80},
}

// Poll is the elements of arrays that Slurm knows.
func (c *Client) Poll(ctx context.Context, arrays []*pilot.Array) ([]pilot.Element, error) {
	var chunks []Chunk
	for _, a := range arrays {
		chunks = append(chunks, Chunks(a)...)
	}
	if len(chunks) == 0 {
		return nil, nil
	}
	return c.poll(ctx, chunks)
}

func (c *Client) poll(ctx context.Context, chunks []Chunk) ([]pilot.Element, error) {
	var format, names []string
	for _, col := range columns {
		format = append(format, fmt.Sprintf("%s:%d", col.name, col.width))
	}
	for _, chunk := range chunks {
		names = append(names, chunk.Name)
	}
	text, err := c.run(ctx, "", "squeue", "--me", "--noheader", "--array", "--states=all", "--name="+strings.Join(names, ","), "--Format="+strings.Join(format, ","))
	if err != nil {
		return nil, err
	}
	return parse(text)
}

func parse(text string) ([]pilot.Element, error) {
	var all []pilot.Element
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		fields := map[string]string{}
		rest := []rune(line)
		for _, col := range columns {
			n := min(col.width, len(rest))
			fields[col.name] = strings.TrimSpace(string(rest[:n]))
			rest = rest[n:]
		}
		e, err := element(fields)
		if err != nil {
			return nil, fmt.Errorf("understanding squeue: %w: %q", err, line)
		}
		all = append(all, e)
	}
	return all, nil
}

// element is one line of squeue.
func element(f map[string]string) (pilot.Element, error) {
	e := pilot.Element{Node: f["NodeList"], Reason: reason(f["State"], f["Reason"], f["exit_code"])}
	name, chunk, _ := strings.Cut(f["Name"], ".")
	e.Array = name
	var err error
	first := 0
	if chunk != "" {
		if first, err = strconv.Atoi(chunk); err != nil {
			return e, err
		}
	}
	e.Life = life(f["State"])
	if e.Life == pilot.Over && f["ArrayTaskID"] == "N/A" {
		// What is left of elements that were cancelled before they began.
		e.Index, e.Job = pilot.Others, f["ArrayJobID"]
		return e, nil
	}
	index, err := strconv.Atoi(f["ArrayTaskID"])
	if err != nil {
		return e, err
	}
	e.Index, e.Job = first+index, fmt.Sprintf("%s_%d", f["ArrayJobID"], index)
	if e.Restart, err = strconv.Atoi(f["RestartCnt"]); err != nil {
		return e, err
	}
	if e.Life == pilot.Waiting && strings.Contains(f["Reason"], "requeued held") {
		// Its node could not start it. Slurm holds it until somebody releases it.
		e.Life, e.Held = pilot.Over, true
	}
	return e, nil
}

// life is what a state means. PREEMPTED is Running: a job that is to be started again has
// it for a moment, and one that is not is forgotten soon.
func life(state string) pilot.Life {
	switch state {
	case "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT":
		return pilot.Waiting
	case "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", "PREEMPTED":
		return pilot.Running
	case "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT", "LAUNCH_FAILED", "RECONFIG_FAIL":
		return pilot.Over
	}
	return pilot.Running // of a later version: not over as far as is known
}

// ends are how elements end, in words, by their state.
var ends = map[string]string{
	"BOOT_FAIL": "its node did not start", "CANCELLED": pilot.WasCancelled, "COMPLETED": "it ended", "DEADLINE": "its deadline has passed",
	"FAILED": pilot.Failed, "LAUNCH_FAILED": "it could not be started", "NODE_FAIL": "its node failed",
	"OUT_OF_MEMORY": "its node ran out of the memory that was asked for", "PREEMPTED": "another job took its place", "TIMEOUT": "its time was over",
}

// launchFailed is the number that Slurm has in place of a signal for a script that it could
// not start: its log cannot be written, for one.
const launchFailed = 53

// reason says in words how an element ended, or why it waits: in the word of Slurm, which
// its documentation explains. The code is that of wait(2).
func reason(state, why, code string) string {
	if why == "None" || why == "NonZeroExitCode" || why == "TimeLimit" {
		why = ""
	}
	words := ends[state]
	if words == "" {
		return why
	}
	if status, err := strconv.Atoi(code); err == nil && state == "FAILED" {
		switch exit, signal := status>>8, status&0x7f; {
		case why == "BadConstraints":
			words = "no node has what it asks for"
		case signal == launchFailed:
			words = "it could not be started; can its log be written there?"
		case signal != 0:
			words = fmt.Sprintf("it was ended by signal %d", signal)
			if syscall.Signal(signal) == syscall.SIGKILL {
				words += ", as for too much memory"
			}
			why = ""
		case exit != 0:
			words = fmt.Sprintf("%s with exit code %d", pilot.Failed, exit)
		}
	}
	if why != "" {
		words += " (" + why + ")"
	}
	return words
}

// Ends is how elements ended, as the accounting has it, where the site has one and it
// answers.
func (c *Client) Ends(ctx context.Context, arrays []*pilot.Array) ([]pilot.Element, error) {
	if len(arrays) == 0 || c.unaccounted.Load() {
		return nil, nil
	}
	var names []string
	since := arrays[0].Made
	for _, a := range arrays {
		for _, chunk := range Chunks(a) {
			names = append(names, chunk.Name)
		}
		if a.Made.Before(since) {
			since = a.Made
		}
	}
	// Its clock may differ from that of this machine, and so may its time zone.
	since = since.Add(-24 * time.Hour)
	text, err := c.run(ctx, "", "sacct", "--allocations", "--noheader", "--parsable2", "--name="+strings.Join(names, ","),
		"--starttime="+since.Format("2006-01-02T15:04:05"), "--format=JobName,JobID,State,ExitCode,NodeList")
	if err != nil {
		// A site without one has none the next time.
		c.unaccounted.Store(errors.Is(err, exec.ErrNotFound) || strings.Contains(err.Error(), "accounting storage is disabled"))
		return nil, err
	}
	return accounted(text), nil
}

// accounted is what sacct says of elements that have ended. It leaves out what it does not
// understand, since nothing depends on it.
func accounted(text string) []pilot.Element {
	var all []pilot.Element
	for line := range strings.Lines(text) {
		columns := strings.Split(strings.TrimSpace(line), "|")
		if len(columns) != 5 {
			continue
		}
		name, job, node := columns[0], columns[1], columns[4]
		state, _, _ := strings.Cut(columns[2], " ") // CANCELLED by 1000
		exit, signal, _ := strings.Cut(columns[3], ":")
		array, index, _ := strings.Cut(job, "_")
		status, err := strconv.Atoi(exit)
		killed, e := strconv.Atoi(signal)
		if err != nil || e != nil {
			continue
		}
		item, err := element(map[string]string{
			"Name": name, "ArrayJobID": array, "ArrayTaskID": index, "State": state, "RestartCnt": "0",
			"NodeList": node, "exit_code": strconv.Itoa(status<<8 | killed),
		})
		if err == nil && item.Life == pilot.Over {
			all = append(all, item)
		}
	}
	return all
}

// Cancel ends elements of an array, all if none is named, and reports how many there were.
func (c *Client) Cancel(ctx context.Context, a *pilot.Array, elements ...int) (int, error) {
	known, err := c.poll(ctx, Chunks(a)) // the numbers of its jobs
	var jobs []string
	for _, e := range known {
		if (e.Life != pilot.Over || e.Held) && (len(elements) == 0 || slices.Contains(elements, e.Index)) {
			jobs = append(jobs, e.Job)
		}
	}
	for part := range slices.Chunk(jobs, 500) {
		if err == nil {
			_, err = c.run(ctx, "", "scancel", part...)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("cancelling array %s: %w", a.Name, err)
	}
	return len(jobs), nil
}

// run runs a command of Slurm and returns its output. What the environment says of the
// job that this process may be in is not handed on.
func (c *Client) run(ctx context.Context, input string, name string, args ...string) (string, error) {
	patience := c.Patience
	if patience == 0 {
		patience = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = Environment(os.Environ())
	cmd.Stdin = strings.NewReader(input)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.WaitDelay = time.Second
	// A Ctrl-C is for the apply: an sbatch that it ends may have submitted.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := cmd.Run()
	if err == nil {
		return out.String(), nil
	}
	text := strings.TrimSpace(complaint.String())
	if text == "" {
		text = err.Error()
	}
	text = strings.ReplaceAll(text, "\n", "; ")
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("there is no %s here: %w", name, err)
	case ctx.Err() != nil || signaled(err) || silent.MatchString(text):
		return "", fmt.Errorf("%w: %s: %s", pilot.ErrUnknown, name, text)
	case name == "sbatch":
		return "", &RefusedError{Text: refusal(text)}
	}
	return "", fmt.Errorf("%s: %s", name, text)
}

// signaled reports whether a command was ended by a signal, so that nobody knows what it did.
func signaled(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == -1
}

// refusal is what sbatch says of a refusal, without what it says of itself.
func refusal(text string) string {
	text = strings.NewReplacer("sbatch: error: ", "", "sbatch: ", "").Replace(text)
	text, _, _ = strings.Cut(text, "; Try ")
	return text
}

// silent is what commands say when the controller does not answer.
var silent = regexp.MustCompile(`(?i)unable to contact slurm controller|socket timed out|connect failure|connection refused|communication|zero bytes were transmitted|slurm_load|backup controller`)

// Environment is the environment without what describes a job: options of sbatch, and the
// job that the process runs in. Where Slurm is stays.
func Environment(env []string) []string {
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case name == "SLURM_CONF" || name == "SLURM_CONF_SERVER" || name == "SLURM_TIME_FORMAT" || name == "SLURM_JWT":
		case strings.HasPrefix(name, "SLURM_"), strings.HasPrefix(name, "SBATCH_"), strings.HasPrefix(name, "SQUEUE_"), strings.HasPrefix(name, "SCANCEL_"), strings.HasPrefix(name, "SLURMD_"):
			continue
		}
		kept = append(kept, e)
	}
	return kept
}
