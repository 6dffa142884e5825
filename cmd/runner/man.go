package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/docs/help"
)

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write manual pages",
		Long: `Man writes a manual page for every verb (runner-plan.1) and every help topic
(runner-matrices.7) into a directory. $SOURCE_DATE_EPOCH sets their date.`,
		Example: "  runner man ~/.local/share/man && man runner-plan",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			pages, err := writePages(c.Root(), args[0])
			if err != nil {
				return fmt.Errorf("writing manual pages: %w", err)
			}
			a.view.Say("%d pages in %s: man -M %s runner", pages, args[0], args[0])
			return nil
		},
	}
}

// indented lines of help texts are tables and commands, which a manual page
// must leave as they are: in Markdown they need four spaces more.
var indented = regexp.MustCompile(`(?m)^  `)

// writePages writes the manual below dir: verbs into man1, topics into man7.
func writePages(root *cobra.Command, dir string) (int, error) {
	pages := map[string][]byte{}
	var verbs func(*cobra.Command) error
	verbs = func(c *cobra.Command) error {
		if !c.IsAvailableCommand() && c != root {
			return nil
		}
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		c.DisableAutoGenTag = true
		c.Long = indented.ReplaceAllString(c.Long, "    $0")
		var b bytes.Buffer
		header := &doc.GenManHeader{Title: strings.ToUpper(name), Section: "1", Source: "loralab", Manual: "loralab"}
		if err := doc.GenMan(c, header, &b); err != nil {
			return err
		}
		pages[filepath.Join("man1", name+".1")] = b.Bytes()
		for _, sub := range c.Commands() {
			if err := verbs(sub); err != nil {
				return err
			}
		}
		return nil
	}
	if err := verbs(root); err != nil {
		return 0, err
	}
	for _, t := range help.Topics() {
		_, text, _ := strings.Cut(t.Text, "\n")
		title := fmt.Sprintf("%% \"RUNNER-%s\" \"7\" \"\" \"loralab\" \"loralab\"\n# NAME\nrunner-%s - %s\n\n# DESCRIPTION\n", strings.ToUpper(t.Name), t.Name, t.Title)
		pages[filepath.Join("man7", "runner-"+t.Name+".7")] = md2man.Render([]byte(title + text))
	}
	for name, page := range pages {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return 0, err
		}
		if err := replacefile.Write(path, page); err != nil {
			return 0, err
		}
	}
	return len(pages), nil
}
