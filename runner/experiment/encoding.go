package experiment

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/loralab/loralab/runner/diagnostic"
)

// misencoded is the mistake of a file that is not in UTF-8, as CUE requires; nil of one
// that is. Shown is how the user names the file.
func misencoded(source []byte, shown string) *diagnostic.Diagnostic {
	d := &diagnostic.Diagnostic{Hint: "save it as UTF-8", At: diagnostic.Position{File: shown}}
	for _, known := range []struct{ mark, name string }{
		{"\xff\xfe\x00\x00", "UTF-32"}, {"\x00\x00\xfe\xff", "UTF-32"}, {"\xff\xfe", "UTF-16"}, {"\xfe\xff", "UTF-16"},
	} {
		if bytes.HasPrefix(source, []byte(known.mark)) {
			d.Message = "the file is " + known.name
			return d
		}
	}
	switch {
	case len(source) > 1 && (source[0] == 0) != (source[1] == 0): // every second byte of English text
		d.Message = "the file is UTF-16"
		return d
	case utf8.Valid(source):
		return nil
	}
	at := 0
	for at < len(source) {
		r, n := utf8.DecodeRune(source[at:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		at += n
	}
	before := source[:at]
	start := bytes.LastIndexByte(before, '\n') + 1
	line, _, _ := bytes.Cut(source[start:], []byte("\n"))
	d.Message = fmt.Sprintf("the file is not UTF-8: it has a byte 0x%02X here", source[at])
	d.At.Line, d.At.Column, d.At.Width = 1+bytes.Count(before, []byte("\n")), 1+utf8.RuneCount(source[start:at]), 1
	d.Source = strings.ToValidUTF8(strings.TrimRight(string(line), "\r"), "\ufffd")
	return d
}
