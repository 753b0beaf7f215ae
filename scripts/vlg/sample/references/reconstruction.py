"""What the base's VAE leaves of perfect pictures: as good as a picture from its latents can be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vlg.data import pictures
from vlg.sample.reference import Given

BOUND = "ceiling"
WORDS = "the same through the base's VAE"
NEEDS = ("prompts", "base", "render")
TRUTH = True


def draw(given: Given) -> Iterator[np.ndarray]:
    import torch

    from vlg.data.captioned import read_picture
    from vlg.models.family import open_family

    family = open_family(given.base, given.device)
    found = {(row["id"], row["seed"]): folder / row["file_name"] for folder, row in given.sources}
    for batch in pictures.chunks(given.wanted, given.batch_size):
        files = [found[each.id, each.seed] for each in batch]
        pixels = torch.stack([read_picture(file, family.resolution) for file in files])
        with torch.no_grad():
            again = family.decode(family.encode(pixels)[0])
        yield from (again * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
