// Package slurmtest runs a real Slurm for a test: munged, slurmctld and three slurmd, and
// slurmdbd with a database where a test asks for it, on this machine, on ports and in a directory of their own, as the user of the test.
//
// The programs are those of the distribution. Clients find the cluster by the first
// directory of Environ's PATH: its sbatch, squeue, scancel, sacct and scontrol count
// their calls, may be made to fail, and then run the real ones.
//
// Daemons, jobs and what jobs leave behind end with the test, and with a test process that
// is killed: a shell waits for the end of a pipe that the test holds, and kills what has
// the directory of the cluster in its environment.
//
// The cluster is a fast one. It forgets jobs a few seconds after their end, and starts one
// again some seconds after it was requeued. Slurm looks at time limits and nodes every 30
// seconds all the same.
package slurmtest

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/template"
	"time"
)

// What a cluster has. Partition "main" is the default; jobs of "hi" take the nodes of jobs
// of "main", which are requeued. Each node has two processors and two devices "gpu".
const (
	Nodes        = 3 // n1, n2, n3
	MaxArraySize = 16
	// Refused is an account that the site refuses, with RefusedWords.
	Refused      = "broke"
	RefusedWords = "account broke has no hours left, write to hours@example.org"
)

// patience bounds every wait: a busy machine is slow, and only a hang needs it.
const patience = 5 * time.Minute

// Cluster is a Slurm in progress.
type Cluster struct {
	t   testing.TB
	dir string

	mu      sync.Mutex
	daemons map[string]*daemon // munged, slurmctld, slurmdbd, n1, …
	restart bool               // the controller has a state

	user     string // who runs it
	database int    // its port
}

type daemon struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// commands are the programs of clients.
var commands = []string{"sbatch", "squeue", "scancel", "sacct", "scontrol", "sinfo"}

// Missing is a sentence about what this machine lacks to run a cluster, "" if nothing.
func Missing() string {
	return missing("Slurm is not tested", "slurm-wlm slurmctld slurmd slurm-client munge", append([]string{"munged", "slurmctld", "slurmd"}, commands...)...)
}

func missing(what, packages string, programs ...string) string {
	for _, name := range programs {
		if program(name) == "" {
			return fmt.Sprintf("%s, because there is no %s (Debian: apt-get install --no-install-recommends %s)", what, name, packages)
		}
	}
	return ""
}

// program is the path of a program, "" without. Daemons are in directories that PATH need
// not have.
func program(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}

// Start starts a cluster that ends with the test. Where there is no Slurm the test fails
// if $CI is true, and is skipped otherwise.
func Start(t testing.TB) *Cluster {
	t.Helper()
	need(t, Missing())
	return run(t, false)
}

// StartAccounted is Start for a cluster with accounting: slurmdbd, and a MariaDB of its own.
func StartAccounted(t testing.TB) *Cluster {
	t.Helper()
	need(t, Missing())
	need(t, missing("accounting is not tested", "slurmdbd mariadb-server", "slurmdbd", "mariadbd"))
	return run(t, true)
}

func need(t testing.TB, missing string) {
	t.Helper()
	switch {
	case missing == "":
	case os.Getenv("CI") == "true":
		t.Fatal(missing)
	default:
		t.Skip("SKIPPED: " + missing)
	}
}

func run(t testing.TB, accounted bool) *Cluster {
	t.Helper()
	// Not that of the test, whose name is too long for a socket.
	dir, err := os.MkdirTemp("", "slurm")
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t, dir: dir, daemons: map[string]*daemon{}}
	t.Cleanup(c.reaper())
	if err := c.write(accounted); err != nil {
		t.Fatalf("writing the configuration of Slurm: %v", err)
	}
	c.start("munged", "--foreground", "--force", "--socket="+c.path("munge.sock"), "--key-file="+c.path("munge.key"),
		"--pid-file="+c.path("munge.pid"), "--seed-file="+c.path("munge.seed"), "--log-file="+c.path("munged.log"))
	c.wait("munged to open its socket", func() bool {
		_, err := os.Stat(c.path("munge.sock"))
		return err == nil
	})
	if accounted {
		c.startAccounting()
	}
	c.StartController()
	for n := range Nodes {
		c.StartNode(n + 1)
	}
	c.wait("the nodes to be idle", func() bool {
		out, err := c.real("sinfo", "--noheader", "--Node", "--partition=main", "--format=%T").Output()
		return err == nil && string(out) == strings.Repeat("idle\n", Nodes)
	})
	return c
}

