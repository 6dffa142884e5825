package params

import (
	"fmt"
	"slices"

	"github.com/loralab/loralab/core/spec"
	vitdesign "github.com/loralab/loralab/core/vit/design"
	protocol "github.com/loralab/loralab/plugins/protocol"
)

// CacheBytes bounds the memory in which the engine of a device keeps tokens.
const CacheBytes = 4 << 30

// Cache is what a training keeps of its images: the tokens that come out of the
// frozen blocks before the first one that trains.
type Cache struct {
	// Blocks come before anything that trains; -1: the embeddings train as well.
	Blocks int
	// Stops are the numbers of blocks after which tokens are kept: Blocks, and
	// before it what the head sees.
	Stops []int
	// Views is how many of each image the training sees; 0: another in each epoch.
	Views int
	// Bytes are those of one view of all training images.
	Bytes int64
	// Off says why nothing is kept; "" if it is.
	Off string
}

// CacheOf is the cache of a run with tensors, in memory of a size.
func CacheOf(s *spec.RunSpec, tensors []Tensor, limit int64) (Cache, error) {
	row, err := vitdesign.Of(s.GetBackbone().GetArch())
	if err != nil {
		return Cache{}, err
	}
	c := Cache{Blocks: firstBlock(s, tensors)}
	for _, tap := range s.GetHead().GetTaps() {
		if after := int(tap) + 1; after < c.Blocks {
			c.Stops = append(c.Stops, after)
		}
	}
	c.Stops = append(c.Stops, c.Blocks)
	a, d := s.GetBackbone().GetArch(), s.GetData()
	before := int64(len(row.Placed)) + int64(a.GetRegisters())
	patch := max(1, a.GetPatch())
	image := (int64(d.GetHeight()/patch)*int64(d.GetWidth()/patch) + before) * int64(len(c.Stops)) * int64(a.GetDim()) * 4
	images := int64(d.GetSplits()["train"].GetCount())
	c.Bytes = images * image
	switch n := d.GetViews().GetCount(); {
	case len(d.GetAugment()) == 0:
		c.Views = 1
	case n > 0:
		c.Views = int(min(uint64(n), max(1, Epochs(s))))
	}
	all := c.Bytes * int64(max(1, c.Views))
	if c.Views > 1 {
		// Room for validation too: whether the later views are kept must not depend on
		// what came before them.
		all += int64(d.GetSplits()["val"].GetCount()) * image
	}
	switch {
	case c.Blocks < 1:
		c.Off = "no block is frozen before the first weight that trains"
	case c.Views == 0:
		c.Off = "data.augment makes other images in each epoch; with data.views some return"
	case all > limit:
		c.Off = fmt.Sprintf("it would take %.1f GB, and %.1f GB is the most", float64(all)/1e9, float64(limit)/1e9)
	}
	return c, nil
}

// firstBlock is where training begins.
func firstBlock(s *spec.RunSpec, tensors []Tensor) int {
	depth := int(s.GetBackbone().GetDepth())
	if depth == 0 {
		depth = int(s.GetBackbone().GetArch().GetDepth())
	}
	first := depth
	for i := range tensors {
		if t := &tensors[i]; t.Part == Backbone && t.Trains {
			first = min(first, t.at)
		}
	}
	for _, p := range s.GetAdapter().GetPlacements() {
		if p.GetSite().GetKind() == protocol.Site_PATCH {
			return -1
		}
		first = min(first, int(p.GetSite().GetBlock()))
	}
	if taps := s.GetHead().GetTaps(); len(taps) > 0 {
		first = min(first, int(slices.Max(taps))+1)
	}
	return first
}

// DropPath is the probability with which training leaves out a branch of each block
// in use; nil if it leaves out none. It rises with the block from 0 to that of the
// last in a line. Blocks before the first with something that trains have none: they
// are a fixed function of an image, computed once where the cache keeps its values,
// and whether it does must not change a result.
func DropPath(s *spec.RunSpec, tensors []Tensor) []float64 {
	depth := int(s.GetBackbone().GetDepth())
	last := depth - 1
	if taps := s.GetHead().GetTaps(); len(taps) > 0 {
		last = int(slices.Max(taps))
	}
	rates := make([]float64, depth)
	some := false
	for i := max(1, firstBlock(s, tensors)); i <= last; i++ {
		rates[i] = s.GetBackbone().GetDropPath() * float64(i) / float64(depth-1)
		some = some || rates[i] > 0
	}
	if !some {
		return nil
	}
	return rates
}

// Epochs is how many epochs a run begins at most.
func Epochs(s *spec.RunSpec) uint64 {
	perEpoch := PerEpoch(s)
	if perEpoch == 0 {
		return 0
	}
	return (Steps(s) + perEpoch - 1) / perEpoch
}
