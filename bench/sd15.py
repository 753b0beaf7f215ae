"""Stable Diffusion 1.5, its judge and a guide at their true sizes with random weights.

The models of `config/sd15.yaml` without a download: SD 1.5 (UNet, VAE, text encoder), CLIP ViT-L/14
and open_clip's ViT-B/32, in the formats that the pipeline reads. How long a step takes and how much
memory it needs do not depend on the weights' values. Size `tiny` has the same layers, each of few
channels, for testing the code that measures.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

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

# Weights of the published models.
PARAMETERS = {"unet": 859_520_964, "vae": 83_653_863, "text": 123_060_480, "judge": 427_616_513,
              "guide": 151_277_313}  # fmt: skip


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
    """The text encoder's config, the same in the judge."""
    return {
        "vocab_size": TOKENS, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
        "bos_token_id": TOKENS - 2, "eos_token_id": TOKENS - 1, "pad_token_id": TOKENS - 1,
        **SIZES[size]["text"],
    }  # fmt: skip


def text_encoder(size: str) -> Any:
    """SD's text encoder, that of CLIP ViT-L/14."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**text_config(size)))


def judge(size: str) -> Any:
    """CLIP ViT-L/14."""
    from transformers import CLIPConfig, CLIPModel

    vision = {"hidden_act": "quick_gelu", **SIZES[size]["vision"]}
    width = vision["projection_dim"]
    config = CLIPConfig(text_config=text_config(size), vision_config=vision, projection_dim=width)
    return CLIPModel(config)


def guide_config(size: str) -> dict[str, Any]:
    """open_clip's config of the guide."""
    import open_clip

    return SIZES[size]["guide"] or open_clip.get_model_config("ViT-B-32")


def guide(size: str) -> Any:
    """open_clip's ViT-B/32."""
    from open_clip.model import CLIP

    config = guide_config(size)
    return CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])


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
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from safetensors.torch import save_file
    from transformers import CLIPImageProcessor, CLIPProcessor

    from vlg.files import write_manifest

    torch.manual_seed(0)
    paths = {name: folder / name for name in ("base", "guide", "judge")}
    tokens = tokenizer()
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    with on(device):
        StableDiffusionPipeline(
            vae=vae(size), text_encoder=text_encoder(size), tokenizer=tokens, unet=unet(size),
            scheduler=scheduler, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(paths["base"])  # fmt: skip
        judge(size).save_pretrained(paths["judge"])
        weights = {name: each.contiguous() for name, each in guide(size).state_dict().items()}
    side = SIZES[size]["vision"]["image_size"]
    processor = CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    CLIPProcessor(processor, tokens).save_pretrained(paths["judge"])
    paths["guide"].mkdir()
    save_file(weights, paths["guide"] / "open_clip_model.safetensors")
    preprocess = {
        "mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711],
    }  # fmt: skip
    config = {"model_cfg": guide_config(size), "preprocess_cfg": preprocess}
    (paths["guide"] / "open_clip_config.json").write_text(json.dumps(config))
    for path in paths.values():
        write_manifest(path)
    return paths


def on(device: str) -> contextlib.AbstractContextManager:
    """Within: new tensors are made on the device."""
    import torch

    return torch.device(device)


def pictures(folder: Path, size: str, number: int = 4) -> Path:
    """Write a captioned image folder of random pictures of the size that the UNet draws."""
    import numpy as np
    from PIL import Image

    side = SIZES[size]["vae"]["sample_size"]
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
