"""The models a study starts from, and how they run on a GPU."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from vlg import plugins
from vlg.config.keys import NEUTRAL, Keys, disagree
from vlg.config.sections.types import Name, Once


class Gpu(Keys):
    """How models run on a GPU; on a CPU none of it counts. Another choice here changes results in
    their last bits only, as another GPU does, and reruns nothing.
    """

    channels_last: bool = Field(
        True,
        description="Lay pictures and convolutions out with channels last, as tensor cores want.",
    )
    compile: bool = Field(
        False,
        description=(
            "Compile the UNet with `torch.compile`: a minute or two per job before the first "
            "picture or step, then faster ones. Needs a C compiler."
        ),
    )
    vae_slicing: bool = Field(
        True,
        description=(
            "Let the VAE decode the pictures of a batch one after the other, so that its "
            "memory doesn't bound the batch."
        ),
    )
    offload: bool = Field(
        False,
        description=(
            "Let text encoders take turns with network and VAE on the card: while prompts are "
            "read these lie in the machine's memory, and the text encoders while pictures are "
            "drawn. Some seconds a batch, for cards that cannot hold both."
        ),
    )


class GuideKeys(Keys):
    """A guide of its own kind, seen in its own way, or made of several; an entry of `guides`."""

    kind: str = Field(
        "open_clip",
        description=(
            "A kind of judge that can guide: `open_clip`, or `clip` (Hugging Face CLIP, SigLIP). "
            "Two are controls: `verifier`, the oracle of the shapes world, which needs no source, "
            "and `shuffled`, which scores a picture against another caption."
        ),
    )
    source: str | None = Field(
        None,
        min_length=1,
        description=(
            "The folder of its model, `hub:owner/name[@revision]`, or `shapes` (open_clip)."
        ),
    )
    members: dict[Name, Annotated[float, Field(gt=0)]] = Field(
        {},
        description=(
            "In place of `source`: other entries of `guides`, or `guide`, which is `models.guide`, "
            "each with its weight in the mean of their cosines. Of `shuffled` the one that is "
            "shuffled, `guide` if it names none."
        ),
    )
    views: int = Field(
        1,
        ge=1,
        description=(
            "Views of a picture whose cosines are averaged: the picture itself and others, the "
            "same for every picture."
        ),
    )
    crop: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Of further views: the smallest side, as a share of the picture's.",
    )
    noise: float = Field(
        0.0, ge=0, description="Of further views: standard deviation of noise on pixels of 0..1."
    )

    @property
    def control(self) -> str:
        """`oracle` or `shuffled`, of a guide that is there for comparison; otherwise empty."""
        known = self.kind in plugins.names(plugins.KINDS)
        return plugins.constant(plugins.KINDS, self.kind, "CONTROL", "") if known else ""

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if self.kind not in plugins.names(plugins.KINDS):
            return self  # refused with all others of the study at hand
        if self.control:
            for name in ("source", "views"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise disagree(name, f"is not of kind {self.kind}", "leave it out")
            if len(self.members) > (self.control == "shuffled"):
                raise disagree("members", f"too many of kind {self.kind}", "leave them out")
            return self
        if (self.source is None) == (not self.members):
            raise disagree("source", "stands beside members, or neither does", "give one of them")
        if self.members and self.views > 1:
            raise disagree("views", "is of a guide with a source", "give its members views")
        return self

    def seen(self) -> dict[str, Any]:
        """What is looked by, and how, as `guide.json` has it."""
        return self.model_dump(include={"kind", "views", "crop", "noise"})


class Compared(Keys):
    """A finished model beside the base, an entry of `models.compare`; written as text it is its
    `source`.
    """

    source: str | None = Field(
        None,
        min_length=1,
        description=(
            "The model: a diffusers folder, `hub:owner/name[@revision]`, a Stable Diffusion 1.x, "
            "XL or 3 checkpoint in one `.safetensors` file, `shapes`, `shapes-middle`, "
            "`shapes-early` or `shapes-flow`."
        ),
    )
    base: str | None = Field(
        None,
        min_length=1,
        description="Of a LoRA: the model that it changes, like `source`; null: `models.base`.",
    )
    lora: Annotated[list[str], Once] | str | None = Field(
        None,
        description=(
            "In place of `source`: the `.safetensors` file of a LoRA in diffusers' or kohya's "
            "layout, or a list of several."
        ),
    )
    scale: list[float] | float = Field(
        1.0, description="By which the LoRA counts; with several one for all, or a list."
    )
    family: str | None = Field(
        None,
        min_length=1,
        description=(
            "Its family, where it is not `models.family`. A model whose latents have another shape "
            "than the base's draws from other noise, and is compared by prompt."
        ),
    )

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.source is None) == (not self.lora):
            raise disagree("source", "stands beside lora, or neither does", "give one of them")
        if self.base is not None and not self.lora:
            raise disagree("base", "is of a LoRA, and there is none", "remove it, or give lora")
        if isinstance(self.scale, list) and len(self.scale) != len(self.loras):
            what = f"has {len(self.scale)} numbers for {len(self.loras)} LoRAs"
            raise disagree("scale", what, "give one for each")
        return self

    @property
    def loras(self) -> list[str]:
        """The files of its LoRAs."""
        return [self.lora] if isinstance(self.lora, str) else self.lora or []

    @property
    def scales(self) -> list[float]:
        """By which each of them counts."""
        several = isinstance(self.scale, list)
        return self.scale if several else [self.scale] * len(self.loras)


class Models(Keys):
    """The models the study starts from. Guide and judge must differ."""

    base: str | None = Field(
        "shapes",
        min_length=1,
        description=(
            "The text-to-image model: `shapes` (shipped), `shapes-middle` and `shapes-early` "
            "(weaker checkpoints of the same training), `shapes-flow` (a transformer with flow "
            "matching on the same pictures, of the family `sd3`), a Hub repository "
            "(`hub:owner/name` or `hub:owner/name@revision`), a diffusers folder of a pipeline of "
            "a family (below), or a Stable Diffusion 1.x, XL or 3 checkpoint in one `.safetensors` "
            "file. null: there is none; nothing is trained, drawn or guided, and the entries of "
            "`pictures` are compared with each other."
        ),
    )
    family: str = Field(
        "sd",
        min_length=1,
        json_schema_extra=NEUTRAL,
        description=(
            "The family of the base, which says how its networks are called. A base of another "
            "family is refused."
        ),
    )
    guide: str | None = Field(
        "shapes",
        min_length=1,
        description=(
            "The CLIP that embed fine-tuning and refinement follow: `shapes` (shipped), a Hub "
            "repository (`hub:owner/name`) or a folder, of open_clip (`open_clip_config.json` "
            "and weights), or the name of an entry of `guides`. Without a base there is none."
        ),
    )
    judge: str = Field(
        "shapes",
        min_length=1,
        description=(
            "The CLIP that only measures ClipScore: `shapes` (shipped), a Hub repository "
            "(`hub:owner/name`) or a folder, of a Hugging Face CLIP (`config.json` and "
            "weights)."
        ),
    )
    compare: dict[Name, str | dict[str, Any]] = Field(
        {},
        description=(
            "Finished models beside the base, by name: each draws what the base draws, from the "
            "same noise, and becomes a row of the tables. A value is the model's `source`, or "
            "keys: `{base: ..., lora: file.safetensors, scale: 0.8}`. `null` removes one in an "
            "overlay."
        ),
    )
    rebuild: bool = Field(
        False,
        description="Train the shipped shapes models from scratch instead of taking the files.",
    )
