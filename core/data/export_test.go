package data

import (
	"testing"
	"time"
)

// LaterIndex is an index that judges stamps as if that much time had passed.
func LaterIndex(by time.Duration, how Look) *Index {
	x := NewIndex(how)
	x.clock = func() time.Time { return time.Now().Add(by) }
	return x
}

// SpoilSum has an index say that a file below root had another content, which other
// indexes read from the cache.
func (x *Index) SpoilSum(t *testing.T, root, name string) {
	t.Helper()
	ix := x.at(root)
	f, ok := ix.facts[name]
	if !ok {
		t.Fatalf("nothing is known of %s", name)
	}
	f.sum[0] ^= 1
	f.read = false
	ix.facts[name], ix.moved = f, true
	ix.save()
}

// Form is the file of a storage form.
func Form(t *testing.T, name string) []byte {
	t.Helper()
	f, ok := loadForms(t)[name]
	if !ok {
		t.Fatalf("there is no form %s", name)
	}
	return f.File
}

// LimitCache replaces CacheBytes for a set. What was kept before is dropped.
func (s *Set) LimitCache(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.kept)
	clear(s.redrawn)
	s.free = bytes
}
