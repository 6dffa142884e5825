//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package wandb

import (
	"os"
	"syscall"
)

// lock takes an exclusive lock on an open file and reports whether it got it. The
// system ends the lock with the process, or when the file is closed.
func lock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
