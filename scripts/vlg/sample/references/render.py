"""Perfect pictures of the prompts: scenes of which they are true, another one for each seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from vlg.errors import UserError
from vlg.sample.reference import Given

BOUND = "ceiling"
WORDS = "perfect pictures of the prompts"
NEEDS = ("prompts",)
TRUTH = True


def draw(given: Given) -> Iterator[np.ndarray]:
    from vlg.shapes.captions import parse
    from vlg.shapes.example import example
    from vlg.shapes.world import render

    for each in given.wanted:
        said = parse(each.prompt)
        if said is None:
            raise UserError(f"prompt {each.id}: is none of the shapes world's; rerun `prompts`")
        yield render(example(said, random.Random(f"render {each.seed} {each.prompt}")))
