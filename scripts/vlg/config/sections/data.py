"""Prompts, pictures, the encoded cache, and the seeds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vlg.config.keys import NEUTRAL, Keys, disagree
from vlg.config.patterns import COLOUR, SHA256
from vlg.config.sections.types import Precision, Resolution, Seed, SeedList, Words


class Prompts(Keys):
    """The prompts that are drawn and reported."""

    source: str = Field(
        "shapes",
        min_length=1,
        description=(
            "`shapes` (the prompts of the shapes world), a benchmark by its name (below), a file "
            "(`.tsv` as PartiPrompts is published, `.csv`, or `.txt` with one prompt a line), or a "
            "Hub data set (`hub:owner/name`) with one of the first two, or parquet; it needs "
            "`pool`."
        ),
    )
    sha256: Annotated[str, Field(pattern=SHA256)] | None = Field(
        None,
        description="SHA-256 that the prompt file must have; null takes it as it is.",
    )
    category: Words | None = Field(
        None,
        description="Keep only prompts of these categories; null keeps all.",
    )
    challenge: Words | None = Field(
        None,
        description="Keep only prompts of these challenges; null keeps all.",
    )
    seed: int = Field(
        0,
        ge=0,
        description=(
            "Which prompts the shapes world makes. Development prompts have meanings of their own, "
            "whatever this is."
        ),
    )
    order: Literal["first", "stratified"] = Field(
        "first",
        description=(
            "Which prompts come first: `first` keeps the order of the source, `stratified` "
            "mixes it so that every beginning has each category and challenge in proportion."
        ),
    )
    study: int = Field(
        160,
        ge=1,
        description="Number of prompts reported, from the beginning.",
    )
    pool: int | None = Field(
        None,
        ge=1,
        description=(
            "Number of prompts, from the beginning, among which the hard ones are found; null "
            "means all. At least `prompts.study`. Of a benchmark it must be given where "
            "`challenge` is."
        ),
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.pool is not None and self.study > self.pool:
            raise disagree(
                "pool",
                f"must be at least prompts.study ({self.study}), got {self.pool}",
                "raise it, or null for all",
            )
        return self


class Dataset(Keys):
    """The captioned pictures of fine-tuning."""

    source: str = Field(
        "shapes",
        min_length=1,
        description=(
            "`shapes` (drawn), a folder of pictures with captions (`metadata.jsonl` or "
            "`metadata.csv`, in it or in a folder for each split, or `.txt` or `.caption` "
            "files), parquet with pictures inside or beside it (a file or a folder), or a Hub "
            "data set (`hub:owner/name`) of either kind, but for the caption files."
        ),
    )
    split: str = Field(
        "train",
        min_length=1,
        description="The part of a data set whose parquet files or folders name it.",
    )
    picture: str | None = Field(
        None,
        min_length=1,
        description=(
            "Parquet column of the pictures or of their paths; null finds `image` and other "
            "usual names."
        ),
    )
    captions: Words | None = Field(
        None,
        description=(
            "Columns of the captions; one of a picture's captions is drawn each time it is "
            "trained on. null finds `text`, `caption`, `captions`, or all of `caption_0`, "
            "`caption_1` and so on."
        ),
    )
    smallest: int = Field(
        16,
        ge=1,
        description=(
            "Pictures whose shorter side has fewer pixels are skipped, and counted in "
            "`dataset/report.json`."
        ),
    )
    background: Annotated[str, Field(pattern=COLOUR)] = Field(
        "white",
        description=(
            "Colour behind pictures that are transparent somewhere: `white`, `black` or "
            "`#rrggbb` (in quotes). What is hidden under transparency is never trained on."
        ),
    )
    resolution: Resolution = Field(
        None,
        description=(
            "Side in pixels at which pictures are encoded: the shorter side is resized to it "
            "and the middle cut out. A multiple of 8; null takes the base model's own."
        ),
    )
    size: int | None = Field(
        4000,
        ge=1,
        description=(
            "Number of pictures; null takes all of a source. Of a larger one a fixed subset "
            "is taken, and no more is downloaded than holds it."
        ),
    )
    seed: int = Field(
        0,
        ge=0,
        description="Which pictures the shapes world draws.",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.source == "shapes" and self.size is None:
            default = type(self).model_fields["size"].default
            raise disagree("size", "the shapes world has no end", f"the default is {default}")
        return self

    def handed_on(self) -> dict[str, Any]:
        """The values that draw pictures, or that gather them from what has captions."""
        if self.source == "shapes":
            names = {"source", "size", "seed"}
        else:
            names = {"source", "size", "split", "picture", "captions", "smallest", "background"}
        return self.model_dump(include=names)


class DevelopmentPrompts(Keys):
    """Prompts that settings may be chosen on."""

    count: int = Field(
        8,
        ge=0,
        description="Number of prompts; 0 draws none.",
    )
    prompts: Words | None = Field(
        None,
        description=(
            "The prompts themselves; null makes new ones in the shapes world, and takes "
            "captions of held-out pictures in any other."
        ),
    )


class Development(DevelopmentPrompts):
    """Prompts that settings may be chosen on: each checkpoint draws them while it is in memory,
    and sweeps are ranked by them. None is among the study's prompts.
    """

    seeds: SeedList = Field(
        [0],
        description="Seeds that each of them is drawn with.",
    )


class DevelopmentStep(DevelopmentPrompts):
    """What the step gets that writes them."""

    seed: int = Field(
        0, ge=0, description="`prompts.seed`: which prompts of the shapes world are reported."
    )


class Encoding(Keys):
    """How pictures become latents."""

    flip: bool = Field(
        False,
        json_schema_extra=NEUTRAL,
        description=(
            "Mirror half of the pictures at random. Not for captions that say left or right."
        ),
    )
    dtype: Literal["float32", "float16"] = Field(
        "float32",
        json_schema_extra=NEUTRAL,
        description="Type of the stored numbers; `float16` halves the files.",
    )
    precision: Precision = Field(
        "fp32",
        json_schema_extra=NEUTRAL,
        description=(
            "Of the text encoders; in `bf16` and `fp16` they take half the memory. Pictures are "
            "encoded in float32 before them."
        ),
    )


class Encode(Encoding):
    """How pictures become latents, for fine-tuning from the cache and without it."""

    batch_size: int = Field(
        32,
        ge=1,
        description="Pictures encoded at once.",
    )


class EncodeStep(Encoding):
    """What the step gets that encodes."""

    resolution: Resolution = Field(
        None, json_schema_extra=NEUTRAL, description="`dataset.resolution`."
    )


class Seeds(Keys):
    """The one seed list that rules all randomness."""

    train: SeedList | Seed = Field(
        0,
        description=(
            "Seed of fine-tuning (order of pictures, noise, timesteps, caption dropout). With "
            "a list each variant is trained once with each; tables have the mean, and the "
            "spread between trainings is part of their intervals. The first gives models "
            "their plain names, the others end in `-s<seed>`. Three are needed for intervals "
            "that hold what they say."
        ),
    )
    selection: SeedList = Field(
        [0, 1],
        description="Seeds every prompt is drawn with; hard prompts are chosen on them.",
    )
    fresh: SeedList = Field(
        [2, 3],
        description=(
            "Seeds on which hard prompts are drawn again, so that their choice cannot flatter "
            "a result. None of them is a selection seed."
        ),
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if shared := sorted(set(self.selection) & set(self.fresh)):
            raise disagree(
                "fresh",
                f"must differ from seeds.selection, both have {shared[0]}",
                "choose other fresh seeds",
            )
        return self
