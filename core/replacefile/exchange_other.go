//go:build !linux

package replacefile

import "errors"

func exchangeNames(dir int, a, b string) error { return errors.ErrUnsupported }
