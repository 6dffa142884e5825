package data

import (
	"sync"
	"testing"
	"time"
)

// Later has stamps judged as if so much time had gone by.
func Later(t *testing.T, by time.Duration) {
	before := clock
	clock = func() time.Time { return time.Now().Add(by) }
	t.Cleanup(func() { clock = before })
}

// Restart forgets what only this process knows.
func Restart() { indexes = sync.Map{} }

// SpoilSum has the cache say that a file below root had another content.
func SpoilSum(t *testing.T, root, name string) {
	t.Helper()
	ix := openIndex(root)
	f, ok := ix.facts[name]
	if !ok {
		t.Fatalf("nothing is known of %s", name)
	}
	f.sum[0] ^= 1
	f.read = false
	ix.facts[name] = f
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
	s.free = bytes
}
