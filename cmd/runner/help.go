package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/docs/help"
	"github.com/loralab/loralab/runner/diagnostic"
)

// groups put the verbs into the order in which they are met. A verb that is in
// none stands with the last.
var groups = []struct {
	id, title string
	verbs     []string
}{
	{"write", "Write an experiment:", []string{"init", "validate", "explain", "show"}},
	{"run", "Run it:", []string{"plan", "apply", "status", "ui", "logs", "cancel"}},
	{"results", "Use results:", []string{"report", "metrics", "track", "search", "compare", "diff", "inspect", "reproduce", "evaluate", "predict", "export", "import", "gc", "rm"}},
	{"machine", "Backbones, data, plug-ins, this machine:", nil},
}

// group sorts the verbs for the list of runner -h.
func group(root *cobra.Command) {
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
	}
	last := groups[len(groups)-1].id
	for _, c := range root.Commands() {
		c.GroupID = last
		for _, g := range groups {
			if slices.Contains(g.verbs, c.Name()) {
				c.GroupID = g.id
			}
		}
	}
	root.SetHelpCommandGroupID(last)
}

// helpOfGroups lets "runner plugins help" be asked as "runner help plugins" is
// (trial-plugins F9).
func helpOfGroups(root *cobra.Command) {
	for _, c := range root.Commands() {
		if !c.HasAvailableSubCommands() {
			continue
		}
		c.AddCommand(&cobra.Command{
			Use: "help [VERB]", Short: "Explain " + c.CommandPath() + " or one of its verbs", Hidden: true,
			Args: cobra.MaximumNArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				verb, _, err := c.Find(args)
				if err != nil {
					return err
				}
				if len(args) > 0 && verb == c {
					return noVerb(c, args[0])
				}
				return verb.Help()
			},
		})
	}
}

func (a *app) helpCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "help [VERB | TOPIC]",
		Short:   "Explain a verb or a topic",
		Example: "  runner help plan\n  runner help matrices",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Root().Help()
			}
			verb, rest, err := c.Root().Find(args)
			isVerb := err == nil && verb != c.Root() && len(rest) == 0
			name := strings.Join(args, " ")
			var known []string
			for _, t := range help.Topics() {
				if t.Name == name {
					text := t.Text
					if isVerb { // which says of itself with -h, and a topic has no other way
						text += fmt.Sprintf("\nThe verb of this name: `%s -h`.\n", verb.CommandPath())
					}
					a.view.Markdown(text)
					return nil
				}
				known = append(known, t.Name)
			}
			if isVerb {
				return verb.Help()
			}
			for _, verb := range c.Root().Commands() {
				known = append(known, verb.Name())
			}
			return fmt.Errorf("there is no verb and no topic %q\n%s", name, diagnostic.Suggest(name, "there are", known))
		},
	}
	return c
}
