"""Captioned pictures for fine-tuning: drawn in the shapes world, or gathered from files.

A source is an image folder (metadata.jsonl or metadata.csv, in it or in the folder of each split,
or a .txt or .caption file beside each picture) or parquet files with pictures inside or beside
them, as data sets of the Hub have them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vlg.data import parquet, pictures, pixels
from vlg.data.imagefolder import Row, captioned
from vlg.errors import UserError
from vlg.files import link, write_json, write_text

log = logging.getLogger("vlg")

REPORT = "report.json"
SHOWN = 1000  # names of skipped pictures in the report


def draw(out: Path, size: int, seed: int) -> None:
    """Draw `size` scenes with full captions, of pairs the base has seen and pairs it has not."""
    from PIL import Image
    from tqdm import tqdm

    from vlg.shapes import captions, world

    allowed = world.SEEN + world.ADAPT
    rng = random.Random(f"dataset {seed}")
    rows = []
    for index in tqdm(range(size), desc="dataset", mininterval=5):
        scene = captions.shown(rng, allowed)
        name = f"{index:06d}.png"
        Image.fromarray(world.render(scene)).save(out / name)
        rows.append({"file_name": name, "text": captions.caption(scene, rng)})
    write_rows(out, rows)


def gather(
    source: Path,
    out: Path,
    size: int | None,
    split: str = "train",
    picture: str | None = None,
    captions: list[str] | None = None,
    smallest: int = 1,
    background: str = pixels.WHITE,
) -> None:
    """Put a fixed subset of `size` captioned pictures of `source` (None: all) into `out`.

    source: an image folder, whose pictures are linked, or parquet files (one, or a folder of
    them), whose pictures are written as they are. Of a data set of several splits, `split` is read.
    picture, captions: names of columns; None finds the usual ones. Several caption columns, a
    list in one, or several rows of a picture give it several captions.
    background: the colour behind pictures that are transparent somewhere. They are written on it,
    as PNG, so that whatever reads `out` sees the same.
    smallest: of a picture's shorter side, in pixels. Smaller and broken pictures are skipped and
    told in the log and in report.json. Of an image folder, pictures are chosen by a hash of their
    names; of parquet files, the first ones are taken.

    UserError names the folder, line or picture that lacks a caption or a file.
    """
    found = Selection(size, smallest, background)
    if tables := parquet.files_of(source, split):

        def write(name: str, data: bytes) -> None:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)

        from_parquet(tables, picture, captions, found, write)
    else:
        rows = captioned(source, captions, split=split)
        from_folder(rows, found, lambda name: source / name)
        taken = {row["file_name"] for row in found.rows}
        for row in found.rows:
            name = row["file_name"]
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            flat = pixels.without_holes(source / name, background)
            if flat is None:
                link(source / name, out / name)
                continue
            target = name if name.lower().endswith(".png") else f"{name}.png"
            while target != name and target in taken:
                target += ".png"
            taken.add(target)
            row["file_name"] = target
            (out / target).write_bytes(flat)
    found.check(source)
    found.report(out)
    write_rows(out, found.rows)


# --- choosing -----------------------------------------------------------------------------------


class Selection:
    """The pictures taken so far, up to `size`, and those skipped with the reason."""

    def __init__(self, size: int | None, smallest: int, background: str = pixels.WHITE) -> None:
        self.size, self.smallest, self.background = size, smallest, background
        self.rows: list[Row] = []
        self.skipped: Counter[str] = Counter()
        self.names: dict[str, str] = {}

    @property
    def full(self) -> bool:
        return self.size is not None and len(self.rows) >= self.size

    def skip(self, name: str, reason: str) -> None:
        self.skipped[reason] += 1
        if len(self.names) < SHOWN:
            self.names[name] = reason

    def examine(self, name: str, picture: Path | bytes) -> str | None:
        """The format of a picture that can be used (`png`, `jpeg`, ...); None skips it."""
        try:
            found = pixels.read(picture)  # as training will
        except pixels.Unreadable as error:
            listed = isinstance(picture, bytes) or picture.suffix.lower() in pixels.KINDS
            self.skip(name, error.kind if listed else pixels.UNKNOWN)
            return None
        if min(found.size) < self.smallest:
            self.skip(name, "tiny")
            return None
        return (found.format or "png").lower()

    def check(self, source: object) -> None:
        """Log what was skipped; UserError when nothing is left."""
        told = ", ".join(f"{number} {reason}" for reason, number in sorted(self.skipped.items()))
        if not self.rows:
            raise UserError(
                f"{source}: no usable picture ({told or 'none at all'}); give others, or see "
                "dataset.smallest"
            )
        if self.skipped:
            log.warning("%s: skipped %s of the pictures; see %s", source, told, REPORT)
        if self.size is not None and not self.full:
            log.warning("%s: %d pictures, %d were asked for", source, len(self.rows), self.size)

    def report(self, out: Path) -> None:
        """Write report.json: how many pictures and captions, how many skipped, which and why."""
        counts = {
            "pictures": len(self.rows),
            "captions": sum(len(row["text"]) for row in self.rows),
            "skipped": dict(self.skipped),
        }
        write_json(out / REPORT, {**counts, "names": self.names})


def from_folder(rows: list[Row], found: Selection, get: Callable[[str], Path]) -> None:
    """Fill `found` from the rows of an image folder; `get` gives the file of a name."""
    wanted = rows
    if found.size is not None and found.size < len(rows):
        # Chosen by a hash of the name, so that adding pictures changes little.
        wanted = sorted(rows, key=lambda row: pictures.key("dataset", row["file_name"]))
    for row in _progress(wanted):
        if found.full:
            break
        if found.examine(row["file_name"], get(row["file_name"])):
            found.rows.append(row)
    if wanted is not rows:
        found.rows.sort(key=lambda row: row["file_name"])


def from_parquet(
    files: Iterable[Path],
    picture: str | None,
    captions: list[str] | None,
    found: Selection,
    write: Callable[[str, bytes], None] | None = None,
    fetch: Callable[[Path], None] | None = None,
) -> None:
    """Fill `found` from parquet files, in order; `write` takes (name, bytes) of each picture.

    fetch: called with the path of a picture beside its parquet file before it is read.
    Rows with the same picture are one, with all their captions. Reading ends at the first new
    picture after the last that is wanted, so later files are not even asked for.
    """
    place: dict[bytes, int | None] = {}  # of a picture among the rows; None: skipped
    for name, data, texts in _progress(parquet.rows_of(files, picture, captions, fetch)):
        if not texts or not data:
            found.skip(name, "broken" if texts else "uncaptioned")
            continue
        key = hashlib.sha256(data).digest()
        if key not in place:
            if found.full:
                break
            kind = found.examine(name, data)
            place[key] = len(found.rows) if kind else None
            if kind and write and (flat := pixels.without_holes(data, found.background)):
                data, kind = flat, "png"
            if kind:
                index = len(found.rows)
                file_name = f"{index // 1000:04d}/{index:07d}.{kind}"
                found.rows.append({"file_name": file_name, "text": []})
                if write:
                    write(file_name, data)
        if (index := place[key]) is not None:
            known = found.rows[index]["text"]
            known += [text for text in dict.fromkeys(texts) if text not in known]


def _progress(rows: Iterable[Any]) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(rows, desc="dataset", mininterval=5)


def write_rows(out: Path, rows: list[Row]) -> None:
    """Write metadata.jsonl."""
    # ASCII: many readers of JSON lines also break them at Unicode's other line ends.
    lines = (json.dumps(row) + "\n" for row in rows)
    write_text(out / pictures.METADATA, "".join(lines))
