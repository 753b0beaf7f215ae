"""Score pictures of any origin and size: by one judge or several, which see each picture once read.

Of a study these are the sets of pictures; what its models draw, `vlg.judge.scoring` scores.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from vlg.data import pictures
from vlg.judge.columns import COLUMNS
from vlg.judge.scoring import verifier

if TYPE_CHECKING:
    from vlg.judge.kind import Judge
    from vlg.models.guide import Guide

log = logging.getLogger("vlg")

Row = dict[str, Any]
Wanted = Sequence[tuple[Path, Row]]
Load = Callable[[Path, Row], np.ndarray]


def scored(
    wanted: Wanted,
    judges: Mapping[str, Judge],
    truth: bool,
    batch_size: int,
    threads: int,
    load: Load = pictures.load_checked,
    guide: Guide | None = None,
) -> Iterator[tuple[Path, Row, Row]]:
    """(folder, metadata row, what is said of it) of each picture, in order.

    What is said: the number of each judge by its name, that of the guide as `guide` if there is
    one, `blank` (whether it has one colour throughout) and, with `truth`, what of a prompt of the
    shapes world is shown. load: the pixels of a row.
    """
    verified = verifier() if truth else lambda image, prompt: {}

    def read(batch: Wanted) -> tuple[list[np.ndarray], list[Any]]:
        images = [load(folder, row) for folder, row in batch]
        return images, [judge.prepare(images) for judge in judges.values()]

    batches = list(pictures.chunks(wanted, batch_size))
    ready = pictures.ahead(read, batches, threads)
    for batch, (images, prepared) in tqdm(ready, "score", len(batches), mininterval=5):
        texts = [row["prompt"] for _, row in batch]
        told = {
            name: judge(own, texts)
            for (name, judge), own in zip(judges.items(), prepared, strict=True)
        }
        if guide:
            told["guide"] = _guided(guide, images, texts)
        told["blank"] = [int(one) for one in pictures.one_coloured(images)]
        for place, ((folder, row), image) in enumerate(zip(batch, images, strict=True)):
            said = {name: numbers[place] for name, numbers in told.items()}
            yield folder, row, said | dict(verified(image, row["prompt"]))


def study(
    folders: Sequence[Path],
    judge: Judge,
    guide: Guide | None,
    weights: Mapping[str, str],
    truth: bool,
    root: Path,
    batch_size: int,
    threads: int,
) -> Iterator[Row]:
    """A row of `COLUMNS` for each picture, as `scoring.study` has them; `guide` is empty where
    there is none. Arguments as there."""
    wanted, blank = pictures.listed(folders), 0
    own = {"clipscore": judge}
    for folder, row, said in scored(wanted, own, truth, batch_size, threads, guide=guide):
        numbers = {
            name: f"{value:.4f}" if name in ("clipscore", "guide") else round(value, 4)
            for name, value in said.items()
            if value is not None
        }
        blank += said["blank"]
        place = (folder / row["file_name"]).relative_to(root).as_posix()
        yield {**{name: row.get(name) for name in COLUMNS}, **weights, **numbers, "picture": place}
    if blank:
        log.warning(
            "%d of %d pictures are of one colour; their scores count as all others",
            blank,
            len(wanted),
        )


def _guided(guide: Guide, images: Sequence[np.ndarray], texts: Sequence[str]) -> list[float]:
    """`guide_scores` of pictures of several sizes."""
    from vlg.models.cosines import guide_scores

    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(place)
    result = [0.0] * len(images)
    for places in sizes.values():
        found = guide_scores(
            guide, np.stack([images[i] for i in places]), [texts[i] for i in places]
        )
        for place, score in zip(places, found, strict=True):
            result[place] = score
    return result
