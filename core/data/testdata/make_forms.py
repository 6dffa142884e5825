#!/usr/bin/env python3
"""Writes forms.json: small pictures in many storage forms, and what Pillow reads.

    pip install pillow==12.3.0 && python3 make_forms.py

Every form is either read as Pillow reads it, or refused. "rgb" is what Pillow
makes of the picture, upright; of 16 bits it is the upper byte. It is null where
Pillow cannot read the file. "values" are the numbers stored in a mask.
"""

import base64
import io
import itertools
import json
import os
import random
import struct
import sys
import zlib

import PIL
from PIL import Image, ImageOps

here = os.path.dirname(os.path.abspath(__file__))
rng = random.Random(11)
forms = {}
w, h = 9, 7


def b64(b):
    return base64.b64encode(bytes(b)).decode()


def keep(name, content, rgb=None, values=None, pages=1):
    """rgb: what is wanted where Pillow has no conversion that keeps the scale."""
    out = {"file": b64(content), "w": 0, "h": 0, "rgb": None, "pages": pages}
    try:
        with Image.open(io.BytesIO(content)) as im:
            im = ImageOps.exif_transpose(im)
            if rgb is None:
                assert im.mode not in ("I;16", "I;16B", "I", "F"), im.mode
                rgb = im.convert("RGB").tobytes()
            out.update(w=im.width, h=im.height, rgb=b64(rgb))
    except Exception as e:  # Pillow has many kinds of errors for damaged files
        print(f"{name}: Pillow: {type(e).__name__}: {e}", file=sys.stderr)
    if values is not None:
        out["values"] = list(values)
    assert name not in forms, name
    forms[name] = out


def saved(image, **options):
    f = io.BytesIO()
    image.save(f, **options)
    return f.getvalue()


noise = bytes(rng.randrange(256) for _ in range(w * h * 8))
rgb8 = Image.frombytes("RGB", (w, h), noise[: w * h * 3])
gray8 = Image.frombytes("L", (w, h), noise[: w * h])
smooth = Image.frombytes("L", (2, 2), bytes((20, 200, 120, 60))).resize((w, h), Image.BICUBIC)
color = Image.merge("RGB", (smooth, smooth.rotate(180), smooth.transpose(Image.Transpose.FLIP_TOP_BOTTOM)))
binary = [rng.randrange(2) for _ in range(w * h)]
bilevel = Image.frombytes("L", (w, h), bytes(255 * v for v in binary)).convert("1", dither=Image.NONE)


# ---- PNG ----


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(kind, bits, samples, interlace=0, before=(), after=()):
    """samples: for each pixel, the numbers of its channels."""
    n = len(samples[0])

    def lines(x0, y0, dx, dy):
        out = b""
        for y in range(y0, h, dy):
            row = [v for x in range(x0, w, dx) for v in samples[y * w + x]]
            if not row:
                continue
            text = "".join(format(v, f"0{bits}b") for v in row)
            text += "0" * (-len(text) % 8)
            out += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
        return out

    passes = ADAM7 if interlace else ((0, 0, 1, 1),)
    data = zlib.compress(b"".join(lines(*p) for p in passes))
    del n
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, kind, 0, 0, interlace))]
    parts += [chunk(*c) for c in before]
    parts.append(chunk(b"IDAT", data))
    parts += [chunk(*c) for c in after]
    return b"".join(parts + [chunk(b"IEND", b"")])


CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
for kind, bits in itertools.chain(
    ((0, b) for b in (1, 2, 4, 8, 16)), ((3, b) for b in (1, 2, 4, 8)), ((k, b) for k in (2, 4, 6) for b in (8, 16))
):
    for interlace, clear in itertools.product((0, 1), (False, True)):
        if interlace and bits in (2, 4) or clear and kind in (4, 6) and interlace:
            continue
        n = CHANNELS[kind]
        samples = [[rng.randrange(1 << bits) for _ in range(n)] for _ in range(w * h)]
        if kind in (4, 6):  # a third is transparent, with colors below
            for i, s in enumerate(samples):
                s[-1] = (0, (1 << bits) - 1, s[-1])[i % 3]
        before = []
        if kind == 3:
            before.append((b"PLTE", bytes(rng.randrange(256) for _ in range(3 << bits))))
        if clear:
            if kind in (4, 6):
                continue
            first = samples[0]
            before.append((b"tRNS", bytes(rng.randrange(256) for _ in range(min(3, 1 << bits))) if kind == 3 else b"".join(struct.pack(">H", v) for v in first)))
        values = None
        if kind in (0, 3, 4):
            values = [s[0] for s in samples]
        wanted = None
        if kind in (0, 4) and bits == 16:
            wanted = bytes(v >> 8 for s in samples for v in 3 * [s[0]])
        elif kind == 0 and bits < 8:
            wanted = bytes(v * 255 // ((1 << bits) - 1) for s in samples for v in 3 * [s[0]])
        keep(f"png-kind{kind}-{bits}{'-interlaced' if interlace else ''}{'-trns' if clear else ''}.png",
             png(kind, bits, samples, interlace, before), wanted, values)


# ---- orientation ----


def exif(turn, order="<", kind=3):
    tag = struct.pack(order + "HHI", 274, kind, 1) + struct.pack(order + ("H2x" if kind == 3 else "I"), turn)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 1) + tag + struct.pack(order + "I", 0)


xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
xmp_element = b"<x:xmpmeta><tiff:Orientation>%d</tiff:Orientation></x:xmpmeta>"
pixels3 = [list(noise[3 * i : 3 * i + 3]) for i in range(w * h)]


def itxt(text, compressed):
    return b"XML:com.adobe.xmp\0" + bytes((compressed, 0)) + b"en\0\0" + (zlib.compress(text) if compressed else text)


raw = exif(6)
profile = b"\nexif\n%8d\n" % len(raw) + raw.hex().encode() + b"\n"
keep("turn-before.png", png(2, 8, pixels3, before=[(b"eXIf", exif(6))]))
keep("turn-after.png", png(2, 8, pixels3, after=[(b"eXIf", exif(8, ">"))]))
keep("turn-twice.png", png(2, 8, pixels3, before=[(b"eXIf", exif(6))], after=[(b"eXIf", exif(3))]))
keep("turn-xmp.png", png(2, 8, pixels3, before=[(b"iTXt", itxt(xmp % 6, 0))]))
keep("turn-xmp-compressed.png", png(2, 8, pixels3, before=[(b"iTXt", itxt(xmp_element % 5, 1))]))
keep("turn-exif-and-xmp.png", png(2, 8, pixels3, before=[(b"eXIf", exif(1)), (b"iTXt", itxt(xmp % 6, 0))]))
keep("turn-profile.png", png(2, 8, pixels3, before=[(b"tEXt", b"Raw profile type exif\0" + profile)]))
keep("turn-profile-compressed.png", png(2, 8, pixels3, before=[(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile))]))
keep("turn-long.png", png(2, 8, pixels3, before=[(b"eXIf", exif(6, "<", 4))]))
keep("turn-mask.png", png(0, 8, [[v] for v in noise[: w * h]], after=[(b"eXIf", exif(6))]))


def segment(marker, data):
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


plain = saved(color, format="JPEG", quality=95, subsampling=0)
assert plain[:4] == b"\xff\xd8\xff\xe0"
e6, x5 = segment(0xE1, b"Exif\0\0" + exif(6)), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp % 5)
foreign = segment(0xE1, b"Something else\0")
keep("turn-xmp.jpg", plain[:2] + x5 + plain[2:])
keep("turn-xmp-then-exif.jpg", plain[:2] + x5 + e6 + plain[2:])
keep("turn-foreign-then-exif.jpg", plain[:2] + foreign + segment(0xE1, b"") + e6 + plain[2:])
keep("turn-two-exif.jpg", plain[:2] + e6 + segment(0xE1, b"Exif\0\0" + exif(8)) + plain[2:])
keep("turn-fill-bytes.jpg", plain[:2] + b"\xff\xff\xff" + e6 + plain[2:])
spread = exif(6)
keep("turn-spread.jpg", plain[:2] + segment(0xE1, b"Exif\0\0" + spread[:9]) + segment(0xE1, b"Exif\0\0" + spread[9:]) + plain[2:])
keep("turn-end.jpg", plain[:-2] + e6 + plain[-2:])


