"""Z-Image, Qwen-Image and Sana at their true sizes, counted without computing them: weights, FLOPs
of one sample, and hours of their overlays. Nothing is allocated: the networks are of the meta
device.

    .venv/bin/python bench/flow_families.py

Texts are of the length that the network is given: 64 tokens of Z-Image, which takes each as long as
it is, and as many as there can be of the others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "bench")]

import flux  # noqa: E402
import sd15  # noqa: E402

from vlg import plugins  # noqa: E402
from vlg.models.flowing import SIDE  # noqa: E402

RANK = 16  # of LoRA, as the overlays have it
TOKENS = 64  # of a text of Z-Image, 25 to 50 of COCO's captions rounded up
NAMES = {"z_image": "ZImage", "qwen_image": "QwenImage", "sana": "Sana"}

# Weights of the published models: network, VAE, text encoder.
PARAMETERS = {
    "z_image": (6_154_908_736, 83_819_683, 4_022_468_096),
    "qwen_image": (20_430_401_088, 126_892_531, 8_292_166_656),
    "sana": (1_604_462_752, 312_250_275, 2_614_341_888),
}


def transformer(name: str) -> Any:
    """The network, as diffusers makes it where a config says nothing."""
    import diffusers

    return getattr(diffusers, f"{NAMES[name]}Transformer2DModel")()


def with_lora(name: str) -> Any:
    """The same, frozen, with the layers that a LoRA trains."""
    from peft import LoraConfig

    targets = list(plugins.own(plugins.FAMILIES, name).lora_targets)
    net = transformer(name).requires_grad_(False)
    net.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
    return net


def vae(name: str) -> Any:
    """The autoencoder."""
    from diffusers import AutoencoderDC, AutoencoderKLQwenImage

    if name == "z_image":
        return flux.vae()
    if name == "qwen_image":
        return AutoencoderKLQwenImage().requires_grad_(False)
    blocks = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    return AutoencoderDC(
        encoder_block_types=blocks, decoder_block_types=blocks, upsample_block_type="interpolate",
        downsample_block_type="Conv", scaling_factor=0.41407,
    ).requires_grad_(False)  # fmt: skip


def text(name: str) -> Any:
    """The language model: Qwen3-4B, Qwen2.5-VL-7B or Gemma 2 2B."""
    import transformers as t

    if name == "z_image":
        config = t.Qwen3Config(
            hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
            num_key_value_heads=8, head_dim=128, vocab_size=151936,
        )  # fmt: skip
        return t.Qwen3Model(config).requires_grad_(False)
    if name == "sana":
        return t.Gemma2Model(t.Gemma2Config()).requires_grad_(False)
    words = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
             "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}  # fmt: skip
    rope = {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}
    looks = {"hidden_size": 1280, "intermediate_size": 3420, "depth": 32, "num_heads": 16,
             "out_hidden_size": 3584, "fullatt_block_indexes": [7, 15, 23, 31]}  # fmt: skip
    config = t.Qwen2_5_VLConfig(
        text_config=words | {"rope_parameters": rope}, vision_config=looks,
        tie_word_embeddings=False,
    )  # fmt: skip
    return t.Qwen2_5_VLForConditionalGeneration(config).requires_grad_(False)


def parameters(name: str) -> tuple[int, ...]:
    """Weights of network, VAE and text encoder."""
    import torch

    makes: tuple[Callable[[str], Any], ...] = (transformer, vae, text)
    with torch.device("meta"):
        return tuple(sum(p.numel() for p in make(name).parameters()) for make in makes)


def lora_weights(name: str) -> int:
    """How many weights a LoRA trains."""
    import torch

    with torch.device("meta"):
        return sd15.trained(with_lora(name))


def told(name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the network is called with for one sample."""
    import torch

    one = torch.ones(1)
    if name == "z_image":
        side = SIDE // 8
        return ([torch.randn(16, 1, side, side)], one, [torch.randn(TOKENS, 2560)]), {}
    if name == "qwen_image":
        rows = SIDE // 16
        z, states = torch.randn(1, rows * rows, 64), torch.randn(1, 512, 3584)
        return (z, states, torch.ones(1, 512), one, [[(1, rows, rows)]]), {}
    z, states = torch.randn(1, 32, SIDE // 32, SIDE // 32), torch.randn(1, 300, 2304)
    return (z, states, one), {"encoder_attention_mask": torch.ones(1, 300)}


def read(name: str) -> int:
    """Tokens that the language model reads of a text."""
    instruction = {"qwen_image": 34, "sana": 250}  # of Sana's reckoned, its tokenizer is not here
    return instruction.get(name, 0) + {"sana": 298}.get(name, 512)


def flops(name: str) -> dict[str, float]:
    """FLOPs of one sample through each part."""
    import torch

    from vlg.models.ledger import count_flops

    with torch.device("meta"):
        args, kwargs = told(name)
        coder, film = vae(name), name == "qwen_image"
        channels, cut = (32, 32) if name == "sana" else (16, 8)
        z, picture = (
            torch.randn(1, channels, SIDE // cut, SIDE // cut),
            torch.randn(1, 3, SIDE, SIDE),
        )
        z, picture = (each[:, :, None] if film else each for each in (z, picture))
        decoding = count_flops(coder.decoder, (z.requires_grad_(),), {})
        reader = text(name)
        reader = reader.model.language_model if film else reader
        ids = torch.zeros(1, read(name), dtype=torch.long)
        return {
            "network": count_flops(transformer(name), args, kwargs)[0],
            "LoRA step": sum(count_flops(with_lora(name), args, kwargs)),
            "vae encode": count_flops(coder.encoder, (picture,), {})[0],
            "vae decode": decoding[0],
            "vae decode and back": sum(decoding),
            "texts": count_flops(reader, (ids,), {})[0],
        }


def study(name: str, work: dict[str, float]) -> dict[str, float]:
    """FLOPs of each stage of the overlay, as docs/gpu.md reckons those of FLUX.1; what is in
    float32 four times, as it runs at a quarter of the speed."""
    import yaml

    overlay = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    samples = overlay["finetune"]["steps"][-1] * overlay["finetune"]["batch_size"]
    calls = overlay["generate"]["steps"] * 2  # with the text and without
    picture = calls * work["network"] + work["vae decode"]
    again = calls / 2 * work["network"] + work["vae decode"] + work["vae encode"]
    normal = samples * (work["LoRA step"] + work["network"])  # activations are recomputed
    guided = 0.9 * 601 / 1000 * samples  # captions kept, timesteps in the window
    return {
        "encode": 4 * overlay["dataset"]["size"] * work["vae encode"] + 5000 * work["texts"],
        "normal": normal,
        "embed": normal + guided * (work["vae decode and back"] + work["vae decode"]),
        "generate": (3364 + 4 * 400) * picture,
        "refine": 1200 * again,
        "best of N": 1200 * picture,
    }


def main() -> None:
    """Print what a sample takes."""
    print("| | network | VAE | text encoder | LoRA of rank 16 |\n|---|---:|---:|---:|---:|")
    for name in NAMES:
        found = [*parameters(name), lora_weights(name)]
        print(f"| {name} | {' | '.join(f'{each:,}' for each in found)} |")
    work = {name: flops(name) for name in NAMES}
    print(f"\n| TFLOP of a sample | {' | '.join(work)} |\n|---|{'---:|' * len(work)}")
    for part in work["sana"]:
        print(f"| {part} | {' | '.join(f'{each[part] / 1e12:.4g}' for each in work.values())} |")
    stages = {name: study(name, work[name]) for name in NAMES}
    print(f"\n| PFLOP | {' | '.join(stages)} |\n|---|{'---:|' * len(stages)}")
    for part in stages["sana"]:
        print(f"| {part} | {' | '.join(f'{each[part] / 1e15:,.0f}' for each in stages.values())} |")
    total = {name: sum(each.values()) for name, each in stages.items()}
    print(f"| sum | {' | '.join(f'{each / 1e15:,.0f}' for each in total.values())} |")
    for card, speed in (("A100", 312e12), ("H100", 989e12)):
        hours = (f"{each / (0.4 * speed * 3600):.0f}" for each in total.values())
        print(f"| hours of an {card} at 40 % | {' | '.join(hours)} |")


if __name__ == "__main__":
    main()
