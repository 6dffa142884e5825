package variant

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/loralab/loralab/core/tempdir"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/environ"
)

// process is a started plug-in.
type process struct {
	client  protocol.VariantClient
	control *plugin.Client
	cmd     *exec.Cmd
	printed *tail
	once    sync.Once
	sockets *tempdir.Dir
	// lifeline is closed with this process, at the latest; see protocol.Lifeline.
	lifeline *os.File
}

// start starts a plug-in whose file has the sum it is said to have.
func start(ctx context.Context, p *Plugin, timeout time.Duration) (*process, error) {
	sum, err := hex.DecodeString(p.SHA256)
	if err != nil {
		return nil, fmt.Errorf("starting variant %s: its sum: %w", p.Name, err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	// Not CommandContext: the process outlives the call that starts it.
	cmd := exec.Command(p.Path)
	// A group of its own: it does not hear Ctrl-C meant for runner, and ends
	// with all it has started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = environ.ForPlugin(os.Environ())
	printed := &tail{}
	proc := &process{cmd: cmd, printed: printed}
	if proc.sockets, cmd.Env, err = tempdir.ForSockets(cmd.Env); err != nil {
		return nil, fmt.Errorf("starting variant %s: %w", p.Name, err)
	}
	proc.control = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  protocol.Handshake,
		Plugins:          plugin.PluginSet{protocol.Service: &protocol.GRPCPlugin{}},
		Cmd:              cmd,
		SkipHostEnv:      true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SecureConfig:     &plugin.SecureConfig{Checksum: sum, Hash: sha256.New()},
		StartTimeout:     timeout,
		Stderr:           printed,
		SyncStdout:       printed,
		SyncStderr:       printed,
		Logger:           hclog.NewNullLogger(),
	})
	fail := func(err error) (*process, error) {
		proc.end(true)
		return nil, proc.explainStart(p, err, timeout)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	proc.lifeline = ours
	cmd.ExtraFiles = []*os.File{theirs} // the first is descriptor 3
	cmd.Env = append(cmd.Env, protocol.Lifeline+"=3")
	rpc, err := proc.control.Client()
	theirs.Close()
	if err != nil {
		return fail(err)
	}
	raw, err := rpc.Dispense(protocol.Service)
	if err != nil {
		return fail(err)
	}
	client, ok := raw.(protocol.VariantClient)
	if !ok {
		return fail(fmt.Errorf("dispensed a %T", raw))
	}
	proc.client = client
	return proc, nil
}

// end ends the process: asked first, or by force at once. It returns when all
// it has printed is read.
func (p *process) end(force bool) {
	p.once.Do(func() {
		if force {
			p.killGroup()
		}
		p.control.Kill()
		p.killGroup()
		if p.lifeline != nil {
			p.lifeline.Close()
		}
		_ = p.sockets.Remove() // the next plug-in does it
	})
}

// killGroup kills the process and what it has started. That it is gone
// already is as good.
func (p *process) killGroup() {
	if p.cmd.Process != nil {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// ended is how the process has ended, in parentheses; "" if that is not known. It
// is asked for when the process was waited for.
func (p *process) ended() string {
	if p.cmd.ProcessState == nil {
		return ""
	}
	return " (" + p.cmd.ProcessState.String() + ")"
}

// signalled reports whether a signal has ended the process.
func (p *process) signalled() bool {
	if p.cmd.ProcessState == nil {
		return false
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// isChanged reports whether the file did not have the sum it should.
func isChanged(err error) bool { return errors.Is(err, plugin.ErrChecksumsDoNotMatch) }

// fatal reports whether the process is of no use after this error of a call.
func fatal(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown:
		return true
	}
	return false
}

const (
	hintAuthor  = "this is a mistake of the plug-in; tell its author"
	hintRebuild = "build it with the sdk of this release, or install the plug-in of this release"
)

var pluginVersion = regexp.MustCompile(`Plugin version: (\d+)`)

// otherVersion says which version of a protocol a plug-in speaks, and what to do. The
// text is go-plugin's.
func otherVersion(of, text string, ours int) (message, hint string) {
	found := pluginVersion.FindStringSubmatch(text)
	if found == nil {
		return fmt.Sprintf("it speaks another version of %s than this runner, which speaks version %d", of, ours), hintRebuild
	}
	hint = hintRebuild
	if theirs, err := strconv.Atoi(found[1]); err == nil && theirs > ours {
		hint = "use the release of loralab that it was built for, or " + hintRebuild
	}
	return fmt.Sprintf("it speaks version %s of %s, and this runner speaks version %d", found[1], of, ours), hint
}

// explainStart says why a plug-in did not start. go-plugin has no types for
// most of it.
func (p *process) explainStart(of *Plugin, err error, timeout time.Duration) error {
	e := &Error{Variant: of.Name, Path: of.Path, Doing: "start", Hint: hintAuthor}
	text := err.Error()
	line, babble := strings.CutPrefix(text, "Unrecognized remote plugin message: ")
	switch {
	case isChanged(err):
		e.Err = err
		e.Message, e.Hint = "the file changed while it was being started", "run the command again"
	case errors.Is(err, syscall.ENOEXEC):
		e.Message, e.Hint = "the file is not a program for this machine", "build it for this system; a script needs a first line such as #!/usr/bin/env python3"
	case errors.Is(err, os.ErrPermission):
		e.Err = err
		e.Message, e.Hint = "the file may not be executed", "chmod +x "+of.Path+", and see that its file system is not mounted noexec"
	case errors.Is(err, os.ErrNotExist):
		e.Err = err
		e.Message, e.Hint = "the file or the interpreter its first line names is missing", "check the path and the first line"
	case strings.Contains(text, "timeout while waiting for plugin"):
		e.Message = fmt.Sprintf("it did not say hello within %v and was killed", timeout)
		e.Stack = p.printed.String()
	case strings.Contains(text, "Failed to read any lines"), strings.Contains(text, "exited before we could connect"):
		e.Message = "it ended instead of saying hello" + p.ended()
		e.killed = p.signalled()
		e.Stack = p.printed.String()
		if why, ok := reason(e.Stack); ok {
			e.Message, e.Hint, e.Stack = "it cannot start: "+why, "", ""
		} else if cause := crash(e.Stack); cause != "" {
			e.Message += ": " + cause
		} else if e.Stack == "" {
			e.Hint = "it may be no variant plug-in; run it by hand to see what it is"
		}
	case babble:
		line, _, _ = strings.Cut(line, "\n")
		e.Message = fmt.Sprintf("it printed %.100q to stdout instead of saying hello", line)
		e.Hint = "a plug-in must not print to stdout before it serves; tell its author"
		e.Stack = p.printed.String()
	case strings.HasPrefix(text, "incompatible API version"):
		e.Message, e.Hint = otherVersion("loralab's protocol", text, protocol.Version)
	case strings.HasPrefix(text, "incompatible core API version"):
		e.Message, e.Hint = otherVersion("go-plugin's protocol", text, plugin.CoreProtocolVersion)
	default:
		e.Message, e.Err = "it could not be started", err
		e.Stack = p.printed.String()
	}
	return e
}

// explain says why a call failed.
func (p *process) explain(of *Plugin, doing string, err error, timeout time.Duration) error {
	s := status.Convert(err)
	e := &Error{Variant: of.Name, Path: of.Path, Doing: doing, Message: s.Message(), Hint: hintAuthor}
	e.Crashed = s.Code() == codes.DeadlineExceeded || s.Code() == codes.Unavailable || s.Code() == codes.Internal
	switch s.Code() {
	case codes.DeadlineExceeded:
		e.Message = fmt.Sprintf("it did not answer within %v and was killed", timeout)
		e.Stack = p.printed.String()
	case codes.Unavailable, codes.Unknown:
		e.Stack = p.printed.String()
		if cause := crash(e.Stack); cause != "" {
			e.Message, e.Crashed = "it crashed: "+cause, true
		} else if _, why, ok := strings.Cut(s.Message(), "error while dialing: "); ok && p.signalled() { // it ran until it was killed after the call
			e.Message = "it could not be reached at the socket that it names: " + strings.TrimSuffix(why, `"`)
		} else if s.Code() == codes.Unavailable {
			e.Message = "it ended in the middle of the call" + p.ended()
		}
	case codes.ResourceExhausted:
		e.Message = fmt.Sprintf("its reply is larger than %d bytes", protocol.MessageLimit)
		e.Hint += "; large constants belong into initialisers"
	case codes.Unimplemented:
		e.Unknown = true
		e.Message, e.Hint = "it does not know the call", hintRebuild
		if doing == "Adopt" {
			e.Message, e.Hint = "it does not read PEFT files", "start from an adapter of a variant that does"
		}
	case codes.InvalidArgument:
		e.Hint = "its schema and its program do not agree; tell its author"
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.DebugInfo); ok {
			e.Stack = info.GetDetail()
		}
	}
	return e
}

// reason is what a plug-in says that knows why it cannot start: a Python
// package is missing, say. It ends with a line "error: …".
func reason(printed string) (string, bool) {
	return strings.CutPrefix(printed[strings.LastIndexByte(printed, '\n')+1:], "error: ")
}

// crash finds how Go or Python report the end of a program.
func crash(printed string) string {
	lines := strings.Split(printed, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return line
		}
		if strings.HasPrefix(line, "Traceback ") {
			for _, next := range lines[i+1:] {
				if next != "" && !strings.HasPrefix(next, " ") {
					return next
				}
			}
		}
	}
	return ""
}

// tail keeps the beginning and the end of what a plug-in prints: enough for a
// stack, however much it prints.
type tail struct {
	mu   sync.Mutex
	head []byte
	last []byte
	lost int
}

const tailSize = 8 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(b)
	take := min(n, tailSize-len(t.head))
	t.head = append(t.head, b[:take]...)
	t.last = append(t.last, b[take:]...)
	if over := len(t.last) - tailSize; over > 0 {
		t.lost += over
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return n, nil
}

// String is printable text, whatever was written.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := string(t.head)
	if t.lost > 0 {
		s += fmt.Sprintf("\n… %d bytes left out …\n", t.lost)
	}
	s += string(t.last)
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1 // no escape sequences on the user's terminal
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return strings.TrimSpace(s)
}
