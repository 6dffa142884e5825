package peft

import (
	"os"
	"path/filepath"

	"github.com/loralab/loralab/core/replacefile"
)

// That a plug-in was compared with PEFT is remembered by the SHA-256 of its
// file, so that a changed plug-in has to be compared again.

func comparedFile(cache, sum string) string { return filepath.Join(cache, "peft", sum) }

// Remember notes that exports of the plug-in with this SHA-256 compute the same
// in a version of PEFT.
func Remember(cache, sum, version string) error {
	path := comparedFile(cache, sum)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return replacefile.Write(path, []byte(version+"\n"))
}

// ComparedWithPEFT reports whether Remember was called for the plug-in.
func ComparedWithPEFT(cache, sum string) bool {
	_, err := os.Stat(comparedFile(cache, sum))
	return err == nil
}
