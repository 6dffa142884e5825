package replacefile

import "golang.org/x/sys/unix"

// exchangeNames swaps two names in the directory dir, in one step. Not every file
// system can.
func exchangeNames(dir int, a, b string) error {
	return unix.Renameat2(dir, a, dir, b, unix.RENAME_EXCHANGE)
}
