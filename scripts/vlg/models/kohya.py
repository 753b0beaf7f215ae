"""kohya's layout of LoRAs: `lora_unet_<module>.lora_down.weight`, `.lora_up.weight`, `.alpha`, the
module's dots as underscores, the change alpha / rank times up times down.

diffusers reads it for bases with a UNet. Of Stable Diffusion 3 the modules have the names of its
own code, in which query, key and value are one layer, so that is put into diffusers' names here.
OneTrainer writes the same endings with diffusers' modules behind `lora_transformer_`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, "torch.Tensor"]
DOWN, UP = ".lora_down.weight", ".lora_up.weight"
# A layer of Stable Diffusion 3's own code within a block, and the layers that diffusers makes of it
BLOCK = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "x_block.attn.proj": ("attn.to_out.0",),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "x_block.attn2.proj": ("attn2.to_out.0",),
    "x_block.mlp.fc1": ("ff.net.0.proj",),
    "x_block.mlp.fc2": ("ff.net.2",),
    "x_block.adaLN_modulation.1": ("norm1.linear",),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "context_block.attn.proj": ("attn.to_add_out",),
    "context_block.mlp.fc1": ("ff_context.net.0.proj",),
    "context_block.mlp.fc2": ("ff_context.net.2",),
    "context_block.adaLN_modulation.1": ("norm1_context.linear",),
}
OUTSIDE = {
    "context_embedder": "context_embedder",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
TEXTS = {"lora_te1_": "text_encoder.", "lora_te2_": "text_encoder_2."}
TEXT = re.compile(r"text_model_encoder_layers_(\d+)_(self_attn|mlp)_(\w+)")


def layers(count: int) -> dict[str, tuple[str, ...]]:
    """{layer of Stable Diffusion 3's own code: those of diffusers}, of so many blocks."""
    found = {name: (other,) for name, other in OUTSIDE.items()}
    for i in range(count):
        for name, others in BLOCK.items():
            made = tuple(f"transformer_blocks.{i}.{each}" for each in others)
            found[f"joint_blocks.{i}.{name}"] = made
    return found


def _swapped(count: int) -> set[str]:
    """The layers that give shift and scale there, and scale and shift in diffusers."""
    return {"norm_out.linear", f"transformer_blocks.{count - 1}.norm1_context.linear"}


def is_of_sd3(names: Any) -> bool:
    """Whether a file with these tensors is one that diffusers does not read."""
    return any(name.startswith(("lora_unet_joint_blocks_", "lora_transformer_")) for name in names)


def read(tensors: Tensors, count: int) -> dict[str, torch.Tensor]:
    """A LoRA of Stable Diffusion 3 in diffusers' layout, alpha within the second matrix.

    count: blocks of the transformer. ValueError names a layer that it has not.
    """
    import torch

    known = {}
    for name, others in layers(count).items():
        known[f"lora_unet_{name.replace('.', '_')}"] = others
        for other in others:
            known[f"lora_transformer_{other.replace('.', '_')}"] = (other,)
    result = {}
    for name in [each.removesuffix(DOWN) for each in tensors if each.endswith(DOWN)]:
        down, up = tensors[name + DOWN].float(), tensors[name + UP].float()
        alpha = tensors.get(f"{name}.alpha")
        up = up if alpha is None else up * (float(alpha) / len(down))
        text = next((start for start in TEXTS if name.startswith(start)), None)
        if text and (found := TEXT.fullmatch(name.removeprefix(text))):
            made = f"text_model.encoder.layers.{found[1]}.{found[2]}.{found[3]}"
            targets: tuple[str, ...] = (TEXTS[text] + made,)
        elif name in known:
            targets = tuple(f"transformer.{each}" for each in known[name])
        else:
            raise ValueError(f"no layer {name}")
        for target, part in zip(targets, up.chunk(len(targets)), strict=True):
            own = name.startswith("lora_unet_")
            if own and target.removeprefix("transformer.") in _swapped(count):
                part = torch.cat(part.chunk(2)[::-1])
            result[f"{target}.lora_A.weight"] = down.clone()
            result[f"{target}.lora_B.weight"] = part.contiguous()
    return result


def written(tensors: Tensors) -> dict[str, torch.Tensor]:
    """What a training here has written, in kohya's layout; ValueError for what it has not.

    Query, key and value of Stable Diffusion 3 become one layer of three times the rank.
    """
    import torch

    start = re.compile(r"(unet|transformer)\.(.+)\.lora_A\.weight")
    pairs = {}
    for name, down in tensors.items():
        if found := start.fullmatch(name):
            pairs[found[2]] = down, tensors[name.replace(".lora_A.", ".lora_B.")]
    if 2 * len(pairs) != len(tensors) or not pairs:
        raise ValueError("not a LoRA as a training here writes it")
    numbers = [int(n.split(".")[1]) for n in pairs if n.startswith("transformer_blocks.")]
    joint = any(name.startswith("transformer.") for name in tensors)
    table = layers(max(numbers) + 1) if joint else {name: (name,) for name in pairs}
    result = {}
    for name, others in table.items():
        if not (there := [each for each in others if each in pairs]):
            continue
        if len(there) != len(others):
            raise ValueError(f"{name} is {len(others)} layers and {len(there)} of them are there")
        key = f"lora_unet_{name.replace('.', '_')}"
        result[key + DOWN] = torch.cat([pairs[each][0] for each in others])
        result[key + UP] = torch.block_diag(*(pairs[each][1] for each in others))
        result[f"{key}.alpha"] = torch.tensor(float(len(result[key + DOWN])))
    return result
