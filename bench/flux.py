"""FLUX.1 dev at its true size, counted without computing it: weights, FLOPs and what a training
step keeps of a sample. Nothing is allocated: the networks are of the meta device.

    .venv/bin/python bench/flux.py
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "bench")]

import sd15  # noqa: E402
import sd35  # noqa: E402
import sdxl  # noqa: E402

from tests import tiny  # noqa: E402
from vlg.models.families.flux import T5_TOKENS, Flux  # noqa: E402
from vlg.models.flowing import SIDE  # noqa: E402

RANK = 16  # of LoRA, as config/flux.yaml has it
CLIP_TOKENS, CHANNELS = 77, 64

# Weights of the published models.
PARAMETERS = {"transformer": 11_901_408_320, "vae": 83_819_683, "clip": 123_060_480,
              "t5": 4_762_310_656}  # fmt: skip
SCHNELL = 11_891_178_560  # of the transformer, which takes no guidance scale


def transformer(guidance: bool = True) -> Any:
    """The network of dev, or, without `guidance`, of schnell."""
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(guidance_embeds=guidance)


def with_lora() -> Any:
    """The same, frozen, with the layers that a LoRA trains."""
    from peft import LoraConfig

    net, targets = transformer().requires_grad_(False), list(Flux.lora_targets)
    net.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
    return net


def vae() -> Any:
    """The autoencoder: Stable Diffusion 3's but for two numbers."""
    from diffusers import AutoencoderKL

    config = AutoencoderKL.load_config(sd35.SHAPE / "vae")
    given = AutoencoderKL.from_config(config, scaling_factor=0.3611, shift_factor=0.1159)
    return given.requires_grad_(False)


def clip() -> Any:
    """The text encoder: that of CLIP ViT-L/14."""
    return sdxl.network("text_encoder", sdxl.SHAPE)


PARTS: dict[str, Callable[[], Any]] = {
    "transformer": transformer,
    "vae": vae,
    "clip": clip,
    "t5": sd35.t5,
}


def build(folder: Path, size: str = "full") -> Path:
    """Write the base with random weights of 16 bits (33.7 GB), or that of the tests, `tiny`."""
    tiny.save_flux(folder)
    if size == "tiny":
        return folder
    from vlg.models.folders import clip_tokenizer

    places = ("transformer", "vae", "text_encoder", "text_encoder_2")
    for place, make in zip(places, PARTS.values(), strict=True):
        shutil.rmtree(folder / place)
        with sdxl.in_halves():
            make().save_pretrained(folder / place)
    shutil.rmtree(folder / "tokenizer")
    clip_tokenizer().save_pretrained(folder / "tokenizer")
    tiny.t5_tokenizer(512).save_pretrained(folder / "tokenizer_2")
    return folder


def parameters() -> dict[str, int]:
    """Weights of each part."""
    import torch

    with torch.device("meta"):
        return {n: sum(p.numel() for p in make().parameters()) for n, make in PARTS.items()}


def lora_weights() -> int:
    """How many weights a LoRA trains."""
    import torch

    with torch.device("meta"):
        return sd15.trained(with_lora())


def told(samples: int, texts: int = T5_TOKENS[True]) -> tuple[Any, ...]:
    """What the network is called with."""
    import torch

    squares = (SIDE // 16) ** 2
    z, states = torch.randn(samples, squares, CHANNELS), torch.randn(samples, texts, 4096)
    places = torch.zeros(squares + texts, 3)
    more = torch.randn(samples, 768), torch.ones(samples), places, places[:0]
    return z, states, *more, torch.ones(samples)


def flops() -> dict[str, float]:
    """FLOPs of one sample through each part."""
    import torch

    from vlg.models.ledger import count_flops

    with torch.device("meta"):
        lora, coder = with_lora(), vae()
        z, picture = torch.randn(1, 16, SIDE // 8, SIDE // 8), torch.randn(1, 3, SIDE, SIDE)
        words, more = (torch.zeros(1, n, dtype=torch.long) for n in (CLIP_TOKENS, T5_TOKENS[True]))
        given, short = told(1), told(1, T5_TOKENS[False])
        texts = count_flops(clip(), (words,), {})[0] + count_flops(sd35.t5(), (more,), {})[0]
        decoding = count_flops(coder.decoder, (z.requires_grad_(),), {})
        return {
            "network": count_flops(transformer(), given, {})[0],
            "network of schnell": count_flops(transformer(False), short[:-1], {})[0],
            "LoRA step": sum(count_flops(lora, given, {})),
            "vae encode": count_flops(coder.encoder, (picture,), {})[0],
            "vae decode": decoding[0],
            "vae decode and back": sum(decoding),
            "texts": texts,
        }


def kept(part: str, bf16: bool, checkpointing: bool) -> tuple[float, float]:
    """`sd15.kept_by` one part: "network" or "decoder"; of the network when all weights are trained,
    a LoRA keeps less."""
    import torch

    def build() -> tuple[Any, Any]:
        if part == "network":
            net = transformer()
            return net, [*net.transformer_blocks, *net.single_transformer_blocks]
        return (coder := vae()), sd15.blocks(coder.decoder)

    def call(model: Any, samples: int) -> None:
        if part == "network":
            model(*told(samples))
        else:
            model.decode(torch.randn(samples, 16, SIDE // 8, SIDE // 8).requires_grad_())

    return sd15.kept_by(build, call, bf16, checkpointing)


def main() -> None:
    """Print what a sample takes."""
    sd15.show(parameters() | {f"LoRA of rank {RANK}": lora_weights()}, flops())
    sd15.show_kept(("network", "decoder"), kept)


if __name__ == "__main__":
    main()
