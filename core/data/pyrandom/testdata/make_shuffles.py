"""Writes shuffles.json, what CPython makes of random.seed and random.shuffle.

    python3 core/data/pyrandom/testdata/make_shuffles.py

Run from the root of the repository, with any Python 3.
"""

import hashlib
import json
import pathlib
import random

cases = []
for seed, n in [
    (0, 1), (0, 2), (1, 10), (10, 10), (20, 33), (30, 64), (42, 65), (123, 100),
    (2**32 - 1, 20), (2**32, 20), (2**63 + 5, 20), (2**64 - 1, 1000),
    (10, 7390), (20, 7390), (30, 7390), (42, 7390), (123, 7390),
]:
    random.seed(seed)
    order = list(range(n))
    random.shuffle(order)
    again = list(range(n))
    random.shuffle(again)  # goes on with the same generator
    text = " ".join(map(str, order + again))
    case = {"seed": str(seed), "n": n, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    if n <= 100:
        case["order"] = order
    cases.append(case)

out = pathlib.Path(__file__).resolve().parent / "shuffles.json"
out.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
