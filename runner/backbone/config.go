package backbone

import (
	"fmt"

	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
)

// mostConfig bounds the JSON files of a model.
const mostConfig = 16 << 20

// readArchitecture reads config.json.
func readArchitecture(path string) (*spec.Architecture, error) {
	text, err := regular.Read(path, mostConfig)
	if err != nil {
		return nil, err
	}
	arch, err := design.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return arch, nil
}
