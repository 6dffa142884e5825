package main

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/store"
)

// explainUsage lets every verb say what it needs, with an example, where it is given
// too little or too much (trial-language M21).
func explainUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			err := check(c, args)
			if err == nil {
				return nil
			}
			if c.HasAvailableSubCommands() && len(args) > 0 {
				return noVerb(c, args[0])
			}
			_, wanted, _ := strings.Cut(c.Use, " ")
			what := "takes no arguments"
			if wanted != "" {
				what = "takes " + wanted
			}
			return fmt.Errorf("%s %s; %s", c.CommandPath(), what, howTo(c))
		}
	}
	for _, sub := range c.Commands() {
		explainUsage(sub)
	}
}

// noVerb is an error about a verb that a group does not have.
func noVerb(group *cobra.Command, name string) error {
	var verbs []string
	for _, sub := range group.Commands() {
		if sub.IsAvailableCommand() {
			verbs = append(verbs, sub.Name())
		}
	}
	return fmt.Errorf("there is no %s %s; %s", group.CommandPath(), name, diagnostic.Suggest(name, "there are", verbs))
}

// needs reports a flag that has to be given. Cobra's own error names it as Go would.
func needs(c *cobra.Command, flag string) error {
	if c.Flags().Changed(flag) {
		return nil
	}
	return fmt.Errorf("%s needs --%s; %s", c.CommandPath(), flag, howTo(c))
}

// unknownFlag is the error of a flag that a verb does not have, with the nearest that it
// has, or that fields of experiments are no flags.
func unknownFlag(c *cobra.Command, err error) error {
	_, name, is := strings.Cut(err.Error(), "unknown flag: --")
	var known []string
	add := func(f *pflag.Flag) { known = append(known, f.Name) }
	c.Flags().VisitAll(add)
	c.InheritedFlags().VisitAll(add)
	near := diagnostic.DidYouMean(name, known)
	switch {
	case is && near != "":
		return fmt.Errorf("%w; did you mean --%s?", err, near)
	case is && c.Flags().Lookup("set") != nil:
		return fmt.Errorf("%w; a value of an experiment is changed with --set PATH=VALUE; see: %s -h", err, c.CommandPath())
	}
	return fmt.Errorf("%w; see: %s -h", err, c.CommandPath())
}

// howTo is the first example of a verb, with a file and runs that the project has.
func howTo(c *cobra.Command) string {
	example, _, _ := strings.Cut(strings.TrimSpace(c.Example), "\n")
	if example == "" {
		return "see: " + c.CommandPath() + " -h"
	}
	if dir, err := experimentsDir(); err == nil && strings.Contains(example, exampleFile) {
		if files, err := filesIn(dir); err == nil && len(files) > 0 && !slices.Contains(files, filepath.Join(dir, filepath.Base(exampleFile))) {
			example = strings.Replace(example, exampleFile, files[0], 1)
		}
	}
	if wanted := exampleRun.FindAllString(example, -1); len(wanted) > 0 {
		if names := newestRuns(c.Context()); len(names) >= len(wanted) {
			for i, name := range wanted {
				example = strings.Replace(example, name, names[i], 1)
			}
		}
	}
	return "for example: " + example
}

const exampleFile = "experiments/ablation_rank.cue" // of examples

var exampleRun = regexp.MustCompile(`\bablation_rank/\S+`) // of the same

// newestRuns are the names of the runs of the project of the current directory.
func newestRuns(ctx context.Context) []string {
	root, err := rootOf(nil)
	if err != nil {
		return nil
	}
	known, err := store.Read(ctx, root)
	if err != nil {
		return nil // an example is not worth another error
	}
	var names []string
	for _, l := range known.Newest() {
		names = append(names, l.Name())
	}
	return names
}

// inOneLine is an error of cobra with the near names in its line.
func inOneLine(err error) error {
	text, near, ok := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
	if !ok {
		return err
	}
	return fmt.Errorf("%s; did you mean %s?", text, strings.Join(strings.Fields(near), " or "))
}
