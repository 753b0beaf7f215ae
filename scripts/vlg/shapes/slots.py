"""What a caption says, as classes that a head can be asked for: which thing is where.

Who learns by these that words bind, and to which side of a relation, learns it in seconds; from
pictures and noise alone it is learned last, or never. The heads are thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from vlg.shapes.captions import Meaning
from vlg.shapes.world import BACKGROUNDS, COLOURS, SHAPES, SIZES

# The places of things, in a relation and without one, and what is asked of each.
SIDES = {"left of": ("left", "right"), "above": ("above", "below")}
SIDES |= {"right of": SIDES["left of"][::-1], "below": SIDES["above"][::-1]}
PLACES = ("only", "left", "right", "above", "below")
ASKED = (tuple(SHAPES), tuple(COLOURS), tuple(SIZES))
MOST = 3  # things alike
CLASSES = [len(each) for _ in PLACES for each in ASKED] + [MOST, len(BACKGROUNDS)]
BOUND = [len(each) for _ in SHAPES for each in ASKED[1:]]  # further classes: colour, size by shape
UNTOLD = -100  # class of what is not said, which no head is asked for


def classes(said: Meaning) -> list[int]:
    """The class of each of CLASSES: shape, colour and size by place, number, background."""
    found = {}
    if len(said.claims) == 1:
        found["only"] = said.claims[0]
    elif said.relation:
        found = dict(zip(SIDES[said.relation], said.claims, strict=True))
    answers = []
    for place in PLACES:
        claim = found.get(place)
        told = (claim.shape, claim.colour, claim.size) if claim else (None,) * len(ASKED)
        answers += [
            UNTOLD if each is None else known.index(each)
            for each, known in zip(told, ASKED, strict=True)
        ]
    answers.append(found["only"].number - 1 if "only" in found else UNTOLD)
    answers.append(UNTOLD if said.background is None else list(BACKGROUNDS).index(said.background))
    return answers


def bound(said: Meaning) -> list[int]:
    """The class of each of BOUND: colour and size of the things of each shape, where one kind of
    thing alone has it. Of two things without a relation only these say which of them is red."""
    answers = []
    for shape in SHAPES:
        alike = [claim for claim in said.claims if claim.shape == shape]
        told = (alike[0].colour, alike[0].size) if len(alike) == 1 else (None, None)
        answers += [
            UNTOLD if each is None else known.index(each)
            for each, known in zip(told, ASKED[1:], strict=True)
        ]
    return answers


class Heads(torch.nn.Module):
    """A linear head for each of CLASSES, of vectors (n, width).

    binds: whether for each of BOUND, too. untold: whether what is not said is a class, too. A text
    that says nothing of the left is then told from one that does, without which nobody knows
    whether a relation lies across or along.
    """

    def __init__(self, width: int, untold: bool = False, binds: bool = False) -> None:
        super().__init__()
        self.untold, self.binds = untold, binds
        self.asked = CLASSES + BOUND * binds
        self.classes = [number + untold for number in self.asked]
        self.linear = torch.nn.Linear(width, sum(self.classes))

    def loss(self, vectors: torch.Tensor, said: Sequence[Meaning]) -> torch.Tensor:
        """Cross entropies summed over the heads, each the mean of those who say something of it."""
        wanted = torch.tensor([classes(each) + bound(each) * self.binds for each in said]).T
        if self.untold:
            last = torch.tensor(self.asked)[:, None]
            wanted = torch.where(wanted == UNTOLD, last, wanted)
        asked = zip(self.linear(vectors).split(self.classes, dim=1), wanted, strict=True)
        return sum(
            F.cross_entropy(each, of, ignore_index=UNTOLD) for each, of in asked if (of >= 0).any()
        )
