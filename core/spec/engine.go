package spec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/loralab/loralab/core/tempdir"
)

// The engine is a process of its own: a crash in libtorch, or an
// out-of-memory kill, then ends one run and not the experiment. Runner and
// engine speak gRPC over a Unix socket with one-time certificates; go-plugin
// does the handshake.

// MessageLimit bounds one message between runner and engine, in bytes. The
// largest is a RunRequest, whose list of files grows with the data.
const MessageLimit = 64 << 20

// lifeline is the file descriptor of an engine that ends with its runner: the
// reading end of a pipe that only the runner can write to. An engine that
// outlives its runner would hold the lock of its run directory. A pipe tells of
// any death at once, also of one before the engine has come to listen.
const lifeline = 3

const engineService = "engine"

// The key is not LORALAB_ENGINE: that one names the binary to start.
var engineHandshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "LORALAB_ENGINE_COOKIE",
	MagicCookieValue: "1f0c5f5be1f74f64",
}

type enginePlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server EngineServer
}

func (p *enginePlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	RegisterEngineServer(s, p.server)
	return nil
}

func (p *enginePlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return NewEngineClient(c), nil
}

// ServeEngine serves server to the runner that started this process, and
// returns when the runner has shut it down. The process exits by itself when
// its runner is gone. Interrupts from the terminal are ignored: the runner
// decides what they mean and sends Stop. Standard output belongs to the
// handshake; what is written to standard error ends in the log of the run.
func ServeEngine(server EngineServer) {
	if os.Getenv(engineHandshake.MagicCookieKey) != engineHandshake.MagicCookieValue {
		fmt.Fprintln(os.Stderr, "runner-engine is started by runner and does nothing by itself; see: runner apply -h")
		os.Exit(1)
	}
	// What a terminal, a service manager or Slurm sends to all processes is for the
	// runner: it has the engine write a checkpoint first.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1)
	go exitWithRunner()
	// go-plugin carries what is written to os.Stderr over gRPC, where the last
	// words of a process that crashes are lost. The pipe below it keeps them,
	// so the first call puts it back.
	stderr, once := os.Stderr, sync.Once{}
	restore := func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		once.Do(func() { os.Stderr = stderr })
		return handle(ctx, request)
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: engineHandshake,
		Plugins:         plugin.PluginSet{engineService: &enginePlugin{server: server}},
		Logger:          hclog.NewNullLogger(),
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(o,
				grpc.MaxRecvMsgSize(MessageLimit), grpc.MaxSendMsgSize(MessageLimit), grpc.UnaryInterceptor(restore))...)
		},
	})
}

// exitWithRunner ends this process when its runner is gone. It holds nothing
// that could be lost: checkpoints are replaced atomically.
func exitWithRunner() {
	pipe := os.NewFile(lifeline, "lifeline")
	if _, err := pipe.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
		os.Exit(1)
	}
}

// EngineProcess is a started engine. It ends with its runner, at the latest.
type EngineProcess struct {
	EngineClient
	cmd      *exec.Cmd
	client   *plugin.Client
	log      *lockedWriter
	lifeline *os.File // closed with this process, at the latest
	sockets  *tempdir.Dir
}

// ErrDied is the cause where an engine ended while it started, or did not answer.
// The next one may fare better.
var ErrDied = errors.New("it died while it started")

