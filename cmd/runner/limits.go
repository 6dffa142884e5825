package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Below these limits of the shell commands are known to fail in ways that do not
// say why.
const (
	enoughFiles  = 64
	enoughMemory = 3 << 30 // of address space: libtorch takes most of it
)

// limits are the limits of this process that a failure may come from.
func limits() []string {
	var list []string
	var files, memory unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil && files.Cur < enoughFiles {
		list = append(list, fmt.Sprintf("a program may have only %d files open here: raise the limit with ulimit -n 1024", files.Cur))
	}
	if unix.Getrlimit(unix.RLIMIT_AS, &memory) == nil && memory.Cur < enoughMemory {
		list = append(list, fmt.Sprintf("a program may use only %d MB of memory here: raise the limit with ulimit -v unlimited", memory.Cur/1e6))
	}
	return list
}
