"""A fresh sample in each round; the guide keeps the best so far."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vlg.config import sections


class Settings(sections.ArmKeys):
    """Fixed: a sample that is not fresh, or not chosen, is another kind of arm."""

    strength: float = Field(1.0, ge=1, le=1, description="Share of the noise: all of it.")
    accept: Literal["best"] = Field("best", description="The guide keeps the best.")
