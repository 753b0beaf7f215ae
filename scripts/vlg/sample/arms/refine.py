"""Iterative refinement: a keep-best SDEdit loop (arXiv:2108.01073).

Each round noises what stands to `strength` of the schedule and denoises it under its prompt, with
noise of its own for (prompt, seed, round); the guide says whether the new picture is kept. The
judge takes no part. With strength 1 a round is a fresh sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vlg.config import sections
from vlg.sample.arm import Arm, Before, Drawn, keep

if TYPE_CHECKING:
    from vlg.models.guide import Guide
    from vlg.sample.sampler import Sampler

NEEDS = ("guide", "pictures")
DOSE = ("rounds", 6)
BLACK_BOX = True


class Settings(sections.ArmKeys):
    """How much is drawn anew, and when that is kept."""

    strength: float = Field(
        0.5, gt=0, le=1, description="Share of the noise that is added anew; 1 is a fresh sample."
    )
    accept: Literal["best", "always"] = Field(
        "best",
        description=(
            "`best` keeps a picture only when the guide prefers it to the one before, `always` "
            "keeps every new one."
        ),
    )

    def lacks(self, steps: int) -> tuple[str, str, str] | None:
        if int(steps * self.strength) >= 1:
            return None
        what = f"is {self.strength:g} of generate.steps: {steps}, which is no step"
        return "strength", what, f"raise it to {1 / steps:g} or more"


class Refine(Arm):
    """SDEdit with a guide that chooses."""

    settings: Settings

    def draw(self, sampler: Sampler, guide: Guide, before: Before) -> Drawn:
        from vlg.models.cosines import guide_scores

        texts, seeds, strength = before.texts, before.seeds, self.settings.strength
        if strength == 1:
            images = sampler.draw(texts, seeds, before.purpose)
        else:
            images = sampler.redraw(before.images, texts, seeds, strength, before.purpose)
        scores = guide_scores(guide, images, texts)
        return keep(before, images, scores, always=self.settings.accept == "always")
