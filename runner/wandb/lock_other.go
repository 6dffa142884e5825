//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly

package wandb

import "os"

// lock does nothing: this system has no such locks. Two processes that send one log at
// the same time are not told apart here.
func lock(*os.File) bool { return true }
