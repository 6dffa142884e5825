//go:build !linux

package filehash

import "syscall"

// changeTime is left out where its field has another name; size and modification
// time remain.
func changeTime(*syscall.Stat_t) int64 { return 0 }
