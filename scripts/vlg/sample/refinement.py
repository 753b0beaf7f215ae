"""Iterative refinement and its controls: redraw each picture, let the guide choose what is kept.

A keep-best SDEdit loop. The first incumbent is the picture generation drew; in round r it is noised
to `strength`, denoised under its prompt with noise of its own for (prompt, seed, r), and kept or
replaced by the guide's cosine. With strength 1 a round is a fresh sample, so the same loop is
best of (rounds + 1). The judge takes no part.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlg.data import pictures
from vlg.models.device import Parts
from vlg.models.guide import Guide
from vlg.sample.sampler import Sampler

log = logging.getLogger("vlg")


def guide_scores(guide: Guide, images: np.ndarray, texts: list[str]) -> list[float]:
    """100 cos by the guide of each (picture, text); images (n, height, width, 3) uint8."""
    import torch

    def part(images: np.ndarray, texts: list[str]) -> list[float]:
        # Bytes travel to the device, a quarter of the floats; the floats are the same there.
        pixels = torch.from_numpy(images).to(guide.device).permute(0, 3, 1, 2).float().div(255)
        with torch.no_grad():
            cosines = (guide.encode_image(pixels) * guide.encode_text(texts)).sum(1)
        return [round(100 * value, 4) for value in cosines.tolist()]

    return [score for scores in Parts("scoring pictures")(part, images, texts) for score in scores]


def refine(
    start: Sequence[tuple[Path, dict[str, Any]]],
    models: Callable[[], tuple[Sampler, Guide]],
    folder: Callable[[int], Path],
    arm: str,
    keys: Sequence[str],
    settings: dict[str, Any],
    batch_size: int,
) -> None:
    """Run rounds 1 to settings["rounds"] of one arm on one shard of pictures.

    start: (folder, metadata row) of each picture of round 0. folder(r) is where round r goes; each
    round is a whole picture folder. settings: rounds, strength, accept, and the sampler's. `keys`
    identify the weights of model and guide. Pictures of an earlier run with the same key are kept.
    """
    from tqdm import tqdm

    rounds = settings["rounds"]
    recipe = {name: value for name, value in settings.items() if name != "rounds"}
    metadata: dict[int, list[dict[str, Any]]] = {number: [] for number in range(1, rounds + 1)}
    for number in metadata:
        folder(number).mkdir(parents=True, exist_ok=True)
        pictures.prune(folder(number), {row["file_name"] for _, row in start})
    ready: tuple[Sampler, Guide] | None = None
    progress = tqdm(total=len(start) * rounds, desc=f"refine {arm}", mininterval=5)
    with pictures.Writer() as writer:
        for first in range(0, len(start), batch_size):
            batch = start[first : first + batch_size]
            rows = [dict(row) for _, row in batch]
            images: np.ndarray | None = None
            scores: list[float] = []
            texts = [row["prompt"] for row in rows]
            seeds = [row["seed"] for row in rows]
            for number in range(1, rounds + 1):
                into = folder(number)
                wanted = [pictures.key(keys, before["key"], number, recipe) for before in rows]
                found = [
                    pictures.kept(into / row["file_name"], k)
                    for row, k in zip(rows, wanted, strict=True)
                ]
                progress.update(len(batch))
                if all(found):
                    rows = [{**row, "seconds": None} for row in found if row]
                    metadata[number] += rows
                    images = None
                    continue
                ready = ready or models()
                sampler, guide = ready
                if images is None and number == 1:
                    images = np.stack([pictures.load_checked(*each) for each in batch])
                    scores = guide_scores(guide, images, texts)
                elif images is None:
                    last = folder(number - 1)
                    images = np.stack([pictures.load(last / row["file_name"]) for row in rows])
                    # Not scored again: the last bits of a score depend on its batch.
                    scores = [row["guide"] for row in rows]
                began = time.monotonic()
                purpose = f"refine-{number}"
                if settings["strength"] == 1:
                    drawn = sampler.draw(texts, seeds, purpose)
                else:
                    drawn = sampler.redraw(images, texts, seeds, settings["strength"], purpose)
                new_scores = guide_scores(guide, drawn, texts)
                seconds = (time.monotonic() - began) / len(batch)
                accepted = [
                    settings["accept"] == "always" or new > old
                    for new, old in zip(new_scores, scores, strict=True)
                ]
                images = np.where(np.array(accepted)[:, None, None, None], drawn, images)
                scores = [
                    new if yes else old
                    for new, old, yes in zip(new_scores, scores, accepted, strict=True)
                ]
                fresh = []
                for row, k, yes, score, image in zip(
                    rows, wanted, accepted, scores, images, strict=True
                ):
                    calls = row["unet_calls"] + sampler.unet_calls
                    # Cost is cumulative; what a picture kept from an earlier run took is not known.
                    spent = row["seconds"]
                    row = {
                        **{
                            name: row[name] for name in ("file_name", "id", "prompt", "seed", "set")
                        },
                        "model": row["model"],
                        "arm": arm,
                        "round": number,
                        "unet_calls": calls,
                        "guide": score,
                        "accepted": yes,
                        "key": k,
                    }
                    writer.save(into / row["file_name"], image, row)
                    fresh.append(
                        {**row, "seconds": None if spent is None else round(spent + seconds, 4)}
                    )
                rows = fresh
                metadata[number] += rows
    for number, rows in metadata.items():
        pictures.write_metadata(folder(number), rows, weights=keys[0], chosen_by=keys[1])
        share = sum(row["accepted"] for row in rows) / max(1, len(rows))
        log.info("%s round %d: %d pictures, %.0f %% new", arm, number, len(rows), 100 * share)
