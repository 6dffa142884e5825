// Package filename makes the names of files from the names of other things:
// cells of experiments, domains, pictures.
package filename

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// Most is the number of bytes that the name of a file has at most. File systems
// take 255; the rest is for what is put around a name while the file is
// written.
const Most = 200

// hashed is the number of bytes that tell two names apart which begin alike.
const hashed = 6

// Fit returns name with at most the given number of bytes. A longer name is cut
// and ends in "~" and a part of its hash, so that names which begin alike stay
// different.
func Fit(name string, most int) string {
	if len(name) <= most {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	end := "~" + hex.EncodeToString(sum[:hashed])
	cut := max(most-len(end), 0)
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return name[:cut] + end
}

// Of is a name that a file can have: separators of paths, control characters
// and what other systems refuse become "_".
func Of(name string) string {
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) || r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '_'
		}
		return r
	}, name)
	if strings.HasPrefix(name, ".") {
		name = "_" + name[1:]
	}
	return name
}
