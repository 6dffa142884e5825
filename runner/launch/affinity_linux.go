package launch

import "golang.org/x/sys/unix"

// affinity are the processors that the kernel lets this thread use.
func affinity() (cpus []int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// bind runs start on a thread that is bound to processors, and then lets the
// thread use all that it could before.
func bind(cpus []int, start func() error) error {
	var before, set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if unix.SchedGetaffinity(0, &before) != nil || unix.SchedSetaffinity(0, &set) != nil {
		return start() // a system that refuses: the threads are still divided
	}
	err := start()
	_ = unix.SchedSetaffinity(0, &before)
	return err
}
