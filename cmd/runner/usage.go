package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/diagnostic"
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
				var verbs []string
				for _, sub := range c.Commands() {
					verbs = append(verbs, sub.Name())
				}
				return fmt.Errorf("there is no %s %s; %s", c.CommandPath(), args[0], diagnostic.Suggest(args[0], "there are", verbs))
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

// needs reports a flag that has to be given. Cobra's own error names it as Go would.
func needs(c *cobra.Command, flag string) error {
	if c.Flags().Changed(flag) {
		return nil
	}
	return fmt.Errorf("%s needs --%s; %s", c.CommandPath(), flag, howTo(c))
}

// howTo is the first example of a verb.
func howTo(c *cobra.Command) string {
	example, _, _ := strings.Cut(strings.TrimSpace(c.Example), "\n")
	if example == "" {
		return "see: " + c.CommandPath() + " -h"
	}
	return "for example: " + example
}

// inOneLine is an error of cobra with the near names in its line.
func inOneLine(err error) error {
	text, near, ok := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
	if !ok {
		return err
	}
	return fmt.Errorf("%s; did you mean %s?", text, strings.Join(strings.Fields(near), " or "))
}