//go:embed slurm.conf
var slurmConf string

//go:embed slurmdbd.conf
var slurmdbdConf string

//go:embed command.sh
var commandSh string

//go:embed reaper.sh
var reaperSh string

const gresConf = `NodeName=n[1-3] Name=gpu File=/dev/null
NodeName=n[1-3] Name=gpu File=/dev/zero
`

// The rules of the site, in the language of its plug-in.
const jobSubmit = `function slurm_job_submit(job, partitions, uid)
	if job.account == "` + Refused + `" then
		slurm.log_user("` + RefusedWords + `")
		return slurm.ERROR
	end
	return slurm.SUCCESS
end
function slurm_job_modify(job, old, partitions, uid)
	return slurm.SUCCESS
end
return slurm.SUCCESS
`

// startAccounting starts the database and slurmdbd, which fills it.
func (c *Cluster) startAccounting() {
	c.t.Helper()
	if err := os.Mkdir(c.path("db"), 0o700); err != nil {
		c.t.Fatal(err)
	}
	c.start("mariadbd", "--no-defaults", "--datadir="+c.path("db"), "--socket="+c.path("db.sock"), fmt.Sprintf("--port=%d", c.database), "--bind-address=127.0.0.1",
		"--user="+c.user, "--skip-grant-tables", "--skip-log-bin", "--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0", "--pid-file="+c.path("db.pid"))
	c.wait("MariaDB to open its socket", func() bool {
		_, err := os.Stat(c.path("db.sock"))
		return err == nil
	})
	c.start("slurmdbd", "-D")
	c.wait("slurmdbd to answer", func() bool { return c.real("sacctmgr", "--noheader", "show", "cluster").Run() == nil })
}

// KillAccounting kills slurmdbd: Slurm works on, and sacct fails.
func (c *Cluster) KillAccounting() {
	c.t.Helper()
	c.signal("slurmdbd", syscall.SIGKILL)
}

