"""Scoring, and further judges."""

from __future__ import annotations

from pydantic import Field

from vlg.config.keys import NEUTRAL, Keys
from vlg.config.sections.types import Precision


class Score(Keys):
    """Scoring by judge and guide."""

    precision: Precision = Field(
        "fp32",
        description=(
            "Of the judge; anything but `fp32` moves scores a little. The guide runs in "
            "float32, what it multiplies being rounded to TF32 unless this is `fp32`."
        ),
    )
    batch_size: int = Field(
        64,
        ge=1,
        description=(
            "Pictures scored at once; a batch that doesn't fit into memory is halved until it does."
        ),
    )
    diversity: bool = Field(
        False,
        description=(
            "Make the table `diversity`: how far a model's pictures of a prompt are from each "
            "other and from base's, in the judge's embedding."
        ),
    )


class JudgeKeys(Keys):
    """Keys of every further judge; `Settings` of a kind is a subclass with its own."""

    kind: str = Field("clip", description="What it judges by.")
    source: str = Field(
        min_length=1,
        description=(
            "The folder of its model, or `hub:owner/name[@revision]`; for `vqa` and `questions` "
            "also `shapes`, which answers questions about that world; for `callable` "
            "`module.function`, the module a file below the folder in which Snakemake runs. The "
            "function gets pictures, a list of (height, width, 3) uint8 arrays, and a list of as "
            "many prompts, and returns as many numbers, the higher the better."
        ),
    )


class ModelJudgeKeys(JudgeKeys):
    """Those of a judge whose model can compute in 16 bits."""

    precision: Precision = Field(
        "fp32",
        description=(
            "Of its model, on every device; `bf16` and `fp16` halve its memory and move scores a "
            "little."
        ),
        json_schema_extra=NEUTRAL,
    )
