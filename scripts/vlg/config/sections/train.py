"""Fine-tuning: what all methods share, and what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from vlg.config.keys import INPUT, NEUTRAL, Keys, disagree, short
from vlg.config.sections.sample import Denoising
from vlg.config.sections.types import Count, Name, Resolution, Seed

# What ranks own samples, and what it has found by its name: (room, name).
REWARDS = {"guide": [], "verifier": [("shapes", "captions"), ("shapes", "verify")]}
REWARD = (
    "What ranks own samples: `guide`, its cosine with the caption; `verifier`, in the shapes world "
    "the share of true facts, an oracle which no other world has; or a function of your own, "
    "`module.function`, as a judge of the kind `callable` has it."
)


class Shared(Keys):
    """Keys of every fine-tuning, whatever its method."""

    learning_rate: float = Field(
        0.0001,
        le=1,
        gt=0,
        json_schema_extra=short("lr"),
        description="Learning rate of AdamW after the warm-up.",
    )
    batch_size: int = Field(
        16,
        ge=1,
        json_schema_extra=short("bs"),
        description="Pictures per step.",
    )
    warmup_steps: int = Field(
        20,
        ge=0,
        json_schema_extra=short("warmup"),
        description="Steps over which the learning rate rises from 0.",
    )
    weight_decay: float = Field(
        0.01,
        ge=0,
        json_schema_extra=short("wd"),
        description="Weight decay of AdamW.",
    )
    max_grad_norm: float = Field(
        1.0,
        gt=0,
        json_schema_extra=short("norm"),
        description="Gradients are scaled down to this norm where they are longer.",
    )
    ema_decay: float = Field(
        0.98,
        ge=0,
        lt=1,
        json_schema_extra=short("ema"),
        description=(
            "Decay per step of the moving average of the weights that a checkpoint holds; 0 "
            "takes the last weights."
        ),
    )
    caption_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        json_schema_extra=short("drop"),
        description=(
            "Share of captions replaced by the empty one, so that guidance keeps its meaning."
        ),
    )
    min_snr_gamma: float | None = Field(
        None,
        gt=0,
        json_schema_extra=short("snr"),
        description=(
            "Gamma of min-SNR weighting of the denoising loss; null weighs all steps alike."
        ),
    )
    lora_rank: int = Field(
        0,
        ge=0,
        json_schema_extra=NEUTRAL | short("rank"),
        description=(
            "Train low-rank changes of the attention weights (LoRA) of this rank instead of "
            "all weights; 0 trains all."
        ),
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        json_schema_extra=NEUTRAL | short(""),
        description=(
            "Arithmetic of a training step: `fp32`, or `bf16`, autocast over weights and "
            "optimizer kept in fp32."
        ),
    )
    cached: bool = Field(
        True,
        json_schema_extra=NEUTRAL | short("cached_"),
        description=(
            "Train from latents and text states encoded once; false encodes pictures and "
            "captions at every step, as `crop` and `jitter` need."
        ),
    )
    crop: float = Field(
        1.0,
        le=1,
        gt=0,
        json_schema_extra=NEUTRAL | short("crop"),
        description=(
            "Lowest share of a picture's shorter side that a random crop keeps; 1 crops "
            "nothing. Not for captions that say where things are, or how large. Needs "
            "`cached: false`."
        ),
    )
    jitter: float = Field(
        0.0,
        ge=0,
        lt=1,
        json_schema_extra=NEUTRAL | short("jitter"),
        description=(
            "Random changes of brightness, contrast and saturation, each by up to this share. "
            "Needs `cached: false`."
        ),
    )
    accumulate: int = Field(
        1,
        ge=1,
        json_schema_extra=NEUTRAL,
        description=(
            "Parts in which a batch is computed one after the other, to save memory; the step "
            "is the same but for the last bits. At most `batch_size`."
        ),
    )
    gradient_checkpointing: bool = Field(
        False,
        json_schema_extra=NEUTRAL,
        description=(
            "Compute activations of the UNet and of the decoder again in the backward pass, "
            "to save memory."
        ),
    )
    watch_guide: bool = Field(
        False,
        json_schema_extra=NEUTRAL,
        description=(
            "Log the guide's cosine on held-out pictures for variants without a guide's term "
            "too; these then run again when the guide changes."
        ),
    )
    evaluate_every: int = Field(
        100,
        ge=1,
        json_schema_extra=NEUTRAL,
        description="Steps between looks at the held-out pictures.",
    )
    stop_judge: str | None = Field(
        None,
        min_length=1,
        json_schema_extra=INPUT,
        description=(
            "A folder of a Hugging Face CLIP or SigLIP that is neither guide nor judge. It scores "
            "the development prompts, drawn anew at each look, and a training stops that it finds "
            "no better; null stops none."
        ),
    )
    stop_patience: int = Field(
        3,
        ge=1,
        json_schema_extra=NEUTRAL | short("patience"),
        description=(
            "Looks without a better score by `stop_judge` after which a training stops; this "
            "checkpoint and all further ones hold the weights of its best look."
        ),
    )
    frozen: Literal["fp32", "bf16", "fp16", "int8", "nf4"] = Field(
        "fp32",
        json_schema_extra=NEUTRAL | short("frozen"),
        description=(
            "How the weights that a LoRA leaves as they are lie in memory while it is trained: 4 "
            "bytes each, 2 (`bf16`, `fp16`), or, of matrices, about 1 (`int8`) or 0.56 (`nf4`), "
            "which changes what is trained against. The checkpoint is the base as it is with the "
            "LoRA merged into it."
        ),
    )


class Training(Shared):
    """What a fine-tuning gets: the shared keys, where it goes from and to, and how it reads pixels.

    The class `Settings` of a method is a subclass with the method's own keys.
    """

    step: int = Field(ge=1, description="Stop after this many steps from the base model.")
    start: int = Field(
        0, ge=0, description="Continue after this many, from the state of the checkpoint before."
    )
    seed: Seed = Field(
        0, description="Of the order of pictures, noise, timesteps and caption dropout."
    )
    resolution: Resolution = Field(
        None,
        json_schema_extra=NEUTRAL,
        description="`dataset.resolution`, where pixels are read (`cached: false`).",
    )
    flip: bool = Field(
        False,
        json_schema_extra=NEUTRAL,
        description="`encode.flip`, where pixels are read (`cached: false`).",
    )

    def found(self) -> list[tuple[str, str]]:
        """(room, name) of what these settings have found by its name, beside the method."""
        return [] if self.frozen == "fp32" else [("train", "frozen")]

    def files(self) -> list[Path]:
        """Files that these settings name, from the folder in which Snakemake runs, beside the
        folders that are inputs."""
        return []

    def check(self, root: Path) -> None:
        if self.stop_judge and not (root / self.stop_judge / "config.json").is_file():
            raise disagree(
                "stop_judge", f"{self.stop_judge!r} has no config.json", "give a CLIP's folder"
            )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.step <= self.start:
            raise disagree("step", f"{self.step}; must be over start ({self.start})", "raise it")
        if self.accumulate > self.batch_size:
            raise disagree(
                "accumulate",
                f"{self.accumulate} parts of a batch of {self.batch_size}",
                f"use at most {self.batch_size}",
            )
        if self.frozen != "fp32" and not self.lora_rank:
            raise disagree(
                "frozen",
                f"{self.frozen} is for the weights beside a LoRA, and all are trained",
                "set lora_rank, or leave it out",
            )
        for name in ("crop", "jitter", "resolution", "flip"):
            if self.cached and getattr(self, name) != type(self).model_fields[name].default:
                raise disagree(
                    name, "needs pixels, and variants train from the cache", "set cached: false"
                )
        return self


class Sampled(Training):
    """What a method gets that draws own samples: pictures of the network that is trained."""

    sampling: Denoising = Field(
        default_factory=Denoising,
        description="`generate.steps`, `guidance_scale` and `scheduler`, which own samples have.",
    )
    own_guidance: float | None = Field(
        None,
        ge=1,
        json_schema_extra=short("og"),
        description=(
            "Classifier-free guidance of own samples; 1 is none and costs half; null takes "
            "`generate.guidance_scale`. With FLUX.1 dev set 3.5, which it is trained at."
        ),
    )

    @property
    def path(self) -> Denoising:
        """How own samples are drawn."""
        own = {} if self.own_guidance is None else {"guidance_scale": self.own_guidance}
        return self.sampling.model_copy(update=own)


class Pairs(Denoising):
    """What the step gets that draws and scores own samples of the base for pairs."""

    pair_captions: int = Field(256, ge=1, description="Captions that are drawn, at most.")
    pair_samples: int = Field(4, ge=2, description="Own samples of each.")
    reward: str = Field("guide", description=REWARD)

    def found(self) -> list[tuple[str, str]]:
        """(room, name) of what these settings have found by its name."""
        return REWARDS.get(self.reward, [])


class Finetune(Shared):
    """Fine-tuning, shared by all variants unless a variant says otherwise.

    Keys of any method may stand here, too, for all variants whose method has them.
    """

    steps: list[Count] = Field(
        [100, 250, 500],
        min_length=1,
        description="Step counts with a checkpoint each, rising; each continues the one before.",
    )
    save_every: int = Field(
        500,
        ge=1,
        description="Steps between saved training states; any number gives the same result.",
    )
    save_minutes: int = Field(
        10,
        ge=1,
        description="Minutes after which a training state is saved at the latest.",
    )
    processes: int = Field(
        1,
        ge=1,
        description=(
            "Processes of a fine-tuning on each node, with a device each; they share the "
            "batch, and any number gives the same result but for the last bits."
        ),
    )
    nodes: int = Field(
        1,
        ge=1,
        description=(
            "Nodes that a fine-tuning runs on, all of one Slurm job or reached by `launcher`."
        ),
    )
    launcher: str = Field(
        "",
        description="Command that runs what follows it once on each node; empty takes `srun`.",
    )
    variants: dict[Name, dict[str, Any]] = Field(
        {"normal": {}, "embed": {}},
        description=(
            "One fine-tuned model per name and step count. Each may name its `method` and set keys "
            "of its own, and takes the others from here. Without `method` it is the one that its "
            "name says, and otherwise `embed` where `guide_scale` is above 0 and `normal` where it "
            "is not; a `guide_scale` of 0 is always `normal`. `null` removes a variant in an "
            "overlay; where there is something else to compare, there may be none."
        ),
    )
    sweeps: dict[Name, dict[str, Any]] = Field(
        {},
        description=(
            "Grids of further variants, which are trained, draw the development prompts and are "
            "ranked by them in `tables/sweep`, and are nowhere else: no reported prompt chooses a "
            "setting. Each names keys of a variant, each with a list of values, for example "
            "`strength: {guide_scale: [0.02, 0.05], window: [[0, 300], [0, 600]]}`, and may name "
            "the `method` of all; `null` removes one in an overlay."
        ),
    )

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if any(a >= b for a, b in zip(self.steps, self.steps[1:], strict=False)):
            raise disagree("steps", f"must rise, got {self.steps}", "write them in ascending order")
        return self