def riff(*chunks):
    body = b"WEBP"
    for kind, data in chunks:
        body += kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8x(flags):
    return (b"VP8X", struct.pack("<I", flags) + (w - 1).to_bytes(3, "little") + (h - 1).to_bytes(3, "little"))


def inner(content, kind):
    at = content.index(kind)
    (n,) = struct.unpack_from("<I", content, at + 4)
    return content[at + 8 : at + 8 + n]


def odd(image, parity, **options):
    """the chunk of pixels with an odd or an even number of bytes"""
    for i in range(256):
        image = image.copy()
        image.putpixel((0, 0), (i, 7 * i % 256, 255 - i))
        data = inner(saved(image, format="WEBP", **options), b"VP8L" if options.get("lossless") else b"VP8 ")
        if len(data) % 2 == parity:
            return data
    raise SystemExit("no picture of this parity")


for parity in (0, 1):
    data = odd(rgb8, parity, lossless=True)
    keep(f"turn-lossless{parity}.webp", riff(vp8x(8), (b"VP8L", data), (b"EXIF", exif(6))))
    keep(f"turn-icc{parity}.webp", riff(vp8x(8 | 32), (b"ICCP", bytes(456 + parity)), (b"VP8L", data), (b"EXIF", b"Exif\0\0" + exif(8))))
data = odd(rgb8, 1, lossless=True)
keep("turn-xmp.webp", riff(vp8x(4), (b"VP8L", data), (b"XMP ", xmp % 6)))
keep("turn-no-flag.webp", riff(vp8x(0), (b"VP8L", data), (b"EXIF", exif(6))))
keep("turn-no-vp8x.webp", riff((b"VP8L", data), (b"EXIF", exif(6))))
keep("turn-unknown.webp", riff(vp8x(8), (b"VP8L", data), (b"ABCD", b"123"), (b"EXIF", exif(3, ">"))))
keep("alpha-lossless.webp", saved(Image.frombytes("RGBA", (w, h), noise[: w * h * 4]), format="WEBP", lossless=True, exact=True))
lossy = inner(saved(smooth.convert("RGB"), format="WEBP", quality=95), b"VP8 ")  # always even
keep("turn-lossy.webp", riff(vp8x(8 | 32), (b"ICCP", bytes(457)), (b"VP8 ", lossy), (b"EXIF", exif(6))))
keep("animated.webp", saved(rgb8, format="WEBP", save_all=True, append_images=[color], lossless=True), pages=2)

# ---- GIF, BMP, JPEG, APNG ----

paletted = Image.frombytes("P", (w, h), bytes(b % 7 for b in noise[: w * h]))
paletted.putpalette([rng.randrange(1, 256) for _ in range(7 * 3)])
keep("plain.gif", saved(paletted, format="GIF"))
keep("transparent.gif", saved(paletted, format="GIF", transparency=3))
other = paletted.transpose(Image.Transpose.ROTATE_180)
keep("animated.gif", saved(paletted, format="GIF", save_all=True, append_images=[other]), pages=2)
one = bytearray(saved(paletted, format="GIF"))
struct.pack_into("<HH", one, 6, w + 3, h + 2)  # a canvas larger than its picture
keep("partial.gif", bytes(one))
keep("animated.png", saved(rgb8, format="PNG", save_all=True, append_images=[color]), pages=2)
for mode in ("1", "L", "P", "RGB", "RGBA"):
    image = {"1": bilevel, "L": gray8, "P": paletted, "RGB": rgb8, "RGBA": Image.frombytes("RGBA", (w, h), noise[: w * h * 4])}[mode]
    values = {"1": binary, "L": list(gray8.getdata()), "P": list(paletted.getdata())}.get(mode)
    keep(f"mode-{mode}.bmp", saved(image, format="BMP"), values=values)
