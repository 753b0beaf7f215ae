"""Every section of the config: its keys with meaning, range and default.

Defaults stand here and nowhere else, but for the keys of a method, an arm or a kind of judge, which
stand in the class `Settings` of its own file: a subclass of `Training`, `ArmKeys` or `JudgeKeys`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from vlg.config.keys import NEUTRAL, Keys, disagree, short
from vlg.config.patterns import ENTRY, MODEL, ROUND, SHA256, STUDY


def _once(values: list[Any]) -> list[Any]:
    if any(value in values[:place] for place, value in enumerate(values)):
        raise PydanticCustomError("twice", "has an entry twice")
    return values


Once = AfterValidator(_once)
Name = Annotated[str, Field(pattern=ENTRY, max_length=40)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
SeedList = Annotated[list[Seed], Field(min_length=1), Once]
Words = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), Once]
ModelName = Annotated[str, Field(pattern=MODEL)]
RoundNumber = Annotated[str, Field(pattern=ROUND)]
Resolution = Annotated[int, Field(ge=8, multiple_of=8)] | None
Precision = Literal["fp32", "tf32", "bf16", "fp16"]


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


class Models(Keys):
    """The models the study starts from. Guide and judge must differ."""

    base: str = Field(
        "shapes",
        min_length=1,
        description=(
            "The text-to-image model: `shapes` (shipped), `shapes-early` (a weaker checkpoint "
            "of the same training), a Hub repository (`hub:owner/name` or "
            "`hub:owner/name@revision`), a diffusers folder of a Stable Diffusion pipeline, "
            "or a Stable Diffusion 1.x checkpoint in one `.safetensors` file."
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
    guide: str = Field(
        "shapes",
        min_length=1,
        description=(
            "The CLIP that embed fine-tuning and refinement follow: `shapes` (shipped), a Hub "
            "repository (`hub:owner/name`) or a folder, of open_clip (`open_clip_config.json` "
            "and weights)."
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
    rebuild: bool = Field(
        False,
        description="Train the shipped shapes models from scratch instead of taking the files.",
    )


class Prompts(Keys):
    """The prompts that are drawn and reported."""

    source: str = Field(
        "shapes",
        min_length=1,
        description=(
            "`shapes` (the prompts of the shapes world), a file (`.tsv` as PartiPrompts is "
            "published, `.csv`, or `.txt` with one prompt a line), or a Hub data set "
            "(`hub:owner/name`) with one of the first two, or parquet; it needs `pool`."
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
            "Which prompts the shapes world makes. Settings are chosen on other seeds than "
            "the reported."
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
            "means all. At least `prompts.study`."
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
            "`shapes` (drawn), a folder of pictures with captions (`metadata.jsonl`, "
            "`metadata.csv` or `.txt` files), parquet with pictures inside (a file or a "
            "folder), or a Hub data set (`hub:owner/name`) of either kind."
        ),
    )
    split: str = Field(
        "train",
        min_length=1,
        description="The part of a data set whose parquet files name it.",
    )
    picture: str | None = Field(
        None,
        min_length=1,
        description="Parquet column of the pictures; null finds `image` and other usual names.",
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
            names = {"source", "size", "split", "picture", "captions", "smallest"}
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
        for name in ("crop", "jitter", "resolution", "flip"):
            if self.cached and getattr(self, name) != type(self).model_fields[name].default:
                raise disagree(
                    name, "needs pixels, and variants train from the cache", "set cached: false"
                )
        return self


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
        min_length=1,
        description=(
            "One fine-tuned model per name and step count. Each may name its `method` and set keys "
            "of its own, and takes the others from here. Without `method` it is the one that its "
            "name says, and otherwise `embed` where `guide_scale` is above 0 and `normal` where it "
            "is not; a `guide_scale` of 0 is always `normal`. `null` removes a variant in an "
            "overlay."
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


class Sampling(Keys):
    """How a picture is drawn."""

    steps: int = Field(
        10,
        ge=1,
        le=1000,
        description="Denoising steps per picture.",
    )
    guidance_scale: float = Field(
        5.0,
        ge=1,
        description=(
            "Classifier-free guidance; 1 is none, and anything above costs two UNet calls a step."
        ),
    )
    scheduler: Literal["ddim", "dpm++"] = Field(
        "dpm++",
        description="Sampler; `dpm++` (2M) needs about half the steps of `ddim`.",
    )
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


class ArmKeys(Keys):
    """Keys of every arm of refinement; `Settings` of an arm's kind is a subclass with its own."""

    rounds: int | None = Field(
        None, ge=1, json_schema_extra=NEUTRAL, description="Its own number; null: `refine.rounds`."
    )


