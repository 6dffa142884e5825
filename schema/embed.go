// Package schema holds the CUE schema of experiments, the single source of
// what an experiment file may say. It is embedded in the program and offered
// to experiment files under its import path, so that they need no registry.
package schema

import "embed"

// ImportPath is what experiment files import.
const ImportPath = "github.com/loralab/loralab/schema"

// Version is the major version of the schema. It moves when a file that was
// valid no longer is, or means something else; docs/help/experiments.md then
// says how to bring files over. A file that imports the schema with its
// version, ImportPath@v0, is refused by a runner that knows another one; without
// it, the file is read as of the version that the runner knows.
const Version = "v0"

// Files are the CUE files of the package.
//
//go:embed *.cue
var Files embed.FS
