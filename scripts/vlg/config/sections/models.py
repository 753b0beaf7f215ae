"""The models a study starts from, and how they run on a GPU."""

from __future__ import annotations

from pydantic import Field

from vlg.config.keys import NEUTRAL, Keys


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
