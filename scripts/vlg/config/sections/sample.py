"""Drawing, redrawing in arms, hard prompts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vlg.config.keys import NEUTRAL, Keys
from vlg.config.sections.types import Name, Once, Precision


class Denoising(Keys):
    """How noise becomes a picture."""

    steps: int = Field(
        10,
        ge=1,
        le=1000,
        description="Denoising steps per picture.",
    )
    guidance_scale: float = Field(
        2.5,
        ge=1,
        description=(
            "Classifier-free guidance; 1 is none, and anything above costs two UNet calls a step. "
            "Stable Diffusion's usual one is 7.5; in the shapes world more than 2.5 draws three "
            "things less often where three are asked for. A network into which guidance was "
            "distilled (FLUX.1 dev) is told the number in its place, at one call a step; FLUX.1 "
            "schnell is told none, and another than 1 is refused."
        ),
    )
    scheduler: Literal["ddim", "dpm++"] = Field(
        "dpm++",
        description="Sampler; `dpm++` (2M) needs about half the steps of `ddim`.",
    )


class Sampling(Denoising):
    """How a picture is drawn."""

    precision: Precision = Field(
        "fp32",
        description=(
            "Of drawing and refining. `fp16` and `bf16` compute with 16 bits on a GPU's "
            "tensor cores and take half the memory; `tf32` keeps float32 and rounds what is "
            "multiplied. On a CPU `fp32`."
        ),
    )
    vae_tiling: bool = Field(
        False,
        description=(
            "Decode pictures in overlapping tiles of half the side, for cards with little "
            "memory; the blended seams change pictures slightly."
        ),
    )


class Generate(Sampling):
    """Drawing pictures."""

    batch_size: int = Field(
        40,
        ge=1,
        description=(
            "Pictures drawn at once; a batch that doesn't fit into memory is halved until it does."
        ),
    )
    shard_size: int = Field(
        500,
        ge=1,
        description="Pictures per job.",
    )


# Keys of an arm from which the workflow lays out jobs, and which no job is told.
OF_THE_PLAN = ("rounds", "models", "guide")


class ArmKeys(Keys):
    """Keys of every arm of refinement; `Settings` of an arm's kind is a subclass with its own."""

    rounds: int | None = Field(
        None,
        ge=1,
        json_schema_extra=NEUTRAL,
        description=(
            "Its own number; null: 1 for a kind that draws once, `refine.rounds` for one that goes "
            "on from what it has. In each further round of the former there is other noise, and "
            "the guide keeps the best."
        ),
    )
    models: Annotated[list[str], Once] | None = Field(
        None,
        json_schema_extra=NEUTRAL,
        description="Models that it draws with; null: `refine.models`.",
    )
    guide: str | None = Field(
        None,
        min_length=1,
        json_schema_extra=NEUTRAL,
        description="Whom it follows, an entry of `guides`; null: `models.guide`.",
    )

    def lacks(self, steps: int) -> tuple[str, str, str] | None:
        """(key, what is wrong, remedy) of an arm that cannot draw with so many sampling steps."""
        return None

    def handed_on(self) -> dict[str, Any]:
        """What a round depends on: not how many there are, nor which models have it; the guide
        is an input."""
        values = super().handed_on()
        return {name: value for name, value in values.items() if name not in OF_THE_PLAN}


class OneRound(ArmKeys):
    """The same of an arm in which nothing chooses between rounds."""

    rounds: int | None = Field(
        None, ge=1, le=1, json_schema_extra=NEUTRAL, description="One: nothing chooses."
    )


class Refine(Keys):
    """Iterative refinement and its controls: in each round every picture is drawn anew, from noise
    on the best so far, and the guide says which is kept.
    """

    models: Annotated[list[str], Once] = Field(
        ["base"],
        description=(
            "Models to refine: `base`, `<variant>-<step>` (each of its trainings) or an entry "
            "of `models.compare`; an empty list refines none."
        ),
    )
    rounds: int = Field(
        6,
        ge=0,
        description="Number of rounds; 0 switches refinement off.",
    )
    arms: dict[Name, dict[str, Any]] = Field(
        {"refine": {}, "best_of_n": {}},
        min_length=1,
        description=(
            "Ways to refine, compared with each other, each with the keys of its `kind`. The kind "
            "is the arm's name where that is one, and otherwise `refine`; `null` removes an arm in "
            "an overlay."
        ),
    )


class Hard(Keys):
    """Hard prompts: those the base model scores lowest on, chosen from the pool on the selection
    seeds.
    """

    count: int = Field(
        50,
        ge=1,
        description="At most this many, the lowest first.",
    )
    threshold: float = Field(
        90.0,
        ge=-100,
        le=100,
        description="Only prompts whose mean ClipScore (100·cos) is below this.",
    )
