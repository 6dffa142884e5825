package data

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/loralab/loralab/core/spec"
)

// CacheBytes bounds the memory in which a Set keeps decoded pictures, unless
// LimitCache says otherwise.
const CacheBytes = 1 << 30

// Set serves the pictures of a split as the model sees them. It is safe for
// concurrent use.
type Set struct {
	names []string
	h, w  int
	// classOf maps a value of a mask to its label; absent values are an error.
	classOf map[uint16]byte
	read    func(i int) (pixels, mask, error)
	// maskName names the file of a mask in errors.
	maskName func(i int) string

	mu    sync.Mutex
	kept  []*item
	free  int64 // bytes that the cache may still take
	bytes int64 // of one item
}

// item is one picture, resized: 3×h×w bytes RGB and h×w labels.
type item struct{ image, labels []byte }

// Batch holds N pictures of H×W pixels.
type Batch struct {
	N, H, W int
	// Images is N×3×H×W bytes, RGB, not normalised.
	Images []byte
	// Labels is N×H×W class indices; 255 is ignored.
	Labels []byte
	Names  []string
}

// Open serves the files of f at the size and with the classes of d.
func Open(f Files, d *spec.Data) (*Set, error) {
	if len(f.Images) != len(f.Masks) {
		return nil, fmt.Errorf("opening data in %s: %d images but %d masks", f.Root, len(f.Images), len(f.Masks))
	}
	names := make([]string, f.Len())
	for i, p := range f.Images {
		names[i] = stem(p)
	}
	s, err := newSet(names, d)
	if err != nil {
		return nil, fmt.Errorf("opening data in %s: %w", f.Root, err)
	}
	s.maskName = func(i int) string { return f.path(f.Masks[i]) }
	s.read = func(i int) (pixels, mask, error) {
		p, err := readImage(f.path(f.Images[i]))
		if err != nil {
			return pixels{}, mask{}, err
		}
		m, err := readMask(f.path(f.Masks[i]))
		if err != nil {
			return pixels{}, mask{}, err
		}
		if p.h != m.h || p.w != m.w {
			return pixels{}, mask{}, fmt.Errorf("mask %s is %s", s.maskName(i), mismatch(m.w, m.h, p.w, p.h))
		}
		return p, m, nil
	}
	return s, nil
}

func newSet(names []string, d *spec.Data) (*Set, error) {
	s := &Set{names: names, h: int(d.GetHeight()), w: int(d.GetWidth()), kept: make([]*item, len(names)), free: CacheBytes}
	if s.h <= 0 || s.w <= 0 {
		return nil, fmt.Errorf("the size %d×%d is empty", s.w, s.h)
	}
	s.bytes = 4 * int64(s.h) * int64(s.w)
	classes := len(d.GetClasses())
	if classes == 0 || classes > Ignored {
		return nil, fmt.Errorf("%d classes, want 1 to %d", classes, Ignored)
	}
	if len(d.GetValues()) == 0 {
		return nil, fmt.Errorf("no mask value is given a class")
	}
	s.classOf = make(map[uint16]byte, len(d.GetValues()))
	for value, class := range d.GetValues() {
		switch {
		case value > 0xffff:
			return nil, fmt.Errorf("mask value %d is above 65535, which no mask can hold", value)
		case class == -1:
			s.classOf[uint16(value)] = Ignored
		case class < 0 || int(class) >= classes:
			return nil, fmt.Errorf("mask value %d stands for class %d, but there are %d classes", value, class, classes)
		default:
			s.classOf[uint16(value)] = byte(class)
		}
	}
	return s, nil
}

// LimitCache bounds the memory for decoded pictures, 4 bytes a pixel; 0 keeps
// none. What was kept before is dropped.
func (s *Set) LimitCache(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.kept)
	s.free = bytes
}

// Len is the number of pictures.
func (s *Set) Len() int { return len(s.names) }

// Names are the stems of the pictures, in order of the index.
func (s *Set) Names() []string { return slices.Clone(s.names) }

// Batch reads the pictures at the indices, in parallel, and returns them in
// that order. The first picture that cannot be read, or whose mask holds a value
// without a class, is an error that names the file.
func (s *Set) Batch(ctx context.Context, indices []int) (*Batch, error) {
	for _, i := range indices {
		if i < 0 || i >= s.Len() {
			return nil, fmt.Errorf("picture %d of a set of %d", i, s.Len())
		}
	}
	n, area := len(indices), s.h*s.w
	b := &Batch{
		N: n, H: s.h, W: s.w,
		Images: make([]byte, n*3*area), Labels: make([]byte, n*area), Names: make([]string, n),
	}
	err := parallel(ctx, n, func(k int) error {
		it, err := s.item(indices[k])
		if err != nil {
			return err
		}
		copy(b.Images[k*3*area:], it.image)
		copy(b.Labels[k*area:], it.labels)
		b.Names[k] = s.names[indices[k]]
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// item returns a picture from the cache or reads it. The cache stops taking
// when it is full instead of evicting: epochs visit every picture once, so an
// evicting cache that is too small would miss every time.
func (s *Set) item(i int) (*item, error) {
	s.mu.Lock()
	it := s.kept[i]
	s.mu.Unlock()
	if it != nil {
		return it, nil
	}
	p, m, err := s.read(i)
	if err != nil {
		return nil, err
	}
	it, err = s.fit(p, m)
	if err != nil {
		return nil, fmt.Errorf("mask %s: %w", s.maskName(i), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[i] == nil && s.free >= s.bytes {
		s.kept[i] = it
		s.free -= s.bytes
	}
	return it, nil
}

// fit brings a picture to the size of the set and its mask to labels.
func (s *Set) fit(p pixels, m mask) (*item, error) {
	labels := make([]byte, len(m.values))
	last, label := uint16(0), byte(0)
	known := false
	for i, v := range m.values {
		if !known || v != last { // neighbours mostly agree
			var ok bool
			if label, ok = s.classOf[v]; !ok {
				return nil, fmt.Errorf("value %d at x=%d, y=%d belongs to no class", v, i%m.w, i/m.w)
			}
			last, known = v, true
		}
		labels[i] = label
	}
	it := &item{image: p.planes, labels: resizeNearest(labels, m.h, m.w, s.h, s.w)}
	if p.h != s.h || p.w != s.w {
		from, to := p.h*p.w, s.h*s.w
		it.image = make([]byte, 3*to)
		for c := range 3 {
			copy(it.image[c*to:], resizeBilinear(p.planes[c*from:(c+1)*from], p.h, p.w, s.h, s.w))
		}
	}
	return it, nil
}
