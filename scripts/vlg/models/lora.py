"""LoRAs, which hold changes to a base: what their files say, and how they become part of a model.

Both layouts are read by diffusers' own loaders: its own (`unet.….lora_A.weight`) and kohya's
(`lora_unet_….lora_down.weight`, with `.alpha`), but for Stable Diffusion 3's (`vlg.models.kohya`)
and Sana's, of which there are none of kohya's. Of Flux, Z-Image and Qwen-Image they read those of
further trainers, too.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlg.errors import UserError
from vlg.models import fits, headers, kohya, stated
from vlg.models.families import INDEX, class_of

# The first of the two matrices of a layer.
DOWN = re.compile(r"\.lora_A\.|[._]lora_down\.|[._]lora[._]down\.|\.down\.weight$")
# How names begin in LoRAs of families without a UNet, and of those whose UNet has one text encoder
# and two.
OF_FLUX = ("lora_unet_double_blocks_", "lora_unet_single_blocks_")  # as kohya calls Flux's
OF_FLUX += ("transformer.single_transformer_blocks.",)
OF_SD3 = ("lora_unet_joint_blocks_", "lora_te3_", "text_encoder_3.")
OTHERS = ("lora_transformer_", "transformer.", "diffusion_model.", "lora_prior_", *OF_FLUX, *OF_SD3)
OF_UNET = ("unet.", "lora_te_", "lora_unet_down_", "lora_unet_mid_", "lora_unet_up_")
OF_UNET += ("lora_unet_input_", "lora_unet_middle_", "lora_unet_output_")
OF_ONE, OF_TWO = ("lora_te_",), ("lora_te1_", "lora_te2_", "text_encoder_2.")
OF_T5 = ("lora_te2_", "text_encoder_2.")  # of Flux
FLUX, SD3 = "FluxPipeline", "StableDiffusion3Pipeline"


def check(file: Path, base: Path | None = None) -> None:
    """UserError when a file is no whole safetensors file, no LoRA, or one of another base, as far
    as names and shapes tell.

    base: the folder of the model that it shall change, if it is here already.
    """
    if not os.path.isfile(file):
        raise UserError(f"{file}: no such file; check the path")
    if file.suffix != ".safetensors":
        if file.suffix in headers.PICKLES:
            raise UserError(headers.pickled(file))
        raise UserError(f"{file}: not a .safetensors file; give a LoRA in that format")
    tensors = headers.check_safetensors(file)
    if not any(DOWN.search(name) for name in tensors):
        what = "has no layers of a LoRA"
        if any(re.search(r"\.hada_w|\.lokr_", name) for name in tensors):
            what = "a LyCORIS of another kind than LoRA, which diffusers does not read"
        raise UserError(f"{file}: {what}; give a LoRA")
    if base is None:
        return
    of_unet = (base / "unet/config.json").is_file()
    others = OTHERS + (OF_ONE if (base / "text_encoder_2").is_dir() else OF_TWO)
    kind = class_of(base) if (base / INDEX).is_file() else ""
    of_flux = kind == FLUX
    if not of_unet:
        others = OF_UNET + (() if of_flux else OF_FLUX) + (() if kind == SD3 else OF_SD3)
        others = others if (base / "transformer").is_dir() else ()
    strange = next((name for name in tensors if name.startswith(others)), None)
    if strange:
        raise UserError(
            f"{file}: a LoRA of another family ({strange}); give one that was made for this base"
        )
    if of_flux and (of_t5 := next((name for name in tensors if name.startswith(OF_T5)), None)):
        raise UserError(
            f"{file}: changes T5 ({of_t5}), which diffusers does not read of Flux; give one of the "
            "transformer and CLIP alone"
        )
    fits.check(file, base)


def merge(base: Path, loras: Sequence[Path], scales: Sequence[float], out: Path) -> None:
    """Write the diffusers folder `out`: `base` with LoRAs, each times its scale, in its weights.

    UserError when a LoRA is of another model, or diffusers cannot read all of its layers.
    """
    import torch
    from diffusers import DiffusionPipeline
    from safetensors.torch import load_file

    # They warn of a part that a LoRA leaves alone, of layers that fit nowhere, which are counted
    # below, and of a second LoRA, and write what they raise, too.
    logging.getLogger("diffusers.loaders").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")
    pipeline: Any = DiffusionPipeline.from_pretrained(
        base, local_files_only=True, dtype=torch.float32, **dict.fromkeys(stated.absent(base))
    )
    names = []
    for place, file in enumerate(loras):
        check(file, base)
        names.append(f"lora{place}")
        try:
            found = {"pretrained_model_name_or_path_or_dict": str(file.parent),
                     "weight_name": file.name, "local_files_only": True}  # fmt: skip
            layers = headers.check_safetensors(file)
            if class_of(base) != SD3 and not hasattr(pipeline, "unet"):
                layers = pipeline.lora_state_dict(load_file(file))  # as made of other trainers'
            elif kohya.is_of_sd3(layers):
                layers = kohya.read(load_file(file), pipeline.transformer.config.num_layers)
                found = {"pretrained_model_name_or_path_or_dict": layers}
            pipeline.load_lora_weights(adapter_name=names[-1], **found)
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(
                f"{file}: does not fit its base ({why}); give a LoRA that was made for this base"
            ) from error
        there = sum(bool(DOWN.search(name)) for name in layers)
        loaded = _layers(pipeline, names[-1])
        if loaded != there:
            raise UserError(
                f"{file}: {loaded} of its {there} layers fit its base; give a LoRA that was made "
                "for this base"
            )
    pipeline.set_adapters(names, adapter_weights=list(scales))
    known = ("unet", "transformer", "text_encoder", "text_encoder_2")
    parts = [name for name in known if _has(pipeline, name)]
    pipeline.fuse_lora(components=parts, adapter_names=names)
    pipeline.unload_lora_weights()
    pipeline.save_pretrained(out)


def _modules(pipeline: Any) -> list[Any]:
    import torch

    parts = [each for each in pipeline.components.values() if isinstance(each, torch.nn.Module)]
    return [module for part in parts for module in part.modules()]


def _layers(pipeline: Any, adapter: str) -> int:
    """How many layers an adapter changes."""
    return sum(adapter in getattr(module, "lora_A", {}) for module in _modules(pipeline))


def _has(pipeline: Any, name: str) -> bool:
    """Whether some adapter changes a component."""
    part = getattr(pipeline, name, None)
    return part is not None and any(hasattr(module, "lora_A") for module in part.modules())
