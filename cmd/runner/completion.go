package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/loralab/loralab/docs/help"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/foreign"
)

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Write the completion script of a shell",
		Long: `Completion writes a script that completes verbs, flags, experiment files, runs,
cells, and the paths and values of --set from the schema.

  bash   runner completion bash >~/.local/share/bash-completion/completions/runner
  zsh    runner completion zsh >"${fpath[1]}/_runner"
  fish   runner completion fish >~/.config/fish/completions/runner.fish

Bash needs its package bash-completion. The script counts in the next shell.`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(c *cobra.Command, args []string) error {
			var script bytes.Buffer
			var err error
			switch root := c.Root(); args[0] {
			case "bash":
				err = root.GenBashCompletionV2(&script, true)
			case "zsh":
				err = root.GenZshCompletion(&script)
			case "fish":
				err = root.GenFishCompletion(&script, true)
			}
			if err != nil {
				return fmt.Errorf("writing the completion script: %w", err)
			}
			return a.view.Raw(&script)
		},
	}
}

// A completer lists what may stand at an argument or behind a flag.
type completer func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// words are the arguments that verbs say they take, in their line of use, and
// what completes them. Those of one verb, or of the verbs below one, stand
// behind its name.
func (a *app) words() map[string]completer {
	return map[string]completer{
		"FILE":         extension("cue"),
		"PLAN":         extension("cue", "plan"),
		"DIR":          directories,
		"RUN":          a.completeRuns,
		"NAME":         a.completeRuns,
		"plugins NAME": a.list(a.variantNames),
		"NAME|PATH":    a.list(a.variantNames),
		"ARCHIVE":      files,
		"VERB":         a.list(topicNames),
		"TOPIC":        a.list(topicNames),
		"explain PATH": a.list(a.paths),
		"models NAME":  a.list(func(*cobra.Command, []string, string) ([]string, error) { return backbone.Known(), nil }),
	}
}

// flagWords are flags of any verb that are completed.
func (a *app) flagWords() map[string]completer {
	return map[string]completer{
		"set":       a.list(a.settings),
		"target":    a.list(a.cellNames),
		"exclude":   a.list(a.cellNames),
		"cell":      a.list(a.cellNames),
		"variant":   a.list(a.variantNames),
		"directory": directories,
		"out":       files,
		"optuna":    files,
	}
}

