package bounded

import "syscall"

// machineMemory is the memory of the machine in bytes, 0 if it is not known.
func machineMemory() uint64 {
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}
