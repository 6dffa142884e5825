package filehash

import (
	"io/fs"
	"syscall"
	"time"
)

// Stamp is what the file system says of a file without reading it. A file whose
// stamp has not moved has not been written to, if the stamp had Settled when the
// file was read.
type Stamp struct {
	Size     int64
	Modified int64 // nanoseconds since 1970
	// Changed moves with every write, whatever is done to the modification time;
	// 0 where the system does not tell.
	Changed int64
}

// settled is how long ago the last change must be before a stamp is trusted: on a
// coarse clock, a file written twice within a tick looks unchanged.
const settled = 2 * time.Second

// StampOf is the stamp of a file.
func StampOf(info fs.FileInfo) Stamp {
	s := Stamp{Size: info.Size(), Modified: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Changed = changeTime(sys)
	}
	return s
}

// Settled reports whether a file that is written to from now on gets another
// stamp.
func (s Stamp) Settled(now time.Time) bool {
	last := s.Changed
	if last == 0 {
		last = s.Modified
	}
	return now.Sub(time.Unix(0, last)) >= settled
}
