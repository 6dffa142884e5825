package launch

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// What an engine says last is much; the line that tells why it ended is one.
func TestReason(t *testing.T) {
	registers := strings.Repeat("rax 0x0\n", 2*tailLines)
	for text, want := range map[string]string{
		"loading\nSIGSEGV: segmentation violation\nPC=0x4f5021 m=0\n\n" + registers:                                          "SIGSEGV: segmentation violation",
		"panic: index out of range\n\ngoroutine 7 [running]:\n" + registers:                                                  "panic: index out of range",
		"fatal error: runtime: out of memory\n" + registers:                                                                  "fatal error: runtime: out of memory",
		"terminate called after throwing an instance of 'c10::Error'\n  what():  no\nSIGABRT: abort\n" + registers:           "terminate called after throwing an instance of 'c10::Error'",
		"error while loading shared libraries: libtorch_cpu.so: cannot open shared object file: No such file or directory\n": "error while loading shared libraries: libtorch_cpu.so: cannot open shared object file: No such file or directory",
		"": "",
	} {
		w := &tailWriter{w: io.Discard}
		fmt.Fprint(w, text)
		if got := w.reason(); got != want {
			t.Errorf("of %.40q… the reason is %q, want %q", text, got, want)
		}
	}
}
