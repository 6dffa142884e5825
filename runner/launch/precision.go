package launch

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// CheckPrecision reports what the engine here cannot compute: of precisions, tf32
// is for CUDA devices alone. An engine is asked only if it matters; what is wrong
// with one that does not answer is told to those who need it.
func CheckPrecision(ctx context.Context, precisions []string) error {
	if !slices.Contains(precisions, "tf32") {
		return nil
	}
	_, info, err := Probe(ctx)
	if err != nil || strings.HasPrefix(info.GetDevice(), "cuda") {
		return ctx.Err()
	}
	text := fmt.Sprintf("tf32 needs a CUDA device: the engine here computes on %s", info.GetDevice())
	if name := info.GetDeviceName(); name != "" {
		text += fmt.Sprintf(" (%s)", name)
	}
	return fmt.Errorf("%s; use fp32 or bf16", text)
}
