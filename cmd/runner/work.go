package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/claim"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/pilot"
	"github.com/loralab/loralab/runner/provenance"
	"github.com/loralab/loralab/runner/scratch"
	"github.com/loralab/loralab/runner/slurm"
)

// exitLost is the code of a worker of which others have what it worked on, in addition to 0
// and 1. One whose time is over ends with 0: for Slurm and its mail it has not failed.
const exitLost exitCode = 77

func (a *app) workCommand() *cobra.Command {
	var first int
	var local string
	c := &cobra.Command{
		Use:   "work ARRAY",
		Short: "Take runs of an array of jobs, as one element of it",
		Long: `Work is what the scripts start that "runner apply --on slurm" submits: it takes run after
run of the directory of an array that nobody works on, until there is none or its time is
over. SIGUSR1 and SIGTERM end it after a checkpoint.`,
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(c *cobra.Command, args []string) error { return a.work(c.Context(), args[0], first, local) },
	}
	c.Flags().IntVar(&first, "first", 0, "the worker of the array that has index 0")
	c.Flags().StringVar(&local, "scratch", "", "a directory of the node for copies of engine, libtorch and weights")
	return c
}

// workMargin is how long before the end of its time a worker stops: a checkpoint takes a
// moment, and Slurm looks at the time in steps of half a minute.
func workMargin(limit time.Duration) time.Duration { return min(2*time.Minute, limit/4) }

func (a *app) work(ctx context.Context, dir string, first int, local string) (err error) {
	began := time.Now()
	who := claim.Worker{Nonce: claim.Nonce(), PID: os.Getpid(), Since: began.UTC().Truncate(time.Millisecond), Command: commandLine()}
	if who.Host = os.Getenv("SLURMD_NODENAME"); who.Host == "" {
		who.Host, _ = os.Hostname()
	}
	for name, into := range map[string]*int{"SLURM_ARRAY_TASK_ID": &who.Element, "SLURM_RESTART_COUNT": &who.Restart} {
		if text := os.Getenv(name); text != "" {
			if *into, err = strconv.Atoi(text); err != nil {
				return fmt.Errorf("$%s: %w", name, err)
			}
		}
	}
	who.Element += first
	close(a.taken)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	w, err := pilot.Open(dir, who, pilot.TimingOf(os.Getenv))
	if err != nil {
		return err
	}
	ofNode := true
	defer func() {
		var ended exitCode
		if err != nil && !errors.As(err, &ended) {
			w.End(strings.Join(strings.Fields(err.Error()), " "), ofNode)
		}
		err = errors.Join(err, w.Close())
	}()
	array := w.Array()
	kill := make(chan struct{})
	var lost atomic.Bool
	go func() {
		var over <-chan time.Time
		reason := pilot.TimeOver
		if array.Limit > 0 {
			timer := time.NewTimer(time.Until(began.Add(array.Limit - workMargin(array.Limit))))
			defer timer.Stop()
			over = timer.C
		}
		select {
		case s := <-signals:
			if s != syscall.SIGUSR1 {
				reason = ""
			}
			a.view.Say("told to stop: stopping after a checkpoint")
		case <-over:
			a.view.Say("the time is over: stopping after a checkpoint")
		case <-ctx.Done():
			return
		}
		w.End(reason, false)
		stop()
	}()
	live := make(chan struct{})
	go func() {
		defer close(live)
		w.Live(ctx, func() {
			lost.Store(true)
			close(kill)
			stop()
		})
	}()
	defer func() { <-live }()
	origin, err := provenance.Capture(ctx, array.Root, array.Engine, slices.Concat([]string{"runner"}, array.Command))
	if err != nil {
		stop()
		return err
	}
	if array.Asks != nil {
		p, err := a.searching(ctx, w, array)
		if err != nil {
			ofNode = false
			stop()
			return err
		}
		defer p.close()
	}
	w.Scheduler = &slurm.Client{Patience: 20 * time.Second}
	engine, libraries := array.Engine, ""
	if local != "" {
		node, err := scratch.Open(local)
		if err == nil {
			engine, libraries, err = node.Engine(ctx, engine)
		}
		if err != nil {
			stop()
			return err
		}
		w.Near = func(ctx context.Context, file string) (string, error) { return node.File(ctx, "backbone", file) }
	}
	progress := a.view.Progress(nil, nil, nil)
	defer progress.Close()
	launcher := &launch.Local{
		Engine: engine, Libraries: libraries, Records: w, Slots: launch.Divide(1, 1), Retries: array.Retries, Silence: array.Silence,
		Checkpoint: array.Checkpoint, Origin: origin, Watch: progress.Watch, Source: w, Kill: kill,
	}
	totals, err := launcher.Run(ctx, nil)
	stop()
	<-live
	switch {
	case lost.Load() || errors.Is(err, pilot.ErrLost):
		a.view.Warn(pilot.ErrLost.Error())
		return exitLost
	case err != nil:
		return err
	case !totals.Stopped:
		w.End("", false) // its time ended with its work
	}
	return nil
}

// searching has a worker carry out the searches of its array. The project is to be open
// as long as it does.
func (a *app) searching(ctx context.Context, w *pilot.Worker, array *pilot.Array) (_ *project, err error) {
	ask := array.Asks
	a.tags, a.set, a.plugins = ask.Tags, ask.Set, ask.DevPlugins
	p, err := a.sound(ctx, ask.Files, experiment.Env{KeepGoing: true})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if ask.Smoke {
		if p.experiments, err = experiment.Smoke(ctx, a.index, p.experiments); err != nil {
			return nil, err
		}
	}
	var studies []*experiment.Study
	for _, e := range p.experiments {
		for _, s := range e.Studies {
			if ask.Searches[s.Experiment+"/"+s.Cell] != "" {
				studies = append(studies, s)
			}
		}
	}
	m := maker{p, w.Get, nil, map[string]*provenance.Source{}}
	return p, w.Search(ctx, studies, func(run *experiment.Run, cell string) (*launch.Job, error) { return m.job(ctx, run, cell) })
}
