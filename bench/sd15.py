"""Stable Diffusion 1.5 and 2.1, judge and guide at their true sizes with random weights.

The models of `config/sd15.yaml` and `config/sd21.yaml` without a download: UNet, VAE and text
encoder, CLIP ViT-L/14 and open_clip's ViT-B/32, in the formats that the pipeline reads. How long a
step takes and how much memory it needs do not depend on the weights' values. Size `tiny` has the
same layers, each of few channels, for testing the code that measures. Run as a program it prints
what a sample takes.

    .venv/bin/python bench/sd15.py              # or --size sd21
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from tests import tiny  # noqa: E402

TOKENS = 49408  # CLIP's vocabulary, which comes with open_clip

# What differs between the sizes. The rest, below, is what the published configs say.
SIZES: dict[str, dict[str, Any]] = {
    "full": {
        "unet": {"sample_size": 64, "block_out_channels": (320, 640, 1280, 1280),
                 "attention_head_dim": 8, "cross_attention_dim": 768, "norm_num_groups": 32},
        "vae": {"sample_size": 512, "block_out_channels": (128, 256, 512, 512),
                "norm_num_groups": 32},
        "text": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                 "num_attention_heads": 12, "projection_dim": 768},
        "vision": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                   "num_attention_heads": 16, "image_size": 224, "patch_size": 14,
                   "projection_dim": 768},
        "guide": {},
    },
    "tiny": {
        "unet": {"sample_size": 8, "block_out_channels": (8, 16, 16, 16),
                 "attention_head_dim": 2, "cross_attention_dim": 16, "norm_num_groups": 4},
        "vae": {"sample_size": 64, "block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4},
        "text": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                 "num_attention_heads": 2, "projection_dim": 16},
        "vision": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                   "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
                   "projection_dim": 16},
        "guide": {"embed_dim": 16,
                  "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8,
                                 "patch_size": 16},
                  "text_cfg": {"context_length": 77, "vocab_size": TOKENS, "width": 16, "heads": 2,
                               "layers": 2}},
    },
}  # fmt: skip

SIZES["sd21"] = SIZES["full"] | {
    "unet": {"sample_size": 96, "block_out_channels": (320, 640, 1280, 1280),
             "attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024,
             "use_linear_projection": True, "norm_num_groups": 32},
    "vae": SIZES["full"]["vae"] | {"sample_size": 768},
    "text": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23,
             "num_attention_heads": 16, "projection_dim": 512, "hidden_act": "gelu"},
}  # fmt: skip

# Weights of the published models.
PARAMETERS = {"unet": 859_520_964, "vae": 83_653_863, "text": 123_060_480, "judge": 427_616_513,
              "guide": 151_277_313}  # fmt: skip
SD21 = PARAMETERS | {"unet": 865_910_724, "text": 340_387_840}


def unet(size: str) -> Any:
    """The UNet."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        in_channels=4, out_channels=4, layers_per_block=2,
        down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        **SIZES[size]["unet"],
    )  # fmt: skip


def vae(size: str) -> Any:
    """The autoencoder."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        latent_channels=4, layers_per_block=2, scaling_factor=0.18215,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        **SIZES[size]["vae"],
    )  # fmt: skip


def text_config(size: str) -> dict[str, Any]:
    """The text encoder's config; that of 1.5 is the judge's, too."""
    return {
        "vocab_size": TOKENS, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
        "bos_token_id": TOKENS - 2, "eos_token_id": TOKENS - 1, "pad_token_id": TOKENS - 1,
        **SIZES[size]["text"],
    }  # fmt: skip


def text_encoder(size: str) -> Any:
    """SD's text encoder: that of CLIP ViT-L/14, of 2.1 that of OpenCLIP's ViT-H."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**text_config(size)))


def judge(size: str) -> Any:
    """CLIP ViT-L/14."""
    from transformers import CLIPConfig, CLIPModel

    vision = {"hidden_act": "quick_gelu", **SIZES[size]["vision"]}
    width = vision["projection_dim"]
    text = text_config("full" if size == "sd21" else size)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=width)
    return CLIPModel(config)


def guide_config(size: str) -> dict[str, Any]:
    """open_clip's config of the guide."""
    import open_clip

    return SIZES[size]["guide"] or open_clip.get_model_config("ViT-B-32")


def guide(size: str) -> Any:
    """open_clip's ViT-B/32."""
    return tiny.guide_of(guide_config(size))


