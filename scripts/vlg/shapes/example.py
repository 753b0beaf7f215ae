"""Scenes of which a sentence is true."""

from __future__ import annotations

import random

from vlg.errors import UserError
from vlg.shapes.captions import Meaning, sentence
from vlg.shapes.world import BACKGROUNDS, COLOURS, RELATIONS, SIZES, Scene, Thing, _place


def example(said: Meaning, rng: random.Random) -> Scene:
    """A random scene that shows what is said; what is not said is drawn at random.

    UserError for what the world has no scene of: two kinds of things of which there are several,
    and three large things.
    """
    claims = [claim for claim in said.claims for _ in range(claim.number)]
    large = [claim for claim in claims if claim.size == "large"]
    if len(said.claims) == 2 and len(claims) > 2 or len(large) > 2:
        raise UserError(f"prompt {sentence(said)!r}: has no scene in this world; take it out")
    pair, several = len(said.claims) == 2, len(said.claims) < len(claims)
    # Things of one claim are alike, and three are small.
    kinds = {
        claim: (
            claim.shape,
            claim.colour or rng.choice(list(COLOURS)),
            claim.size or ("small" if claim.number == 3 else rng.choice(list(SIZES))),
        )
        for claim in said.claims
    }
    relation = said.relation or (rng.choice(RELATIONS) if pair else "")
    things = [kinds[claim] for claim in claims]
    background = said.background or rng.choice(list(BACKGROUNDS))
    centres = _place(rng, [(shape, size) for shape, _, size in things], relation)
    return Scene(
        "pair" if pair else "count" if several else "single",
        background,
        tuple(Thing(*thing, *centre) for thing, centre in zip(things, centres, strict=True)),
        relation,
    )