keep("cmyk.jpg", saved(color.convert("CMYK"), format="JPEG", quality=95))
keep("progressive.jpg", saved(color, format="JPEG", quality=95, subsampling=0, progressive=True))
keep("rgb.jpg", saved(color, format="JPEG", quality=95, keep_rgb=True))

# ---- TIFF ----


def packbits(b):
    return b"".join(bytes((len(p) - 1,)) + p for p in (b[i : i + 128] for i in range(0, len(b), 128)))


COMPRESS = {1: bytes, 8: zlib.compress, 32946: zlib.compress, 32773: packbits}


def tiff(samples, photometric, bits, order="<", compression=1, predictor=None, planar=None, tile=None, rows=None,
         fill=None, extra=None, fmt=None, colormap=None, orientation=None, omit=(), more=(), says=None, xmp=None):
    """samples: for each pixel the numbers of its channels."""
    n = len(samples[0])

    def pack(numbers):
        if bits >= 8:
            return b"".join(v.to_bytes(bits // 8, "little" if order == "<" else "big") for v in numbers)
        text = "".join(format(v, f"0{bits}b") for v in numbers)
        text += "0" * (-len(text) % 8)
        out = int(text, 2).to_bytes(len(text) // 8, "big")
        return bytes(int(format(b, "08b")[::-1], 2) for b in out) if fill == 2 else out

    def block(x0, y0, dx, dy, channels):
        out = b""
        for y in range(y0, y0 + dy):
            row = []
            last = [0] * n
            for x in range(x0, x0 + dx):
                px = samples[min(y, h - 1) * w + min(x, w - 1)] if y < h and x < w else [0] * n
                row += [(px[c] - last[c]) % (1 << bits) if predictor == 2 else px[c] for c in channels]
                last = px
            out += pack(row)
        return COMPRESS[compression](out)

    blocks = []
    for channels in [[c] for c in range(n)] if planar == 2 else [list(range(n))]:
        if tile:
            blocks += [block(x, y, tile, tile, channels) for y in range(0, h, tile) for x in range(0, w, tile)]
        else:
            step = rows or h
            blocks += [block(0, y, w, min(step, h - y), channels) for y in range(0, h, step)]
    tags = [(256, 4, [w]), (257, 4, [h]), (258, 3, [bits] * n), (259, 3, [compression]), (262, 3, [photometric]), (277, 3, [n])]
    places = [0] * len(blocks)
    if tile:
        tags += [(322, 3, [tile]), (323, 3, [tile]), (324, 4, places), (325, 4, [len(b) for b in blocks])]
    else:
        tags += [(273, 4, places), (278, 4, [rows or h]), (279, 4, [len(b) for b in blocks])]
    for tag, value in ((284, planar), (317, predictor), (266, fill), (338, extra), (274, orientation)):
        if value is not None:
            tags.append((tag, 3, value if isinstance(value, list) else [value]))
    if fmt:
        tags.append((339, 3, [fmt] * n))
    if colormap:
        tags.append((320, 3, colormap))
    if xmp:
        tags.append((700, 1, list(xmp)))
    tags = sorted([t for t in tags if t[0] not in omit] + list(more))
    if says:
        tags = [(t, k, says.get(t, v)) for t, k, v in tags]
    size = {1: 1, 3: 2, 4: 4}
    head = 8 + 2 + 12 * len(tags) + 4
    extras = b""
    for i, (tag, kind, v) in enumerate(tags):
        if tag in (273, 324):
            at = head + sum(size[k] * len(x) for t, k, x in tags if size[k] * len(x) > 4)
            for j, b in enumerate(blocks):
                v[j] = at
                at += len(b)
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    for tag, kind, v in tags:
        raw = b"".join(struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind], x) for x in v)
        if len(raw) > 4:
            place = struct.pack(order + "I", head + len(extras))
            extras += raw
            raw = place
        out += struct.pack(order + "HHI", tag, kind, len(v)) + raw.ljust(4, b"\0")
    return out + struct.pack(order + "I", 0) + extras + b"".join(blocks)


def numbers(n, bits):
    return [[rng.randrange(1 << bits) for _ in range(n)] for _ in range(w * h)]


def high(samples, bits, channels=3):
    """the upper byte, of gray three times"""
    return bytes(v >> (bits - 8) for s in samples for v in (3 * s[:1] if channels == 1 else s[:3]))


g1, g2, g4, g8, g16 = (numbers(1, b) for b in (1, 2, 4, 8, 16))
c8, c16, a8, a16 = numbers(3, 8), numbers(3, 16), numbers(4, 8), numbers(4, 16)
for s, top in ((a8, 255), (a16, 65535)):
    for i, p in enumerate(s):
        p[3] = (0, top, p[3])[i % 3]


def ones(s):
    return [p[0] for p in s]


for order, end in (("<", "little"), (">", "big")):
    keep(f"gray1-{end}.tif", tiff(g1, 1, 1, order), values=ones(g1))
    keep(f"gray8-{end}.tif", tiff(g8, 1, 8, order), values=ones(g8))
    keep(f"gray16-{end}.tif", tiff(g16, 1, 16, order), high(g16, 16, 1), values=ones(g16))
    keep(f"rgb8-{end}.tif", tiff(c8, 2, 8, order))
    keep(f"rgb16-{end}.tif", tiff(c16, 2, 16, order), high(c16, 16))
    keep(f"rgba8-{end}.tif", tiff(a8, 2, 8, order, extra=2))
    keep(f"rgba16-{end}.tif", tiff(a16, 2, 16, order, extra=2), high(a16, 16))
    for compression, predictor in itertools.product((8, 32946, 32773), (1, 2)):
        for name, s, bits, photo in (("gray8", g8, 8, 1), ("gray16", g16, 16, 1), ("rgb8", c8, 8, 2), ("rgb16", c16, 16, 2), ("rgba16", a16, 16, 2)):
            wide = bits == 16
            keep(f"{name}-{end}-c{compression}-p{predictor}.tif",
                 tiff(s, photo, bits, order, compression, predictor, rows=4, extra=2 if name == "rgba16" else None),
                 high(s, 16, len(s[0])) if wide else None, ones(s) if photo == 1 and predictor == 1 else None)
keep("gray1-no-bits.tif", tiff(g1, 1, 1, omit=(258,)), values=ones(g1))
keep("gray1-white0.tif", tiff(g1, 0, 1))
keep("gray8-white0.tif", tiff(g8, 0, 8))
keep("gray16-white0.tif", tiff(g16, 0, 16), bytes(w * h * 3))
keep("gray8-no-photometric.tif", tiff(g8, 1, 8, omit=(262,)))
keep("gray2.tif", tiff(g2, 1, 2), values=ones(g2))
keep("gray4.tif", tiff(g4, 1, 4), values=ones(g4))
keep("gray8-predictor-uncompressed.tif", tiff(g8, 1, 8, predictor=2))
keep("gray8-strips.tif", tiff(g8, 1, 8, rows=2), values=ones(g8))
keep("gray8-tiled.tif", tiff(g8, 1, 8, tile=16), values=ones(g8))
keep("gray16-tiled.tif", tiff(g16, 1, 16, tile=16, compression=8, predictor=2), high(g16, 16, 1), values=ones(g16))
keep("gray1-tiled.tif", tiff(g1, 1, 1, tile=16), values=ones(g1))
keep("rgb8-tiled.tif", tiff(c8, 2, 8, tile=16, compression=8, predictor=2))
keep("rgba8-tiled.tif", tiff(a8, 2, 8, tile=16, extra=2))
keep("rgb16-tiled.tif", tiff(c16, 2, 16, tile=16), high(c16, 16))
keep("rgb8-planar.tif", tiff(c8, 2, 8, planar=2))
keep("rgb8-planar-strips.tif", tiff(c8, 2, 8, planar=2, rows=2))
keep("rgb8-planar-deflate.tif", tiff(c8, 2, 8, planar=2, compression=8, predictor=2))
keep("gray8-planar.tif", tiff(g8, 1, 8, planar=2), values=ones(g8))
keep("gray1-fill2.tif", tiff(g1, 1, 1, fill=2))
keep("gray8-fill2.tif", tiff(g8, 1, 8, fill=2))
keep("rgba8-premultiplied.tif", tiff([[v * p[3] // 255 for v in p[:3]] + p[3:] for p in a8], 2, 8, extra=1))
keep("rgba16-premultiplied.tif", tiff([[v * p[3] // 65535 for v in p[:3]] + p[3:] for p in a16], 2, 16, extra=1), bytes(w * h * 3))
keep("rgba8-unspecified.tif", tiff(a8, 2, 8, extra=0))
keep("rgba8-no-extra.tif", tiff(a8, 2, 8))
keep("cmyk.tif", tiff(a8, 5, 8))
keep("ycbcr.tif", tiff(c8, 6, 8))
keep("lab.tif", tiff(c8, 8, 8))
keep("gray-alpha.tif", tiff(numbers(2, 8), 1, 8, extra=2))
keep("gray-alpha-one-bits.tif", tiff(numbers(2, 8), 1, 8, extra=2, says={258: [8]}))
keep("rgb8-one-bits.tif", tiff(c8, 2, 8, says={258: [8]}))
keep("signed8.tif", tiff(g8, 1, 8, fmt=2), bytes(w * h * 3))
keep("signed16.tif", tiff(g16, 1, 16, fmt=2), bytes(w * h * 3))
keep("unsigned8.tif", tiff(g8, 1, 8, fmt=1), values=ones(g8))
keep("void8.tif", tiff(g8, 1, 8, fmt=4), bytes(w * h * 3))
keep("float32.tif", tiff(numbers(1, 32), 1, 32, fmt=3), bytes(w * h * 3))
keep("gray32.tif", tiff(numbers(1, 32), 1, 32), bytes(w * h * 3))
keep("float-predictor.tif", tiff(g16, 1, 16, compression=8, predictor=3), bytes(w * h * 3))
for bits, s in ((1, g1), (4, g4), (8, g8)):
    keep(f"palette{bits}.tif", tiff(s, 3, bits, colormap=[rng.randrange(65536) for _ in range(3 << bits)]), values=ones(s))
keep("palette8-tiled.tif", tiff(g8, 3, 8, tile=16, compression=8, colormap=[rng.randrange(65536) for _ in range(3 << 8)]), values=ones(g8))
keep("palette16.tif", tiff(g16, 3, 16, colormap=[rng.randrange(65536) for _ in range(3 << 8)]))
keep("turned.tif", tiff(g8, 1, 8, orientation=6))
keep("turned-xmp.tif", tiff(g8, 1, 8, xmp=xmp % 6))
keep("turned-tiled.tif", tiff(c8, 2, 8, ">", tile=16, orientation=7))
keep("lzw-gray8.tif", saved(gray8, format="TIFF", compression="tiff_lzw"), values=list(gray8.getdata()))
keep("lzw-rgb8-predictor.tif", saved(rgb8, format="TIFF", compression="tiff_lzw", tiffinfo={317: 2}))
for compression in ("group3", "group4", "tiff_ccitt"):
    keep(f"{compression}.tif", saved(bilevel, format="TIFF", compression=compression), values=binary)
keep("packbits1.tif", saved(bilevel, format="TIFF", compression="packbits"), values=binary)
keep("jpeg.tif", saved(color, format="TIFF", compression="jpeg"))
keep("zstd.tif", tiff(g8, 1, 8, says={259: [50000]}))
keep("pages.tif", saved(gray8, format="TIFF", save_all=True, append_images=[gray8.rotate(180)]), values=list(gray8.getdata()), pages=2)
keep("bigtiff.tif", saved(gray8, format="TIFF", big_tiff=True))

with open(os.path.join(here, "forms.json"), "w") as f:
    f.write('{"pillow": "%s", "forms": {\n' % PIL.__version__)
    f.write(",\n".join(json.dumps(n) + ": " + json.dumps(v, separators=(",", ":")) for n, v in forms.items()))
    f.write("\n}}\n")
print(len(forms), "forms")
