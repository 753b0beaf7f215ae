"""Stable Diffusion 3.5 medium at its true size, counted without computing it: weights, FLOPs and
what a training step keeps of a sample. Nothing is allocated: the networks are of the meta device.

    .venv/bin/python bench/sd35.py
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "bench")]

import sd15  # noqa: E402
import sdxl  # noqa: E402

from tests import tiny  # noqa: E402
from vlg.models.families.sd3 import T5_TOKENS, StableDiffusion3  # noqa: E402

SHAPE = ROOT / "resources" / "sd3"
SIDE, PIXELS, CLIP_TOKENS = 128, 1024, 77
RANK = 16  # of LoRA, as config/sd35.yaml has it

# Weights of the published models.
PARAMETERS = {"transformer": 2_243_171_520, "vae": 83_819_683, "clip": 123_650_304,
              "clip_2": 694_659_840, "t5": 4_762_310_656}  # fmt: skip


def transformer() -> Any:
    """The network."""
    return sdxl.network("transformer", SHAPE)


def with_lora() -> Any:
    """The same, frozen, with the layers that a LoRA trains."""
    from peft import LoraConfig

    net, targets = transformer().requires_grad_(False), list(StableDiffusion3.lora_targets)
    net.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
    return net


def vae() -> Any:
    """The autoencoder."""
    return sdxl.network("vae", SHAPE).requires_grad_(False)


def clip(second: bool = False) -> Any:
    """A text encoder: CLIP ViT-L/14's or, the second, that of OpenCLIP ViT-bigG/14."""
    return sdxl.network("text_encoder_2" if second else "text_encoder", SHAPE)


def t5() -> Any:
    """T5 v1.1 XXL's encoder."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
            feed_forward_proj="gated-gelu",
        )
    )  # fmt: skip


def build(folder: Path, size: str = "full") -> Path:
    """Write the base with random weights of 16 bits (15.8 GB), or that of the tests, `tiny`."""
    from transformers import T5TokenizerFast

    if size == "tiny":
        return tiny.save_sd3(folder)
    sdxl.write(folder, SHAPE, ("transformer", "vae", "text_encoder", "text_encoder_2"))
    with sdxl.in_halves():
        t5().save_pretrained(folder / "text_encoder_3")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -2.0)]
    words = [(f"\u2581{word}", -3.0) for word in ("a", "of", "on", "photograph")]
    T5TokenizerFast(vocab=pieces + words, extra_ids=0).save_pretrained(folder / "tokenizer_3")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "text_encoder_3": ["transformers", "T5EncoderModel"],
        "tokenizer_3": ["transformers", "T5TokenizerFast"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


PARTS: dict[str, Callable[[], Any]] = {
    "transformer": transformer,
    "vae": vae,
    "clip": clip,
    "clip_2": functools.partial(clip, True),
    "t5": t5,
}


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


def told(samples: int) -> tuple[Any, ...]:
    """What the network is called with."""
    import torch

    states = torch.randn(samples, CLIP_TOKENS + T5_TOKENS, 4096)
    z = torch.randn(samples, 16, SIDE, SIDE)
    return z, states, torch.randn(samples, 2048), torch.ones(samples)


def flops() -> dict[str, float]:
    """FLOPs of one sample through each part."""
    import torch

    from vlg.models.ledger import count_flops

    with torch.device("meta"):
        plain, lora, coder, given = transformer(), with_lora(), vae(), told(1)
        texts = clip(), clip(True), t5()
        z, picture = torch.randn(1, 16, SIDE, SIDE), torch.randn(1, 3, PIXELS, PIXELS)
        words, more = (torch.zeros(1, n, dtype=torch.long) for n in (CLIP_TOKENS, T5_TOKENS))
    decoding = count_flops(coder.decoder, (z.requires_grad_(),), {})
    return {
        "network": count_flops(plain, given, {})[0],
        "network step": sum(count_flops(plain, given, {})),
        "LoRA step": sum(count_flops(lora, given, {})),
        "vae encode": count_flops(coder.encoder, (picture,), {})[0],
        "vae decode": decoding[0],
        "vae decode and back": sum(decoding),
        "texts": sum(
            count_flops(text, (ids,), {})[0]
            for text, ids in zip(texts, (words, words, more), strict=True)
        ),
    }


def kept(part: str, bf16: bool, checkpointing: bool) -> tuple[float, float]:
    """`sd15.kept_by` one part: "network" or "decoder"; of the network when all weights are trained,
    a LoRA keeps less."""

    def build() -> tuple[Any, Any]:
        if part == "network":
            return (net := transformer()), net.transformer_blocks
        return (coder := vae()), sd15.blocks(coder.decoder)

    def call(model: Any, samples: int) -> None:
        z, *others = told(samples)
        if part == "network":
            model(z.requires_grad_(), *others)
        else:
            model.decode(z.requires_grad_())

    return sd15.kept_by(build, call, bf16, checkpointing)


def main() -> None:
    """Print what a sample takes."""
    sd15.show(parameters() | {f"LoRA of rank {RANK}": lora_weights()}, flops())
    sd15.show_kept(("network", "decoder"), kept)


if __name__ == "__main__":
    main()
