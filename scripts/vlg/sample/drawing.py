"""The loop that makes every picture folder: plain drawing and the rounds of an arm.

It can be stopped anywhere and goes on where it was: a picture whose key still fits is kept, one
that is missing, damaged or made otherwise is drawn again with its whole batch, because batches are
laid out by position. No model is loaded while nothing has to be drawn. Rounds chain: each batch
goes through all of them, so what stands is read from a file only where a round was kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from vlg import plugins
from vlg.config.sections import Sampling
from vlg.data import pictures
from vlg.files import identity
from vlg.models.cosines import guide_scores
from vlg.models.families import file_of
from vlg.models.ledger import Cost, Ledger
from vlg.sample.arm import Arm, Before, Drawn
from vlg.sample.listing import Picture
from vlg.sample.sampler import Sampler
from vlg.workflow.codehash import code_hash

if TYPE_CHECKING:
    from vlg.models.guide import Guide

log = logging.getLogger("vlg")


class Models:
    """What draws, and what chooses where something does; a ledger counts what they compute."""

    def __init__(self, sampler: Sampler, guide: Guide | None = None) -> None:
        self.sampler, self.guide = sampler, guide
        self.ledger = Ledger()
        for each in (sampler, guide):
            if each is not None:
                each.watch(self.ledger)


@dataclass(frozen=True)
class Made:
    """What a folder's pictures are made by; it is their key, with where each comes from.

    model: its name. arm: its name, empty for plain pictures. weights: the hashes of the models,
    which stand in the metadata by these names (`weights`, `chosen_by`). settings: all that changes
    a picture. code: the hash of what draws.
    """

    model: str
    weights: Mapping[str, str]
    settings: Mapping[str, Any]
    arm: str = ""
    code: str = ""

    def key(self, origin: Any, number: int) -> str:
        """Of the picture that round `number` makes of one whose key is `origin`."""
        return pictures.key(dict(self.weights), dict(self.settings), self.code, origin, number)


@dataclass(frozen=True)
class Start:
    """One picture to be drawn and how it stands before the first round.

    row: its metadata, of which the key and what it has cost so far (cost, seconds) count. folder:
    where the picture of that row is, or None where none was drawn.
    """

    picture: Picture
    row: Mapping[str, Any]
    folder: Path | None = None


def from_nothing(wanted: Iterable[Picture]) -> list[Start]:
    """Pictures that nothing was drawn of, whose cost begins at 0."""
    return [
        Start(each, {"key": [each.prompt, each.seed], "cost": {}, "seconds": 0.0})
        for each in wanted
    ]


def from_folders(folders: Iterable[Path]) -> list[Start]:
    """The study pictures of picture folders, in their order."""
    return [
        Start(Picture(row["id"], row["prompt"], row["seed"], row["set"]), row, folder)
        for folder, row in pictures.listed(folders, only="study")
    ]


class Plain(Arm):
    """One sample of each prompt and seed, from the noise that all models share."""

    needs = frozenset()

    def __init__(self) -> None:
        """No setting but the sampler's."""

    def draw(self, sampler: Sampler, guide: Guide | None, before: Before) -> Drawn:
        return Drawn(sampler.draw(before.texts, before.seeds))


def made_by(
    folder: Path,
    name: str,
    sampling: Sampling,
    arm: str = "",
    kind: str = "",
    keys: Mapping[str, Any] | None = None,
    guide: Path | None = None,
    base: Path | None = None,
) -> Made:
    """What a model folder, called `name`, and an arm of a kind make pictures by.

    keys: the kind's. guide: its folder, where one chooses. base: that of the study's base, where
    the arm draws with it. The code is that of this module, of the model's family and of the kind of
    arm.
    """
    chosen = [file_of(folder)]
    settings: dict[str, Any] = {"sampling": sampling.model_dump(mode="json")}
    if kind:
        chosen.append(plugins.file(plugins.ARMS, kind))
        settings |= {"kind": kind, "keys": dict(keys or {})}
    weights = {"weights": identity(folder)}
    if guide:
        weights["chosen_by"] = identity(guide)
    if base:
        weights["base"] = identity(base)
    return Made(name, weights, settings, arm, code_hash(Path(__file__), *chosen))


def plain(
    wanted: Sequence[Picture],
    sampler: Callable[[], Sampler],
    out: Path,
    made: Made,
    batch_size: int,
) -> None:
    """Draw pictures, round 0, to the folder `out`; `sampler` is called when one has to be drawn."""
    draw(Plain(), from_nothing(wanted), lambda: Models(sampler()), {0: out}, made, batch_size)


