// Runner is the command line of loralab: it works out which runs an experiment
// file asks for, runs those that are missing, and reports.
//
// There is one file for each verb. A verb parses, asks the packages below
// runner/, and hands what it got to a view; nothing here prints.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/docs/help"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/cache"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/variant"
	"github.com/loralab/loralab/runner/view"
)

func main() {
	// Commands are short: collecting garbage less often saves a quarter of
	// what loading an experiment costs.
	debug.SetGCPercent(400)
	os.Exit(run())
}

// exitCode ends the program without a further word: all was said.
type exitCode int

func (exitCode) Error() string { return "the command failed" }

// run is the program; it returns the exit code.
func run() int {
	a := &app{
		view:    view.New(os.Stdout, os.Stderr, slices.Contains(os.Args[1:], "--no-color")),
		signals: make(chan os.Signal, 2),
		taken:   make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signal.Notify(a.signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup does
		signal.Notify(a.signals, syscall.SIGHUP)
	}
	var interrupted atomic.Int32 // the exit code of a verb that a signal ends
	go func() {
		select {
		case s := <-a.signals:
			signal.Stop(a.signals) // the second one kills
			interrupted.Store(128 + int32(s.(syscall.Signal)))
			cancel()
			// A verb may be reading, or evaluate what it has read, and not look at
			// its context. Files are replaced in one step, so nothing is lost.
			time.Sleep(endGrace)
			go a.view.Error(errors.New("interrupted")) // the output may be blocked
			time.Sleep(endGrace / 10)
			os.Exit(int(interrupted.Load()))
		case <-a.taken:
		case <-ctx.Done():
		}
	}()
	a.index = data.NewIndex(data.Look{Read: a.view.Reading()})
	root := a.command()
	root.SetArgs(longFlags(root, os.Args[1:]))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := exitCode(1)
	if !errors.As(err, &code) {
		a.view.Error(inOneLine(err))
	}
	if signalled := interrupted.Load(); signalled != 0 {
		return int(signalled)
	}
	if code == 1 {
		for _, limit := range limits() {
			a.view.Warn(limit)
		}
	}
	return int(code)
}

// endGrace is how long after a signal a program may take to end by itself.
const endGrace = time.Second

// app is what verbs share.
type app struct {
	view    *view.View
	index   *data.Index // of the files of data sets
	tags    []string
	set     []string
	plugins []string
	// completing says that the shell asks what may be typed: nothing is started.
	completing bool
	// asking says that plug-ins are started, whatever they have answered before.
	asking bool
	// SIGINT, SIGTERM and SIGHUP; the first cancels the context of the command, unless
	// the verb has closed taken and listens itself.
	signals chan os.Signal
	taken   chan struct{}
}

func (a *app) command() *cobra.Command {
	var dir string
	var topics []string
	for _, t := range help.Topics() {
		topics = append(topics, t.Name)
	}
	root := &cobra.Command{
		Use:   "runner",
		Short: "Declarative experiments in parameter-efficient fine-tuning",
		Long: `runner runs experiments in parameter-efficient fine-tuning of vision
transformers. An experiment is a CUE file that says what to compare; runner works
out the runs, runs those that are missing, and writes the table and the figures.

  runner init my-project        a small working project
  runner plan FILE              what would be run, and why
  runner apply FILE             run it

Topics of runner help: ` + strings.Join(topics, ", ") + ".",
		Version:       versionLine(), // --version and -v
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if dir == "" {
				return nil
			}
			if err := os.Chdir(dir); err != nil {
				return fmt.Errorf("going to the directory given with -C: %w", err)
			}
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringArrayVarP(&a.tags, "tag", "t", nil, "set a @tag of the files, `key=value`; may be repeated")
	flags.StringArrayVar(&a.plugins, "dev-plugin", nil, "use the variant plug-in at a path, `name=path`; may be repeated")
	flags.StringVarP(&dir, "directory", "C", "", "go to this `directory` first")
	flags.Bool("no-color", false, "no colors, as with $NO_COLOR")
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return unknownFlag(c, err)
	})
	root.AddCommand(
		a.initCommand(),
		a.validateCommand(),
		a.explainCommand(),
		a.showCommand(),
		a.planCommand(),
		a.applyCommand(),
		a.statusCommand(),
		a.logsCommand(),
		a.searchCommand(),
		a.metricsCommand(),
		a.trackCommand(),
		a.reportCommand(),
		a.uiCommand(),
		a.workCommand(),
		a.cancelCommand(),
		a.compareCommand(),
		a.diffCommand(),
		a.inspectCommand(),
		a.reproduceCommand(),
		a.exportCommand(),
		a.evaluateCommand(),
		a.predictCommand(),
		a.importCommand(),
		a.rmCommand(),
		a.gcCommand(),
		a.modelsCommand(),
		a.dataCommand(),
		a.pluginsCommand(),
		a.doctorCommand(),
		a.completionCommand(),
		a.manCommand(),
		a.versionCommand(),
	)
	helper := a.helpCommand()
	root.AddCommand(helper)
	root.SetHelpCommand(helper)
	group(root)
	helpOfGroups(root)
	a.complete(root)
	explainUsage(root)
	return root
}

