"""Whether the layers of a LoRA are as wide as those of its base: from headers of files alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vlg.errors import UserError
from vlg.models import headers, kohya, stated

# How names begin in LoRAs, and which part of a base they change; older ones name the UNet's bare.
PARTS = {"unet.": "unet", "lora_unet_": "unet"}
PARTS |= {"transformer.": "transformer", "lora_transformer_": "transformer"}
PARTS |= {"text_encoder.": "text_encoder", "lora_te_": "text_encoder", "lora_te1_": "text_encoder"}
PARTS |= {"text_encoder_2.": "text_encoder_2", "lora_te2_": "text_encoder_2"}
# A layer and which of its two matrices it is: rank x width, or width x rank.
HALF = re.compile(r"(.+?)(?:\.lora_linear_layer|[._]lora)[._](A|down|B|up)(?:\.\w+)?\.weight")
# What the first code of Stable Diffusion calls layers of a UNet, and of one of its blocks.
FIRST = {"conv_in": "input_blocks_0_0", "conv_out": "out_2"}
FIRST |= {f"time_embedding_linear_{n}": f"time_embed_{2 * n - 2}" for n in (1, 2)}
FIRST |= {f"add_embedding_linear_{n}": f"label_emb_0_{2 * n - 2}" for n in (1, 2)}
RESNET = {"conv1": "in_layers_2", "conv2": "out_layers_3", "time_emb_proj": "emb_layers_1"}
RESNET |= {"conv_shortcut": "skip_connection"}
PLACE = re.compile(r"(down|mid|up)_blocks?_(?:(\d+)_)?(resnets|attentions|\w+samplers)_(\d+)_(.+)")
Widths = dict[str, tuple[int, int]]  # {layer: (those it takes, those it gives)}


def check(file: Path, base: Path) -> None:
    """UserError naming the first layer of a LoRA that has other widths than that of its base.

    file: a safetensors file. base: a diffusers folder; of layers that it has not nothing is said:
    what does not fit then, merging tells.
    """
    known: dict[str, Widths] = {}
    for name, tensor in headers.check_safetensors(file).items():
        found, shape = HALF.fullmatch(name), tensor["shape"]
        if not found or len(shape) < 2:
            continue
        begin = next((start for start in PARTS if name.startswith(start)), "")
        layer = found[1].removeprefix(begin).replace(".", "_").replace("_processor_", "_")
        part = PARTS.get(begin, "unet")
        if layer.startswith("joint_blocks_"):
            part = "transformer"
        if part not in known:
            known[part] = _widths(base, part)
        own = known[part].get(layer) or known[part].get(f"{layer}_0")  # to_out of old ones
        down = found[2] in ("A", "down")
        there = shape[1] if down else shape[0]
        if own and there != own[not down]:
            raise UserError(
                f"{file}: made for another base: {found[1]} {'takes' if down else 'gives'} "
                f"{there} channels, and that layer of this base {own[not down]}; give a LoRA that "
                "was made for it"
            )


def _widths(base: Path, part: str) -> Widths:
    """Those of all layers of a part of a base, by each name that LoRAs give them, dots as _."""
    own: Widths = {}
    for file in sorted((base / part).glob("*.safetensors")):
        for name, tensor in headers.check_safetensors(file).items():
            shape = tensor["shape"]
            if name.endswith(".weight") and len(shape) >= 2:
                layer = name.removesuffix(".weight").replace(".", "_")
                own[layer] = shape[1], shape[0]
    if part == "transformer" and own:
        count = stated.told(base, f"{part}/config.json").get("num_layers", 0)
        return own | dict(_joined(own, count))
    if part == "unet" and own:
        layers = stated.told(base, f"{part}/config.json").get("layers_per_block", 2)
        return own | (dict(_first(own, layers)) if isinstance(layers, int) else {})
    bare = {name.removeprefix("text_model_"): each for name, each in own.items()}
    return bare | {f"text_model_{name}": each for name, each in bare.items()}


def _joined(own: Widths, count: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """By the names of Stable Diffusion 3's own code, where one layer can be three of diffusers."""
    for name, others in kohya.layers(count).items():
        there = [own.get(other.replace(".", "_")) for other in others]
        if None not in there:
            takes, gives = zip(*filter(None, there), strict=True)
            yield name.replace(".", "_"), (takes[0], sum(gives))


def _first(own: Widths, layers: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """By the names of Stable Diffusion's first code, in which blocks are counted through.

    layers: resnets of a block on the way down; on the way up there is one more."""
    for name, widths in own.items():
        if name in FIRST:
            yield FIRST[name], widths
        if not (found := PLACE.fullmatch(name)):
            continue
        way, block, kind, place, rest = found.groups()
        at = int(block or 0) * (layers + 1) + int(place)
        inner = "1" if kind == "attentions" else "0"
        rest = RESNET.get(rest, rest) if kind == "resnets" else rest
        if way == "mid":
            at = 1 if kind == "attentions" else 2 * int(place)
            yield f"middle_block_{at}_{rest}", widths
        elif kind == "downsamplers":
            yield f"input_blocks_{at + layers + 1}_0_op", widths
        elif kind == "upsamplers":
            inner = "2" if f"up_blocks_{block}_attentions_0_proj_in" in own else "1"
            yield f"output_blocks_{at + layers}_{inner}_conv", widths
        else:
            side = f"input_blocks_{at + 1}" if way == "down" else f"output_blocks_{at}"
            yield f"{side}_{inner}_{rest}", widths