// StartEngine starts cmd, which serves with ServeEngine, and waits until it
// answers or timeout is over. What it writes to its stderr goes to log, line by
// line and from several goroutines, though never at the same time; SetLog
// changes where.
//
// The engine runs in a process group of its own, so that Ctrl-C on the
// terminal reaches the runner alone. It sees the environment of cmd, and where
// that is nil, the environment of this process.
func StartEngine(cmd *exec.Cmd, log io.Writer, timeout time.Duration) (*EngineProcess, error) {
	e := &EngineProcess{cmd: cmd, log: &lockedWriter{w: log}}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	var err error
	if e.sockets, cmd.Env, err = tempdir.ForSockets(cmd.Environ()); err != nil {
		return nil, fmt.Errorf("starting engine %s: %w", cmd.Path, err)
	}
	e.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  engineHandshake,
		Plugins:          plugin.PluginSet{engineService: &enginePlugin{}},
		Cmd:              cmd,
		SkipHostEnv:      true, // cmd has it
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		StartTimeout:     timeout,
		Logger:           hclog.NewNullLogger(),
		Stderr:           e.log,
		SyncStderr:       e.log, // before the first call, see ServeEngine
		SyncStdout:       e.log, // by mistake
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MessageLimit), grpc.MaxCallSendMsgSize(MessageLimit)),
			grpc.WithStreamInterceptor(checkedStream), grpc.WithUnaryInterceptor(checkedCall),
		},
	})
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting engine %s: %w", cmd.Path, err), e.sockets.Remove())
	}
	cmd.ExtraFiles, e.lifeline = []*os.File{theirs}, ours // the first is descriptor 3
	err = e.connect()
	theirs.Close()
	if err != nil {
		// How it ended is known when it is waited for, and not before; what it
		// has started itself would hold its output.
		e.killGroup()
		return nil, fmt.Errorf("starting engine %s: %w", cmd.Path, startError(err, e.Close(), timeout))
	}
	return e, nil
}

func (e *EngineProcess) connect() error {
	rpc, err := e.client.Client()
	if err != nil {
		return err
	}
	service, err := rpc.Dispense(engineService)
	if err != nil {
		return err
	}
	e.EngineClient = service.(EngineClient)
	return nil
}

// startError says why an engine did not start, and how it ended. go-plugin has no
// types for what it finds, and explains at length what a plug-in is.
func startError(err error, ended string, timeout time.Duration) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	printed, strange := strings.CutPrefix(text, "Unrecognized remote plugin message: ")
	switch {
	case strings.Contains(err.Error(), "Failed to read any lines"), strings.Contains(text, "exited before we could connect"):
		return fmt.Errorf("%w: %s", ErrDied, InWords(ended))
	case strings.Contains(text, "timeout while waiting for plugin"):
		return fmt.Errorf("%w: no answer within %v", ErrDied, timeout)
	case strange:
		return fmt.Errorf("it is no engine of loralab: it printed %.100q", printed)
	case strings.Contains(text, "ncompatible API version"), strings.Contains(text, "incompatible core API version"):
		return errors.New("it speaks another version of the protocol; run `make build`, which builds runner and engine together")
	}
	return err
}

// InWords adds to how a process ended what that usually means.
func InWords(ended string) string {
	if ended == "signal: killed" {
		return ended + " (by the system for lack of memory, or by hand)"
	}
	return ended
}

// SetLog sends what the engine writes to its stderr to w from now on.
func (e *EngineProcess) SetLog(w io.Writer) {
	e.log.mu.Lock()
	e.log.w = w
	e.log.mu.Unlock()
}

// Pid is the process id of the engine.
func (e *EngineProcess) Pid() int { return e.cmd.Process.Pid }

// Exited reports whether the process has ended.
func (e *EngineProcess) Exited() bool { return e.client.Exited() }

// Close ends the engine, by force if it does not go within two seconds, and
// waits for it. It returns how the process ended: "exit status 0", "signal:
// killed".
func (e *EngineProcess) Close() string {
	e.client.Kill()
	e.lifeline.Close()
	_ = e.sockets.Remove() // the next engine does it
	return e.state()
}

// Kill ends the engine at once, with all it has started, and waits for it. It
// returns how the process ended.
func (e *EngineProcess) Kill() string {
	e.killGroup()
	return e.Close()
}

// killGroup kills the process and what it has started. It may have ended by itself:
// that is the aim.
func (e *EngineProcess) killGroup() {
	if e.cmd.Process != nil && e.cmd.Process.Pid > 0 {
		_ = syscall.Kill(-e.cmd.Process.Pid, syscall.SIGKILL)
	}
}

func (e *EngineProcess) state() string {
	if s := e.cmd.ProcessState; s != nil {
		return s.String()
	}
	return "not ended"
}

// lockedWriter lets the goroutines that read an engine's stderr share one
// writer.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
