package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/docs/help"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
)

var cueBlock = regexp.MustCompile("(?s)```cue\n(.*?)```")

// What help topics show as CUE is accepted: whole files as they are, pieces in
// place of the matrix of the first whole one.
func TestTopicsShowWhatWorks(t *testing.T) {
	var whole string
	var pieces, others []string
	dir := t.TempDir()
	for _, topic := range help.Topics() {
		if topic.Title == "" || strings.Contains(topic.Text, "\t`") {
			t.Errorf("%s has no title", topic.Name)
		}
		for _, m := range cueBlock.FindAllStringSubmatch(topic.Text, -1) {
			switch {
			case strings.HasPrefix(m[1], "package lib\n"):
				lib := filepath.Join(dir, "lib", "base.cue")
				if err := errors.Join(os.Mkdir(filepath.Dir(lib), 0o777), os.WriteFile(lib, []byte(m[1]), 0o666)); err != nil {
					t.Fatal(err)
				}
			case strings.HasPrefix(m[1], "package ") && whole != "":
				others = append(others, m[1])
			case strings.HasPrefix(m[1], "package "):
				whole = m[1]
			default:
				pieces = append(pieces, m[1])
			}
		}
	}
	matrix := regexp.MustCompile(`(?m)^\tvary: .*\n\tseeds: .*\n`)
	if !matrix.MatchString(whole) || len(pieces) == 0 {
		t.Fatal("there are no examples")
	}
	file := filepath.Join(dir, "e.cue")
	texts := others
	for _, text := range append([]string{""}, pieces...) {
		texts = append(texts, matrix.ReplaceAllLiteralString(whole, text))
	}
	for _, text := range texts {
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		// Without backbones and variants: the schema's own.
		_, found := experiment.Load(t.Context(), []string{file}, experiment.Env{})
		// The images of the experiment are drawn, and small.
		found = slices.DeleteFunc(found, func(d diagnostic.Diagnostic) bool {
			return d.Warning && strings.Contains(d.Message, "the images are drawn")
		})
		if len(found) > 0 {
			t.Errorf("in\n%s\n%s", text, found[0].Text())
		}
	}
}

// Every verb stands in a group, names its arguments so that they can be
// completed, and shows an example if it takes any.
func TestVerbsExplainThemselves(t *testing.T) {
	root := (&app{}).command()
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		name := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", name, c.Short)
		}
		if c.Parent() == root && c.GroupID == "" {
			t.Errorf("%s is in no group of verbs", name)
		}
		if strings.Contains(c.Use, " ") && c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 {
			t.Errorf("%s does not complete its arguments", name)
		}
		for _, sub := range c.Commands() {
			if !sub.Hidden {
				walk(sub)
			}
		}
	}
	for _, c := range root.Commands() {
		walk(c)
	}
}
