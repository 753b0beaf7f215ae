"""Embed fine-tuning: the denoising loss and the guide's term on the one-step estimate."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vlg.config import sections
from vlg.config.keys import NEUTRAL, disagree, short

Timestep = Annotated[int, Field(ge=0, le=999)]


class Settings(sections.Training):
    """What the guide looks at, when, and how much that counts."""

    guide_scale: float = Field(
        0.05,
        ge=0,
        json_schema_extra=short("gs"),
        description=(
            "Weight of the guide's term, 1 − cos between picture and `target`. Where a variant "
            "names no `method`, 0 is normal fine-tuning and anything above is this one."
        ),
    )
    window: tuple[Timestep, Timestep] = Field(
        (0, 600),
        json_schema_extra=short("w"),
        description=(
            "Timesteps [low, high], both included, in which the guide's term counts, of the "
            "scheduler's 0 (clean) to 999 (noise)."
        ),
    )
    weighting: Literal["abar", "sqrt_abar", "uniform"] = Field(
        "abar",
        json_schema_extra=NEUTRAL | short(""),
        description=(
            "Weight of the guide's term inside the window, by ᾱ_t, the share of the picture "
            "in what the UNet sees: `abar` (ᾱ_t), `sqrt_abar` (its root) or `uniform` (1)."
        ),
    )
    target: Literal["text", "image", "mix"] = Field(
        "text",
        json_schema_extra=short(""),
        description=(
            "What the guide compares the picture with: the caption (`text`), the training "
            "picture (`image`), or the mean of both (`mix`)."
        ),
    )
    decoder: str | None = Field(
        None,
        min_length=1,
        json_schema_extra=NEUTRAL,
        description=(
            "A folder of an `AutoencoderTiny` (TAESD) through which the guide's gradient goes "
            "instead of the base's own decoder, which is 40 times larger in Stable Diffusion; "
            "null takes the base's own."
        ),
    )

    @model_validator(mode="after")
    def _window_rises(self) -> Self:
        low, high = self.window
        if low >= high:
            raise disagree(
                "window",
                f"must be [low, high] with low below high, got [{low}, {high}]",
                f"write [{high}, {low}]" if low > high else "widen it, or set guide_scale to 0",
            )
        return self
