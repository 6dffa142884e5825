package backbone

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/exactjson"
	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/vit/design"
)

// normalization is what pixels in 0..1 are normalized with.
type normalization struct{ mean, std []float64 }

var (
	half = normalization{[]float64{.5, .5, .5}, []float64{.5, .5, .5}}
	clip = normalization{[]float64{0.48145466, 0.4578275, 0.40821073}, []float64{0.26862954, 0.26130258, 0.27577711}}
)

// ofProcessor is what the image processors of transformers use where the file
// that names them says nothing.
var ofProcessor = map[string]normalization{
	"ViTImageProcessor": half, "DeiTImageProcessor": half, "BeitImageProcessor": half, "ConvNextImageProcessor": half,
	"BitImageProcessor": clip, "CLIPImageProcessor": clip,
}

// triple is a number for each color, or one for all.
type triple []float64

func (t *triple) UnmarshalJSON(b []byte) error {
	var one float64
	if err := json.Unmarshal(b, &one); err == nil && string(b) != "null" {
		*t = triple{one, one, one}
		return nil
	}
	return json.Unmarshal(b, (*[]float64)(t))
}

// readNormalization is what preprocessor_config.json says, or what published models
// of the row were trained with. What it says of sizes does not count: images are brought to
// data.size.
func readNormalization(dir string, row *design.Row) (mean, std []float64, err error) {
	path := filepath.Join(dir, preprocessorFile)
	text, err := regular.Read(path, mostConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return row.Images.Mean, row.Images.Std, nil
	}
	if err != nil {
		return nil, nil, err
	}
	n, err := parseNormalization(text, row)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return n.mean, n.std, nil
}

// parseNormalization puts the two steps of transformers, x·factor and (x−m)/s for
// pixels from 0 to 255, into one for pixels from 0 to 1.
func parseNormalization(text []byte, row *design.Row) (normalization, error) {
	c := struct {
		Processor string   `json:"image_processor_type"`
		Extractor string   `json:"feature_extractor_type"` // its name until 2023
		Rescale   *bool    `json:"do_rescale"`
		Factor    *float64 `json:"rescale_factor"`
		Normalize *bool    `json:"do_normalize"`
		Mean      triple   `json:"image_mean"`
		Std       triple   `json:"image_std"`
		// What no model of a family that is known needs.
		Flip      *bool `json:"do_flip_channel_order"`
		Offset    *bool `json:"offset"`
		Offset2   *bool `json:"rescale_offset"`
		Grayscale *bool `json:"do_grayscale"`
		Invert    *bool `json:"do_invert"`
	}{}
	if err := exactjson.Unmarshal(text, &c); err != nil {
		return normalization{}, fmt.Errorf("is not the configuration of a preprocessor: %w", err)
	}
	for name, does := range map[string]*bool{
		"do_flip_channel_order": c.Flip, "offset": c.Offset, "rescale_offset": c.Offset2, "do_grayscale": c.Grayscale, "do_invert": c.Invert,
	} {
		if does != nil && *does {
			return normalization{}, fmt.Errorf("%s is not supported: a %s of Hugging Face sees the colors as they are", name, design.Titles())
		}
	}
	factor := 1.0 / 255
	if c.Factor != nil {
		factor = *c.Factor
	}
	// Above 0, and not so near to it that nothing is left of a pixel.
	if !(factor > 1e-6 && factor <= 1) {
		return normalization{}, fmt.Errorf("rescale_factor is %g: it must be above 0 and at most 1", factor)
	}
	top := 255 * factor // of what is normalized
	if c.Rescale != nil && !*c.Rescale {
		top = 255
	}
	if math.Abs(top-1) < 1e-9 { // 1/255 is written with rounding
		top = 1
	}
	if c.Normalize != nil && !*c.Normalize {
		return scaled(normalization{[]float64{0, 0, 0}, []float64{1, 1, 1}}, top), nil
	}
	name := processor(c.Processor, c.Extractor, row)
	n, known := ofProcessor[name]
	if !known && (c.Mean == nil || c.Std == nil) {
		return normalization{}, fmt.Errorf("image_mean and image_std are missing, and what %s takes instead is not known: write them", name)
	}
	if c.Mean != nil {
		n.mean = c.Mean
	}
	if c.Std != nil {
		n.std = c.Std
	}
	if len(n.mean) != 3 || len(n.std) != 3 || !(slices.Min(n.std) > 0) {
		return normalization{}, fmt.Errorf("image_mean %v and image_std %v must be three numbers each, the latter above 0", n.mean, n.std)
	}
	switch brightest := slices.Max(n.mean); {
	case slices.Min(n.mean) < 0:
		return normalization{}, fmt.Errorf("image_mean %v is below 0, and pixels are not", n.mean)
	case brightest > top:
		return normalization{}, fmt.Errorf("image_mean %v is above %g, the most that a pixel is after do_rescale and rescale_factor %g: is do_rescale false?", n.mean, top, factor)
	case top > 100 && brightest > 0 && brightest <= 1 && slices.Max(n.std) <= 1:
		return normalization{}, fmt.Errorf("image_mean %v and image_std %v are of pixels from 0 to 1, but without the factor 1/255 pixels are from 0 to %g: should do_rescale be true?", n.mean, n.std, top)
	}
	return scaled(n, top), nil
}

// scaled is n for pixels from 0 to 1 instead of from 0 to top.
func scaled(n normalization, top float64) normalization {
	by := func(list []float64) []float64 {
		out := make([]float64, len(list))
		for i, v := range list {
			out[i] = v / top
		}
		return out
	}
	return normalization{by(n.mean), by(n.std)}
}

// processor is the class of an image processor, whatever it computes with and by
// whichever of its names; that of the row if it has none.
func processor(name, old string, row *design.Row) string {
	switch {
	case name != "":
	case old != "":
		name = strings.Replace(old, "FeatureExtractor", "ImageProcessor", 1)
	default:
		name = row.Images.Processor
	}
	return strings.TrimSuffix(strings.TrimSuffix(name, "Fast"), "Pil")
}
