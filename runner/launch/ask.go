package launch

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/loralab/loralab/core/spec"
)

// Ask starts an engine of its own, makes calls to it, and ends it. It is for
// what is not a run. An error of a call comes back in the engine's words.
func Ask(ctx context.Context, calls func(context.Context, spec.EngineClient) error) error {
	path, err := EnginePath()
	if err != nil {
		return err
	}
	w := worker{Local: &Local{Engine: path}}
	defer w.close()
	log := &tailWriter{w: io.Discard}
	_, err = w.start(ctx, log)
	if errors.Is(err, spec.ErrDied) && ctx.Err() == nil {
		_, err = w.start(ctx, log)
	}
	if err == nil {
		err = calls(ctx, w.engine)
	}
	s, ofCall := status.FromError(err)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case w.engine == nil || !ofCall:
		return err
	case s.Code() == codes.Unavailable:
		return withTail(fmt.Errorf("the engine ended: %s", spec.InWords(w.engine.Close())), log)
	case s.Code() == codes.ResourceExhausted:
		return errors.New(misunderstanding(err))
	}
	return errors.New(s.Message())
}
