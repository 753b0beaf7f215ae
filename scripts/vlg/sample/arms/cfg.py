"""Another scale of classifier-free guidance (arXiv:2207.12598): a control that no guide sees.

Pictures begin from the noise of the plain ones. A way to guide that gains less than a better scale
does is no gain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from vlg.config import sections
from vlg.sample.arm import Arm, Before, Drawn

if TYPE_CHECKING:
    from vlg.models.guide import Guide
    from vlg.sample.sampler import Sampler

NEEDS = ()
ROUNDS = 1
DOSE = ("guidance_scale", 7.5)


class Settings(sections.OneRound):
    """How far the prediction is led away from that without a text."""

    guidance_scale: float = Field(
        7.5,
        ge=1,
        description="In place of `generate.guidance_scale`; 7.5 is Stable Diffusion's usual one.",
    )


class Cfg(Arm):
    """Plain drawing but for the scale."""

    settings: Settings

    def draw(self, sampler: Sampler, guide: Guide | None, before: Before) -> Drawn:
        other = {"guidance_scale": self.settings.guidance_scale}
        settings = sampler.settings.model_copy(update=other)
        return Drawn(sampler.draw(before.texts, before.seeds, before.noise, settings))
