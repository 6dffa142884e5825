//go:build !linux

package launch

// affinity is not known: Darwin binds no thread to processors.
func affinity() []int { return nil }

func bind(_ []int, start func() error) error { return start() }
