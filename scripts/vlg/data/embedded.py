"""What the guide says of the data set, ready in files: `encode_guide` writes, in shards,

guide-pictures-000, guide-captions-000.safetensors
                           embedding [n or m, d]: the guide's, of length 1
index.json                 as that of `vlg.data.encoded`, without resolution and flip
manifest.json              checksums
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from vlg.data.captioned import read_listing, read_picture
from vlg.data.shards import write_shards
from vlg.files import atomic_folder, identity, write_json, write_manifest

if TYPE_CHECKING:
    import torch

    from vlg.models.guide import Guide

log = logging.getLogger("vlg")


def encode_guide(data: Path, guide: Guide, out: Path, device: str, batch_size: int = 32) -> None:
    """Embed pictures and captions of `data` by the guide into `out`, whole or not at all."""
    import torch

    listing = read_listing(data)

    def encode_pictures(names: list[str]) -> dict[str, torch.Tensor]:
        pixels = torch.stack([read_picture(data / name, max(guide.size)) for name in names])
        with torch.no_grad():
            return {"embedding": guide.encode_image(pixels.to(device)).cpu()}

    with atomic_folder(out) as folder:
        write_shards(
            folder, "guide-pictures", listing.files, encode_pictures, batch_size, torch.float32
        )
        write_shards(
            folder, "guide-captions", listing.captions,
            lambda texts: {"embedding": guide.encode_text(texts).cpu()}, batch_size, torch.float32,
        )  # fmt: skip
        write_json(folder / "index.json", dataclasses.asdict(listing))
        write_manifest(folder, guide=identity(guide.folder))
    log.info("embedded %d pictures and %d captions", len(listing.files), len(listing.captions))
