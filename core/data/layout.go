package data

import (
	"errors"
	"os"
	"path/filepath"
)

// Roles are the parts that data sets are published in.
var Roles = []string{"train", "val", "test"}

// All is the part of a source that is not divided.
const All = "all"

// Parts finds the files of a data set by role, those that are there; of one
// that is not divided they are the part All. What does not pair up in any part
// is told in one ScanError, beside which the pairs are returned all the same.
func Parts(dir string) (map[string]Files, error) {
	parts := map[string]Files{}
	if !isDir(dir, "train") && !isDir(dir, "test") {
		f, err := Scan(dir)
		parts[All] = f
		return parts, err
	}
	var faults []string
	for _, role := range Roles {
		if !isDir(dir, role) {
			continue
		}
		f, err := Scan(filepath.Join(dir, role))
		var scan *ScanError
		if errors.As(err, &scan) {
			for _, fault := range scan.Faults {
				faults = append(faults, role+"/"+fault)
			}
		} else if err != nil {
			return nil, err
		}
		parts[role] = f
	}
	if len(faults) > 0 {
		return parts, &ScanError{Root: dir, Faults: faults}
	}
	return parts, nil
}

func isDir(elem ...string) bool {
	info, err := os.Stat(filepath.Join(elem...))
	return err == nil && info.IsDir()
}
