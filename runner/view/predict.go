package view

import (
	"fmt"
	"strings"

	"github.com/loralab/loralab/core/spec"
)

// Predicted is what a run made of pictures.
type Predicted struct {
	Run        string // name
	Checkpoint string // best | last
	Directory  string
	Classes    []string
	Pictures   []Picture
}

// Picture is one of them.
type Picture struct {
	Image string // as it was named
	*spec.Picture
	*spec.Prediction
}

// Failed counts the pictures that could not be segmented.
func (p Predicted) Failed() (n int) {
	for _, one := range p.Pictures {
		if one.Failure != "" {
			n++
		}
	}
	return n
}

// Picture says what one picture came to: its size, and the share of each class
// that was found.
func (v *View) Picture(classes []string, p Picture) {
	if p.Failure != "" {
		printf(v.err, "%s %s: %s\n", v.bad.Render("failed:"), p.Image, p.Failure)
		return
	}
	var shares []string
	for i, n := range p.Pixels {
		if n > 0 {
			shares = append(shares, fmt.Sprintf("%s %.1f%%", classes[i], 100*p.share(i)))
		}
	}
	v.Say("%s  %s  %s", p.Image, v.dim.Render(fmt.Sprintf("%d×%d", p.Width, p.Height)), strings.Join(shares, ", "))
}

// share of a class in the pixels.
func (p Picture) share(class int) float64 {
	return float64(p.Pixels[class]) / (float64(p.Width) * float64(p.Height))
}

// Predicted says where it all is.
func (v *View) Predicted(p Predicted) {
	done := len(p.Pictures) - p.Failed()
	v.Say("%s %s with %s, %s weights, in %s", v.good.Render("segmented"), count(done, "picture"), p.Run, p.Checkpoint, v.bold.Render(p.Directory))
	if n := p.Failed(); n > 0 {
		printf(v.err, "%s could not be segmented\n", count(n, "picture"))
	}
}

// PredictedJSON is Predicted for programs.
func (v *View) PredictedJSON(p Predicted) error {
	type picture struct {
		Image         string             `json:"image"`
		Failure       string             `json:"failure,omitempty"`
		Width         uint32             `json:"width,omitempty"`
		Height        uint32             `json:"height,omitempty"`
		Mask          string             `json:"mask,omitempty"`
		Overlay       string             `json:"overlay,omitempty"`
		Probabilities string             `json:"probabilities,omitempty"`
		Shares        map[string]float64 `json:"shares,omitempty"` // of pixels, by class
	}
	pictures := make([]picture, len(p.Pictures))
	for i, one := range p.Pictures {
		if one.Failure != "" {
			pictures[i] = picture{Image: one.Image, Failure: one.Failure}
			continue
		}
		pictures[i] = picture{
			Image: one.Image, Width: one.Width, Height: one.Height,
			Mask: one.Mask, Overlay: one.Overlay, Probabilities: one.Probabilities, Shares: map[string]float64{},
		}
		for class, name := range p.Classes {
			pictures[i].Shares[name] = one.share(class)
		}
	}
	return v.JSON(map[string]any{
		"run": p.Run, "checkpoint": p.Checkpoint, "directory": p.Directory, "classes": p.Classes, "pictures": pictures,
	})
}
