package filehash

import "syscall"

// changeTime moves with every write, whatever is done to the modification time.
func changeTime(s *syscall.Stat_t) int64 { return s.Ctim.Nano() }
