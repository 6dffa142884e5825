// Package filename makes the names of files from the names of other things:
// cells of experiments, domains, pictures. It refuses names that are not UTF-8.
package filename

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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
	return cut(name, most-len(end)) + end
}

// cut is the first bytes of a name, at most the given number, in whole characters.
func cut(name string, most int) string {
	if len(name) <= most {
		return name
	}
	most = max(most, 0)
	for most > 0 && !utf8.RuneStart(name[most]) {
		most--
	}
	return name[:most]
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

// Distinct is a name that a file can have, with at most the given number of bytes, for
// files whose names differ wherever their things' names do. A name that Of changes ends in
// "~" and a part of its hash.
func Distinct(name string, most int) string {
	plain := Of(name)
	if plain == name {
		return Fit(name, most)
	}
	sum := sha256.Sum256([]byte(name))
	end := "~" + hex.EncodeToString(sum[:hashed])
	return cut(plain, most-len(end)) + end
}

// CheckUTF8 returns an error, which shows the name, if a path is not UTF-8. Linux
// allows any bytes in the names of files; JSON and messages to the engine hold UTF-8.
func CheckUTF8(path string) error {
	if utf8.ValidString(path) {
		return nil
	}
	return fmt.Errorf("the name %s is not UTF-8; rename it", Shown(path))
}

// Shown is a path with \xNN in place of each byte that is not UTF-8.
func Shown(path string) string {
	var shown strings.Builder
	for path != "" {
		r, n := utf8.DecodeRuneInString(path)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&shown, `\x%02x`, path[0])
		} else {
			shown.WriteString(path[:n])
		}
		path = path[n:]
	}
	return shown.String()
}
