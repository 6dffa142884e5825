package experiment

import (
	"fmt"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/plural"
)

// emptyPart is the mistake of a source that has no images in a role: how many there are,
// how they were divided, and what gives the role some.
func emptyPart(key scanKey, there parts, role string) *sourceError {
	none := fmt.Sprintf("%q has no images for %s", key.source, role)
	all := 0
	for name, files := range there {
		if name != unlisted {
			all += files.Len()
		}
	}
	whole, undivided := there[data.All]
	if undivided {
		all = whole.Len()
	}
	split := key.split
	switch fraction := map[string]float64{"train": split.Train, "val": float64(split.Val), "test": split.Test}[role]; {
	case all == 0 || key.domain && !undivided:
	case split.From != "" && !key.domain:
		return &sourceError{
			message: fmt.Sprintf("%s: %s lists %s, none of them for it", none, split.From, plural.Of(all, "image")),
			hint:    fmt.Sprintf("list images for %s in data.split.from", role),
		}
	case undivided || split.likeOriginal() || role == "val" && there["train"].Len() > 0:
		of := plural.Of(all, "image")
		if !undivided && !split.likeOriginal() { // some of those of train/
			of = plural.Of(there["train"].Len(), "image") + " for train"
		}
		return &sourceError{
			message: fmt.Sprintf("%s: it has %s, and data.split.%s, %g, takes none of them", none, of, role, fraction),
			hint:    fmt.Sprintf("give %s a larger fraction, data: split: %s: …, or add images", role, role),
		}
	}
	if all > 0 {
		none += fmt.Sprintf(": its %s %s in other parts", plural.Of(all, "image"), plural.Form(all, "is", "are"))
	}
	return &sourceError{message: none, hint: fmt.Sprintf("add %s/images and %s/masks; data.split divides only a source whose images are in no part", role, role)}
}
