"""The base's own pictures, each of another prompt: as bad as it can draw without trying to fail."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from vlg.data import pictures
from vlg.sample.reference import Given

BOUND = "floor"
WORDS = "base's pictures, each of another prompt"
NEEDS = ("prompts", "pictures")
TRUTH = False


def draw(given: Given) -> Iterator[np.ndarray]:
    found = {(row["id"], row["seed"]): (folder, row) for folder, row in given.sources}
    other = {}
    for seed in dict.fromkeys(each.seed for each in given.wanted):
        order = [each.id for each in given.wanted if each.seed == seed]
        random.Random(f"shuffled {seed}").shuffle(order)
        # Each takes the picture of the next in a circle, so none keeps its own.
        other |= {(name, seed): order[place - 1] for place, name in enumerate(order)}
    for each in given.wanted:
        yield pictures.load_checked(*found[other[each.id, each.seed], each.seed])
