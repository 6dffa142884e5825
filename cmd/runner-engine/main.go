// Command runner-engine is the half of loralab that computes: a process with
// libtorch for one device. runner starts it, sends it runs, and reads events.
//
// Environment: LORALAB_DEVICE is "cpu" or "cuda:N" (without it, the first CUDA
// device if there is one); LORALAB_THREADS bounds the threads of CPU work.
package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc"

	"github.com/loralab/loralab/core/engine/export"
	"github.com/loralab/loralab/core/engine/programtest"
	"github.com/loralab/loralab/core/engine/stylenet"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/train"
	"github.com/loralab/loralab/core/spec"
)

func main() {
	e, err := newEngine()
	if err != nil {
		fmt.Fprintln(os.Stderr, "runner-engine:", err)
		os.Exit(1)
	}
	spec.ServeEngine(e)
}

type engine struct {
	spec.UnimplementedEngineServer
	dev     *torch.Device
	trainer *train.Trainer
	info    *spec.EngineInfo

	mu   sync.Mutex
	stop context.CancelFunc // of the run in progress
}

func newEngine() (*engine, error) {
	threads, err := strconv.Atoi(cmp.Or(os.Getenv("LORALAB_THREADS"), "0"))
	if err != nil || threads < 0 {
		return nil, fmt.Errorf("LORALAB_THREADS is %q, want a number", os.Getenv("LORALAB_THREADS"))
	}
	want := os.Getenv("LORALAB_DEVICE")
	var devices int
	missing := "LORALAB_DEVICE is cpu"
	if want != "cpu" {
		devices, missing = torch.FindCUDA()
	}
	// The CPU device comes first in any case: it sets the threads.
	dev, err := torch.CPU(threads)
	if err != nil {
		return nil, err
	}
	switch {
	case want == "cpu" || want == "" && devices == 0:
	case want == "" || strings.HasPrefix(want, "cuda"):
		index, err := strconv.Atoi(cmp.Or(strings.TrimPrefix(strings.TrimPrefix(want, "cuda"), ":"), "0"))
		if err != nil {
			return nil, fmt.Errorf("LORALAB_DEVICE is %q, want cpu or cuda:N", want)
		}
		if devices == 0 {
			return nil, fmt.Errorf("LORALAB_DEVICE is %s: %s", want, missing)
		}
		dev.Close()
		if dev, err = torch.CUDA(index); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("LORALAB_DEVICE is %q, want cpu or cuda:N", want)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("finding the cache directory: %w", err)
	}
	e := &engine{dev: dev, trainer: train.New(dev, filepath.Join(cache, "loralab"))}
	e.info = &spec.EngineInfo{
		Version: spec.Version(), Libtorch: torch.Version(), Device: dev.String(), DeviceName: cpuName(),
		CpuCapability: torch.CPUCapability(), Bf16: torch.FastBF16(), Threads: uint32(torch.Threads()),
		CudaDevices: uint32(devices), CudaMissing: missing, Pid: uint64(os.Getpid()), Probes: map[string]string{},
	}
	if dev.IsCUDA() {
		e.info.DeviceName, e.info.Bf16 = "GPU", false
		if facts, ok := dev.Facts(); ok {
			e.info.DeviceName, e.info.DeviceMemory = facts.Name, uint64(facts.Memory)
			e.info.Bf16 = facts.Capability >= 80
		}
	}
	return e, nil
}

func cpuName() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// Info says what this engine is.
func (e *engine) Info(context.Context, *spec.InfoRequest) (*spec.EngineInfo, error) {
	err := e.dev.Do(func() error { maps.Copy(e.info.Probes, e.dev.Probes()); return nil })
	return e.info, err
}

// Run executes one run. What happens to it is said in events; the call itself
// fails only if they cannot be sent.
func (e *engine) Run(req *spec.RunRequest, stream grpc.ServerStreamingServer[spec.Event]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	e.mu.Lock()
	e.stop = cancel
	e.mu.Unlock()
	var lost error
	_ = e.trainer.Run(ctx, req, func(ev *spec.Event) {
		if lost == nil {
			if lost = stream.Send(ev); lost != nil {
				cancel() // nobody listens: make a checkpoint and end
			}
		}
	})
	return lost
}

// Conform tries adapter programs; a run in progress waits between two steps.
func (e *engine) Conform(ctx context.Context, req *spec.ConformRequest) (*spec.ConformReply, error) {
	return programtest.Try(ctx, e.dev, req)
}

// Sample writes an adapter for PEFT, and what it computes.
func (e *engine) Sample(ctx context.Context, req *spec.SampleRequest) (*spec.SampleReply, error) {
	return &spec.SampleReply{}, programtest.Sample(ctx, e.dev, req)
}

// Export writes a trained run for other tools.
func (e *engine) Export(ctx context.Context, req *spec.ExportRequest) (*spec.ExportReply, error) {
	return export.Run(ctx, e.dev, req)
}

// Compare computes the adapters of a trained run and others side by side.
func (e *engine) Compare(ctx context.Context, req *spec.CompareRequest) (*spec.CompareReply, error) {
	return export.Compare(ctx, e.dev, req)
}

// Predict segments pictures, when no run is in progress.
func (e *engine) Predict(req *spec.PredictRequest, stream grpc.ServerStreamingServer[spec.Prediction]) error {
	return e.trainer.Predict(stream.Context(), req, stream.Send)
}

// Ensemble scores several trained runs together, when no run is in progress.
func (e *engine) Ensemble(req *spec.EnsembleRequest, stream grpc.ServerStreamingServer[spec.Event]) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	err := e.trainer.Ensemble(ctx, req, func(event *spec.Event) {
		if err := stream.Send(event); err != nil {
			cancel(err) // nobody listens
		}
	})
	return err
}

// Stylize passes pictures through a style network; a run in progress waits
// between two steps.
func (e *engine) Stylize(req *spec.StylizeRequest, stream grpc.ServerStreamingServer[spec.Stylized]) error {
	return stylenet.Write(stream.Context(), e.dev, req, stream.Send)
}

// Stop makes the run in progress write a checkpoint and end.
func (e *engine) Stop(context.Context, *spec.StopRequest) (*spec.StopReply, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stop != nil {
		e.stop()
	}
	return &spec.StopReply{}, nil
}
