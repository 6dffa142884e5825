package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/spec"
)

// windowOptions are flags of the verbs that see pictures by windows.
type windowOptions struct {
	stride string // "126" or "126x63"; "": no windows
	scale  string // "fit" or a factor
}

func (o *windowOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.stride, "window", "", "see pictures by windows of data.size at this `STRIDE` in pixels: 126, or 126x63 for down and across")
	c.Flags().StringVar(&o.scale, "scale", "", "the `fit|FACTOR` that pictures are scaled by for windows; default: fit, so that the shorter side is a window's")
}

// testTimeOptions are flags of the verbs that see pictures in several ways.
type testTimeOptions struct {
	flip   bool
	scales []float64
}

func (o *testTimeOptions) flags(c *cobra.Command) {
	c.Flags().BoolVar(&o.flip, "flip", false, "see pictures mirrored as well, and average the probabilities")
	c.Flags().Float64SliceVar(&o.scales, "scales", nil, "see pictures at these `FACTORS` of their size, 0.75,1,1.25, and average the probabilities")
}

// of is the test-time augmentation that the flags ask for, nil for none.
func (o *testTimeOptions) of() (*spec.TestTime, error) {
	for i, scale := range o.scales {
		if !(scale > 0 && scale <= spec.MostScale) {
			return nil, fmt.Errorf("--scales %g: must be factors above 0, up to %d", scale, spec.MostScale)
		}
		if slices.Contains(o.scales[:i], scale) {
			return nil, fmt.Errorf("--scales: %g is listed twice", scale)
		}
	}
	return spec.NewTestTime(o.flip, o.scales), nil
}

// of is the windows that the flags ask for, nil for none.
func (o *windowOptions) of(d *spec.Data) (*spec.Window, error) {
	if o.stride == "" {
		if o.scale != "" {
			return nil, fmt.Errorf("--scale %s is for windows: give --window too", o.scale)
		}
		return nil, nil
	}
	down, across, two := strings.Cut(o.stride, "x")
	if !two {
		across = down
	}
	h, err1 := strconv.ParseUint(down, 10, 32)
	w, err2 := strconv.ParseUint(across, 10, 32)
	if err1 != nil || err2 != nil || h == 0 || w == 0 {
		return nil, fmt.Errorf("--window %s: must be a stride in pixels, 126, or 126x63 for down and across", o.stride)
	}
	if uint32(h) > d.GetHeight() || uint32(w) > d.GetWidth() {
		return nil, fmt.Errorf("--window %s: windows of %d×%d, the data.size of the run, would leave pixels out: the stride is at most that", o.stride, d.GetHeight(), d.GetWidth())
	}
	out := &spec.Window{StrideH: uint32(h), StrideW: uint32(w)}
	if o.scale != "" && o.scale != "fit" {
		if out.Scale, err1 = strconv.ParseFloat(o.scale, 64); err1 != nil || !(out.Scale > 0 && out.Scale <= 16) {
			return nil, fmt.Errorf("--scale %s: must be fit, or a factor above 0, up to 16", o.scale)
		}
	}
	return out, nil
}
