"""Every section of the config: its keys with meaning, range and default, a file a room.

Defaults stand there alone, but for the keys of a method, an arm or a kind of judge: these stand in
the class `Settings` of its own file, a subclass of `Training`, `ArmKeys` or `JudgeKeys`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vlg.config.keys import Keys
from vlg.config.patterns import STUDY
from vlg.config.sections.analysis import Published, Statistics
from vlg.config.sections.data import (
    Dataset,
    Development,
    DevelopmentStep,
    Encode,
    EncodeStep,
    Encoding,
    Prompts,
    Seeds,
)
from vlg.config.sections.entries import Beside, Doses
from vlg.config.sections.judge import JudgeKeys, ModelJudgeKeys, Score
from vlg.config.sections.models import Compared, Gpu, GuideKeys, Models
from vlg.config.sections.pictures import PictureSet
from vlg.config.sections.report import Gallery
from vlg.config.sections.sample import (
    ArmKeys,
    Denoising,
    Generate,
    Hard,
    OneRound,
    Refine,
    Sampling,
)
from vlg.config.sections.shapes import Pretrain
from vlg.config.sections.train import REWARD, REWARDS, Finetune, Pairs, Sampled, Shared, Training
from vlg.config.sections.types import (
    Name,
    Once,
    Precision,
    Seed,
    SeedList,
    Share,
    TextOrWhole,
    Whole,
)
from vlg.config.sections.workflow import Resources

# What others read as `sections.NAME`, beside Config.
__all__ = [
    "REWARD",
    "REWARDS",
    "ArmKeys",
    "Beside",
    "Compared",
    "Dataset",
    "Denoising",
    "DevelopmentStep",
    "Doses",
    "Encode",
    "EncodeStep",
    "Encoding",
    "Finetune",
    "Gallery",
    "GuideKeys",
    "Hard",
    "JudgeKeys",
    "ModelJudgeKeys",
    "Models",
    "OneRound",
    "Pairs",
    "PictureSet",
    "Precision",
    "Pretrain",
    "Prompts",
    "Sampled",
    "Sampling",
    "Score",
    "Seed",
    "SeedList",
    "Share",
    "Shared",
    "Statistics",
    "Training",
    "Whole",
]


class Config(Keys):
    """All keys of the study."""

    study: TextOrWhole = Field(
        "shapes",
        max_length=80,
        pattern=STUDY,
        description="Name of the study; everything it makes goes to `results/<study>/`.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="Where models run; `auto` takes a GPU when there is one.",
    )
    gpu: Gpu = Field(default_factory=Gpu)
    models: Models = Field(default_factory=Models)
    prompts: Prompts = Field(default_factory=Prompts)
    dataset: Dataset = Field(default_factory=Dataset)
    development: Development = Field(default_factory=Development)
    encode: Encode = Field(default_factory=Encode)
    seeds: Seeds = Field(default_factory=Seeds)
    finetune: Finetune = Field(default_factory=Finetune)
    generate: Generate = Field(default_factory=Generate)
    refine: Refine = Field(default_factory=Refine)
    hard: Hard = Field(default_factory=Hard)
    score: Score = Field(default_factory=Score)
    judges: dict[Name, dict[str, Any]] = Field(
        {},
        description=(
            "Further judges, by name, beside `models.judge`: each scores the study pictures, "
            "and the table `judges` says whether they agree. `null` removes one in an "
            "overlay."
        ),
    )
    guides: dict[Name, dict[str, Any]] = Field(
        {},
        description=(
            "Further guides, by name, for `models.guide` and for `guide` of an arm: of another "
            "strength or kind, seen in several views, or several together. None may be a judge. "
            "`null` removes one in an overlay."
        ),
    )
    pictures: dict[Name, PictureSet] = Field(
        {},
        description=(
            "Sets of pictures that were drawn elsewhere, by name: each becomes a row of the "
            "tables, compared by prompt on the prompts that both sides have."
        ),
    )
    reference: Name | None = Field(
        None,
        description=(
            "Without `models.base`: which entry of `pictures` the others are held against; null "
            "takes the first."
        ),
    )
    ratings: str | None = Field(
        None,
        min_length=1,
        description=(
            "A .csv of what people say of the study pictures, for the tables `ratings` and "
            "`calibration`: rater, model, id or prompt, seed and score; or votes with rater, id or "
            "prompt, seed, model_a, model_b and winner (`a`, `b`, `tie` or a model). `prompts`: "
            "those that come with `prompts.source: genai_bench`, of the `pictures` so named."
        ),
    )
    positive_controls: Annotated[list[Name], Once] = Field(
        [],
        description=(
            "Variants and arms that must raise the guide's score of drawn pictures, as they were "
            "seen to on development prompts; the table `controls` says whether they do."
        ),
    )
    statistics: Statistics = Field(default_factory=Statistics)
    gallery: Gallery = Field(default_factory=Gallery)
    resources: Resources = Field(default_factory=Resources)
    pretrain: Pretrain = Field(default_factory=Pretrain)
    published: Published = Field(default_factory=Published)
