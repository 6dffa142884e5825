package spec

import "runtime/debug"

// Version of loralab, as the Go tool wrote it into this binary: a tag, a
// revision, or "(devel)". Runner and engine are built together and say the same.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
