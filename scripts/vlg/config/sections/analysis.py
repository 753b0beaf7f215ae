"""Statistics of the tables, and published figures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vlg.config.keys import Keys
from vlg.config.sections.types import ModelName, RoundNumber


class Statistics(Keys):
    """Intervals of the tables."""

    draws: int = Field(
        10000,
        ge=1,
        description="Bootstrap draws.",
    )
    confidence: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="Confidence of intervals.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**32 - 1,
        description="Seed of the bootstrap.",
    )
    correction: Literal["max_t", "holm"] = Field(
        "max_t",
        description="How p values of a family are corrected: step-down max-T on the bootstrap's "
        "draws, which counts comparisons that rise and fall together as few, or Holm.",
    )
    # One picture in a hundred made right: right and wrong ones differ by some 20 ClipScores in the
    # shapes world. It is half of what the published study gained.
    smallest_clipscore: float = Field(
        0.2,
        ge=0,
        description="Smallest difference in ClipScore worth having, to be set before the run. "
        "Claims state the probability that the effect is larger.",
    )
    smallest_fidelity: float = Field(
        1.0,
        ge=0,
        le=100,
        description="The same for differences in fidelity, in per cent of the facts.",
    )


class Published(Keys):
    """Published mean ClipScores (100·cos) that stand beside ours in the column `published`."""

    finetune: dict[ModelName, float] = Field(
        {},
        description="By model, `base` or `<variant>-<step>`, on the study prompts.",
    )
    refinement: dict[RoundNumber, float] = Field(
        {},
        description="By round (0, 1, …), on the study prompts.",
    )
    hard_prompts: dict[ModelName, float] = Field(
        {},
        description="By model, `base` or `<variant>-<step>`, on the hard prompts.",
    )
