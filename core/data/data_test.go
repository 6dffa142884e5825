package data_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

// identity gives mask values 0, 1, 2 to three classes.
func identity(h, w uint32) *spec.Data {
	return &spec.Data{
		Classes: []string{"background", "animal", "boundary"}, Height: h, Width: w,
		Values: map[uint32]int32{0: 0, 1: 1, 2: 2},
	}
}

func writePNG(t testing.TB, path string, img image.Image) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	write(t, path, b.Bytes())
}

// write makes a file that is old enough to be cached.
func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func grey(h, w int, at func(x, y int) byte) *image.Gray {
	m := image.NewGray(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetGray(x, y, color.Gray{Y: at(x, y)})
		}
	}
	return m
}

// folder makes a data set of n pairs of 8×6 pixels; picture i is grey of value
// i, and its mask is 1 in the left half.
func folder(t *testing.T, n int) string {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	root := t.TempDir()
	for i := range n {
		name := fmt.Sprintf("p%03d.png", i)
		writePNG(t, filepath.Join(root, "images", name), grey(6, 8, func(_, _ int) byte { return byte(i) }))
		writePNG(t, filepath.Join(root, "masks", name), grey(6, 8, func(x, _ int) byte {
			if x < 4 {
				return 1
			}
			return 0
		}))
	}
	return root
}

func scan(t *testing.T, root string) data.Files {
	t.Helper()
	f, err := data.Scan(root)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestScanPairsByStemInOrderOfName(t *testing.T) {
	root := folder(t, 3)
	write(t, filepath.Join(root, "images", "._p000.png"), []byte("left by an archive"))
	write(t, filepath.Join(root, "images", "list.txt"), []byte("p000"))
	f := scan(t, root)
	if want := []string{"images/p000.png", "images/p001.png", "images/p002.png"}; !slices.Equal(f.Images, want) {
		t.Errorf("images %v, want %v", f.Images, want)
	}
	if want := []string{"masks/p000.png", "masks/p001.png", "masks/p002.png"}; !slices.Equal(f.Masks, want) {
		t.Errorf("masks %v, want %v", f.Masks, want)
	}
}

func TestScanReadsTheLayoutOfPets(t *testing.T) {
	root := folder(t, 2)
	if err := os.Mkdir(filepath.Join(root, "annotations"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(root, "masks"), filepath.Join(root, "annotations", "trimaps")); err != nil {
		t.Fatal(err)
	}
	if f := scan(t, root); f.Len() != 2 || f.Masks[0] != "annotations/trimaps/p000.png" {
		t.Errorf("found %v", f.Masks)
	}
}

func TestScanTellsEveryMismatchAtOnce(t *testing.T) {
	root := folder(t, 3)
	if err := os.Remove(filepath.Join(root, "masks", "p001.png")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "masks", "stray.png"), nil)
	write(t, filepath.Join(root, "images", "p002.jpg"), nil)
	write(t, filepath.Join(root, "images", "cell.tif"), nil)
	_, err := data.Scan(root)
	var scan *data.ScanError
	if !errors.As(err, &scan) || len(scan.Faults) != 4 {
		t.Fatalf("got %v, want 4 faults", err)
	}
	for _, want := range []string{"images/p001.png: no mask", "masks/stray.png: no image", "images/p002.png: the same stem", "images/cell.tif"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestScanSaysWhatAFolderShouldHold(t *testing.T) {
	_, err := data.Scan(t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "images/ and masks/") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// named makes files that exist in name only.
func named(n int) data.Files {
	var f data.Files
	for i := range n {
		f.Images = append(f.Images, fmt.Sprintf("images/%04d.jpg", i))
		f.Masks = append(f.Masks, fmt.Sprintf("masks/%04d.png", i))
	}
	return f
}

func shuffled(t *rapid.T, f data.Files) data.Files {
	g := data.Files{Root: f.Root}
	order := make([]int, f.Len())
	for i := range order {
		order[i] = i
	}
	for _, i := range rapid.Permutation(order).Draw(t, "order") {
		g.Images, g.Masks = append(g.Images, f.Images[i]), append(g.Masks, f.Masks[i])
	}
	return g
}

func TestSplitIsDisjointCompleteAndIndependentOfOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := named(rapid.IntRange(0, 60).Draw(t, "n"))
		seed := rapid.Uint64().Draw(t, "seed")
		parts := f.Split(seed, 0.7, 0.2, 0.1)
		var all []string
		for _, p := range parts {
			if !slices.IsSorted(p.Images) {
				t.Fatalf("not in order of names: %v", p.Images)
			}
			for i := range p.Images {
				if p.Masks[i] != "masks"+strings.TrimSuffix(p.Images[i][6:], ".jpg")+".png" {
					t.Fatalf("%s is paired with %s", p.Images[i], p.Masks[i])
				}
			}
			all = append(all, p.Images...)
		}
		slices.Sort(all)
		if !slices.Equal(all, f.Images) {
			t.Fatalf("the parts hold %d of %d pictures", len(all), f.Len())
		}
		if got, want := parts[0].Len(), int(0.7*float64(f.Len())+0.5); max(got-want, want-got) > 1 {
			t.Fatalf("the first part holds %d of %d", got, f.Len())
		}
		for i, p := range shuffled(t, f).Split(seed, 0.7, 0.2, 0.1) {
			if !slices.Equal(p.Images, parts[i].Images) {
				t.Fatalf("part %d depends on the order", i)
			}
		}
	})
}

func TestSplitDependsOnTheSeed(t *testing.T) {
	f := named(100)
	a, b := f.Split(1, 0.5)[0], f.Split(2, 0.5)[0]
	if slices.Equal(a.Images, b.Images) {
		t.Error("two seeds give one split")
	}
	if s := f.Sample(50, 1); slices.Equal(a.Images, s.Images) {
		t.Error("a sample follows the ranks of the split of the same seed")
	}
}

func TestSamplesAreNested(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := named(rapid.IntRange(0, 40).Draw(t, "n"))
		seed := rapid.Uint64().Draw(t, "seed")
		small := rapid.IntRange(0, 50).Draw(t, "small")
		large := rapid.IntRange(small, 50).Draw(t, "large")
		a, b := f.Sample(small, seed), shuffled(t, f).Sample(large, seed)
		if a.Len() != min(small, f.Len()) || b.Len() != min(large, f.Len()) {
			t.Fatalf("%d and %d chosen of %d, want %d and %d", a.Len(), b.Len(), f.Len(), small, large)
		}
		for _, name := range a.Images {
			if !slices.Contains(b.Images, name) {
				t.Fatalf("%s is among %d but not among %d", name, small, large)
			}
		}
	})
}

