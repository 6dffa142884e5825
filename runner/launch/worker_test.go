package launch

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/loralab/loralab/core/filename"
	"github.com/loralab/loralab/core/spec"
)

// A call that fails for what was to be sent is no death of the engine: it is said
// to be what it is, and not tried again.
func TestMisunderstood(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string // "": the engine ended
	}{
		{status.Error(codes.ResourceExhausted, "trying to send message larger than max (80000000 vs. 67108864)"), "larger than 64 MiB, the most allowed: trying to send message larger"},
		{status.Error(codes.Internal, "grpc: error while marshaling: string field contains invalid UTF-8"), "do not understand each other: grpc: error while marshaling"},
		{status.Error(codes.Internal, "grpc: failed to unmarshal the received message"), "do not understand each other"},
		{&spec.TextError{Err: filename.CheckUTF8("/data/f\xe9.png")}, `f\xe9.png is not UTF-8; rename it`},
		{status.Error(codes.Unimplemented, "unknown method Run"), "do not understand each other: unknown method Run; run `make build`"},
		{status.Error(codes.Internal, "unexpected EOF"), ""},
		{status.Error(codes.Unavailable, "error reading from server: EOF"), ""},
		{status.Error(codes.Unknown, "EOF"), ""},
		{errors.New("EOF"), ""},
	} {
		if got := misunderstood(c.err); got != (c.want != "") || got && !strings.Contains(misunderstanding(c.err), c.want) {
			t.Errorf("%v: %v, %s", c.err, got, misunderstanding(c.err))
		}
	}
}

// What an engine said is one line where there is room for one, and all of it
// elsewhere.
func TestSaid(t *testing.T) {
	log := &tailWriter{w: &strings.Builder{}}
	for _, line := range []string{"loading\n", "fatal error: out of memory\n", "goroutine 1\n"} {
		if _, err := log.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	err := withTail(errors.New("starting"), log)
	if got, want := inOneLine(&noEngineError{err}), "starting; it said: fatal error: out of memory"; got != want {
		t.Errorf("got %q", got)
	}
	if got, want := err.Error(), "starting; it said:\nloading\nfatal error: out of memory\ngoroutine 1"; got != want {
		t.Errorf("got %q", got)
	}
	log.forget()
	if err := withTail(errors.New("starting"), log); inOneLine(err) != "starting" {
		t.Errorf("another engine said %v", err)
	}
}
