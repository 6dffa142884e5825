package backbone

import (
	"path/filepath"

	"github.com/loralab/loralab/core/vit/design"
)

// Look reads the configuration of a directory with a backbone, and compares the
// tensors of its weights with it. It does not read their values.
func Look(dir string) (*Backbone, error) {
	arch, err := readArchitecture(filepath.Join(dir, configFile))
	if err != nil {
		return nil, err
	}
	b := &Backbone{Name: dir, Path: filepath.Join(dir, weightFile), Arch: arch}
	row, err := design.Of(arch)
	if err != nil {
		return nil, err
	}
	if b.Mean, b.Std, err = readNormalization(dir, row); err != nil {
		return nil, err
	}
	return b, checkTensors(b)
}
