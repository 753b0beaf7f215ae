"""Training of the shapes world's own models."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from vlg.config.keys import Keys, disagree

OwnSeed = Annotated[int, Field(ge=0, description="Seed of its weights and data.")]
Steps = Annotated[int, Field(ge=1, description="Training steps.")]
Batch = Annotated[int, Field(ge=2, description="Pictures per step.")]
Rate = Annotated[float, Field(gt=0, description="Highest learning rate.")]

Again = Annotated[
    int, Field(ge=1, description="Further steps from the averaged weights at half the rate.")
]
Read = Annotated[
    int,
    Field(
        ge=1, description="Steps before `steps` of its text encoders alone, which learn to read."
    ),
]
ReadFirst = Annotated[
    int, Field(ge=0, description="Steps before all others of the text tower alone, which reads.")
]
Look = Annotated[
    int,
    Field(
        ge=0, description="Steps before `steps` of both towers, which learn to tell what is where."
    ),
]
Negatives = Annotated[
    int, Field(ge=1, description="Captions of each picture that are wrong in one detail.")
]
Scenes = Annotated[int, Field(ge=2, description="Pictures that exist.")]


class PretrainVae(Keys):
    """The autoencoder of the base."""

    seed: OwnSeed = 11
    steps: Steps = 10000
    batch: Batch = 16
    lr: Rate = 0.003


class PretrainBase(Keys):
    """UNet and text encoder of the base."""

    seed: OwnSeed = 12
    read: Read = 1000
    steps: Steps = 18000
    batch: Batch = 32
    lr: Rate = 0.0012
    again: Again = 2500
    scenes: Scenes = 60000
    middle: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="Share of the steps after which `shapes-middle` is kept.",
    )
    early: float = Field(
        0.08,
        gt=0,
        lt=1,
        description="Share of the steps after which `shapes-early` is kept; below `middle`.",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.early >= self.middle:
            raise disagree(
                "early",
                f"must be below pretrain.base.middle ({self.middle:g}), got {self.early:g}",
                "lower it",
            )
        return self


class PretrainFlow(Keys):
    """Transformer and text encoders of `shapes-flow`."""

    seed: OwnSeed = 16
    read: Read = 1000
    steps: Steps = 18000
    batch: Batch = 32
    lr: Rate = 0.002
    again: Again = 3000
    scenes: Scenes = 60000


class PretrainGuide(Keys):
    """The guide, a ResNet CLIP."""

    seed: OwnSeed = 13
    read: ReadFirst = 0
    look: Look = 0
    negatives: Negatives = 1
    steps: Steps = 1500
    batch: Batch = 96
    lr: Rate = 0.0015


class PretrainJudge(Keys):
    """The judge, a ViT CLIP."""

    seed: OwnSeed = 14
    read: ReadFirst = 800
    look: Look = 4500
    negatives: Negatives = 4
    steps: Steps = 3200
    batch: Batch = 64
    lr: Rate = 0.0015


class PretrainSiglip(Keys):
    """A further judge, a SigLIP."""

    seed: OwnSeed = 17
    read: ReadFirst = 800
    look: Look = 3000
    negatives: Negatives = 3
    steps: Steps = 2500
    batch: Batch = 64
    lr: Rate = 0.0015


class PretrainVqa(Keys):
    """The vision-language model, which judges by answering questions."""

    seed: OwnSeed = 15
    look: int = Field(
        2500,
        ge=1,
        description="Steps of three times as many pictures in which its eyes alone learn.",
    )
    steps: Steps = 3000
    batch: Batch = 16
    questions: int = Field(3, ge=1, description="Questions about each picture.")
    captions: int = Field(3, ge=1, description="Captions of each picture.")
    lr: Rate = 0.0015


class Pretrain(Keys):
    """Training of the shapes world's own models from scratch (`make pretrain`)."""

    vae: PretrainVae = Field(default_factory=PretrainVae)
    base: PretrainBase = Field(default_factory=PretrainBase)
    flow: PretrainFlow = Field(default_factory=PretrainFlow)
    guide: PretrainGuide = Field(default_factory=PretrainGuide)
    judge: PretrainJudge = Field(default_factory=PretrainJudge)
    siglip: PretrainSiglip = Field(default_factory=PretrainSiglip)
    vqa: PretrainVqa = Field(default_factory=PretrainVqa)
