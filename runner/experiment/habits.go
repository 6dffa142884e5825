package experiment

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/loralab/loralab/schema"
)

// Forms and names of other languages, which users of YAML and Python write.

// habits are forms of other languages that CUE refuses, as lines that have them before
// or after the place that CUE names.
var habits = []struct {
	line          *regexp.Regexp
	message, hint string // with what the line matches
}{
	{regexp.MustCompile(`^\s*#\s`), "a comment begins with //", ""},
	{regexp.MustCompile(`^\s*((?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*)\s*:\s*(.*)$`), "$1 is a path, and a field has one name", "write $.1: $2; below vary, zip and ablate the path is in quotes"},
	{regexp.MustCompile(`^\s*(vary|zip|ablate):\s*((?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*)\s*:\s*(.*)$`), "the path of $1 is a name in quotes", "write $1: \"$2\": $3"},
	{regexp.MustCompile(`^\s*import\s+([A-Za-z_][\w./-]*)\s*$`), "the path of an import is in quotes", "write import \"$1\""},
	{regexp.MustCompile(`;\s*\}?\s*$|;\s*\w+\s*:`), "fields are separated by commas or lines, not by ;", ""},
	{regexp.MustCompile(`[{,]\s*([A-Za-z_]\w*)\s*=\s*[^=~]`), "a field takes its value after a colon", "write $1: …"},
	{regexp.MustCompile(`^\s*([A-Za-z_]\w*)\s*=\s*[^=~]`), "a field takes its value after a colon", "write $1: …"},
	{regexp.MustCompile(`:\s*(?:"[^"]*"|[\w.+-]+|\])\s+[A-Za-z_]\w*\s*:\s`), "two fields in one line have a comma between them", ""},
	{regexp.MustCompile(`^\s*([A-Za-z_]\w*)\s*\{`), "a field has a colon before its value", "write $1: {"},
}

// habit is what is meant by a line that CUE cannot read; "" if that cannot be told.
func habit(line string) (message, hint string) {
	code, _, _ := strings.Cut(line, "//")
	if strings.HasPrefix(strings.TrimSpace(line), "//") || strings.Count(code, `"""`) > 0 {
		return "", ""
	}
	for _, h := range habits {
		m := h.line.FindStringSubmatch(code)
		if m == nil {
			continue
		}
		fill := func(text string) string {
			for i := 1; i < len(m); i++ {
				text = strings.ReplaceAll(text, fmt.Sprintf("$.%d", i), strings.ReplaceAll(m[i], ".", ": "))
				text = strings.ReplaceAll(text, fmt.Sprintf("$%d", i), strings.TrimSpace(m[i]))
			}
			return text
		}
		return fill(h.message), fill(h.hint)
	}
	return "", ""
}

// meant is the hint for a name that is one of another language, or of a package that is
// not imported.
func (d *document) meant(name string) string {
	switch name {
	case "True", "yes", "on":
		return "write true"
	case "False", "no", "off":
		return "write false"
	case "None", "nil", "NULL":
		return "leave the field out"
	case "range":
		return "write the list, [0, 1, 2], or import \"list\" and write list.Range(0, 3, 1)"
	case "schema":
		return fmt.Sprintf("write import %q below the package clause", schema.ImportPath)
	}
	if slices.Contains(builtins, name) {
		return fmt.Sprintf("write import %q below the package clause", name)
	}
	for _, path := range d.packages() {
		if path[strings.LastIndex(path, "/")+1:] == name {
			return fmt.Sprintf("write import %q below the package clause", path)
		}
	}
	return ""
}

// otherWord is the hint for a word of another program at a path; "" if it is none.
func otherWord(path []string, word string) string {
	if len(path) == 0 || label(path[len(path)-1]) != "precision" {
		return ""
	}
	switch strings.ToLower(word) {
	case "fp16", "float16", "half", "16", "16-mixed":
		return "there is no fp16: write \"bf16\", which has the same size and needs no loss scaling"
	case "bfloat16", "bf16-mixed":
		return "write \"bf16\""
	case "float32", "single", "full", "32", "fp64", "float64", "double":
		return "write \"fp32\""
	}
	return ""
}

// builtins are packages of CUE.
var builtins = []string{"list", "math", "regexp", "strconv", "strings", "struct", "text/template", "time"}
