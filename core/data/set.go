package data

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/loralab/loralab/core/augment"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

// CacheBytes bounds the memory in which a Set keeps decoded pictures, 4 bytes a
// pixel.
const CacheBytes = 1 << 30

// SizeOf is the size at which the model sees images.
func SizeOf(d *spec.Data) raster.Size {
	return raster.Size{H: int(d.GetHeight()), W: int(d.GetWidth())}
}

// Mean is the color that is 0 to the model, to which what lies beyond pictures is
// set; black, if nothing is known of the model.
func Mean(d *spec.Data) (color [3]byte) {
	for c, mean := range d.GetMean() {
		color[c] = byte(math.Round(min(max(mean, 0), 1) * 255))
	}
	return color
}

// Set serves the pictures of a split as the model sees them. It is safe for
// concurrent use.
type Set struct {
	names []string
	// keys are what random changes of each picture draw from.
	keys    []string
	size    raster.Size
	classes int
	// classOf maps a value of a mask to its label; absent values are an error.
	classOf map[uint32]byte
	colors  bool // values are colors, 0xRRGGBB
	read    func(i int) (pixels, mask, error)
	// readMask is what read gives of the mask.
	readMask func(i int) (mask, error)
	// reserve takes the memory that reading picture i takes.
	reserve func(i int) (release func(), err error)
	// maskName names the file of a mask in errors.
	maskName func(i int) string

	augment []*spec.Augment
	// native: augmentations are of pictures at the size of their files, which are
	// what is kept.
	native bool
	fill   [3]byte // color of what lies beyond a picture
	shift  *shift
	from   *Set // see Scaled; nil: images come from their files

	mu      sync.Mutex
	kept    []*raster.Labelled
	redrawn map[drawn][]byte // labels of augmented pictures
	free    int64            // bytes that the cache may still take
}

// drawn is an augmented picture.
type drawn struct {
	i     int
	seed  uint64
	epoch int
}

// Batch holds N images of one size.
type Batch struct {
	raster.Size
	N int
	// Images is N×3×H×W bytes, RGB, not normalized.
	Images []byte
	// Labels is N×H×W class indices; 255 is ignored.
	Labels []byte
	Names  []string
	// Pixels of each class, as a Set gives them.
	Pixels []uint64
}

// At is image k with its labels, which the batch holds.
func (b *Batch) At(k int) raster.Labelled {
	return raster.Labelled{
		Image:  raster.Image{Size: b.Size, RGB: b.Images[k*3*b.Area() : (k+1)*3*b.Area()]},
		Labels: raster.Labels{Size: b.Size, Pix: b.Labels[k*b.Area() : (k+1)*b.Area()]},
	}
}

// Mirrored is the batch with the images mirrored left to right, and without labels.
func (b *Batch) Mirrored() *Batch {
	return &Batch{
		Size: b.Size, N: b.N, Names: b.Names,
		Images: raster.Image{Size: raster.Size{H: 3 * b.N * b.H, W: b.W}, RGB: b.Images}.Mirrored().RGB,
	}
}

// UseNetwork sets the style network of a set whose style is one. Call it before the
// first batch.
func (s *Set) UseNetwork(n Network) { s.shift.network = n }

// Scaled serves the same images at another size, for test-time augmentation. Each is
// resized from its file; in a set that damages or styles images, from the image that
// s serves, so that it is damaged in the same way at every size. Nothing is kept.
func (s *Set) Scaled(size raster.Size) *Set {
	out := &Set{
		names: s.names, keys: s.keys, colors: s.colors, classes: s.classes, classOf: s.classOf,
		read: s.read, readMask: s.readMask, reserve: s.reserve, maskName: s.maskName, fill: s.fill,
		size: size, shift: &shift{}, kept: make([]*raster.Labelled, len(s.names)),
	}
	if s.shift.moves() {
		out.from = s
	}
	return out
}

