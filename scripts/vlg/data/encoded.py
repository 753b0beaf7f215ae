"""The data set, encoded once: what training needs of each picture and caption, ready in files.

A training step of diffusers' example script runs the VAE encoder and the text encoder for every
sample of every step, though their answers never change. Here they run once per picture. At 512 px
a picture takes 2 * 4 * 64 * 64 * 4 bytes = 131 kB (VAE mean and standard deviation) and a caption
77 * 768 * 4 bytes = 237 kB, so 1,000 pictures with one caption each take 0.37 GB, half of it with
`dtype: float16`. In shards that training maps into memory, `encode` writes

    latents-000.safetensors    mean, std [n, c, h, w] of the VAE's posterior, as the network takes
                               them; with `flip` also mean_flipped, std_flipped of the mirrored
                               pictures; and what else the network is told of them, as Stable
                               Diffusion XL's time_ids [n, 6]
    captions-000.safetensors   the family's condition, as Stable Diffusion's states
                               [m, tokens, width]: one row per distinct caption, row 0 the empty one
    index.json                 files of the pictures; captions: the texts; rows: of each picture,
                               those of its captions; resolution and flip
    manifest.json              checksums and the settings

What the guide says is a folder of its own (`vlg.data.embedded`), so that another guide encodes no
picture again and retrains nothing that has no guide.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.config.sections import Encode
from vlg.data.captioned import corner, read_listing, read_picture, read_size
from vlg.data.shards import write_shards
from vlg.files import atomic_folder, identity, write_json, write_manifest
from vlg.models.device import set_precision
from vlg.models.family import open_family

if TYPE_CHECKING:
    import torch

log = logging.getLogger("vlg")


def encode(
    data: Path, base: Path, out: Path, settings: dict[str, Any], device: str, batch_size: int = 32
) -> None:
    """Encode the image folder `data` by the base model into the folder `out`, whole or not at all.

    settings: optionally `resolution` in pixels (default: what the base was trained at), `flip`
    (also store mirrored pictures), `dtype` (`float32` or `float16`, of the files) and `precision`
    (of the text encoders, as `set_precision` has it). The VAE is gone before these are loaded.
    """
    import torch

    keys = dict(settings)
    resolution = keys.pop("resolution", None)
    options = Encode.parse(keys, "encode")
    listing = read_listing(data)
    family = open_family(base, device)
    resolution = resolution or family.resolution

    def posterior(pixels: torch.Tensor, end: str = "") -> dict[str, torch.Tensor]:
        names = (f"mean{end}", f"std{end}")
        return {k: v.cpu() for k, v in zip(names, family.encode(pixels), strict=True)}

    def encode_pictures(names: list[str]) -> dict[str, torch.Tensor]:
        pixels = torch.stack([read_picture(data / name, resolution) for name in names])
        latents = posterior(pixels)
        latents |= posterior(pixels.flip(-1), "_flipped") if options.flip else {}
        if not family.sized:
            return latents
        sizes = [read_size(data / name) for name in names]
        corners = [corner(size, resolution) for size in sizes]
        return latents | family.placed(torch.tensor(sizes), torch.tensor(corners), resolution)

    def encode_captions(texts: list[str]) -> dict[str, torch.Tensor]:
        return {name: tensor.cpu() for name, tensor in family.condition(texts).items()}

    with atomic_folder(out) as folder:
        dtype = getattr(torch, options.dtype)
        write_shards(folder, "latents", listing.files, encode_pictures, batch_size, dtype)
        family = open_family(base, device, set_precision(options.precision))
        write_shards(folder, "captions", listing.captions, encode_captions, batch_size, dtype)
        facts = {"resolution": resolution, "flip": options.flip}
        write_json(folder / "index.json", {**dataclasses.asdict(listing), **facts})
        write_manifest(folder, settings=settings, base=identity(base))
    log.info("encoded %d pictures and %d captions", len(listing.files), len(listing.captions))
