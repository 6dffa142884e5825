#!/usr/bin/env python3
"""Writes processors.json: what image processors of transformers make of pixels.

    pip install transformers==5.23.0 pillow numpy && python3 make_processors.py

Each case is a preprocessor_config.json for a family of models, and
what becomes of the levels 0, 1, 100, 254 and 255 of each color.
"""

import json
import os
import tempfile

import numpy as np
import transformers
from PIL import Image
from transformers import AutoImageProcessor

here = os.path.dirname(os.path.abspath(__file__))
levels = [0, 1, 100, 254, 255]
picture = Image.fromarray(np.repeat(np.array([levels], np.uint8)[:, :, None], 3, 2))
cases = []
for family, config in (
    ("vit", {"image_processor_type": "ViTImageProcessor"}),
    ("vit", {"do_normalize": True}),
    ("deit", {"feature_extractor_type": "DeiTFeatureExtractor"}),
    ("dinov2", {"image_processor_type": "BitImageProcessor"}),
    ("dinov2", {"do_normalize": True}),
    ("dinov2", {"image_processor_type": "BitImageProcessorFast", "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}),
    ("vit", {"image_processor_type": "ViTImageProcessor", "image_mean": 0.25, "image_std": [0.5, 0.25, 0.125]}),
    ("vit", {"do_normalize": True, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}),
    ("vit", {"do_normalize": True, "do_rescale": True, "rescale_factor": 1.0, "image_mean": [127.5, 120.0, 110.0], "image_std": [127.5, 60.0, 30.0]}),
    ("vit", {"rescale_factor": 0.00784313725490196, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]}),
    ("vit", {"do_normalize": False}),
    ("vit", {"do_normalize": False, "do_rescale": False}),
    ("vit", {"do_normalize": False, "rescale_factor": 0.0078125}),
    ("vit", {"do_rescale": True, "rescale_factor": 0.00392156862745098, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}),
):
    with tempfile.TemporaryDirectory() as d:
        with open(os.path.join(d, "preprocessor_config.json"), "w") as f:
            json.dump(config, f)
        with open(os.path.join(d, "config.json"), "w") as f:
            json.dump({"model_type": family}, f)
        p = AutoImageProcessor.from_pretrained(d)
        out = p(picture, return_tensors="np", do_resize=False, do_center_crop=False)["pixel_values"][0, :, 0, :]
        cases.append({"family": family, "config": config, "seen": [[float(v) for v in row] for row in out]})

with open(os.path.join(here, "processors.json"), "w") as f:
    f.write('{"transformers": "%s", "levels": %s, "cases": [\n' % (transformers.__version__, levels))
    f.write(",\n".join(json.dumps(c) for c in cases) + "\n]}\n")
print(len(cases), "cases")