// Open serves the files of f at the size and with the classes of d, damaged or
// styled as d says. styles are the images of a style, whose masks do not matter.
func Open(f Contents, d *spec.Data, styles Contents) (*Set, error) {
	if len(f.Images) != len(f.Masks) {
		return nil, fmt.Errorf("opening data in %s: %d images but %d masks", f.Root, len(f.Images), len(f.Masks))
	}
	names := make([]string, f.Len())
	for i, p := range f.Images {
		names[i] = nameOf(p)
	}
	s, err := newSet(names, f.keys(), d, styles)
	if err != nil {
		return nil, fmt.Errorf("opening data in %s: %w", f.Root, err)
	}
	s.maskName = func(i int) string { return f.path(f.Masks[i]) }
	s.reserve = func(i int) (func(), error) {
		return reserve(context.Background(), f.path(f.Images[i]), f.path(f.Masks[i]))
	}
	s.readMask = func(i int) (mask, error) { return f.mask(i, maskKind(d.GetColours())) }
	s.read = func(i int) (pixels, mask, error) {
		p, err := f.pixels(i)
		if err != nil {
			return pixels{}, mask{}, err
		}
		m, err := s.readMask(i)
		if err != nil {
			return pixels{}, mask{}, err
		}
		if p.Size != m.Size {
			return pixels{}, mask{}, fmt.Errorf("mask %s is %s", s.maskName(i), mismatch(m.Size, p.Size))
		}
		return p, m, nil
	}
	return s, nil
}

func newSet(names, keys []string, d *spec.Data, styles Contents) (*Set, error) {
	s := &Set{
		names: names, keys: keys, colors: d.GetColours(), size: SizeOf(d), kept: make([]*raster.Labelled, len(names)), free: CacheBytes,
		augment: d.GetAugment(), native: augment.Native(d.GetAugment()), fill: Mean(d),
		reserve: func(int) (func(), error) { return func() {}, nil },
	}
	if err := augment.Check(s.augment); err != nil {
		return nil, err
	}
	var err error
	if s.shift, err = newShift(d.GetStyle(), styles, d.GetCorruption()); err != nil {
		return nil, err
	}
	if s.size.H <= 0 || s.size.W <= 0 {
		return nil, fmt.Errorf("the size %v is empty", s.size)
	}
	classes := len(d.GetClasses())
	s.classes = classes
	if classes == 0 || classes > raster.Ignored {
		return nil, fmt.Errorf("%d classes, want 1 to %d", classes, raster.Ignored)
	}
	if len(d.GetValues()) == 0 {
		return nil, fmt.Errorf("no mask value is given a class")
	}
	s.classOf = make(map[uint32]byte, len(d.GetValues()))
	for value, class := range d.GetValues() {
		switch {
		case value > 0xffff && !d.GetColours():
			return nil, fmt.Errorf("mask value %d is above 65535, which no mask can hold", value)
		case class == -1:
			s.classOf[value] = raster.Ignored
		case class < 0 || int(class) >= classes:
			return nil, fmt.Errorf("mask value %d stands for class %d, but there are %d classes", value, class, classes)
		default:
			s.classOf[value] = byte(class)
		}
	}
	return s, nil
}

// Len is the number of pictures.
func (s *Set) Len() int { return len(s.names) }

// Names are the stems of the pictures, in order of the index.
func (s *Set) Names() []string { return slices.Clone(s.names) }

// Batch reads the pictures at the indices, in parallel, and returns them in
// that order. The first picture that cannot be read, or whose mask holds a value
// without a class, is an error that names the file.
func (s *Set) Batch(ctx context.Context, indices []int) (*Batch, error) {
	return s.batch(ctx, indices, s.item)
}

// Augments reports whether Augmented differs from Batch.
func (s *Set) Augments() bool { return len(s.augment) > 0 }