class Refine(Keys):
    """Iterative refinement and its controls: in each round every picture is drawn anew, from noise
    on the best so far, and the guide says which is kept.
    """

    models: Annotated[list[str], Once] = Field(
        ["base"],
        description=(
            "Models to refine, `base` or `<variant>-<step>` (each of its trainings); an empty "
            "list refines none."
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


class Statistics(Keys):
    """Intervals of the tables."""

    draws: int = Field(
        10000,
        ge=1,
        description="Bootstrap draws.",
    )
    confidence: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="Confidence of intervals.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**32 - 1,
        description="Seed of the bootstrap.",
    )


class Gallery(Keys):
    """The gallery page."""

    prompts: int = Field(
        60,
        ge=1,
        description="At most this many prompts are shown, hard ones first.",
    )


class Light(Keys):
    """What the other jobs may use, which make tables, pages and copies."""

    mem_mb: int = Field(
        2000,
        ge=1,
        description="Memory, in MB.",
    )
    runtime: int = Field(
        60,
        ge=1,
        description="Minutes.",
    )


class Exceptions(Keys):
    """What one stage needs more of, or less."""

    threads: int | None = Field(None, ge=1, description="Threads.")
    mem_mb: int | None = Field(None, ge=1, description="Memory, in MB.")
    runtime: int | None = Field(None, ge=1, description="Minutes.")


class Resources(Keys):
    """What one job may use."""

    threads: int = Field(
        1,
        ge=1,
        description=(
            "Threads of a job that computes with a model. On a CPU another number changes "
            "sums in their last bits; nothing else here changes a result."
        ),
    )
    mem_mb: int = Field(
        4000,
        ge=1,
        description=(
            "Memory of a job that computes with a model, in MB. Where a profile lets jobs be "
            "tried again, each try asks for as much more."
        ),
    )
    runtime: int = Field(
        240,
        ge=1,
        description=(
            "Minutes that a cluster gives a job that computes with a model. One that ends at "
            "its limit goes on from what it has saved when it is run again."
        ),
    )
    gpus: int | None = Field(
        None,
        ge=0,
        le=1,
        description=(
            "GPUs that a process of such a job asks for; null is 1 where `device` is `cuda`, "
            "or `auto` on a machine that has one, and otherwise 0."
        ),
    )
    light: Light = Field(default_factory=Light)
    stages: dict[str, Exceptions] = Field(
        {},
        description=(
            "Exceptions, by the name of a rule: what one stage needs more of, or less. A "
            "number here stands in place of the one above it."
        ),
    )


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


class Published(Keys):
    """Published mean ClipScores (100·cos) that stand beside ours in the column `published`."""

    finetune: dict[ModelName, float] = Field(
        {},
        description="By model, `base` or `<variant>-<step>`, on the study prompts.",
    )
    refinement: dict[RoundNumber, float] = Field(
        {},
        description="By round (0, 1, …), on the study prompts.",
    )
    hard_prompts: dict[ModelName, float] = Field(
        {},
        description="By model, `base` or `<variant>-<step>`, on the hard prompts.",
    )


class JudgeKeys(Keys):
    """Keys of every further judge; `Settings` of a kind is a subclass with its own."""

    kind: str = Field("clip", description="What it judges by.")
    source: str = Field(
        min_length=1,
        description=(
            "The folder of its model, or `hub:owner/name[@revision]`; for `callable` "
            "`module.function`, the module a file below the folder in which Snakemake runs. The "
            "function gets pictures, a list of (height, width, 3) uint8 arrays, and a list of as "
            "many prompts, and returns as many numbers, the higher the better."
        ),
    )


class Config(Keys):
    """All keys of the study."""

    study: str = Field(
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
    statistics: Statistics = Field(default_factory=Statistics)
    gallery: Gallery = Field(default_factory=Gallery)
    resources: Resources = Field(default_factory=Resources)
    pretrain: Pretrain = Field(default_factory=Pretrain)
    published: Published = Field(default_factory=Published)