// write writes what daemons and clients read.
func (c *Cluster) write(accounted bool) error {
	who, err := user.Current()
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	host, _, _ = strings.Cut(host, ".")
	c.user = who.Username
	ports, err := freePorts(1 + Nodes + 2)
	if err != nil {
		return err
	}
	nodes := map[string]int{}
	for i, port := range ports[1 : 1+Nodes] {
		nodes[fmt.Sprintf("n%d", i+1)] = port
	}
	c.database = ports[1+Nodes]
	var conf, accounting bytes.Buffer
	about := map[string]any{
		"Dir": c.dir, "User": who.Username, "Host": host, "Port": ports[0], "Nodes": nodes, "MaxArraySize": MaxArraySize,
		"Accounted": accounted, "Database": c.database, "Accounting": ports[2+Nodes],
	}
	err = template.Must(template.New("").Parse(slurmConf)).Execute(&conf, about)
	if err == nil {
		err = template.Must(template.New("").Parse(slurmdbdConf)).Execute(&accounting, about)
	}
	if err != nil {
		return err
	}
	key := make([]byte, 1024)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	// Other users of this machine may be clients.
	if err := os.Chmod(c.dir, 0o755); err != nil {
		return err
	}
	for _, sub := range []string{"bin", "fault"} {
		if err := os.Mkdir(c.path(sub), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{"slurm.conf": conf.String(), "gres.conf": gresConf, "job_submit.lua": jobSubmit}
	for name, text := range files {
		if err := os.WriteFile(c.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	// slurmdbd reads a file that is private alone.
	for name, text := range map[string][]byte{"munge.key": key, "slurmdbd.conf": accounting.Bytes()} {
		if err := os.WriteFile(c.path(name), text, 0o600); err != nil {
			return err
		}
	}
	for _, name := range commands {
		text := strings.NewReplacer("DIR", c.dir, "NAME", name, "PROGRAM", program(name)).Replace(commandSh)
		if err := os.WriteFile(c.path("bin/"+name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(c.path("calls"), nil, 0o666); err != nil {
		return err
	}
	return os.Chmod(c.path("calls"), 0o666)
}

// freePorts are ports that nothing listens on.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // together: no port twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// reaper starts the shell that kills what is left, and returns what has it do so.
func (c *Cluster) reaper() (end func()) {
	c.t.Helper()
	in, hold, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", reaperSh, "reaper", c.dir)
	cmd.Stdin = in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C is for the test alone
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	in.Close()
	return func() {
		if c.t.Failed() {
			c.logs()
		}
		hold.Close()
		if err := cmd.Wait(); err != nil {
			c.t.Errorf("ending the cluster: %v", err)
		}
	}
}

// logs shows the ends of what the daemons wrote, where a test failed.
func (c *Cluster) logs() {
	files, _ := filepath.Glob(c.path("*.log"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && len(text) > 0 {
			c.t.Logf("%s:\n%s", filepath.Base(file), text[max(0, len(text)-4000):])
		}
	}
}

// start starts a daemon under its name in the cluster, which may have an end of its own.
func (c *Cluster) start(name string, args ...string) {
	c.t.Helper()
	c.startAs(name, name, args...)
}

func (c *Cluster) startAs(as, name string, args ...string) {
	c.t.Helper()
	out, err := os.OpenFile(c.path(as+".out.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(program(name), args...)
	cmd.Env = c.Environ()
	cmd.Dir = c.dir
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		c.t.Fatalf("starting %s: %v", name, err)
	}
	d := &daemon{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		_ = cmd.Wait()
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.daemons[as] = d
}

// signal sends a signal to a daemon, and waits for its end if it is SIGKILL.
func (c *Cluster) signal(name string, sig syscall.Signal) {
	c.t.Helper()
	c.mu.Lock()
	d := c.daemons[name]
	c.mu.Unlock()
	if d == nil {
		c.t.Fatalf("%s was not started", name)
	}
	if err := d.cmd.Process.Signal(sig); err != nil {
		c.t.Fatalf("sending %v to %s: %v", sig, name, err)
	}
	if sig == syscall.SIGKILL {
		<-d.done
	}
}

// StartController starts slurmctld, which may have been killed, and waits until it answers.
func (c *Cluster) StartController() {
	c.t.Helper()
	args := []string{"-D", "-f", c.path("slurm.conf")}
	if !c.restart {
		args = append(args, "-c")
	}
	c.restart = true
	c.start("slurmctld", args...)
	c.wait("slurmctld to answer", func() bool { return c.real("scontrol", "ping").Run() == nil })
}

// KillController kills slurmctld, as a power failure does.
func (c *Cluster) KillController() {
	c.t.Helper()
	c.signal("slurmctld", syscall.SIGKILL)
}

// State is what the controller has written down so far. Calling it kills the controller and
// starts one that knows no more: what was submitted since is forgotten, and numbers of jobs
// are given a second time.
func (c *Cluster) State() (restore func()) {
	c.t.Helper()
	kept := c.path("state.kept")
	if err := os.CopyFS(kept, os.DirFS(c.path("state"))); err != nil {
		c.t.Fatal(err)
	}
	return func() {
		c.t.Helper()
		c.KillController()
		err := os.RemoveAll(c.path("state"))
		if err == nil {
			err = os.Rename(kept, c.path("state"))
		}
		if err != nil {
			c.t.Fatal(err)
		}
		c.StartController()
	}
}

// FreezeController has slurmctld take connections and answer nothing, until ThawController.
func (c *Cluster) FreezeController() {
	c.t.Helper()
	c.signal("slurmctld", syscall.SIGSTOP)
}

// ThawController ends what FreezeController began: slurmctld does what it was asked.
func (c *Cluster) ThawController() {
	c.t.Helper()
	c.signal("slurmctld", syscall.SIGCONT)
}

// StartNode starts the daemon of node n, from 1.
func (c *Cluster) StartNode(n int) {
	c.t.Helper()
	name := fmt.Sprintf("n%d", n)
	if err := os.MkdirAll(c.path("spool."+name), 0o755); err != nil {
		c.t.Fatal(err)
	}
	c.startAs(name, "slurmd", "-D", "-N", name, "-f", c.path("slurm.conf"))
}

// KillNode kills the daemon of node n. Its jobs go on; the controller calls the node down
// within half a minute, and gives its jobs to others.
func (c *Cluster) KillNode(n int) {
	c.t.Helper()
	c.signal(fmt.Sprintf("n%d", n), syscall.SIGKILL)
}

// ResumeNodes has the controller use nodes again that it has drained, as it does where a
// daemon knows of a job that was restarted elsewhere meanwhile. At a site people do this.
func (c *Cluster) ResumeNodes() {
	out, err := c.real("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T").Output()
	if err != nil {
		return // the controller is being restarted
	}
	for line := range strings.Lines(string(out)) {
		if node, state, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(state, "drain") {
			_ = c.real("scontrol", "update", "nodename="+node, "state=resume").Run()
		}
	}
}

// Environ is the environment of clients: that of this process, with the commands of the
// cluster first on PATH.
func (c *Cluster) Environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "SLURM") || strings.HasPrefix(e, "SBATCH") || strings.HasPrefix(e, "PATH=")
	})
	return append(env, "SLURM_CONF="+c.path("slurm.conf"), "PATH="+c.Path())
}

// Path is PATH with the commands of the cluster first.
func (c *Cluster) Path() string { return c.path("bin") + ":" + os.Getenv("PATH") }

// Bin is the directory with the commands of the cluster, and Config its configuration.
func (c *Cluster) Bin() string    { return c.path("bin") }
func (c *Cluster) Config() string { return c.path("slurm.conf") }

// Use has this process be a client of the cluster, until the end of the test.
func (c *Cluster) Use(t *testing.T) {
	t.Setenv("PATH", c.Path())
}

// real is a command of a client that is not counted.
func (c *Cluster) real(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(program(name), args...)
	cmd.Env = c.Environ()
	return cmd
}

// Do runs a command of Slurm, which is not counted, and returns its output.
func (c *Cluster) Do(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := c.real(name, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, complaint.String())
	}
	return out.String()
}

// Calls are those of a command that were counted so far, each with its arguments.
func (c *Cluster) Calls(name string) []string {
	text, err := os.ReadFile(c.path("calls"))
	if err != nil {
		c.t.Error(err)
	}
	var calls []string
	for line := range strings.Lines(string(text)) {
		if called, args, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); called == name {
			calls = append(calls, args)
		}
	}
	return calls
}

// Fault has a command run lines of shell before the real one, until Heal: "exit 1" takes
// its place, and `"$program" "$@"; exit 1` has it do its work and fail.
func (c *Cluster) Fault(name, shell string) {
	c.t.Helper()
	next := c.path("fault/." + name)
	err := os.WriteFile(next, []byte(shell+"\n"), 0o644)
	if err == nil {
		err = os.Rename(next, c.path("fault/"+name))
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// Heal ends a fault.
func (c *Cluster) Heal(name string) {
	c.t.Helper()
	if err := os.Remove(c.path("fault/" + name)); err != nil {
		c.t.Fatal(err)
	}
}

// wait waits until something is so.
func (c *Cluster) wait(what string, so func() bool) {
	c.t.Helper()
	Wait(c.t, what, so)
}

// Wait waits until something is so, and fails the test after some minutes.
func Wait(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline, pause := time.Now().Add(patience), 10*time.Millisecond; !so(); pause = min(2*pause, 250*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		time.Sleep(pause)
	}
}
