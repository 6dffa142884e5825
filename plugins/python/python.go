// Package python is the sdk for variants in Python, which speak the protocol
// of package protocol without any Go: loralab_plugin, here embedded for
// `runner plugins new --python`. Variants of loralab itself in Python lie
// beside it; `make build` packs each into one file.
package python

import "embed"

// SDK holds the folder loralab_plugin.
//
//go:embed loralab_plugin/*.py loralab_plugin/variant.binpb
var SDK embed.FS