def tokenizer() -> Any:
    """CLIP's tokenizer, from the vocabulary in open_clip."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    plain = SimpleTokenizer()
    names = {TOKENS - 2: "<|startoftext|>", TOKENS - 1: "<|endoftext|>"}
    vocabulary = {names.get(number, token): number for token, number in plain.encoder.items()}
    merges = sorted(plain.bpe_ranks, key=plain.bpe_ranks.get)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def build(folder: Path, size: str = "full", device: str = "cpu") -> dict[str, Path]:
    """Write base, guide and judge below `folder` (6.6 GB at size `full`); returns their paths."""
    import torch

    from vlg.files import write_manifest

    torch.manual_seed(0)
    with on(device):
        tiny.write_base(folder / "base", unet(size), vae(size), text_encoder(size), tokenizer())
        clips = build_clips(folder, size)
    write_manifest(folder / "base")
    return {"base": folder / "base", **clips}


def build_clips(folder: Path, size: str = "full") -> dict[str, Path]:
    """Write guide and judge below `folder`; returns their paths."""
    from vlg.files import write_manifest

    preprocess = {
        "mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711],
    }  # fmt: skip
    tiny.write_judge(folder / "judge", judge(size), tokenizer())
    tiny.write_guide(folder / "guide", guide(size), guide_config(size), preprocess)
    paths = {name: folder / name for name in ("guide", "judge")}
    for path in paths.values():
        write_manifest(path)
    return paths


def on(device: str) -> contextlib.AbstractContextManager:
    """Within: new tensors are made on the device."""
    import torch

    return torch.device(device)


def pictures(folder: Path, size: str, number: int = 4, side: int = 0) -> Path:
    """Write a captioned image folder of random pictures of the size that the UNet draws, or of
    another side."""
    import numpy as np
    from PIL import Image

    side = side or SIZES[size]["vae"]["sample_size"]
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for index in range(number):
        coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        picture.save(folder / f"{index}.png")
        text = f"a photograph of thing number {index} on a table"
        lines.append(json.dumps({"file_name": f"{index}.png", "text": text}) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines))
    return folder


def flops(size: str) -> dict[str, float]:
    """FLOPs of one sample through each part, counted on modules without storage."""
    import torch
    from diffusers import AutoencoderTiny

    from vlg.models.ledger import count_flops

    config = SIZES[size]
    side, pixels = config["unet"]["sample_size"], config["vae"]["sample_size"]
    with torch.device("meta"):
        net, coder = unet(size), vae(size).requires_grad_(False)
        clip, other = judge(size), guide(size).requires_grad_(False)
        z, t = torch.randn(1, 4, side, side), torch.tensor([1])
        states = torch.randn(1, 77, config["unet"]["cross_attention_dim"])
        seen = torch.randn(1, 3, *[guide_config(size)["vision_cfg"]["image_size"]] * 2)
        judged = torch.randn(1, 3, *[config["vision"]["image_size"]] * 2)
        picture = torch.randn(1, 3, pixels, pixels)
        taesd = AutoencoderTiny().requires_grad_(False)  # full size only
        text, words = text_encoder(size), torch.zeros(1, 77, dtype=torch.long)

    def forward(module: Any, *args: Any) -> float:
        return count_flops(module, args, {})[0]

    def both(module: Any, x: Any) -> float:  # to the input, as the weights are frozen
        return sum(count_flops(module, (x.detach().requires_grad_(),), {}))

    looking = both(other.visual, seen)
    return {
        "unet": forward(net, z, t, states),
        "unet step": sum(count_flops(net, (z, t, states), {})),
        "vae encode": forward(coder.encoder, picture),
        "vae decode": forward(coder.decoder, z),
        "clip term": both(coder.decoder, z) + looking,
        "clip term, tiny decoder": both(taesd.decoder, z) + looking,
        "text encode": forward(text, words),
        "judge": forward(clip.vision_model, judged),
        "guide": forward(other.visual, seen),
    }


def kept(size: str, part: str, bf16: bool, checkpointing: bool) -> tuple[float, float]:
    """`kept_by` one part: "unet", or "decoder" for the VAE's, whose weights are frozen."""
    import torch

    side, width = SIZES[size]["unet"]["sample_size"], SIZES[size]["unet"]["cross_attention_dim"]

    def build() -> tuple[Any, list[Any]]:
        if part == "unet":
            return (net := unet(size)), blocks(net)
        coder = vae(size).requires_grad_(False)
        return coder, blocks(coder.decoder)

    def call(model: Any, samples: int) -> None:
        z = torch.randn(samples, 4, side, side, requires_grad=True)
        if part == "unet":
            model(z, torch.ones(samples), torch.randn(samples, 77, width))
        else:
            model.decode(z)

    return kept_by(build, call, bf16, checkpointing)