// Augmented is Batch with the augmentations of an epoch, counted from 0. A
// picture's depend on seed, epoch and its content (see Contents.keys).
func (s *Set) Augmented(ctx context.Context, indices []int, seed uint64, epoch int) (*Batch, error) {
	if !s.Augments() {
		return s.Batch(ctx, indices)
	}
	return s.batch(ctx, indices, func(i int) (raster.Labelled, error) { return s.augmented(i, seed, epoch) })
}

// AugmentedLabels is Augmented without the images, whose bytes mean nothing. Labels
// are kept, as far as there is room, and another time the images are not needed.
func (s *Set) AugmentedLabels(ctx context.Context, indices []int, seed uint64, epoch int) (*Batch, error) {
	return s.batch(ctx, indices, func(i int) (raster.Labelled, error) {
		key := drawn{i, seed, epoch}
		s.mu.Lock()
		pix := s.redrawn[key]
		s.mu.Unlock()
		if pix != nil {
			return raster.Labelled{Labels: raster.Labels{Size: s.size, Pix: pix}}, nil
		}
		it, err := s.augmented(i, seed, epoch)
		if err != nil {
			return it, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := int64(len(it.Labels.Pix)); s.redrawn[key] == nil && s.free >= n {
			if s.redrawn == nil {
				s.redrawn = map[drawn][]byte{}
			}
			s.redrawn[key] = it.Labels.Pix
			s.free -= n
		}
		return it, nil
	})
}

// augmented is a picture of an epoch; it is written to by nobody else.
func (s *Set) augmented(i int, seed uint64, epoch int) (raster.Labelled, error) {
	if !s.native {
		it, err := s.item(i)
		if err != nil {
			return it, err
		}
		it.Labels.Pix = slices.Clone(it.Labels.Pix)
		return s.changed(it, seed, epoch, s.keys[i]), nil
	}
	it, release, err := s.whole(i)
	if err != nil {
		return it, err
	}
	it = augment.Cut(it, s.size, s.augment, seed, epoch, s.keys[i])
	release()
	// What the picture lacks of the window is added last, so that nothing changes it.
	return s.changed(it, seed, epoch, s.keys[i]).Padded(s.size, s.fill), nil
}

// changed is a picture after the augmentations that do not cut it; its labels are
// changed in place.
func (s *Set) changed(it raster.Labelled, seed uint64, epoch int, key string) raster.Labelled {
	p := raster.Floats(it)
	augment.Apply(p, s.augment, seed, epoch, key)
	return p.Labelled()
}

// batch is made of what get returns of each picture.
func (s *Set) batch(ctx context.Context, indices []int, get func(i int) (raster.Labelled, error)) (*Batch, error) {
	for _, i := range indices {
		if i < 0 || i >= s.Len() {
			return nil, fmt.Errorf("picture %d of a set of %d", i, s.Len())
		}
	}
	n, area := len(indices), s.size.Area()
	var counting sync.Mutex
	b := &Batch{
		Size: s.size, N: n,
		Images: make([]byte, n*3*area), Labels: make([]byte, n*area), Names: make([]string, n),
		Pixels: make([]uint64, s.classes),
	}
	err := parallel(ctx, n, func(k int) error {
		it, err := get(indices[k])
		if err != nil {
			return err
		}
		copy(b.Images[k*3*area:], it.Image.RGB)
		copy(b.Labels[k*area:], it.Labels.Pix)
		b.Names[k] = s.names[indices[k]]
		counting.Lock()
		defer counting.Unlock()
		count(b.Pixels, it.Labels.Pix)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// ClassPixels counts the pixels of each class over all pictures.
func (s *Set) ClassPixels(ctx context.Context) ([]uint64, error) {
	var mu sync.Mutex
	total := make([]uint64, s.classes)
	err := parallel(ctx, s.Len(), func(i int) error {
		it, err := s.item(i)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		count(total, it.Labels.Pix)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return total, nil
}

// count adds the pixels of each class.
func count(to []uint64, labels []byte) {
	var of [256]uint64
	for _, l := range labels {
		of[l]++
	}
	for c := range to {
		to[c] += of[c]
	}
}

// OwnSize is for masks that are not resized: each counts at the size of its file.
var OwnSize raster.Size

// ClassPixelsUntil is ClassPixels from the masks alone, resized to a size, picture
// after picture, as far as enough asks for more.
func (s *Set) ClassPixelsUntil(ctx context.Context, at raster.Size, enough func(pixels []uint64) bool) ([]uint64, error) {
	total := make([]uint64, s.classes)
	for i := 0; i < s.Len() && !enough(total); i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, err := s.readMask(i)
		if err != nil {
			return nil, err
		}
		labels, err := s.labels(i, m)
		if err != nil {
			return nil, err
		}
		if at != OwnSize {
			labels = labels.Resized(at)
		}
		count(total, labels.Pix)
	}
	return total, nil
}

// item returns a picture at the size of the set, which must not be written to.
func (s *Set) item(i int) (raster.Labelled, error) {
	if it := s.cached(i); it != nil && !s.native {
		return *it, nil
	}
	if s.from != nil {
		it, err := s.from.item(i)
		if err != nil {
			return it, err
		}
		return raster.Labelled{Image: it.Image.Resized(s.size), Labels: it.Labels.Resized(s.size)}, nil
	}
	it, release, err := s.decoded(i)
	if err != nil {
		return it, err
	}
	it = raster.Labelled{Image: it.Image.Resized(s.size), Labels: it.Labels.Resized(s.size)}
	release()
	if it, err = s.shift.apply(it, s.names[i], s.keys[i]); err != nil {
		return it, err
	}
	if !s.native {
		s.keep(i, it)
	}
	return it, nil
}

// whole returns a picture at the size of its file, which must not be written to.
// Until release its memory is reserved.
func (s *Set) whole(i int) (it raster.Labelled, release func(), err error) {
	if it := s.cached(i); it != nil {
		return *it, func() {}, nil
	}
	if it, release, err = s.decoded(i); err != nil {
		return it, nil, err
	}
	shifted, err := s.shift.apply(it, s.names[i], s.keys[i])
	if err != nil {
		release()
		return it, nil, err
	}
	s.keep(i, shifted)
	return shifted, release, nil
}

func (s *Set) cached(i int) *raster.Labelled {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[i]
}

// keep takes a picture into the cache. It stops taking when it is full instead of
// evicting: epochs visit every picture once, so an evicting cache that is too small
// would miss every time.
func (s *Set) keep(i int, it raster.Labelled) {
	bytes := int64(len(it.Image.RGB) + len(it.Labels.Pix))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[i] == nil && s.free >= bytes {
		s.kept[i] = &it
		s.free -= bytes
	}
}

// decoded reads a picture at the size of its file. What it takes is reserved until
// release.
func (s *Set) decoded(i int) (l raster.Labelled, release func(), err error) {
	if release, err = s.reserve(i); err != nil {
		return l, nil, err
	}
	p, m, err := s.read(i)
	if err == nil {
		l.Image = p.Image
		l.Labels, err = s.labels(i, m)
	}
	if err != nil {
		release()
		return l, nil, err
	}
	return l, release, nil
}

// labels gives the values of mask i their classes.
func (s *Set) labels(i int, m mask) (raster.Labels, error) {
	labels := raster.NewLabels(m.Size)
	last, label := uint32(0), byte(0)
	known := false
	for at, v := range m.values {
		if !known || v != last { // neighbours mostly agree
			var ok bool
			if label, ok = s.classOf[v]; !ok {
				return raster.Labels{}, fmt.Errorf("mask %s: %s at x=%d, y=%d belongs to no class", s.maskName(i), s.value(v), at%m.W, at/m.W)
			}
			last, known = v, true
		}
		labels.Pix[at] = label
	}
	return labels, nil
}

// value is what a value of a mask is called.
func (s *Set) value(v uint32) string {
	if s.colors {
		return "color " + ColorName(v)
	}
	return fmt.Sprintf("value %d", v)
}
