#!/usr/bin/env python3
"""Chooses this subset from the full set: python3 select.py FULL_SET .

Of every split it takes the pairs whose names have the smallest SHA-256, so the
choice follows neither the order of the names nor anybody's taste.
"""

import hashlib
import pathlib
import shutil
import sys

COUNTS = {"fluorescence/train": 128, "fluorescence/val": 40, "fluorescence/test": 60, "histology/test": 40}

source, target = map(pathlib.Path, sys.argv[1:])
for split, count in COUNTS.items():
    stems = sorted((p.stem for p in (source / split / "images").glob("*.jpg")),
                   key=lambda s: hashlib.sha256(s.encode()).hexdigest())
    for stem in stems[:count]:
        for name in (f"images/{stem}.jpg", f"masks/{stem}.png"):
            (target / split / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / split / name, target / split / name)
