"""How often does a table see a gain where there is none? The study's own scores, signs flipped.

Each prompt's differences to base, of all models, seeds, trainings and measures at once, keep their
sign or lose it by a coin. What is left has the study's own skew, ties, zeros and likeness of rows,
and no effect, so each table that still says "seen" is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vlg import plugins
from vlg.analysis.scores import Key
from vlg.analysis.study import BASE, MEASURES, Study
from vlg.judge.columns import FACTS

# Tables with the column gain_seen_by.
TABLES = ("finetune", "refinement", "equal_compute", "hard_prompts", "by_category")
TABLES += ("by_challenge", "by_split", "by_length", "by_fact")
SEEN = ("judge and facts", "judge only", "facts only")


@dataclass
class Flipped(Study):
    """A study with the differences to base multiplied by the signs of their prompts."""

    signs: Mapping[str, float] = field(default_factory=dict)

    def values(
        self, keys: Sequence[Key], ids: Sequence[str], seeds: Sequence[int], measures: Sequence[str]
    ) -> np.ndarray:
        values = super().values(keys, ids, seeds, measures)
        base = super().values([BASE], ids, seeds, measures)
        signs = np.array([self.signs[name] for name in ids])[:, None, None, None]
        flipped = base + signs * (values - base)
        judged = [name in (*MEASURES, *FACTS) for name in measures]  # costs stay
        return np.where(judged, flipped, values)


def seen(study: Study, name: str, times: int, seed: int = 0) -> float:
    """Share of `times` null tables of this name in which at least one row says that a gain is
    seen, after correction."""
    build = plugins.load(plugins.TABLES, name).build
    rng = np.random.default_rng(seed)
    parts = {own.name: getattr(study, own.name) for own in dataclasses.fields(study)}
    wrong = 0
    for _ in range(times):
        coins = rng.choice([-1.0, 1.0], len(study.prompts))
        flipped = Flipped(**parts, signs=dict(zip(study.prompts["id"], coins, strict=True)))
        flipped.__dict__["grids"] = study.grids  # read once
        wrong += build(flipped).frame["gain_seen_by"].isin(SEEN).any()
    return wrong / times