def trained(model: Any) -> int:
    """How many weights of a model are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def blocks(model: Any) -> list[Any]:
    """The blocks of a UNet or of a decoder."""
    return [*getattr(model, "down_blocks", ()), model.mid_block, *model.up_blocks]


def kept_by(
    build: Callable[[], tuple[Any, Sequence[Any]]],
    call: Callable[[Any, int], None],
    bf16: bool,
    checkpointing: bool,
) -> tuple[float, float]:
    """(bytes that autograd keeps of one sample until its backward pass, most that a block keeps).

    build: a model and its blocks. call: the model's pass of so many
    samples. Counted on tensors without storage, as the difference between two samples and one:
    copies of weights are left out. With checkpointing a block's own are made again one block at a
    time. Under autocast a GPU keeps normalisations in float32, which a CPU, whose rules are counted
    here, does not.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    def count(samples: int) -> tuple[float, list[float]]:
        seen: dict[int, Any] = {}
        by_block: list[float] = []

        def pack(tensor: Any) -> Any:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                seen[storage._cdata] = tensor  # kept alive, or its address would be used again
            return tensor

        def total() -> float:
            return sum(tensor.untyped_storage().nbytes() for tensor in seen.values())

        with FakeTensorMode():
            model, parts = build()
            weights = {p.untyped_storage()._cdata for p in model.parameters()}
            for block in parts:
                block.register_forward_pre_hook(lambda *_: by_block.append(-total()))
                block.register_forward_hook(lambda *_: by_block.append(by_block.pop() + total()))
            if checkpointing:
                model.enable_gradient_checkpointing()
            hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
            with hooks, torch.autocast("cpu", torch.bfloat16, bf16):
                call(model.train(), samples)
            return total(), by_block

    (one, first), (two, second) = count(1), count(2)
    return two - one, max(b - a for a, b in zip(first, second, strict=True))


def main() -> None:
    """Print what a sample takes at the true size, counted without computing it."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--size", choices=("full", "sd21"), default="full")
    size = arguments.parse_args().size
    weighing = SD21 if size == "sd21" else PARAMETERS
    print("| part | weights | TFLOP a sample |\n|---|---:|---:|")
    work = flops(size)
    for name, weights, key in (
        ("UNet, forward", weighing["unet"], "unet"),
        ("UNet, forward and backward", None, "unet step"),
        ("VAE encoder", weighing["vae"], "vae encode"),
        ("VAE decoder", None, "vae decode"),
        ("CLIP term: decoder and guide, forward and backward to the latents", None, "clip term"),
        ("text encoder, a caption", weighing["text"], "text encode"),
        ("judge, a picture", weighing["judge"], "judge"),
        ("guide, a picture", weighing["guide"], "guide"),
    ):
        count = "" if weights is None else f"{weights:,}"
        print(f"| {name} | {count} | {work[key] / 1e12:.3g} |")
    show_kept(("unet", "decoder"), functools.partial(kept, size))


def show(weights: Mapping[str, int], work: Mapping[str, float]) -> None:
    """Print the numbers of weights, and what of a sample takes how many FLOPs."""
    print("| part | weights |\n|---|---:|")
    for name, count in weights.items():
        print(f"| {name} | {count:,} |")
    print("\n| of a sample | TFLOP |\n|---|---:|")
    for name, count in work.items():
        print(f"| {name} | {count / 1e12:.4g} |")
    print(f"| guide, forward and backward | {flops('full')['guide'] * 2 / 1e12:.3g} |")


def show_kept(parts: Sequence[str], kept: Callable[[str, bool, bool], tuple[float, float]]) -> None:
    """Print what `kept` says of each part in both precisions, with and without checkpointing."""
    print(
        "\n| GB kept for the backward pass, a sample | float32 | bf16 autocast |\n|---|---:|---:|"
    )
    for part in parts:
        found = {
            (bf16, again): kept(part, bf16, again)
            for bf16 in (False, True)
            for again in (False, True)
        }
        for what, again, index in (
            ("all", False, 0), ("checkpointing: between blocks", True, 0),
            ("checkpointing: the largest block, made again", False, 1),
        ):  # fmt: skip
            single, half = (found[bf16, again][index] / 1e9 for bf16 in (False, True))
            print(f"| {part}: {what} | {single:.2f} | {half:.2f} |")


if __name__ == "__main__":
    main()
