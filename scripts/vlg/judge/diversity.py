"""How pictures of one prompt differ: from each other, and from what the base drew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vlg.config.layout import BASE
from vlg.data import pictures
from vlg.models.clip import Clip

COLUMNS = ("model", "arm", "round", "id", "seed", "sha256", "spread", "drift")
Key = tuple[str, str, int]  # model, arm, round


def measure(folders: Sequence[Path], clip: Clip, batch_size: int) -> list[dict[str, Any]]:
    """A row of `COLUMNS` for each study picture; distances are 1 - cos by `clip`.

    spread: the mean distance of a picture to those of the same prompt, model, arm and round on the
    other seeds (empty with one seed). drift: its distance to base's plain one of the same prompt
    and seed. folders: those are among them.
    """
    import torch

    found: dict[Key, dict[tuple[str, int], tuple[str, torch.Tensor]]] = {}
    for each in tqdm(folders, "diversity", mininterval=5):
        for batch in pictures.chunks(pictures.listed([each], only="study"), batch_size):
            images = [pictures.load_checked(folder, row) for folder, row in batch]
            for (_, row), unit in zip(batch, clip.encode_image(images).cpu(), strict=True):
                own = found.setdefault((row["model"], row.get("arm", ""), row.get("round", 0)), {})
                own[row["id"], row["seed"]] = (row["sha256"], unit)
    base = found[BASE, "", 0]
    rows = []
    for (model, arm, number), own in found.items():
        seeds = {seed for _, seed in own}
        for (name, seed), (checksum, unit) in own.items():
            others = [own[name, each][1] for each in seeds if each != seed and (name, each) in own]
            spread = (1 - torch.stack(others) @ unit).mean().item() if others else None
            drift = (1 - base[name, seed][1] @ unit).item()
            rows.append(
                {
                    **{"model": model, "arm": arm, "round": number},
                    **{"id": name, "seed": seed, "sha256": checksum},
                    "spread": "" if spread is None else f"{spread:.6f}",
                    "drift": f"{drift:.6f}",
                }
            )
    return rows
