"""The study's base draws the first steps and the fine-tuned model the last ones.

Combined generation (arXiv:2505.22569): what a picture shows is settled early, by the model whose
pictures differ most among each other, and the tuned one finishes it. Nothing chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vlg.config import sections
from vlg.sample.arm import Arm, Before, Drawn

if TYPE_CHECKING:
    from vlg.models.family import Step
    from vlg.models.guide import Guide
    from vlg.sample.sampler import Sampler

NEEDS = ("base",)
ROUNDS = 1
DOSE = ("switch", 0.8)


class Settings(sections.OneRound):
    """Where one hands over to the other."""

    switch: sections.Share = Field(
        0.8,
        description=(
            "Share of the steps that the base draws, from noise on: 0.8 is 32 of the 40 steps of "
            "the paper's released settings, which try 0.5 to 0.95 too; 0 is the tuned model "
            "alone, 1 the base."
        ),
    )


class Combined(Arm):
    """One path from the noise of plain pictures, on which the network changes."""

    settings: Settings

    def draw(self, sampler: Sampler, guide: Guide | None, before: Before) -> Drawn:
        first = round(self.settings.switch * sampler.settings.steps)
        tuned, base = sampler.family.net, sampler.base.net

        def steer(texts: list[str], seeds: list[int]) -> Mapping[str, Any]:
            def on_step(step: Step) -> None:
                step.net = base if step.index + 1 < first else tuned

            return {"net": base if first else tuned, "on_step": on_step}

        return Drawn(sampler.draw(before.texts, before.seeds, before.noise, steer=steer))
