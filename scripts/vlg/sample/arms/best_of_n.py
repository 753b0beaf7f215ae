"""Best of N: in each round a fresh sample, which is kept if the guide prefers it.

After r rounds a picture is the best of r + 1 samples; the control of every arm that costs as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vlg.config import sections
from vlg.config.keys import NEUTRAL
from vlg.sample.arm import Arm, Before, Drawn, choose

if TYPE_CHECKING:
    from vlg.models.guide import Guide
    from vlg.sample.sampler import Sampler

NEEDS = ("guide", "pictures")
DOSE = ("rounds", None)


class Settings(sections.ArmKeys):
    """Fixed: a sample that is not fresh, or not chosen, is another kind of arm.

    Configs written before arms had kinds give both.
    """

    strength: float = Field(
        1.0, ge=1, le=1, json_schema_extra=NEUTRAL, description="Share of the noise: all of it."
    )
    accept: Literal["best"] = Field(
        "best", json_schema_extra=NEUTRAL, description="The guide keeps the best."
    )


class BestOfN(Arm):
    """Fresh samples among which a guide chooses."""

    settings: Settings

    def draw(self, sampler: Sampler, guide: Guide, before: Before) -> Drawn:
        images = sampler.draw(before.texts, before.seeds, before.purpose)
        return choose(guide, before, images)
