"""kohya's layout of LoRAs: `lora_unet_<module>.lora_down.weight`, `.lora_up.weight`, `.alpha`, the
module's dots as underscores, the change alpha / rank times up times down.

diffusers reads it for bases with a UNet. Of Stable Diffusion 3 the modules have the names of its
own code, in which query, key and value are one layer, so that is put into diffusers' names here.
OneTrainer writes the same endings with diffusers' modules behind `lora_transformer_`. Flux is read
by diffusers, too, and written here; so are Z-Image and Qwen-Image, by diffusers' names of modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
# The same of Flux's two kinds of blocks, where a training here changes them; None is a layer that
# it leaves as it is, in the same one of Flux's own code as others.
FLUX = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
FLUX_ALONE = {"linear1": ("attn.to_q", "attn.to_k", "attn.to_v", None)}
WIDER = 4  # the rows of what is left out there, of those of one of the others
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


def layers_of_flux(names: Iterable[str]) -> dict[str, tuple[str | None, ...]]:
    """{layer of Flux's own code: those of diffusers}, of the blocks of which these are layers."""
    found: dict[str, tuple[str | None, ...]] = {}
    for start, own, table in (
        ("transformer_blocks", "double_blocks", FLUX),
        ("single_transformer_blocks", "single_blocks", FLUX_ALONE),
    ):
        numbers = {name.split(".")[1] for name in names if name.startswith(f"{start}.")}
        for i in sorted(numbers, key=int):
            for name, others in table.items():
                made = tuple(each and f"{start}.{i}.{each}" for each in others)
                found[f"{own}.{i}.{name}"] = made
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

    Query, key and value of Stable Diffusion 3 and of Flux become one layer of three times the rank.
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
    joint = any(name.startswith("transformer.") for name in tensors)  # no UNet's
    table: Mapping[str, tuple[str | None, ...]] = {name: (name,) for name in pairs}
    if any(name.startswith("single_transformer_blocks.") for name in pairs):
        table = layers_of_flux(pairs)
    elif any(".attn1." in name for name in pairs) and joint:
        raise ValueError("of Sana, and diffusers reads none of it in kohya's layout")
    elif any(".add_q_proj" in name for name in pairs):
        table = layers(max(numbers) + 1)
    result = {}
    for name, others in table.items():
        if not (there := [each for each in others if each in pairs]):
            continue
        if len(there) != len(others) - others.count(None):
            raise ValueError(f"{name} is {len(others)} layers and {len(there)} of them are there")
        key = f"lora_unet_{name.replace('.', '_')}"
        down, up = pairs[there[0]]
        nothing = torch.zeros_like(down), up.new_zeros(WIDER * len(up), up.shape[1])
        parts = [nothing if each is None else pairs[each] for each in others]
        result[key + DOWN] = torch.cat([part[0] for part in parts])
        result[key + UP] = torch.block_diag(*(part[1] for part in parts))
        result[f"{key}.alpha"] = torch.tensor(float(len(result[key + DOWN])))
    return result
