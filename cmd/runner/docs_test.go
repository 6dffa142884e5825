package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/internal/python"
)

// installation is the folder of runner after make build. In CI it has to be
// there.
func installation(t *testing.T) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"runner", "runner-engine", "plugins"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("make build first: %v", err)
			}
			t.Logf("nothing tested: %v; see: make build", err)
			return ""
		}
	}
	return bin
}

// fence is a block of a page: commands, or a file whose first line names it.
var fence = regexp.MustCompile("(?s)```(sh|go|cue)\n(?:// ([^\n]+\\.(?:go|cue))\n)?(.*?)```\n")

// script is a page as a shell script: its commands and files in their order.
func script(t *testing.T, page string) (text string, commands int) {
	t.Helper()
	source, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("set -eu\n")
	for _, m := range fence.FindAllSubmatch(source, -1) {
		switch {
		case string(m[1]) == "sh":
			for line := range bytes.Lines(m[3]) {
				commands++
				fmt.Fprintf(&b, "echo '$' %s\n%s", quoted(string(bytes.TrimSpace(line))), line)
			}
		case len(m[2]) > 0:
			fmt.Fprintf(&b, "cat >%s <<'END_OF_FILE'\n%sEND_OF_FILE\n", m[2], m[3])
		default:
			t.Fatalf("%s: a block of %s has no name of a file:\n%s", page, m[1], m[3])
		}
	}
	return b.String(), commands
}

// followed does all that a page says to do, in an empty folder, with the
// installation first in PATH, and returns the folder and what was printed. dir
// is "" where there is no installation.
func followed(t *testing.T, page string, least int) (dir string, out []byte) {
	t.Helper()
	bin := installation(t)
	if bin == "" {
		return "", nil
	}
	text, commands := script(t, page)
	if commands < least {
		t.Fatalf("%s has only %d commands", page, commands)
	}
	dir = t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", text)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir, out
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// TestPluginsPage does all that docs/plugins.md says to do.
func TestPluginsPage(t *testing.T) {
	if installation(t) == "" {
		return
	}
	t.Setenv("PATH", filepath.Dir(python.Find(t))+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("LORALAB_PYTHON", "")
	t.Setenv("GOFLAGS", "-tags=netgo,osusergo") // as make does, so that nothing is built twice
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	dir, out := followed(t, "../../docs/plugins.md", 20)
	for _, want := range []string{
		`gated_lora 0\.1\.0 conforms: \d+ checks passed`,
		`gated_py 0\.1\.0 conforms: \d+ checks passed`,
		`token_gate 0\.1\.0 conforms: \d+ checks passed`, `(?m)^%\d+ = sigmoid %\d+ : \[T, 1\]$`,
		`# fc1 of block 0 \[1536, 384\], 9216 trainable parameters\n`,
		`(?m)^(variant=)?gated_lora +`, `(?m)^(variant=)?lora +`, // rows of the table
		`(?m)^pinned gated_lora 0\.1\.0 `,
		`Read back as variant lora, the files hold the adapter of the run\.`,
		`✓ PEFT +PEFT computes the same from an export`,
		`(?m)^gated_py +0\.1\.0 .*plugins\.d/gated_py$`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("nothing matches %s in\n%s", want, out)
		}
	}
	for _, file := range []string{"gated-peft/adapter_config.json", "gated-peft/adapter_model.safetensors", "runner.lock", "report/gated/table.md"} {
		if _, err := os.Stat(filepath.Join(dir, "my-project", file)); err != nil {
			t.Error(err)
		}
	}
}

const variantsPage = `# Variants

What comes with loralab. Each is a plug-in of its own in ` + "`plugins/`" + ` and passes ` + "`runner plugins test`" + `; [plugins.md](plugins.md) says how to add one. x is a row of inputs, base the frozen layer with weight W [out, in], A and B are trained unless the formula says otherwise. What layers share is counted for each of them in the third column and once in the fourth. The parameters of a variant, with their bounds and defaults: ` + "`runner plugins schema NAME`" + `.

`

// docs/variants.md is what `runner plugins docs` writes of the variants in
// this repository; LORALAB_UPDATE=1 writes it anew.
func TestVariantsPage(t *testing.T) {
	bin := installation(t)
	if bin == "" {
		return
	}
	var names []string
	for _, pattern := range []string{"../../plugins/*/schema.cue", "../../plugins/python/*/schema.cue"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			names = append(names, filepath.Base(filepath.Dir(file)))
		}
	}
	slices.Sort(names)
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "runner"), append([]string{"plugins", "docs"}, names...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+cmd.Dir, "LORALAB_PYTHON="+python.Find(t))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	table, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &errs)
	}
	const page = "../../docs/variants.md"
	want := variantsPage + string(table)
	if os.Getenv("LORALAB_UPDATE") != "" {
		if err := os.WriteFile(page, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/variants.md is not what the variants say; write it anew with LORALAB_UPDATE=1 go test ./cmd/runner -run TestVariantsPage\n%s", table)
	}
}

// TestOriginalPage does all that docs/original.md says to do.
func TestOriginalPage(t *testing.T) {
	const page = "../../docs/original.md"
	dir, out := followed(t, page, 7)
	if dir == "" {
		return
	}
	for _, want := range []string{
		`optim: kind: "adam" +// preset original, schema/preset\.cue:\d+\n`,
		`(?m)^ +set +"adamw" .*\n.*"adam" .*preset original, schema/preset\.cue`,
		`(?m)^lora,as_original,100,1,test,4,0\.\d+,0\.\d+$`,
		`(?m)^lora,corrected,100,test,1,0\.\d+,0,0\.\d+,0$`,
		`optim\.kind is "adam", by default "adamw"\. `,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("nothing matches %s in\n%s", want, out)
		}
	}
	// Every setting of the presets that differs from a default is in the table.
	source, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	report, err := os.ReadFile(filepath.Join(dir, "my-project", "report", "quirks", "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	settings := regexp.MustCompile("(?m)^\\| `([a-zA-Z_.]+)` \\| [^|]+ \\| [^|]+ \\| [^|]{20,} \\|$").FindAllSubmatch(report, -1)
	if len(settings) < 20 {
		t.Errorf("the report names only %d settings:\n%s", len(settings), report)
	}
	for _, m := range settings {
		field := string(m[1][bytes.LastIndexByte(m[1], '.')+1:])
		if !bytes.Contains(source, []byte(field+":")) {
			t.Errorf("%s does not mention %s", page, m[1])
		}
	}
}