func TestDigestIsOfTheContent(t *testing.T) {
	root := folder(t, 4)
	f := scan(t, root)
	digest := func(f data.Files) string {
		t.Helper()
		d, err := f.Digest(t.Context(), data.NewIndex(data.Look{}))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := digest(f)
	if len(first) != 64 {
		t.Fatalf("%q is no SHA-256", first)
	}
	if digest(f) != first {
		t.Error("asked again, it differs")
	}
	moved := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.CopyFS(moved, os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	if digest(scan(t, moved)) != first {
		t.Error("a copy elsewhere differs")
	}
	if digest(f.Sample(3, 1)) == first {
		t.Error("fewer files, same digest")
	}
	// The same size, another content, as an editor would leave it.
	mask := filepath.Join(root, "masks", "p002.png")
	content, err := os.ReadFile(mask)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.WriteFile(mask, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if digest(f) == first {
		t.Error("a changed mask went unnoticed")
	}
}

// Files that were written a moment ago may change again within the tick of the
// clock: their sums must not be taken from the cache.
func TestDigestDoesNotTrustFreshTimes(t *testing.T) {
	root := folder(t, 1)
	f := scan(t, root)
	img := filepath.Join(root, "images", "p000.png")
	tick := time.Now()
	var digests []string
	for _, content := range []string{"one", "two"} {
		if err := os.WriteFile(img, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(img, tick, tick); err != nil {
			t.Fatal(err)
		}
		d, err := f.Digest(t.Context(), data.NewIndex(data.Look{}))
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
	}
	if digests[0] == digests[1] {
		t.Error("a file rewritten within a tick keeps its digest")
	}
}

// reads counts the files that an index of its own, a minute later, reads in a look.
func reads(look func(x *data.Index)) int {
	n := 0
	look(data.LaterIndex(time.Minute, data.Look{Read: func(done, of int) { n = max(n, done) }}))
	return n
}

// On the second start, a data set of any size costs no reading: here that of
// 2,000 files, with an index that knows nothing of the first.
func TestASecondStartReadsNoFile(t *testing.T) {
	f := scan(t, folder(t, 1000))
	d := &spec.Data{Classes: []string{"right", "left"}, Values: map[uint32]int32{0: 0, 1: 1}}
	var digests []string
	start := func(x *data.Index) {
		for _, part := range append(f.Split(1, 0.8, 0.1, 0.1), f) {
			digest, err := part.Digest(t.Context(), x)
			if err != nil {
				t.Fatal(err)
			}
			digests = append(digests, digest)
			if p := data.Check(t.Context(), x, part, d); len(p) != 0 {
				t.Fatalf("problems in good data: %v", p)
			}
			if n := data.Occurring(t.Context(), x, part, false)[1]; n != part.Len() {
				t.Errorf("value 1 occurs in %d masks of %d", n, part.Len())
			}
			if s, err := part.Stats(t.Context(), x, d); err != nil || s.Images != part.Len() || s.Unread != 0 {
				t.Errorf("stats %+v, %v", s, err)
			}
		}
	}
	if n := reads(start); n == 0 {
		t.Error("the first start read nothing")
	}
	if n := reads(start); n != 0 {
		t.Errorf("the second start read %d files", n)
	}
	if !slices.Equal(digests[:4], digests[4:]) {
		t.Errorf("digests %q, then %q", digests[:4], digests[4:])
	}
	// What is remembered are the values, so another mapping is judged by itself.
	if p := data.Check(t.Context(), data.NewIndex(data.Look{}), f, &spec.Data{Values: map[uint32]int32{0: 0}}); len(p) != 1000 || p[0].Value != 1 {
		t.Errorf("with fewer values: %d problems", len(p))
	}
	// Asked to, an index reads all files again, once.
	n := 0
	x := data.LaterIndex(time.Minute, data.Look{Afresh: true, Read: func(int, int) { n++ }})
	for range 2 {
		if _, err := f.Digest(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	if n != 2000 {
		t.Errorf("%d files were read again, of 2000", n)
	}
}

// A file whose size and modification time were put back has still changed.
func TestAFileIsNotTrustedForItsModificationTime(t *testing.T) {
	root := folder(t, 3)
	f := scan(t, root)
	x := data.LaterIndex(time.Minute, data.Look{})
	want, err := f.Digest(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, f.Images[1])
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, info.Size()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "linux" { // its stamps have no other time
		return
	}
	if got, err := f.Digest(t.Context(), x); err != nil || got == want {
		t.Errorf("digest %s, %v: that of the old content", got, err)
	}
}

// Content that moves under its stamp, as on a failing disk, is found by reading
// afresh.
func TestReadingAfreshFindsWhatStampsHide(t *testing.T) {
	root := folder(t, 3)
	f := scan(t, root)
	x := data.LaterIndex(time.Minute, data.Look{})
	want, err := f.Digest(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	x.SpoilSum(t, root, f.Images[2])
	if got, err := f.Digest(t.Context(), x); err != nil || got == want {
		t.Fatalf("the sum is not spoilt: %s, %v", got, err)
	}
	var unlike []string
	afresh := data.LaterIndex(time.Minute, data.Look{Afresh: true, Unlike: func(file string) { unlike = append(unlike, file) }})
	got, err := f.Digest(t.Context(), afresh)
	if err != nil || got != want || !slices.Equal(unlike, []string{filepath.Join(root, f.Images[2])}) {
		t.Errorf("digest %s, %v, unlike %q; want %s", got, err, unlike, want)
	}
}

// A cache that is cut off or has a bit turned is made again, never believed.
func TestADamagedCacheCostsOnlyTime(t *testing.T) {
	root := folder(t, 2)
	f := scan(t, root)
	want, err := f.Digest(t.Context(), data.LaterIndex(time.Minute, data.Look{}))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(cache, "loralab", "digests", "*.files"))
	if err != nil || len(files) != 1 {
		t.Fatalf("cache files %v, %v", files, err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	damaged := [][]byte{{}, []byte("{"), good[:len(good)-1], good[:len(good)/2], append(slices.Clone(good), 0)}
	for at := 0; at < len(good); at += 7 {
		turned := slices.Clone(good)
		turned[at] ^= 1
		damaged = append(damaged, turned)
	}
	for i, content := range damaged {
		write(t, files[0], content)
		n := reads(func(x *data.Index) {
			if got, err := f.Digest(t.Context(), x); err != nil || got != want {
				t.Errorf("damage %d: got %s, %v", i, got, err)
			}
		})
		if n != 4 {
			t.Errorf("damage %d: %d files read, want all 4", i, n)
		}
		if now, err := os.ReadFile(files[0]); err != nil || !bytes.Equal(now, good) {
			t.Errorf("damage %d: the cache was not made again, %v", i, err)
		}
	}
}

// Processes that look at different parts of one data set at once share what they
// learn: each keeps what the others have written.
func TestProcessesShareTheCache(t *testing.T) {
	f := scan(t, folder(t, 40))
	for _, part := range f.Split(1, 0.25, 0.25, 0.25, 0.25) {
		if _, err := part.Digest(t.Context(), data.LaterIndex(time.Minute, data.Look{})); err != nil {
			t.Fatal(err)
		}
	}
	n := reads(func(x *data.Index) {
		if _, err := f.Digest(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%d files were read again", n)
	}
}

func TestDigestsOfOneRootAtTheSameTime(t *testing.T) {
	root := folder(t, 20)
	parts := scan(t, root).Split(1, 0.25, 0.25, 0.25, 0.25)
	x := data.NewIndex(data.Look{})
	var wg sync.WaitGroup
	for _, p := range slices.Concat(parts, parts) {
		wg.Go(func() {
			if _, err := p.Digest(t.Context(), x); err != nil {
				t.Error(err)
			}
			if problems := data.Check(t.Context(), x, p, &spec.Data{Values: map[uint32]int32{0: 0, 1: 1}}); len(problems) > 0 {
				t.Error(problems)
			}
		})
	}
	wg.Wait()
}

func TestCheckTellsEverythingAtOnce(t *testing.T) {
	root := folder(t, 6)
	write(t, filepath.Join(root, "images", "p000.png"), []byte("no picture"))
	writePNG(t, filepath.Join(root, "masks", "p001.png"), grey(5, 8, func(_, _ int) byte { return 0 }))
	writePNG(t, filepath.Join(root, "masks", "p002.png"), grey(6, 8, func(x, _ int) byte { return byte(x) }))
	writePNG(t, filepath.Join(root, "masks", "p003.png"), image.NewRGBA(image.Rect(0, 0, 8, 6)))
	f := scan(t, root)
	if err := os.Remove(filepath.Join(root, "masks", "p004.png")); err != nil {
		t.Fatal(err)
	}
	type key struct {
		file  string
		value int
	}
	want := []key{
		{"images/p000.png", -1},
		{"masks/p001.png", -1},
		{"masks/p002.png", 2},
		{"masks/p002.png", 3},
		{"masks/p002.png", 4},
		{"masks/p002.png", 5},
		{"masks/p002.png", 6},
		{"masks/p003.png", -1},
		{"masks/p004.png", -1},
	}
	for range 2 { // the second time from the cache
		problems := data.Check(t.Context(), data.NewIndex(data.Look{}), f, &spec.Data{Values: map[uint32]int32{0: 0, 1: 1, 7: -1}})
		var got []key
		for _, p := range problems {
			rel, err := filepath.Rel(root, p.File)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, key{filepath.ToSlash(rel), p.Value})
			if strings.Contains(p.Message, root) {
				t.Errorf("the file is named twice: %v", p)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v\nwant %v", problems, want)
		}
	}
}

func TestBatchHasPicturesAndLabelsInTheOrderAsked(t *testing.T) {
	root := folder(t, 12)
	d := identity(3, 4)
	d.Values = map[uint32]int32{0: -1, 1: 2}
	s, err := data.Open(contents(t, scan(t, root)), d, data.Contents{})
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int64{data.CacheBytes, 0, 4 * 3 * 4} { // all, none, one picture
		s.LimitCache(limit)
		for range 2 {
			b, err := s.Batch(t.Context(), []int{7, 0, 11, 7})
			if err != nil {
				t.Fatal(err)
			}
			if b.N != 4 || b.H != 3 || b.W != 4 || len(b.Images) != 4*3*12 || len(b.Labels) != 4*12 {
				t.Fatalf("shape %d×%d×%d with %d and %d bytes", b.N, b.H, b.W, len(b.Images), len(b.Labels))
			}
			for k, i := range []int{7, 0, 11, 7} {
				if want := fmt.Sprintf("p%03d", i); b.Names[k] != want || s.Names()[i] != want {
					t.Errorf("picture %d is called %s, want %s", i, b.Names[k], want)
				}
				for _, v := range b.Images[k*36 : (k+1)*36] {
					if int(v) != i {
						t.Fatalf("picture %d holds %d", i, v)
					}
				}
				if got, want := b.Labels[k*12:k*12+4], []byte{2, 2, 255, 255}; !slices.Equal(got, want) {
					t.Fatalf("labels %v, want %v", got, want)
				}
			}
		}
	}
}

func TestBatchNamesTheFileAtFault(t *testing.T) {
	root := folder(t, 4)
	writePNG(t, filepath.Join(root, "masks", "p001.png"), grey(6, 8, func(x, y int) byte { return byte(x / 7 * 9) }))
	writePNG(t, filepath.Join(root, "masks", "p002.png"), grey(8, 8, func(_, _ int) byte { return 0 }))
	write(t, filepath.Join(root, "images", "p003.png"), []byte("no picture"))
	s, err := data.Open(contents(t, scan(t, root)), identity(6, 8), data.Contents{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]string{1: "p001.png: value 9 at x=7, y=0", 2: "p002.png is 8×8", 3: "p003.png"} {
		if _, err := s.Batch(t.Context(), []int{0, i}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("picture %d: %v, want %q", i, err, want)
		}
	}
	if _, err := s.Batch(t.Context(), []int{4}); err == nil {
		t.Error("a picture beyond the set was served")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Batch(ctx, []int{0}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

func TestOpenRefusesWhatCannotBeServed(t *testing.T) {
	for name, change := range map[string]func(*spec.Data){
		"no size":         func(d *spec.Data) { d.Height = 0 },
		"no values":       func(d *spec.Data) { d.Values = nil },
		"no classes":      func(d *spec.Data) { d.Classes = nil },
		"class too large": func(d *spec.Data) { d.Values[2] = 3 },
		"class below -1":  func(d *spec.Data) { d.Values[2] = -2 },
	} {
		d := identity(6, 8)
		change(d)
		if _, err := data.Open(contents(t, scan(t, folder(t, 1))), d, data.Contents{}); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestProceduralSetIsAFunctionOfSeedStyleAndIndex(t *testing.T) {
	open := func(seed uint64, style string) *data.Batch {
		t.Helper()
		s, err := data.OpenProcedural(&spec.Procedural{Seed: seed, Count: 8, Style: style, Size: 64}, identity(64, 64), data.Contents{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Batch(t.Context(), []int{0, 1, 2, 3, 4, 5, 6, 7})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := open(1, "")
	if again := open(1, ""); !bytes.Equal(plain.Images, again.Images) || !bytes.Equal(plain.Labels, again.Labels) {
		t.Error("the same seed draws other pictures")
	}
	if other := open(2, ""); bytes.Equal(plain.Labels, other.Labels) {
		t.Error("another seed draws the same shapes")
	}
	area := 64 * 64
	if bytes.Equal(plain.Labels[:area], plain.Labels[area:2*area]) {
		t.Error("two pictures have the same shape")
	}
	for _, style := range data.ProceduralStyles[1:] {
		b := open(1, style)
		if bytes.Equal(plain.Images, b.Images) {
			t.Errorf("style %s changes nothing", style)
		}
		if !bytes.Equal(plain.Labels, b.Labels) {
			t.Errorf("style %s changes shapes", style)
		}
	}
	// Every picture has every class, the animal fills a sensible part, and
	// boundary always separates it from the ground.
	for k := range plain.N {
		labels := plain.Labels[k*area : (k+1)*area]
		var counts [3]int
		for i, l := range labels {
			counts[l]++
			if l == 1 && (labels[i-1] == 0 || labels[i+1] == 0 || labels[i-64] == 0 || labels[i+64] == 0) {
				t.Fatalf("picture %d: animal touches the ground at %d", k, i)
			}
		}
		if counts[1] < area/25 || counts[1] > area/2 || counts[2] == 0 || counts[2] > counts[1] {
			t.Errorf("picture %d: %v pixels of the classes", k, counts)
		}
	}
}

func TestProceduralDigestCoversWhatIsDrawn(t *testing.T) {
	base := &spec.Procedural{Seed: 1, Count: 8, Size: 64}
	seen := map[string]bool{data.ProceduralDigest(base): true}
	for _, p := range []*spec.Procedural{
		{Seed: 2, Count: 8, Size: 64}, {Seed: 1, Count: 9, Size: 64}, {Seed: 1, Count: 8, Size: 65}, {Seed: 1, Count: 8, Size: 64, Style: "noisy"},
	} {
		d := data.ProceduralDigest(p)
		if seen[d] || len(d) != 64 {
			t.Errorf("%v has the digest %s of another", p, d)
		}
		seen[d] = true
	}
	if data.ProceduralDigest(&spec.Procedural{Seed: 1, Count: 8, Size: 64}) != data.ProceduralDigest(base) {
		t.Error("equal sets differ")
	}
	for _, p := range []*spec.Procedural{{Size: 64, Style: "cubist"}, {Size: 4}} {
		if _, err := data.OpenProcedural(p, identity(8, 8), data.Contents{}); err == nil {
			t.Errorf("%v was opened", p)
		}
	}
}

// Two dozen classes are told apart; so are they from ignored pixels.
func TestClassColorsDiffer(t *testing.T) {
	apart := func(a, b color.RGBA) float64 {
		return math.Hypot(math.Hypot(float64(a.R)-float64(b.R), float64(a.G)-float64(b.G)), float64(a.B)-float64(b.B))
	}
	for c := range 24 {
		color := data.ClassColor(byte(c))
		for other := range c {
			if d := apart(color, data.ClassColor(byte(other))); d < 40 {
				t.Errorf("classes %d and %d are only %.0f apart", other, c, d)
			}
		}
		if d := apart(color, data.ClassColor(raster.Ignored)); d < 40 {
			t.Errorf("class %d is only %.0f from what is ignored", c, d)
		}
	}
	for c := range 150 {
		for other := range c {
			if data.ClassColor(byte(c)) == data.ClassColor(byte(other)) {
				t.Errorf("classes %d and %d look the same", other, c)
			}
		}
	}
}

func BenchmarkBatch(b *testing.B) {
	root := filepath.Join("..", "..", "data", "nuclei", "fluorescence", "train")
	f, err := data.Scan(root)
	if err != nil {
		b.Fatal(err)
	}
	for name, limit := range map[string]int64{"decode": 0, "cached": data.CacheBytes} {
		b.Run(name, func(b *testing.B) {
			s, err := data.Open(contents(b, f), identity(252, 252), data.Contents{})
			if err != nil {
				b.Fatal(err)
			}
			s.LimitCache(limit)
			indices := make([]int, 32)
			for i := range indices {
				indices[i] = i % f.Len()
			}
			n := 0
			for b.Loop() {
				if _, err := s.Batch(b.Context(), indices); err != nil {
					b.Fatal(err)
				}
				n += len(indices)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "images/s")
		})
	}
}

// The set in the repository is what its README says, small, and clean.
func TestNucleiInTheRepository(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	root := filepath.Join("..", "..", "data", "nuclei")
	seen := map[string]string{}
	for split, count := range map[string]int{"fluorescence/train": 128, "fluorescence/val": 40, "fluorescence/test": 60, "histology/test": 40} {
		f := scan(t, filepath.Join(root, filepath.FromSlash(split)))
		if f.Len() != count {
			t.Errorf("%s holds %d pairs, want %d", split, f.Len(), count)
		}
		for _, p := range data.Check(t.Context(), data.NewIndex(data.Look{}), f, &spec.Data{Values: map[uint32]int32{0: 0, 1: 1, 2: 2}}) {
			t.Error(p)
		}
		for _, name := range f.Images {
			if other, ok := seen[name]; ok {
				t.Errorf("%s is in %s and in %s", name, split, other)
			}
			seen[name] = split
		}
	}
	var bytes int64
	err := filepath.WalkDir(root, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil || bytes > 4_000_000 {
		t.Errorf("%d bytes, %v; want at most 4 MB", bytes, err)
	}
}

// Augmented pictures are those of their epoch, in whatever batches; the
// pictures themselves stay as they are.
func TestAugmented(t *testing.T) {
	d := identity(32, 32)
	d.Augment = []*spec.Augment{{Kind: "flip", P: 0.5}, {Kind: "noise", P: 1, Low: 0.1, High: 0.1}}
	s, err := data.OpenProcedural(&spec.Procedural{Seed: 1, Count: 6, Size: 32}, d, data.Contents{})
	if err != nil {
		t.Fatal(err)
	}
	read := func(b *data.Batch, err error) *data.Batch {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := read(s.Batch(t.Context(), []int{3}))
	all := read(s.Augmented(t.Context(), []int{0, 1, 2, 3, 4, 5}, 7, 2))
	one := read(s.Augmented(t.Context(), []int{3}, 7, 2))
	next := read(s.Augmented(t.Context(), []int{3}, 7, 3))
	n := 3 * 32 * 32
	if !slices.Equal(one.Images, all.Images[3*n:4*n]) {
		t.Error("the batch changes a picture")
	}
	if slices.Equal(one.Images, plain.Images) || slices.Equal(one.Images, next.Images) {
		t.Error("nothing happens, or the same in every epoch")
	}
	if again := read(s.Batch(t.Context(), []int{3})); !slices.Equal(again.Images, plain.Images) || !slices.Equal(again.Labels, plain.Labels) {
		t.Error("the picture itself changed")
	}
	d.Augment[0].P = 2
	if _, err := data.OpenProcedural(&spec.Procedural{Seed: 1, Count: 1, Size: 32}, d, data.Contents{}); err == nil {
		t.Error("a probability of 2 was taken")
	}
}

// Windows are cut from images as they lie in their files, labels with them, and are
// those of their epoch however they are read: with any number of goroutines, whatever is
// kept, in whatever batches, and in a set that is opened again.
func TestWindowsOfImages(t *testing.T) {
	root := t.TempDir()
	class := func(x, y int) byte { return byte((x/3 + y/5) % 3) }
	const count = 9
	for i := range count {
		bounds := image.Rect(0, 0, 20+13*i, 70-7*i)
		im, mask := image.NewNRGBA(bounds), image.NewGray(bounds)
		for y := range bounds.Dy() {
			for x := range bounds.Dx() {
				im.SetNRGBA(x, y, color.NRGBA{byte(x), byte(y), byte(i), 0xff})
				mask.Pix[y*mask.Stride+x] = class(x, y)
			}
		}
		writePNG(t, filepath.Join(root, "images", fmt.Sprintf("p%d.png", i)), im)
		writePNG(t, filepath.Join(root, "masks", fmt.Sprintf("p%d.png", i)), mask)
	}
	open := func(list ...*spec.Augment) *data.Set {
		t.Helper()
		d := identity(32, 40)
		d.Mean, d.Augment = []float64{0.5, 0.4, 1}, list
		s, err := data.Open(contents(t, scan(t, root)), d, data.Contents{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	all := make([]int, count)
	for i := range all {
		all[i] = i
	}
	read := func(s *data.Set, epoch int, indices ...int) *data.Batch {
		t.Helper()
		b, err := s.Augmented(t.Context(), indices, 7, epoch)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	same := func(what string, a, b *data.Batch) {
		t.Helper()
		if !slices.Equal(a.Images, b.Images) || !slices.Equal(a.Labels, b.Labels) || !slices.Equal(a.Pixels, b.Pixels) {
			t.Errorf("%s: other pictures", what)
		}
	}

	plain := read(open(&spec.Augment{Kind: "window", P: 1}, &spec.Augment{Kind: "flip", P: 0.5}), 0, all...)
	padded, want := 0, 0
	for k := range count {
		want += 32*40 - min(32, 70-7*k)*min(40, 20+13*k)
		it := plain.At(k)
		for at, label := range it.Labels.Pix {
			r, g, b := it.Image.Plane(0)[at], it.Image.Plane(1)[at], it.Image.Plane(2)[at]
			switch {
			case label == raster.Ignored:
				padded++
				if r != 128 || g != 102 || b != 255 {
					t.Fatalf("beyond the image is %d, %d, %d", r, g, b)
				}
			case label != class(int(r), int(g)) || int(b) != k:
				t.Fatalf("picture %d has %d at %d, %d of picture %d", k, label, r, g, b)
			}
		}
	}
	if padded != want {
		t.Errorf("%d pixels are ignored, want %d", padded, want)
	}

	list := []*spec.Augment{
		{Kind: "resize", P: 1, Low: 0.5, High: 2},
		{Kind: "window", P: 1, MaxClass: 0.5},
		{Kind: "flip", P: 0.5},
		{Kind: "photometric", P: 1},
		{Kind: "rotate", P: 0.5, Low: -10, High: 10},
	}
	epochs := [2]*data.Batch{read(open(list...), 0, all...), read(open(list...), 1, all...)}
	if slices.Equal(epochs[0].Images, epochs[1].Images) {
		t.Error("two epochs are the same")
	}
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for _, workers := range []int{1, 3, 8} {
		runtime.GOMAXPROCS(workers)
		for _, limit := range []int64{0, 4 * 80 * 60, data.CacheBytes} {
			s := open(list...)
			s.LimitCache(limit)
			for round := range 2 {
				for epoch := range epochs {
					same(fmt.Sprintf("%d goroutines, %d bytes, round %d, epoch %d", workers, limit, round, epoch), read(s, epoch, all...), epochs[epoch])
				}
			}
			for i := range count {
				one := read(s, 1, i)
				if it, of := one.At(0), epochs[1].At(i); !slices.Equal(it.Image.RGB, of.Image.RGB) || !slices.Equal(it.Labels.Pix, of.Labels.Pix) {
					t.Errorf("picture %d alone is another", i)
				}
			}
			// Without augmentation they are what they are without a list.
			got, err := s.Batch(t.Context(), all)
			if err != nil {
				t.Fatal(err)
			}
			whole, err := open().Batch(t.Context(), all)
			if err != nil {
				t.Fatal(err)
			}
			same("not augmented", got, whole)
		}
	}
}

// A domain may be damaged and styled; both are the same whenever it is read.
func TestShiftedDomains(t *testing.T) {
	root := t.TempDir()
	draw := func(name string, c color.RGBA) {
		img := image.NewRGBA(image.Rect(0, 0, 20, 10))
		for i := range 200 {
			img.SetRGBA(i%20, i/20, color.RGBA{c.R + byte(i%20), c.G, c.B, 255})
		}
		var b bytes.Buffer
		if err := errors.Join(png.Encode(&b, img), os.WriteFile(filepath.Join(root, name), b.Bytes(), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	draw("a.png", color.RGBA{200, 30, 30, 255})
	draw("b.png", color.RGBA{10, 30, 200, 255})
	styles, err := data.ScanImages(root)
	if err != nil || styles.Len() != 2 {
		t.Fatal(styles, err)
	}
	digest, err := styles.Digest(t.Context(), data.NewIndex(data.Look{}))
	if err != nil || len(digest) != 64 {
		t.Fatal(digest, err)
	}
	read := func(change func(d *spec.Data)) []byte {
		t.Helper()
		d := identity(32, 32)
		change(d)
		s, err := data.OpenProcedural(&spec.Procedural{Seed: 1, Count: 3, Size: 32}, d, contents(t, styles))
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Batch(t.Context(), []int{0, 1, 2})
		if err != nil {
			t.Fatal(err)
		}
		return b.Images
	}
	seen := [][]byte{read(func(*spec.Data) {})}
	for _, change := range []func(d *spec.Data){
		func(d *spec.Data) { d.Corruption = &spec.Corruption{Kind: "fog", Severity: 2} },
		func(d *spec.Data) { d.Corruption = &spec.Corruption{Kind: "fog", Severity: 2, Seed: 1} },
		func(d *spec.Data) { d.Style = &spec.Style{Kind: "colour", Strength: 1} },
		func(d *spec.Data) { d.Style = &spec.Style{Kind: "colour", Strength: 1, Seed: 3} },
		func(d *spec.Data) {
			d.Style = &spec.Style{Kind: "texture", Strength: 0.5}
			d.Corruption = &spec.Corruption{Kind: "contrast", Severity: 3}
		},
	} {
		got := read(change)
		if !slices.Equal(got, read(change)) {
			t.Error("not the same twice")
		}
		if slices.ContainsFunc(seen, func(b []byte) bool { return slices.Equal(b, got) }) {
			t.Error("a shift that changes nothing")
		}
		seen = append(seen, got)
	}
	for _, d := range []*spec.Data{
		{Corruption: &spec.Corruption{Kind: "rain", Severity: 1}}, {Style: &spec.Style{Kind: "neural", Strength: 1}},
	} {
		full := identity(32, 32)
		full.Corruption, full.Style = d.Corruption, d.Style
		if _, err := data.OpenProcedural(&spec.Procedural{Seed: 1, Count: 1, Size: 32}, full, contents(t, styles)); err == nil {
			t.Errorf("%v was taken", d)
		}
	}
	full := identity(32, 32)
	full.Style = &spec.Style{Kind: "colour", Strength: 1}
	if _, err := data.OpenProcedural(&spec.Procedural{Seed: 1, Count: 1, Size: 32}, full, data.Contents{}); err == nil {
		t.Error("a style without images was taken")
	}
}