def draw(
    arm: Arm,
    start: Sequence[Start],
    models: Callable[[], Models],
    folders: Mapping[int, Path],
    made: Made,
    batch_size: int,
) -> None:
    """Take pictures through the rounds of `folders`, {number: folder}, rising by one.

    Each round becomes a whole picture folder. models: called when something has to be drawn.
    batch_size: samples held at once, so an arm with several of each picture takes fewer pictures.
    """
    names = {each.picture.file_name for each in start}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
        pictures.prune(folder, names)
    size = max(1, batch_size // arm.samples)
    rounds = {number: Round(folder) for number, folder in folders.items()}
    ready: Models | None = None
    what = f"{made.arm or 'generate'} {made.model}"
    with (
        pictures.Writer() as writer,
        tqdm(total=len(start) * len(folders), desc=what, mininterval=5) as progress,
    ):
        for batch in pictures.chunks(start, size):
            stands = Standing([dict(each.row) for each in batch])
            for number, folder in folders.items():
                keys = [made.key(row["key"], number) for row in stands.rows]
                kept = [
                    pictures.kept(folder / each.picture.file_name, key)
                    for each, key in zip(batch, keys, strict=True)
                ]
                progress.update(len(batch))
                if all(
                    row and row["set"] == each.picture.set
                    for row, each in zip(kept, batch, strict=True)
                ):
                    # What a picture kept from an earlier run took is not known.
                    stands = Standing([{**row, "seconds": None} for row in kept if row])
                else:
                    ready = ready or models()
                    ready.ledger.take()
                    before = _before(arm, ready, batch, stands, number, folders.get(number - 1))
                    stands = _round(arm, ready, before, stands.rows, keys, made)
                    for row, image in zip(stands.rows, stands.images, strict=True):
                        # Seconds differ from run to run, and a picture's bytes must not.
                        inside = {k: v for k, v in row.items() if k != "seconds"}
                        writer.save(folder / row["file_name"], image, inside)
                    rounds[number].drawn += len(batch)
                    rounds[number].flat += sum(pictures.one_coloured(stands.images))
                rounds[number].rows += stands.rows
    for done in rounds.values():
        pictures.write_metadata(done.folder, done.rows, **made.weights)
        log.info("%s: %s", done.folder, done)
        if done.flat:
            log.warning("%s: %d pictures are of one colour; look at them", done.folder, done.flat)


@dataclass
class Standing:
    """A batch between two rounds: its metadata and, if the round before drew it, its pictures."""

    rows: list[dict[str, Any]]
    images: np.ndarray | None = None


@dataclass
class Round:
    """What has become of one round so far."""

    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    drawn: int = 0
    flat: int = 0  # of those drawn, of one colour

    def __str__(self) -> str:
        text = f"{len(self.rows)} pictures, {self.drawn} drawn, {len(self.rows) - self.drawn} kept"
        chosen = [row["accepted"] for row in self.rows if "accepted" in row]
        return text + (f", {100 * sum(chosen) / len(chosen):.0f} % accepted" if chosen else "")


def _before(
    arm: Arm,
    models: Models,
    batch: Sequence[Start],
    stands: Standing,
    number: int,
    last: Path | None,
) -> Before:
    """What the arm finds before round `number`; last: the folder of the round before."""
    who = [each.picture for each in batch]
    if last is None and "pictures" not in arm.needs:
        return Before(number, who)
    if last is None:
        images = np.stack([pictures.load_checked(each.folder, each.row) for each in batch])
        texts = [each.prompt for each in who]
        scores = guide_scores(models.guide, images, texts) if models.guide else None
        return Before(number, who, images, scores)
    images = stands.images
    if images is None:
        images = np.stack([pictures.load(last / row["file_name"]) for row in stands.rows])

    def noted(name: str) -> list[Any] | None:
        rows = stands.rows
        return [row[name] for row in rows] if all(name in row for row in rows) else None

    # Not scored again: the last bits of a score depend on its batch.
    return Before(number, who, images, noted("guide"), noted("state"))


def _round(
    arm: Arm,
    models: Models,
    before: Before,
    rows: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
    made: Made,
) -> Standing:
    """Let the arm draw one round of a batch; cost adds up over the rounds."""
    began = time.monotonic()
    drawn = arm.draw(models.sampler, models.guide, before)
    seconds = (time.monotonic() - began) / len(keys)
    cost = models.ledger.take().each(len(keys))
    result = []
    for index, (each, row, key) in enumerate(zip(before.pictures, rows, keys, strict=True)):
        total, spent = Cost(row.get("cost", {})) + cost, row["seconds"]
        chosen = {
            name: values[index]
            for name, values in (
                ("guide", drawn.scores),
                ("accepted", drawn.accepted),
                ("state", drawn.states),
            )
            if values is not None
        }
        result.append(
            {
                "file_name": each.file_name,
                **asdict(each),
                "model": made.model,
                "arm": made.arm,
                "round": before.number,
                # A pass back through the frozen network costs about as much as one forward.
                "unet_calls": total.of("network") + total.of("network", "backward"),
                "cost": total.parts,
                "flops": total.flops,
                **chosen,
                "key": key,
                "seconds": None if spent is None else round(spent + seconds, 4),
            }
        )
    return Standing(result, drawn.images)
