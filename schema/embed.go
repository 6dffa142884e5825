// Package schema holds the CUE schema of experiments, the single source of
// what an experiment file may say. It is embedded in the program and offered
// to experiment files under its import path, so that they need no registry.
package schema

import "embed"

// ImportPath is what experiment files import.
const ImportPath = "github.com/loralab/loralab/schema"

// Files are the CUE files of the package.
//
//go:embed *.cue
var Files embed.FS
