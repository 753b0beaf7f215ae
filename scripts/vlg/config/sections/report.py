"""What people look at."""

from __future__ import annotations

from pydantic import Field

from vlg.config.keys import Keys


class Gallery(Keys):
    """The gallery page."""

    prompts: int = Field(
        60,
        ge=1,
        description="At most this many prompts are shown, hard ones first.",
    )
