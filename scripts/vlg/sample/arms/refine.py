"""Keep-best SDEdit: noise is added to the picture so far and removed under its prompt."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vlg.config import sections


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
