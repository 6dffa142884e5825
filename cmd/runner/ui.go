package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/live"
	"github.com/loralab/loralab/runner/page"
	"github.com/loralab/loralab/runner/report"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/study"
)

func (a *app) uiCommand() *cobra.Command {
	var port int
	var allow bool
	c := &cobra.Command{
		Use:   "ui [FILE...]",
		Short: "Show a project in a browser, while it trains",
		Long: `Ui serves a page of this project to browsers on this machine, until Ctrl-C: who works
on it, what trains and how far it is, its curves and its log, and, for the files, the
page that report writes, which is renewed as runs end. It reads the directories of the
runs, so it may be started before an apply, and outlive it.

No other machine reaches it. From one that you have logged in to with ssh:
ssh -L 8017:127.0.0.1:8017 MACHINE, and runner ui --port 8017 there.

It changes nothing, except with --allow-actions: then the page can stop an apply, and
apply the files, or one failed run of them, again. Such an apply joins one that runs, as
"apply --join" does, and writes what it says into runs/.ui.log. The address that is shown
has a token, without which a browser only looks.`,
		Example: "  runner ui experiments/ablation_rank.cue\n  runner ui --port 8017 --allow-actions experiments",
		RunE: func(c *cobra.Command, files []string) error {
			return a.ui(c.Context(), files, port, allow)
		},
	}
	c.Flags().IntVar(&port, "port", 0, "port of this machine; 0: any that is free")
	c.Flags().BoolVar(&allow, "allow-actions", false, "stop, resume and retry from the page")
	a.setFlag(c)
	return c
}

func (a *app) ui(ctx context.Context, files []string, port int, allow bool) error {
	if port < 0 || port > 65535 {
		return errors.New("--port takes 0 to 65535")
	}
	root, err := rootOf(files)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "runs")); err != nil && len(files) == 0 {
		return fmt.Errorf("%s has no runs: start this in a project, or name its files: runner ui experiments", root)
	}
	o := live.Options{Root: root, Read: func(ctx context.Context) (*store.Snapshot, []store.Holder, error) {
		known, err := store.Read(ctx, root)
		if err != nil {
			return nil, nil, err
		}
		holders, err := store.Holders(root)
		return known, holders, err
	}}
	if len(files) > 0 {
		p, err := a.sound(ctx, files, experiment.Env{})
		if err != nil {
			return err
		}
		defer p.close() // searches are resolved as their trials end
		o.Metrics = map[string]string{}
		for _, e := range p.experiments {
			o.Metrics[e.Name] = e.Metric
			for _, run := range e.Runs {
				o.Planned = append(o.Planned, labelOf(run))
			}
		}
		o.Page = func(ctx context.Context, known *store.Snapshot) (*page.Page, []live.Search, error) {
			results, searches, err := a.resultsIn(ctx, p, known)
			if err != nil {
				return nil, nil, err
			}
			var found []live.Search
			for _, s := range searches {
				of := s.Progress
				found = append(found, live.Search{Experiment: of.Experiment, Cell: of.Cell, Text: foundText(of), Over: of.Over})
			}
			made, err := report.Page(ctx, p.root, "", p.experiments, results, searches, a.askedFor())
			return made, found, err
		}
	}
	if allow {
		o.Actions = &actions{app: a, root: root, files: files}
	}
	s, err := live.Listen(o, port)
	if err != nil {
		return err
	}
	a.view.Serving(s.URL(), allow)
	return s.Serve(ctx)
}

// foundText is how far a search is, in a line.
func foundText(p study.Progress) string {
	all := 0
	for _, n := range p.Counts {
		all += n
	}
	text := fmt.Sprintf("Search of %s/%s: %s", p.Experiment, p.Cell, plural.Of(all, "trial"))
	if p.Trials > 0 {
		text += fmt.Sprintf(" of %d", p.Trials)
	}
	sep := ": "
	for _, state := range []study.State{study.Complete, study.Pruned, study.Paused, study.Failed, study.Open} {
		if n := p.Counts[state]; n > 0 {
			text += fmt.Sprintf("%s%d %s", sep, n, state)
			sep = ", "
		}
	}
	if p.Over {
		text += "; over"
	}
	if b := p.Best; b != nil {
		text += fmt.Sprintf("; best %s %.4f in trial %d", p.Objective, b.Value, b.Trial)
	}
	return text
}

// actions are what a page may do that is allowed to.
type actions struct {
	*app
	root  string
	files []string
}

// Stop asks an apply to stop, as Ctrl-C does. Only a process that holds a lock of the
// project is asked.
func (a *actions) Stop(pid int) (string, error) {
	holders, err := store.Holders(a.root)
	if err != nil {
		return "", err
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("finding the name of this machine: %w", err)
	}
	if !slices.ContainsFunc(holders, func(h store.Holder) bool { return h.PID == pid && h.Host == host && pid > 0 }) {
		return "", fmt.Errorf("process %d of this machine does not work on this project", pid)
	}
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
		return "", fmt.Errorf("stopping process %d: %w", pid, err)
	}
	return fmt.Sprintf("Process %d stops after a checkpoint.", pid), nil
}

// Resume applies the files in a process of its own, which ends by itself: it outlives
// this one, as if it had been typed.
func (a *actions) Resume(run string) (string, error) {
	if len(a.files) == 0 {
		return "", errors.New("name the files to apply: runner ui --allow-actions FILE")
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program: %w", err)
	}
	args := []string{"apply", "--join"}
	for _, tag := range a.tags {
		args = append(args, "-t", tag)
	}
	for _, value := range a.set {
		args = append(args, "--set", value)
	}
	for _, plugin := range a.plugins {
		args = append(args, "--dev-plugin", plugin)
	}
	if run != "" {
		args = append(args, "--target", run)
	}
	if err := os.MkdirAll(filepath.Join(a.root, "runs"), 0o777); err != nil {
		return "", fmt.Errorf("making the directory of runs: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(a.root, "runs", ".ui.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return "", fmt.Errorf("opening the log of the apply: %w", err)
	}
	defer log.Close()
	c := exec.Command(self, append(append(args, "--"), a.files...)...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return "", fmt.Errorf("starting an apply: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }() // it ends with the apply
	select {
	case err := <-ended:
		if err != nil {
			return "", fmt.Errorf("the apply has ended at once, see runs/.ui.log: %w", err)
		}
		return "Nothing is left to do.", nil
	case <-time.After(time.Second):
	}
	return fmt.Sprintf("Process %d applies %s; it says how it goes in runs/.ui.log.", c.Process.Pid, strings.Join(a.files, ", ")), nil
}
