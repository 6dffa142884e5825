// Package help holds the topics of `runner help TOPIC`, as Markdown: what a
// verb's own help is too short for. The first line of a topic is its title.
package help

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

//go:embed *.md
var files embed.FS

// Topic is one text.
type Topic struct {
	Name  string // "exit-codes"
	Title string // "Exit codes"
	Text  string // Markdown, with the title
}

// Topics lists all, by name.
func Topics() ([]Topic, error) {
	names, err := fs.Glob(files, "*.md")
	if err != nil {
		return nil, fmt.Errorf("listing the help topics: %w", err)
	}
	var topics []Topic
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading the help topics: %w", err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		topics = append(topics, Topic{strings.TrimSuffix(path.Base(name), ".md"), strings.TrimPrefix(first, "# "), string(text)})
	}
	return topics, nil
}
