"""Training of the shapes world's own models."""

from __future__ import annotations

from pydantic import Field

from vlg.config.keys import Keys


class PretrainVae(Keys):
    """The autoencoder of the base."""

    seed: int = Field(
        11,
        ge=0,
        description="Seed of its weights and data.",
    )
    steps: int = Field(
        2800,
        ge=1,
        description="Training steps.",
    )
    batch: int = Field(
        16,
        ge=2,
        description="Pictures per step.",
    )
    lr: float = Field(
        0.003,
        gt=0,
        description="Highest learning rate.",
    )


class PretrainBase(Keys):
    """UNet and text encoder of the base."""

    seed: int = Field(
        12,
        ge=0,
        description="Seed of its weights and data.",
    )
    steps: int = Field(
        7500,
        ge=1,
        description="Training steps.",
    )
    batch: int = Field(
        32,
        ge=2,
        description="Pictures per step.",
    )
    lr: float = Field(
        0.0012,
        gt=0,
        description="Highest learning rate.",
    )
    again: int = Field(
        1300,
        ge=1,
        description="Further steps from the averaged weights at half the rate.",
    )
    scenes: int = Field(
        30000,
        ge=2,
        description="Pictures that exist.",
    )
    early: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="Share of the steps after which shapes-early is kept.",
    )


class PretrainGuide(Keys):
    """The guide, a ResNet CLIP."""

    seed: int = Field(
        13,
        ge=0,
        description="Seed of its weights and data.",
    )
    steps: int = Field(
        1500,
        ge=1,
        description="Training steps.",
    )
    batch: int = Field(
        96,
        ge=2,
        description="Pictures per step.",
    )
    lr: float = Field(
        0.0015,
        gt=0,
        description="Highest learning rate.",
    )


class PretrainJudge(Keys):
    """The judge, a ViT CLIP."""

    seed: int = Field(
        14,
        ge=0,
        description="Seed of its weights and data.",
    )
    steps: int = Field(
        800,
        ge=1,
        description="Training steps.",
    )
    batch: int = Field(
        64,
        ge=2,
        description="Pictures per step.",
    )
    lr: float = Field(
        0.0015,
        gt=0,
        description="Highest learning rate.",
    )


class Pretrain(Keys):
    """Training of the shapes world's own models from scratch (`make pretrain`)."""

    vae: PretrainVae = Field(default_factory=PretrainVae)
    base: PretrainBase = Field(default_factory=PretrainBase)
    guide: PretrainGuide = Field(default_factory=PretrainGuide)
    judge: PretrainJudge = Field(default_factory=PretrainJudge)
