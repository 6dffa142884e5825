package foreign

import (
	"os/exec"
	"strings"
	"testing"
)

func TestForeign(t *testing.T) {
	for _, c := range []struct {
		name     string
		show     func(string) string
		in, want string
	}{
		{"Line", Line, "rank=8 漢é 👩‍🔬 �", "rank=8 漢é 👩‍🔬 �"},
		{"Line", Line, "a\x1b]0;owned\x07b", `a\x1b]0;owned\x07b`},
		{"Line", Line, "a\nerror: fake\r\tb\x7f", `a\nerror: fake\r\tb\x7f`},
		{"Line", Line, "a\u009b31mb\u2028\u202ec\u2066", `a\x9b31mb\u2028\u202ec\u2066`},
		{"Line", Line, "\xff\xc2", `\xff\xc2`},
		{"CSV", CSV, "=HYPERLINK(1)", "'=HYPERLINK(1)"},
		{"CSV", CSV, "@x", "'@x"},
		{"CSV", CSV, "-x", "'-x"},
		{"CSV", CSV, "-1.5e-3", "-1.5e-3"},
		{"CSV", CSV, "+2", "+2"},
		{"CSV", CSV, "rank=8", "rank=8"},
		{"CSV", CSV, "\t=1", `\t=1`},
		{"CSV", CSV, "", ""},
		{"Markdown", Markdown, "one <script>\ntwo ![x](http://a) [b](c) rank=[1, 2]", "one &lt;script>\ntwo ![x]\\(http://a) [b]\\(c) rank=[1, 2]"},
		{"MarkdownCell", MarkdownCell, "a|b<i>\n", `a\|b&lt;i>\n`},
	} {
		if got := c.show(c.in); got != c.want {
			t.Errorf("%s of %q is %q, want %q", c.name, c.in, got, c.want)
		}
	}
}

// A command that is copied runs with the same words.
func TestCommand(t *testing.T) {
	words := []string{"-t", "scale=paper", `report.figure.width="one column"`, "it's", "", "$HOME;*"}
	out, err := exec.Command("sh", "-c", "printf '%s\\n' "+Command(words...)).Output()
	if err != nil || string(out) != strings.Join(words, "\n")+"\n" {
		t.Errorf("a shell reads %s as %q, %v", Command(words...), out, err)
	}
	if got := Command("runner", "apply", "experiments/größe.cue"); got != "runner apply experiments/größe.cue" {
		t.Errorf("plain words are %s", got)
	}
}
