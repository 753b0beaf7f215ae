"""Score pictures: by the study's judge and guide with ground truth, by a further judge, or by any.

Pictures are read, and prepared for the judge, a few batches ahead of the one that is being scored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import Field
from tqdm import tqdm

from vlg.config import sections
from vlg.config.keys import Keys
from vlg.data import pictures
from vlg.judge import sizes
from vlg.judge.columns import COLUMNS
from vlg.judge.kind import Judge
from vlg.models.guide import Guide

log = logging.getLogger("vlg")

Row = dict[str, Any]
Wanted = Sequence[tuple[Path, Row]]
Load = Callable[[Path, Row], np.ndarray]


class Scores(Protocol):
    """What scores pictures: a `Judge`, or what can be asked as one."""

    def prepare(self, images: list[np.ndarray]) -> Any: ...
    def __call__(self, images: Any, prompts: list[str]) -> list[float]: ...


class Settings(Keys):
    """How the study's own scores are taken."""

    precision: sections.Precision = Field("fp32", description="`score.precision`.")
    truth: bool = Field(
        False, description="Whether prompts are the shapes world's, whose pictures can be read."
    )


def scored(
    wanted: Wanted,
    judges: Mapping[str, Scores],
    truth: bool,
    batch_size: int,
    threads: int,
    guide: Guide | None = None,
    load: Load = pictures.load_checked,
) -> Iterator[tuple[Path, Row, Row]]:
    """(folder, metadata row, what is said of it) of each picture of any size, in order.

    What is said: the number of each judge by its name, that of the guide as `guide` if there is
    one, `blank` (1 for one colour throughout, else 0) and, with `truth`, what of a prompt of the
    shapes world is shown. load: the pixels of a row.
    """
    verified = verifier() if truth else lambda image, prompt: {}
    for batch, images, ready in _batches(wanted, judges, batch_size, threads, "score", load):
        texts = [row["prompt"] for _, row in batch]
        told = {name: judge(ready[name], texts) for name, judge in judges.items()}
        if guide:
            told["guide"] = sizes.guided(guide, images, texts)
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
    """A row of `COLUMNS` for each picture; `guide` is empty where there is none.

    weights: judge_weights and guide_weights. truth: as in `Settings`. root: results/<study>, to
    which paths are relative.
    """
    wanted = pictures.listed(folders)
    flat: list[Path] = []
    own = {"clipscore": judge}
    for folder, row, said in scored(wanted, own, truth, batch_size, threads, guide):
        if said["blank"]:
            flat.append(folder / row["file_name"])
        numbers = {
            name: f"{value:.4f}" if name in ("clipscore", "guide") else round(value, 4)
            for name, value in said.items()
            if value is not None
        }
        found = {**{name: row.get(name) for name in COLUMNS}, **weights, **numbers}
        yield {**found, "picture": _below(root, folder, row)}
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
    for batch, _, ready in _batches(wanted, {"": judge}, batch_size, threads, "judge"):
        numbers = judge(ready[""], [row["prompt"] for _, row in batch])
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
    from vlg.shapes.captions import parse
    from vlg.shapes.verify import check

    def verified(image: np.ndarray, prompt: str) -> Mapping[str, float | None]:
        said = parse(prompt)
        if said is None:
            return {}
        return check(sizes.of_the_world(image), said)

    return verified


def _batches(
    wanted: Wanted,
    judges: Mapping[str, Scores],
    size: int,
    threads: int,
    what: str,
    load: Load = pictures.load_checked,
) -> Iterator[tuple[Wanted, list[np.ndarray], dict[str, Any]]]:
    """(rows, their pictures, the same as each judge wants them), a batch at a time."""

    def read(batch: Wanted) -> tuple[list[np.ndarray], dict[str, Any]]:
        images = [load(folder, row) for folder, row in batch]
        return images, {name: judge.prepare(images) for name, judge in judges.items()}

    batches = list(pictures.chunks(wanted, size))
    ready = pictures.ahead(read, batches, threads)
    for batch, (images, prepared) in tqdm(ready, what, len(batches), mininterval=5):
        yield batch, images, prepared


def _below(root: Path, folder: Path, row: Row) -> str:
    return (folder / row["file_name"]).relative_to(root).as_posix()
