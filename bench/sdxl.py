"""What a sample of Stable Diffusion XL takes at its true size, 1024 x 1024, without computing it.

The networks of `resources/sdxl` on the meta device and on tensors without storage. Run as a program
it prints weights, FLOPs and what autograd keeps.

    .venv/bin/python bench/sdxl.py
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "bench")]

import sd15  # noqa: E402

from tests import tiny  # noqa: E402

SHAPE = ROOT / "resources" / "sdxl"
RANK = 16
# Weights of the published models.
PARAMETERS = {"unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480,
              "text_encoder_2": 694_659_840}  # fmt: skip


def network(part: str, shape: Path = SHAPE) -> Any:
    """One part of a model with random weights, or none, as torch's device and modes have it.

    shape: a folder of its configs."""
    import diffusers
    import transformers

    if part in ("unet", "transformer", "vae"):
        name = json.loads((shape / part / "config.json").read_text())["_class_name"]
        kind = getattr(diffusers, name)
        return kind.from_config(kind.load_config(shape / part))
    config = transformers.CLIPTextConfig.from_pretrained(shape / part)
    return getattr(transformers, config.architectures[0])(config)


def build(folder: Path, size: str = "full") -> Path:
    """Write the base with random weights of 16 bits (6.9 GB), or that of the tests, `tiny`."""
    if size == "tiny":
        return tiny.save_sdxl(folder)
    write(folder, SHAPE, PARAMETERS)
    return folder


def write(folder: Path, shape: Path, parts: Iterable[str]) -> None:
    """Write a model of two CLIPs as a diffusers folder, part by part, in bfloat16.

    shape: a folder of its configs. parts: those with weights."""
    from vlg.models.folders import clip_tokenizer

    shutil.copytree(shape, folder)
    clip_tokenizer().save_pretrained(folder / "tokenizer")
    clip_tokenizer(pad_token="!").save_pretrained(folder / "tokenizer_2")
    for part in parts:
        with in_halves():
            network(part, shape).save_pretrained(folder / part)


@contextlib.contextmanager
def in_halves() -> Iterator[None]:
    """Within: new networks are of bfloat16."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def parameters() -> dict[str, int]:
    """Weights of each part."""
    import torch

    with torch.device("meta"):
        return {n: sum(p.numel() for p in network(n).parameters()) for n in PARAMETERS}


def with_lora(unet: Any) -> Any:
    """The UNet frozen, with low-rank matrices beside its attention."""
    from peft import LoraConfig

    from vlg.models.families.sdxl import StableDiffusionXL

    unet.requires_grad_(False)
    unet.add_adapter(
        LoraConfig(
            r=RANK, init_lora_weights=False, target_modules=[*StableDiffusionXL.lora_targets]
        )
    )
    return unet


def lora_weights() -> int:
    """How many weights such a LoRA trains."""
    import torch

    with torch.device("meta"):
        return sd15.trained(with_lora(network("unet")))


def inputs(samples: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the UNet is called with."""
    import torch

    z = torch.randn(samples, 4, 128, 128)
    told = {"text_embeds": torch.randn(samples, 1280), "time_ids": torch.ones(samples, 6)}
    return (z, torch.ones(samples), torch.randn(samples, 77, 2048)), {"added_cond_kwargs": told}


def flops() -> dict[str, tuple[int, int]]:
    """(forward, backward) FLOPs of one sample through each part."""
    import torch

    from vlg.models.ledger import count_flops

    with torch.device("meta"):
        vae, words = network("vae").requires_grad_(False), torch.zeros(1, 77, dtype=torch.long)
        z, picture = torch.randn(1, 4, 128, 128, requires_grad=True), torch.randn(1, 3, 1024, 1024)
        unet, given = network("unet"), inputs(1)
        found = {"UNet": count_flops(unet, *given)}
        found[f"UNet, LoRA of rank {RANK}"] = count_flops(with_lora(unet), *given)
        found["VAE encoder"] = count_flops(vae.encoder, (picture,), {})
        found["VAE decoder, to the latents"] = count_flops(vae.decoder, (z,), {})
        for name in ("text_encoder", "text_encoder_2"):
            found[name] = count_flops(network(name).requires_grad_(False), (words,), {})
    return found


def kept(part: str, bf16: bool, checkpointing: bool) -> tuple[float, float]:
    """`sd15.kept_by` one part: "unet" or "decoder"."""

    def build() -> tuple[Any, list[Any]]:
        if part == "decoder":
            vae = network("vae").requires_grad_(False)
            return vae, sd15.blocks(vae.decoder)
        return (unet := network("unet")), sd15.blocks(unet)

    def call(model: Any, samples: int) -> None:
        args, more = inputs(samples)
        if part == "decoder":
            model.decode(args[0].requires_grad_())
        else:
            model(args[0].requires_grad_(), *args[1:], **more)

    return sd15.kept_by(build, call, bf16, checkpointing)


def main() -> None:
    """Print what a sample takes."""
    print("| part | weights |\n|---|---:|")
    for part, weights in {**parameters(), f"LoRA of rank {RANK}": lora_weights()}.items():
        print(f"| {part} | {weights:,} |")
    print("\n| TFLOP a sample | forward | backward |\n|---|---:|---:|")
    for part, (there, back) in flops().items():
        print(f"| {part} | {there / 1e12:.3g} | {back / 1e12:.3g} |")
    sd15.show_kept(("unet", "decoder"), kept)


if __name__ == "__main__":
    main()
