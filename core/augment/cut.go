package augment

import (
	"fmt"
	"math"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
)

// The kinds that a list may begin with, for images as they lie in their files:
// resized, or as they are, a window is cut from them.
const (
	Resize = "resize"
	Window = "window"
)

// Native reports whether a list begins with what is done to images at the size that
// they have in their files. Cut does it, and Apply the rest.
func Native(list []*spec.Augment) bool {
	return len(list) > 0 && (list[0].GetKind() == Resize || list[0].GetKind() == Window)
}

// tries is how often a window is drawn again that one class fills too much of; the
// last is taken as it is. mmsegmentation has it so.
const tries = 10

// Cut resizes an image of any size, with labels of the same size, as a list says
// that is Native, and cuts a window out of it. The window is smaller where the image
// is. Only what it shows is computed. Draws are those of Apply.
func Cut(l raster.Labelled, window raster.Size, list []*spec.Augment, seed uint64, epoch int, key string) raster.Labelled {
	if err := Check(list); err != nil {
		panic("augment: " + err.Error())
	}
	to := l.Image.Size
	for i, a := range list {
		r := stream(seed, epoch, key, i, a)
		if r.Float64() >= a.P {
			continue
		}
		if a.Kind == Resize {
			to = resized(to, a, r)
			continue
		}
		top, left := place(l.Labels, to, window, a, r)
		return raster.Labelled{Image: l.Image.ResizedCut(to, top, left, window), Labels: l.Labels.ResizedCut(to, top, left, window)}
	}
	panic("augment: no window")
}

// resized draws the size of an image, whose proportions stay.
func resized(image raster.Size, a *spec.Augment, r rng.Stream) raster.Size {
	f := between(a, r)
	if a.ShortSide {
		f = math.Floor(f) / float64(min(image.H, image.W))
	}
	side := func(n int) int { return max(1, int(float64(n)*f+0.5)) }
	return raster.Size{H: side(image.H), W: side(image.W)}
}

// place draws where a window lies in an image that is resized.
func place(l raster.Labels, to, window raster.Size, a *spec.Augment, r rng.Stream) (top, left int) {
	draw := func() (top, left int) {
		return r.IntN(max(to.H-window.H, 0) + 1), r.IntN(max(to.W-window.W, 0) + 1)
	}
	top, left = draw()
	if a.MaxClass == 0 || a.MaxClass >= 1 {
		return top, left
	}
	for range tries {
		if mixed(l.ResizedCut(to, top, left, window), a.MaxClass) {
			break
		}
		top, left = draw()
	}
	return top, left
}

// mixed reports whether there are two classes or more and none has so large a part
// of what is not ignored.
func mixed(l raster.Labels, part float64) bool {
	var of [raster.Ignored + 1]int
	for _, v := range l.Pix {
		of[v]++
	}
	classes, most, all := 0, 0, 0
	for _, n := range of[:raster.Ignored] {
		if n > 0 {
			classes++
		}
		most = max(most, n)
		all += n
	}
	return classes > 1 && float64(most)/float64(all) < part
}

// OrderError is an entry of a list at a place where it cannot be.
type OrderError struct {
	At           int // index of the entry
	Reason, Hint string
}

func (e *OrderError) Error() string { return e.Reason + "; " + e.Hint }

// order reports an entry that is not where it can be: resize and window come first,
// resize before window and not without it.
func order(list []*spec.Augment) error {
	at := map[string]int{}
	for i, a := range list {
		kind := a.GetKind()
		if kind != Resize && kind != Window {
			continue
		}
		_, cut := at[Window]
		if _, again := at[kind]; again {
			return &OrderError{i, fmt.Sprintf("there is a second %s", kind), "leave one out"}
		}
		switch {
		case kind == Resize && cut:
			return &OrderError{i, "resize comes after window, which has cut data.size out of the image already", "write it before window"}
		case i > len(at):
			return &OrderError{i, fmt.Sprintf("%s is for images as they lie in their files, and %s comes before it", kind, list[i-1].GetKind()), "write resize and window first: the other changes are of what the window shows"}
		case kind == Resize && (i+1 == len(list) || list[i+1].GetKind() != Window):
			return &OrderError{i, "images that are resized keep their proportions, and nothing brings them to data.size", `let {kind: "window"} follow resize: it cuts data.size out of them`}
		}
		at[kind] = i
	}
	return nil
}
