"""Writes split.json: 47 names divided as the original project does it.

    python3 core/data/testdata/make_split.py

Run from the root of the repository, with any Python 3. This is our own code,
from the description of the original's split.
"""

import json
import pathlib
import random


def split(names, seed, fraction):
    names = sorted(names)
    random.seed(seed)
    random.shuffle(names)
    names = names[: int(len(names) * fraction)]
    test, val = int(0.1 * len(names)), int(0.2 * len(names))
    train = len(names) - val - test
    return names[:train], names[train : train + val], names[train + val :]


names = [f"{kind}_{i}.jpg" for kind in ("Abyssinian", "Bengal", "american_bulldog", "beagle") for i in range(1, 13)][:-1]
cases = []
for seed in (10, 123):
    for fraction in (0.25, 0.5, 0.75, 1):
        train, val, test = split(names, seed, fraction)
        cases.append({"seed": seed, "fraction": fraction, "train": sorted(train), "val": sorted(val), "test": sorted(test)})

# The sizes for the 7,390 images of Oxford-IIIT Pet.
sizes = [[fraction] + [len(p) for p in split(map(str, range(7390)), 10, fraction)] for fraction in (0.25, 0.5, 0.75, 1)]

out = pathlib.Path(__file__).resolve().parent / "split.json"
out.write_text(json.dumps({"names": names, "cases": cases, "sizes": sizes}, indent=None, separators=(",", ":")).replace("{", "\n{") + "\n")