// longFlags lets long flags be written with one dash, -json as well as --json:
// users of Terraform and of Go tools are used to either.
func longFlags(root *cobra.Command, args []string) []string {
	known := map[string]bool{"help": true}
	var collect func(*cobra.Command)
	collect = func(c *cobra.Command) {
		add := func(f *pflag.Flag) { known[f.Name] = len(f.Name) > 1 }
		c.Flags().VisitAll(add)
		c.PersistentFlags().VisitAll(add)
		for _, sub := range c.Commands() {
			collect(sub)
		}
	}
	collect(root)
	out := slices.Clone(args)
	for i, arg := range out {
		if arg == "--" {
			break
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && known[name] {
			out[i] = "-" + arg
		}
	}
	return out
}

// setFlag lets a verb change values of the files.
func (a *app) setFlag(c *cobra.Command) {
	c.Flags().StringArrayVar(&a.set, "set", nil, "put a value in place of what the files give, `path=value`; may be repeated")
}

// project is the experiments of some files and what they are resolved against.
type project struct {
	root        string
	files       []string // those of directories that were named, too
	experiments []*experiment.Experiment
	found       diagnostic.List
	variants    *variant.Registry
}

// load reads experiment files; env says how far it goes. What is wrong with them
// is in found; the error is of what stands around them.
func (a *app) load(ctx context.Context, files []string, env experiment.Env) (*project, error) {
	files, err := inDirectories(files)
	if err != nil {
		return nil, err
	}
	root, err := rootOf(files)
	if err != nil {
		return nil, err
	}
	p := &project{root: root, files: files}
	backbones, err := a.backbones(root)
	if err != nil {
		return nil, err
	}
	if p.variants, err = a.variants(root); err != nil {
		return nil, err
	}
	env.Trained = func(experiment, variant string) string { return trainedWith(ctx, root, experiment, variant) }
	env.Root, env.Index, env.Tags, env.Set, env.Variants, env.Hub = root, a.index, a.tags, a.set, p.variants, backbones
	p.experiments, p.found = experiment.Load(ctx, files, env)
	if ctx.Err() != nil {
		p.close()
		return nil, errors.New("interrupted")
	}
	if !p.found.HasErrors() {
		for _, name := range p.variants.UnusedDev() {
			a.view.Warn(fmt.Sprintf("--dev-plugin %s: no experiment uses a variant of that name", name))
		}
	}
	return p, nil
}

func (p *project) close() { p.variants.Close() }

// sound loads files of which nothing may be wrong.
func (a *app) sound(ctx context.Context, files []string, env experiment.Env) (*project, error) {
	p, err := a.load(ctx, files, env)
	if err != nil {
		return nil, err
	}
	return a.accepted(p)
}

// accepted shows what is wrong with a project, and gives it back if that stops
// nothing.
func (a *app) accepted(p *project) (*project, error) {
	a.view.Diagnostics(p.found)
	if p.found.HasErrors() {
		p.close()
		return nil, exitCode(1)
	}
	return p, nil
}

func (a *app) variants(root string) (*variant.Registry, error) {
	dev := map[string]string{}
	for _, entry := range a.plugins {
		name, path, ok := strings.Cut(entry, "=")
		if !ok || name == "" || path == "" {
			return nil, fmt.Errorf("--dev-plugin %s: must be name=path", entry)
		}
		if !variant.IsName(name) {
			return nil, fmt.Errorf("--dev-plugin %s: %q cannot be the name of a variant, which has lower-case letters, digits and _", entry, name)
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("--dev-plugin %s: %w", entry, err)
		}
		dev[name] = abs
	}
	dir, err := cache.Dir()
	if err != nil {
		return nil, err
	}
	if a.asking {
		dir = "" // which keeps nothing
	}
	trusted, err := variant.TrustFile()
	if err != nil {
		return nil, err
	}
	return variant.Open(variant.Options{
		Root: root, CacheDir: dir, Dev: dev, Trust: trusted, KnownOnly: a.completing, Warn: a.view.Warn,
	}), nil
}

func (a *app) backbones(root string) (*backbone.Finder, error) {
	h, err := backbone.Default()
	if err != nil {
		return nil, err
	}
	h.Root = root
	return h, nil
}

// projectOf is the project that a file or a directory belongs to.
func projectOf(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "any.cue")
	}
	return experiment.FindRoot(path)
}

// rootOf is the project that all files belong to, or the current directory
// belongs to if there are none.
func rootOf(files []string) (string, error) {
	if len(files) == 0 {
		dir, err := os.Getwd()
		if err != nil {
			return "", fmt.Errorf("finding the project: %w", err)
		}
		return experiment.FindRoot(filepath.Join(dir, "any.cue")), nil
	}
	root := projectOf(files[0])
	for _, file := range files[1:] {
		if other := projectOf(file); other != root {
			return "", fmt.Errorf("%s belongs to the project %s, but %s to %s: name files of one project at a time", files[0], root, file, other)
		}
	}
	return root, nil
}
