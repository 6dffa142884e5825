// Package help holds the topics of `runner help TOPIC`, as Markdown: what a
// verb's own help is too short for. The first line of a topic is its title.
package help

import (
	"embed"
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
func Topics() []Topic {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // an embedded directory can be read
	}
	var topics []Topic
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			panic(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		topics = append(topics, Topic{strings.TrimSuffix(e.Name(), ".md"), strings.TrimPrefix(first, "# "), string(text)})
	}
	return topics
}
