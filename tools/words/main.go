// Words reports lines that use a word which docs/writing.md lists under "Words
// to avoid". Lines that used one when the list was made are in known.txt, by
// hash, and stay allowed until somebody edits them.
//
//	cd tools && go run ./words          # check
//	cd tools && go run ./words -prune   # forget the lines that were rewritten
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	guide = "docs/writing.md"
	known = "tools/words/known.txt"
	title = "## Words to avoid"
)

// Files whose text people write. Generated code and data are left out.
var (
	suffixes = []string{".go", ".cue", ".md", ".proto", ".py", ".sh", ".cpp", ".h", ".txtar", ".txt", "Makefile", ".ci/run"}
	skipped  = []string{guide, known, ".pb.go", ".sum", "/testdata/fuzz/", "requirements.txt"}
)

func main() {
	prune := flag.Bool("prune", false, "drop the lines from known.txt that no file has any more")
	flag.Parse()
	if err := run(*prune); err != nil {
		fmt.Fprintln(os.Stderr, "words:", err)
		os.Exit(1)
	}
}

func run(prune bool) error {
	root := ".." // of the module tools
	avoid, err := readGuide(filepath.Join(root, guide))
	if err != nil {
		return err
	}
	allowed, err := readKnown(filepath.Join(root, known))
	if err != nil {
		return err
	}
	files, err := textFiles(root)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	bad := 0
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		for _, u := range avoid.uses(text) {
			seen[u.hash] = true
			if !allowed[u.hash] {
				bad++
				fmt.Printf("%s:%d: %q: write %s\n", name, u.line, u.word, u.instead)
			}
		}
	}
	if prune {
		return writeKnown(filepath.Join(root, known), allowed, seen)
	}
	if bad > 0 {
		return fmt.Errorf("%d new lines use words that %s avoids", bad, guide)
	}
	return nil
}

// A wordList matches the words to avoid and knows what to write instead.
type wordList struct {
	pattern *regexp.Regexp
	instead map[string]string // by lower-case word
}

// readGuide reads the table below the title.
func readGuide(path string) (*wordList, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, table, ok := strings.Cut(string(text), title)
	if !ok {
		return nil, fmt.Errorf("%s has no section %q", path, title)
	}
	w := &wordList{instead: map[string]string{}}
	var words []string
	for _, row := range strings.Split(table, "\n") {
		cells := strings.Split(strings.Trim(row, "| "), "|")
		if len(cells) != 2 || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[0]) == "avoid" {
			continue
		}
		for _, word := range strings.Split(cells[0], ",") {
			word = strings.TrimSpace(word)
			w.instead[word] = strings.TrimSpace(cells[1])
			words = append(words, regexp.QuoteMeta(word))
		}
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("%s lists no words below %q", path, title)
	}
	// Longer words first: "besides" before "beside".
	slices.SortFunc(words, func(a, b string) int { return len(b) - len(a) })
	w.pattern, err = regexp.Compile(`(?i)\b(` + strings.Join(words, "|") + `)\b`)
	return w, err
}

// use is one line with a word to avoid.
type use struct {
	line                int
	word, instead, hash string
}

func (w *wordList) uses(text []byte) []use {
	var found []use
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<24)
	for n := 1; lines.Scan(); n++ {
		word := w.pattern.FindString(lines.Text())
		if word == "" {
			continue
		}
		found = append(found, use{n, word, w.instead[strings.ToLower(word)], hashOf(lines.Text())})
	}
	return found
}

// hashOf ignores indentation, so that code may move.
func hashOf(line string) string {
	sum := sha256.Sum256([]byte(strings.TrimSpace(line)))
	return hex.EncodeToString(sum[:6])
}

func readKnown(path string) (map[string]bool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	hashes := map[string]bool{}
	for _, hash := range strings.Fields(string(text)) {
		hashes[hash] = true
	}
	return hashes, nil
}

// writeKnown keeps the allowed lines that were seen.
func writeKnown(path string, allowed, seen map[string]bool) error {
	var kept []string
	for hash := range allowed {
		if seen[hash] {
			kept = append(kept, hash)
		}
	}
	slices.Sort(kept)
	return os.WriteFile(path, []byte(strings.Join(kept, "\n")+"\n"), 0o666)
}

// textFiles lists the files that are checked: what git tracks or would track,
// or all files where there is no repository, as in an unpacked release.
func textFiles(root string) ([]string, error) {
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	all := strings.Split(string(out), "\x00")
	if err != nil {
		if all, err = walk(root); err != nil {
			return nil, err
		}
	}
	var names []string
	for _, name := range all {
		has := func(end string) bool { return strings.HasSuffix(name, end) }
		in := func(part string) bool { return strings.Contains(name, part) }
		if !slices.ContainsFunc(suffixes, has) || slices.ContainsFunc(skipped, in) {
			continue
		}
		if info, err := os.Lstat(filepath.Join(root, name)); err == nil && info.Mode().IsRegular() {
			names = append(names, name)
		}
	}
	return names, nil
}

// walk lists the files below root, without hidden directories and binaries.
func walk(root string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() && rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin") {
			return fs.SkipDir
		}
		names = append(names, filepath.ToSlash(rel))
		return nil
	})
	return names, err
}
