"""Statistics of the tables, and published figures."""

from __future__ import annotations

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
