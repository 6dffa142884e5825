package launch

import (
	"context"
	"errors"
	"fmt"
	"io"

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
	if _, err := w.start(ctx, log); err != nil {
		return err
	}
	err = calls(ctx, w.engine)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case w.engine.Exited():
		return withTail(fmt.Errorf("the engine ended: %s", w.engine.Close()), log)
	}
	return errors.New(status.Convert(err).Message())
}
