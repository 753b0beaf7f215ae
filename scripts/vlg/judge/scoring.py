"""Score picture folders: by the study's judge and guide with ground truth, or by a further judge.

Pictures are read, and prepared for the judge, a few batches ahead of the one that is being scored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from tqdm import tqdm

from vlg.config import sections
from vlg.config.keys import Keys
from vlg.data import pictures
from vlg.judge.columns import COLUMNS
from vlg.judge.kind import Judge
from vlg.models.cosines import guide_scores
from vlg.models.guide import Guide

log = logging.getLogger("vlg")

Row = dict[str, Any]
Wanted = Sequence[tuple[Path, Row]]


class Settings(Keys):
    """How the study's own scores are taken."""

    precision: sections.Precision = Field("fp32", description="`score.precision`.")
    truth: bool = Field(
        False, description="Whether prompts are the shapes world's, whose pictures can be read."
    )


def study(
    folders: Sequence[Path],
    judge: Judge,
    guide: Guide,
    weights: Mapping[str, str],
    truth: bool,
    root: Path,
    batch_size: int,
    threads: int,
) -> Iterator[Row]:
    """A row of `COLUMNS` for each picture.

    weights: judge_weights and guide_weights. truth: as in `Settings`. root: results/<study>, to
    which paths are relative.
    """
    verified = verifier() if truth else lambda image, prompt: {}
    wanted = pictures.listed(folders)
    flat: list[Path] = []
    for batch, images, ready in _batches(wanted, judge, batch_size, threads, "score"):
        texts = [row["prompt"] for _, row in batch]
        one = pictures.one_coloured(images)
        flat += [
            folder / row["file_name"] for (folder, row), yes in zip(batch, one, strict=True) if yes
        ]
        by_judge = judge(ready, texts)
        by_guide = guide_scores(guide, np.stack(images), texts)
        for (folder, row), image, blank, clipscore, guided in zip(
            batch, images, one, by_judge, by_guide, strict=True
        ):
            facts = verified(image, row["prompt"])
            yield {
                **{name: row.get(name) for name in COLUMNS},
                **weights,
                "clipscore": f"{clipscore:.4f}",
                "guide": f"{guided:.4f}",
                "blank": int(blank),
                **{name: round(value, 4) for name, value in facts.items() if value is not None},
                "picture": _below(root, folder, row),
            }
    if flat:
        log.warning(
            "%d of %d pictures are of one colour, %s the first; their scores count as all others",
            len(flat),
            len(wanted),
            flat[0],
        )


def further(
    folders: Sequence[Path], judge: Judge, root: Path, batch_size: int, threads: int
) -> Iterator[Row]:
    """A row of `FURTHER` for each study picture."""
    known = judge.fingerprint()
    wanted = pictures.listed(folders, only="study")
    for batch, _, ready in _batches(wanted, judge, batch_size, threads, "judge"):
        numbers = judge(ready, [row["prompt"] for _, row in batch])
        for (folder, row), number in zip(batch, numbers, strict=True):
            yield {
                **{name: row[name] for name in ("model", "id", "seed", "sha256")},
                "picture": _below(root, folder, row),
                "judge": known,
                "score": f"{number:.6g}",
            }


def verifier() -> Callable[[np.ndarray, str], Mapping[str, float | None]]:
    """A function of a picture and its prompt: which of the prompt's facts the picture shows.

    {} for a prompt that the shapes world does not understand. A picture of another side than the
    world's, as one's own base may draw, is resized.
    """
    from PIL import Image

    from vlg.shapes.captions import parse
    from vlg.shapes.verify import check
    from vlg.shapes.world import SIDE

    def verified(image: np.ndarray, prompt: str) -> Mapping[str, float | None]:
        said = parse(prompt)
        if said is None:
            return {}
        if image.shape[:2] != (SIDE, SIDE):
            small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)
            image = np.asarray(small)
        return check(image, said)

    return verified


def _batches(
    wanted: Wanted, judge: Judge, size: int, threads: int, what: str
) -> Iterator[tuple[Wanted, list[np.ndarray], Any]]:
    """(rows, their pictures, the same as the judge wants them), a batch at a time."""

    def read(batch: Wanted) -> tuple[list[np.ndarray], Any]:
        images = [pictures.load_checked(folder, row) for folder, row in batch]
        return images, judge.prepare(images)

    batches = list(pictures.chunks(wanted, size))
    ready = pictures.ahead(read, batches, threads)
    for batch, (images, prepared) in tqdm(ready, what, len(batches), mininterval=5):
        yield batch, images, prepared


def _below(root: Path, folder: Path, row: Row) -> str:
    return (folder / row["file_name"]).relative_to(root).as_posix()
