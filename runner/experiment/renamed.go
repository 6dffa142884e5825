package experiment

import (
	"fmt"
	"strings"
)

// A renaming is a word of the schema that had another spelling before. A
// spec.RunSpec keeps the old one: its identity covers the words.
type renaming struct {
	// at is the path of the struct that has the field, or of the field that has
	// the value. * is any name and any index.
	at string
	// old is the spelling in a RunSpec, now that in experiment files.
	old, now string
}

// renamings are all of them. A file, a path or a setting with an old word is
// refused with a hint that names the new one.
var renamings = []renaming{
	{"data", "colours", "colors"},
	{"data.augment.*.kind", "colour", "color"},
	{"data.augment.*.kind", "flip_vertical", "flipVertical"},
	{"evaluate.domains.*", "colours", "colors"},
	{"evaluate.styles.*.kind", "colour", "color"},
	{"loss", "cross_entropy", "crossEntropy"},
	{"loss", "log_cosh_dice", "logCoshDice"},
	{"loss.classWeights", "sqrt_inverse", "sqrtInverse"},
	{"preset", "original_search", "originalSearch"},
}

// recorded is the spelling in a RunSpec of a word of experiment files.
func recorded(now string) string {
	for _, r := range renamings {
		if r.now == now {
			return r.old
		}
	}
	return now
}

// written is the spelling in experiment files of a word of a RunSpec.
func written(old string) string {
	for _, r := range renamings {
		if r.old == old {
			return r.now
		}
	}
	return old
}

// renamed is a hint that names the new spelling of a word, a field of the struct
// at a path or the value of a field there; "" if the word is no old one. A path
// in a case is that in the experiment.
func renamed(path []string, word string) string {
	if len(path) > 2 && path[0] == "cases" {
		path = path[2:]
	}
	for _, r := range renamings {
		if r.old == word && r.isAt(path) {
			return spelled(r.old, r.now)
		}
	}
	return ""
}

func spelled(old, now string) string { return fmt.Sprintf("%q is now spelled %q", old, now) }

// renamedIn is the hint for the first old word in a path.
func renamedIn(path []string) string {
	for i := range path {
		if hint := renamed(path[:i], label(path[i])); hint != "" {
			return hint
		}
	}
	return ""
}

func (r *renaming) isAt(path []string) bool {
	at := strings.Split(r.at, ".")
	if len(at) != len(path) {
		return false
	}
	for i := range at {
		if at[i] != "*" && at[i] != label(path[i]) {
			return false
		}
	}
	return true
}
