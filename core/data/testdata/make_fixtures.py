#!/usr/bin/env python3
"""Writes the fixtures of the resize and decode tests with Pillow.

    pip install pillow && python3 make_fixtures.py

fixtures.json holds small pictures and what Pillow makes of them; the files in
pictures/ are one for each storage form, with the pixels Pillow reads from them.
"""

import base64
import json
import os
import random

import PIL
from PIL import Image, ImageOps

here = os.path.dirname(os.path.abspath(__file__))
os.makedirs(os.path.join(here, "pictures"), exist_ok=True)
rng = random.Random(7)


def text(b):
    return base64.b64encode(bytes(b)).decode()


cases = []
for (w, h), (to_w, to_h) in [
    ((37, 29), (14, 14)),
    ((37, 29), (11, 29)),
    ((37, 29), (37, 8)),
    ((9, 7), (31, 20)),
    ((64, 64), (63, 63)),
    ((5, 5), (1, 1)),
    ((40, 6), (7, 13)),
    ((6, 1), (4, 3)),
]:
    for kind in ("noise", "extremes"):
        if kind == "noise":
            pixels = [rng.randrange(256) for _ in range(w * h)]
        else:
            pixels = [rng.choice((0, 255)) for _ in range(w * h)]
        image = Image.frombytes("L", (w, h), bytes(pixels))
        labels = Image.frombytes("L", (w, h), bytes(p % 5 for p in pixels))
        cases.append(
            {
                "w": w, "h": h, "toW": to_w, "toH": to_h,
                "pixels": text(pixels),
                "bilinear": text(image.resize((to_w, to_h), Image.BILINEAR).tobytes()),
                "labels": text(labels.tobytes()),
                "nearest": text(labels.resize((to_w, to_h), Image.NEAREST).tobytes()),
            }
        )

pictures = {}


def keep(name, image, **options):
    path = os.path.join(here, "pictures", name)
    image.save(path, **options)
    with Image.open(path) as stored:
        rgb = stored.convert("RGB")
        pictures[name] = {"w": rgb.width, "h": rgb.height, "rgb": text(rgb.tobytes())}


w, h = 13, 9
noise = bytes(rng.randrange(256) for _ in range(w * h * 4))
keep("rgb.png", Image.frombytes("RGB", (w, h), noise[: w * h * 3]))
keep("rgba.png", Image.frombytes("RGBA", (w, h), noise))
keep("grey.png", Image.frombytes("L", (w, h), noise[: w * h]))
paletted = Image.frombytes("P", (w, h), bytes(b % 7 for b in noise[: w * h]))
paletted.putpalette([rng.randrange(256) for _ in range(7 * 3)])
keep("palette.png", paletted)
keep("gif.jpg", paletted, format="GIF")
smooth = Image.frombytes("L", (2, 2), bytes((20, 200, 120, 60))).resize((w, h), Image.BICUBIC)
keep("grey.jpg", smooth, quality=95)
keep("colour.jpg", Image.merge("RGB", (smooth, smooth.rotate(180), smooth)), quality=95, subsampling=0)
deep = Image.new("I;16", (w, h))
deep.putdata([rng.randrange(65536) for _ in range(w * h)])
deep.save(os.path.join(here, "pictures", "grey16.png"))
pictures["grey16.png"] = {  # Pillow has no conversion of its own that keeps the scale
    "w": w, "h": h, "rgb": text(b for v in deep.getdata() for b in 3 * [v >> 8]),
}

# Masks of every depth: the numbers that are stored.
masks = {}
for bits in (1, 2, 4, 8):
    values = [rng.randrange(min(1 << bits, 200)) for _ in range(w * h)]
    image = Image.frombytes("P", (w, h), bytes(values))
    image.putpalette([rng.randrange(256) for _ in range(256 * 3)])
    image.save(os.path.join(here, "pictures", f"mask-palette{bits}.png"), bits=bits)
    masks[f"mask-palette{bits}.png"] = {"w": w, "h": h, "values": values}
values = [rng.randrange(256) for _ in range(w * h)]
Image.frombytes("L", (w, h), bytes(values)).save(os.path.join(here, "pictures", "mask-grey8.png"))
masks["mask-grey8.png"] = {"w": w, "h": h, "values": values}
values = [rng.randrange(2) for _ in range(w * h)]
Image.frombytes("L", (w, h), bytes(255 * v for v in values)).convert("1", dither=Image.NONE).save(
    os.path.join(here, "pictures", "mask-grey1.png")
)
masks["mask-grey1.png"] = {"w": w, "h": h, "values": values}
masks["grey16.png"] = {"w": w, "h": h, "values": list(deep.getdata())}

# Other formats. WebP and JPEG of smooth pictures: decoders differ by a level.
colour = Image.merge("RGB", (smooth, smooth.rotate(180), smooth))
keep("lossy.webp", colour, quality=95)
keep("lossless.webp", Image.frombytes("RGB", (w, h), noise[: w * h * 3]), lossless=True)
keep("rgb.tif", Image.frombytes("RGB", (w, h), noise[: w * h * 3]), compression="tiff_lzw")
keep("rgb.bmp", Image.frombytes("RGB", (w, h), noise[: w * h * 3]))


# The eight ways to hold a camera. What is wanted is the picture upright.
def keep_upright(name, image, turn, **options):
    exif = Image.Exif()
    exif[0x0112] = turn
    path = os.path.join(here, "pictures", name)
    image.save(path, exif=exif, **options)
    with Image.open(path) as stored:
        rgb = ImageOps.exif_transpose(stored).convert("RGB")
        pictures[name] = {"w": rgb.width, "h": rgb.height, "rgb": text(rgb.tobytes())}


for turn in range(1, 9):
    keep_upright(f"turned{turn}.png", Image.frombytes("RGB", (w, h), noise[: w * h * 3]), turn)
keep_upright("turned6.jpg", colour, 6, quality=95, subsampling=0)
keep_upright("turned8.tif", Image.frombytes("RGB", (w, h), noise[: w * h * 3]), 8)
keep_upright("turned3.webp", Image.frombytes("RGB", (w, h), noise[: w * h * 3]), 3, lossless=True)

values = [rng.randrange(256) for _ in range(w * h)]
for name, mode in (("mask-grey8.tif", "L"), ("mask-palette8.tif", "P"), ("mask-palette8.bmp", "P"), ("mask-grey8.bmp", "L")):
    image = Image.frombytes(mode, (w, h), bytes(values))
    if mode == "P":
        image.putpalette([rng.randrange(256) for _ in range(256 * 3)])
    image.save(os.path.join(here, "pictures", name))
    masks[name] = {"w": w, "h": h, "values": values}
deep.save(os.path.join(here, "pictures", "mask-grey16.tif"))
masks["mask-grey16.tif"] = {"w": w, "h": h, "values": list(deep.getdata())}
exif = Image.Exif()
exif[0x0112] = 6  # turned like the photograph that it belongs to
turned = Image.frombytes("L", (w, h), bytes(values))
turned.save(os.path.join(here, "pictures", "mask-turned6.png"), exif=exif)
upright = turned.transpose(Image.Transpose.ROTATE_270)
masks["mask-turned6.png"] = {"w": h, "h": w, "values": list(upright.getdata())}

with open(os.path.join(here, "fixtures.json"), "w") as f:
    json.dump({"pillow": PIL.__version__, "resize": cases, "pictures": pictures, "masks": masks}, f, indent=1)
    f.write("\n")
