package experiment

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// A file that is not UTF-8 is one mistake, also where an experiment imports it.
func TestFilesOfOtherEncodings(t *testing.T) {
	in := func(order binary.AppendByteOrder, text string) string {
		var b []byte
		for _, unit := range utf16.Encode([]rune(text)) {
			b = order.AppendUint16(b, unit)
		}
		return string(b)
	}
	for _, c := range []struct {
		name     string
		encoding func(string) string
		want     string // the empty one for no mistake
	}{
		{"UTF-8 with a mark", func(s string) string { return "\ufeff" + s }, ""},
		{"UTF-16 with a mark", func(s string) string { return in(binary.LittleEndian, "\ufeff"+s) }, ": the file is UTF-16\n"},
		{"UTF-16, high byte first", func(s string) string { return in(binary.BigEndian, "\ufeff"+s) }, ": the file is UTF-16\n"},
		{"UTF-16 without a mark", func(s string) string { return in(binary.LittleEndian, s) }, ": the file is UTF-16\n"},
		{"UTF-32", func(s string) string { return "\xff\xfe\x00\x00" + s }, ": the file is UTF-32\n"},
		{"Latin-1", func(s string) string { return s + "// é f\xfcr\n" }, ":7: the file is not UTF-8: it has a byte 0xFC here\n"},
	} {
		dir := t.TempDir()
		put := func(name, text string) string {
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			return file
		}
		put("cue.mod/module.cue", "module: \"a.example\"\nlanguage: version: \"v0.14.0\"\n")
		put("lib/lib.cue", c.encoding("package lib\n\nN: 3\n"))
		for file, text := range map[string]string{
			"alone.cue":   c.encoding(sound),
			"imports.cue": insert(strings.Replace(sound, "import ", "import \"a.example/lib\"\n\nimport ", 1), "\ttrain: maxSteps: lib.N"),
		} {
			_, found := loadWith([]string{put(file, text)}, Env{}, world())
			if got := located(found); c.want == "" && len(found) > 0 || c.want != "" && (len(found) != 1 || !strings.HasSuffix(got, c.want) || found[0].Hint != "save it as UTF-8") {
				t.Errorf("%s, %s: got %s, want %s", c.name, file, rendered(t, found), c.want)
			}
		}
	}
}