// complete gives every verb its completions.
func (a *app) complete(root *cobra.Command) {
	words, flags := a.words(), a.flagWords()
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 {
			c.ValidArgsFunction = arguments(c, words)
		}
		if do := c.ValidArgsFunction; do != nil {
			c.ValidArgsFunction = cobra.CompletionFunc(a.within(completer(do)))
		}
		add := func(f *pflag.Flag) {
			if do := flags[f.Name]; do != nil {
				// It fails only if the flag has one already, which then counts.
				_ = c.RegisterFlagCompletionFunc(f.Name, cobra.CompletionFunc(a.within(do)))
			}
		}
		c.Flags().VisitAll(add)
		c.PersistentFlags().VisitAll(add)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

var argumentWord = regexp.MustCompile(`[A-Z][A-Z|]*(\.\.\.)?`)

// arguments completes what a verb's line of use names: its first word the
// first argument, and the last any more if it may be repeated.
func arguments(c *cobra.Command, words map[string]completer) cobra.CompletionFunc {
	named := argumentWord.FindAllString(strings.TrimPrefix(c.Use, c.Name()), -1)
	return func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		i := len(args)
		if i >= len(named) {
			if i = len(named) - 1; i < 0 || !strings.HasSuffix(named[i], "...") {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
		}
		if slices.Contains(named, "PLAN") {
			return words["PLAN"](c, args, typed)
		}
		word := strings.TrimSuffix(named[i], "...")
		for _, name := range []string{c.Name() + " " + word, c.Parent().Name() + " " + word, word} {
			if do := words[name]; do != nil {
				return do(c, args, typed)
			}
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
}

func extension(names ...string) completer {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return names, cobra.ShellCompDirectiveFilterFileExt
	}
}

func directories(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

func files(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// within completes where -C points. Nobody expects that the Tab key starts a
// program: a plug-in is known as far as it was asked before.
func (a *app) within(do completer) completer {
	return func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		a.completing = true
		if dir := c.Flag("directory").Value.String(); dir != "" && os.Chdir(dir) != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return do(c, args, typed)
	}
}

// list completes from names. An error completes nothing: the command itself
// will say what is wrong.
func (a *app) list(names func(c *cobra.Command, args []string, typed string) ([]string, error)) completer {
	return func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		found, err := names(c, args, typed)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		out := []string{}
		for _, name := range found {
			text, _, _ := strings.Cut(name, "\t")
			// A name that a terminal takes for an order is nothing to type.
			if strings.HasPrefix(text, typed) && foreign.Line(text) == text && !slices.Contains(out, name) {
				out = append(out, name)
				if strings.HasSuffix(text, "=") {
					directive |= cobra.ShellCompDirectiveNoSpace
				}
			}
		}
		return out, directive
	}
}

// cellNames are the cells of the files that were named so far.
func (a *app) cellNames(c *cobra.Command, args []string, _ string) ([]string, error) {
	// Cells have their names without the plug-ins, which are not started here.
	p, err := a.load(c.Context(), args, experiment.Env{KeepGoing: true})
	if err != nil {
		return nil, err
	}
	defer p.close()
	var names []string
	for _, e := range p.experiments {
		names = append(names, append(cellsOf(e), e.LeftOut...)...)
	}
	return names, nil
}

func (a *app) variantNames(*cobra.Command, []string, string) ([]string, error) {
	r, _, err := a.openPlugins()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.Names(), nil
}

func topicNames(c *cobra.Command, _ []string, _ string) ([]string, error) {
	var names []string
	for _, t := range help.Topics() {
		names = append(names, t.Name+"\t"+t.Title)
	}
	for _, verb := range c.Root().Commands() {
		if verb.IsAvailableCommand() {
			names = append(names, verb.Name()+"\t"+verb.Short)
		}
	}
	return names, nil
}

// paths are those of the schema, with the first line of their comment.
func (a *app) paths(c *cobra.Command, args []string, _ string) ([]string, error) {
	var names []string
	err := a.withSchema(c, args, func(schema *experiment.Schema, variants []string) {
		for _, variant := range variants {
			for _, path := range slices.Concat(schema.Top(), schema.Fields(variant)) {
				if f, err := schema.Field(path, variant); err == nil {
					first, _, _ := strings.Cut(f.Doc, "\n")
					names = append(names, path+"\t"+first)
				}
			}
		}
	})
	return names, err
}

// settings are paths for --set, and behind a path the values that its type
// names.
func (a *app) settings(c *cobra.Command, args []string, typed string) ([]string, error) {
	var names []string
	path, _, behind := strings.Cut(typed, "=")
	err := a.withSchema(c, args, func(schema *experiment.Schema, variants []string) {
		for _, variant := range variants {
			if !behind {
				for _, path := range schema.Fields(variant) {
					names = append(names, path+"=")
				}
				continue
			}
			for _, value := range a.values(c, schema, path, variant) {
				names = append(names, path+"="+value)
			}
		}
	})
	return names, err
}

// values are those that a field may have, as far as its type names them.
func (a *app) values(c *cobra.Command, schema *experiment.Schema, path, variant string) []string {
	switch path {
	case "adapter.variant":
		names, _ := a.variantNames(c, nil, "") // none, if they cannot be listed
		return append(names, "none")
	case "backbone.model":
		return backbone.Known()
	}
	f, err := schema.Field(path, variant)
	if err != nil {
		return nil
	}
	kind := f.Type
	for _, d := range schema.Definitions(kind) {
		kind += " | " + d.Type
	}
	var values []string
	for _, term := range strings.Split(kind+" | "+f.Default, "|") {
		term = strings.TrimSpace(term)
		if text, err := strconv.Unquote(term); err == nil {
			values = append(values, text)
		} else if term == "bool" {
			values = append(values, "true", "false")
		} else if term == f.Default && term != "" {
			values = append(values, term)
		}
	}
	return values
}

// withSchema opens the schema, with the variants that the files at hand use, or
// with all of the project.
func (a *app) withSchema(c *cobra.Command, args []string, do func(schema *experiment.Schema, variants []string)) error {
	args = slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return !strings.HasSuffix(arg, ".cue") })
	root, err := rootOf(args)
	if err != nil {
		return err
	}
	registry, err := a.variants(root)
	if err != nil {
		return err
	}
	defer registry.Close()
	schema, err := experiment.OpenSchema(c.Context(), experiment.Env{Root: root, Variants: registry})
	if err != nil {
		return err
	}
	var variants []string
	if len(args) > 0 {
		p, err := a.load(c.Context(), args, experiment.Env{})
		if err != nil {
			return err
		}
		defer p.close()
		for _, e := range p.experiments {
			for _, r := range e.Runs {
				if name := r.Label.GetVariant(); !slices.Contains(variants, name) {
					variants = append(variants, name)
				}
			}
		}
	}
	if len(variants) == 0 {
		variants = append(registry.Names(), "")
	}
	do(schema, variants)
	return nil
}
