"""Captioned pictures for fine-tuning: drawn in the shapes world, or gathered from files.

A source is an image folder (metadata.jsonl, metadata.csv, or a .txt file beside each picture) or
parquet files with pictures inside, as data sets of the Hub have them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vlg.data import pictures
from vlg.errors import UserError
from vlg.files import link, write_json, write_text

log = logging.getLogger("vlg")

KINDS = {".png", ".jpg", ".jpeg", ".webp"}
LISTS = (pictures.METADATA, "metadata.csv")
PICTURE_COLUMNS = ("image", "picture", "img", "jpg", "png")
CAPTION_COLUMNS = ("text", "caption", "captions")
REPORT = "report.json"
SHOWN = 1000  # names of skipped pictures in the report

Row = dict[str, Any]


def draw(out: Path, size: int, seed: int) -> None:
    """Draw `size` scenes with full captions, of pairs the base has seen and pairs it has not."""
    from PIL import Image
    from tqdm import tqdm

    from vlg.shapes import captions, world

    rng = random.Random(f"dataset {seed}")
    rows = []
    for index in tqdm(range(size), desc="dataset", mininterval=5):
        scene = world.sample(rng, world.SEEN + world.ADAPT)
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
) -> None:
    """Put a fixed subset of `size` captioned pictures of `source` (None: all) into `out`.

    source: an image folder, whose pictures are linked, or parquet files (one, or a folder of
    them, of which those of `split` are read), whose pictures are written as they are.
    picture, captions: names of columns; None finds the usual ones. Several caption columns, a
    list in one, or several rows of a picture give it several captions.
    smallest: of a picture's shorter side, in pixels. Smaller and broken pictures are skipped and
    told in the log and in report.json. Of an image folder, pictures are chosen by a hash of their
    names; of parquet files, the first ones are taken.

    UserError names the folder, line or picture that lacks a caption or a file.
    """
    found = Selection(size, smallest)
    if tables := parquet_files(source, split):

        def write(name: str, data: bytes) -> None:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)

        from_parquet(tables, picture, captions, found, write)
    else:
        from_folder(captioned(source, captions), found, lambda name: source / name)
        for row in found.rows:
            target = out / row["file_name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            link(source / row["file_name"], target)
    found.check(source)
    found.report(out)
    write_rows(out, found.rows)


# --- choosing -----------------------------------------------------------------------------------


class Selection:
    """The pictures taken so far, up to `size`, and those skipped with the reason."""

    def __init__(self, size: int | None, smallest: int) -> None:
        self.size, self.smallest = size, smallest
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
        from PIL import Image

        try:
            with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as file:
                if min(file.size) < self.smallest:
                    self.skip(name, "tiny")
                    return None
                file.convert("RGB")  # decodes it, as training will
                return (file.format or "png").lower()
        except Exception:  # a broken file can raise anything in one of forty decoders
            self.skip(name, "broken")
            return None

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
) -> None:
    """Fill `found` from parquet files, in order; `write` takes (name, bytes) of each picture.

    Rows with the same picture are one, with all their captions. Reading ends at the first new
    picture after the last that is wanted, so later files are not even asked for.
    """
    place: dict[bytes, int | None] = {}  # of a picture among the rows; None: skipped
    for name, data, texts in _progress(parquet_rows(files, picture, captions)):
        if not texts or not data:
            found.skip(name, "broken" if texts else "uncaptioned")
            continue
        key = hashlib.sha256(data).digest()
        if key not in place:
            if found.full:
                break
            kind = found.examine(name, data)
            place[key] = len(found.rows) if kind else None
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


# --- parquet ------------------------------------------------------------------------------------


def parquet_files(source: Path, split: str) -> list[Path]:
    """The parquet files of `source` that hold a split; none where it is an image folder."""
    if source.is_file():
        return [source]
    if any((source / name).is_file() for name in LISTS):
        return []
    names = (path.relative_to(source).as_posix() for path in source.rglob("*.parquet"))
    return [source / name for name in of_split(names, split, ".parquet")]


def of_split(names: Iterable[str], split: str, ending: str) -> list[str]:
    """The files of a split, in order: those named after it, or all where none names a split.

    `data/train-00000-of-00002.parquet` and `train/0000.parquet` are of the split `train`.
    """
    names = sorted(name for name in names if name.endswith(ending))
    word = r"(^|[/_.-]){}($|[/_.-])"
    if any(re.search(word.format("(train|val|validation|test)"), name) for name in names):
        return [name for name in names if re.search(word.format(re.escape(split)), name)]
    return names


def parquet_rows(
    files: Iterable[Path], picture: str | None, captions: list[str] | None
) -> Iterator[tuple[str, bytes, list[str]]]:
    """(label, bytes, captions) of every row, a few rows in memory at a time."""
    from pyarrow import ArrowException, parquet

    for path in files:
        try:
            with parquet.ParquetFile(path) as file:
                names = file.schema_arrow.names
                column = picture or next((n for n in PICTURE_COLUMNS if n in names), None)
                texts = caption_columns(names, captions)
                wanted = [column or "image", *(texts or ["text"])]
                if missing := [name for name in wanted if name not in names]:
                    raise UserError(
                        f"{path}: has no column {missing[0]}, there are {', '.join(names)}; name "
                        "them in dataset.picture and dataset.captions"
                    )
                number = 0
                for batch in file.iter_batches(batch_size=32, columns=[column, *texts]):
                    for row in batch.to_pylist():
                        data = _bytes(row[column], path.parent)
                        yield f"{path.name}: row {number}", data, _texts(row, texts)
                        number += 1
        except (ArrowException, OSError) as error:
            raise UserError(f"{path}: not a whole parquet file ({error}); get it again") from None


def _bytes(cell: Any, folder: Path) -> bytes:
    """A picture's bytes, from a cell that holds them or the path of a file; empty if neither."""
    if isinstance(cell, dict):
        path = cell.get("path")
        if cell.get("bytes") is None and path and (folder / path).is_file():
            return (folder / path).read_bytes()
        cell = cell.get("bytes")
    return cell if isinstance(cell, bytes) else b""


def caption_columns(names: Iterable[str], wanted: list[str] | None) -> list[str]:
    """The caption columns: the wanted ones, or one of the usual name, or caption_0, caption_1, …"""
    if wanted:
        return wanted
    names = list(names)
    usual = [name for name in CAPTION_COLUMNS if name in names]
    return usual[:1] or sorted(name for name in names if re.fullmatch(r"caption_?\d+", name))


def _texts(row: Mapping[str, Any], columns: Iterable[str]) -> list[str]:
    """The captions of a row; those that are no text or blank are left out."""
    cells = [row.get(name) for name in columns]
    each = [text for cell in cells for text in (cell if isinstance(cell, list) else [cell])]
    return [" ".join(text.split()) for text in each if isinstance(text, str) and text.strip()]


# --- image folders ------------------------------------------------------------------------------


def captioned(
    source: Path,
    captions: list[str] | None = None,
    exists: Callable[[str], bool] | None = None,
) -> list[Row]:
    """[{"file_name": ..., "text": [captions]}] of an image folder, checked, one row a picture.

    Captions come from metadata.jsonl or metadata.csv (file_name and caption columns, whose cells
    may be lists in jsonl) or from a .txt file beside each picture, one caption a line.
    exists: whether there is a file of this name, where the folder itself does not tell.
    """
    table = source / pictures.METADATA
    if table.is_file():
        try:
            lines = table.read_text("utf-8").split("\n")
            rows = [json.loads(line) for line in lines if line.strip()]
        except (ValueError, RecursionError) as error:
            raise UserError(f"{table}: not JSON lines ({error}); mend it") from None
    elif (source / "metadata.csv").is_file():
        table = source / "metadata.csv"
        try:
            # Spreadsheets put a byte order mark at the beginning.
            with open(table, newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        except (ValueError, csv.Error) as error:
            raise UserError(f"{table}: not a CSV file in UTF-8 ({error}); mend it") from None
    else:
        table = source
        rows = [
            {"file_name": path.relative_to(source).as_posix(), "text": _beside(path)}
            for path in sorted(source.rglob("*"))
            if path.suffix.lower() in KINDS
        ]
    if not rows:
        raise UserError(f"{table}: no captioned pictures; dataset.source needs at least one")
    found: dict[str, list[str]] = {}
    for number, row in enumerate(rows, start=1):
        row = row if isinstance(row, dict) else {}
        name = row.get("file_name")
        cells = [row.get(column) for column in caption_columns(row, captions)]
        texts = [t for cell in cells for t in (cell if isinstance(cell, list) else [cell])]
        told = texts and all(isinstance(each, str) and each.strip() for each in texts)
        if not isinstance(name, str) or not told:
            raise UserError(f"{table}: row {number} lacks file_name or a caption; complete it")
        # The name is also the link's below `out`: neither may lead out of its folder.
        path = PurePosixPath(name)
        known = exists(path.as_posix()) if exists else (source / name).is_file()
        if path.is_absolute() or ".." in path.parts or not known:
            raise UserError(f"{table}: row {number}: {name} is no file below {source}; mend it")
        # Several captions may also stand in rows of their own.
        found.setdefault(path.as_posix(), []).extend(texts)
    return [{"file_name": name, "text": texts} for name, texts in found.items()]


def _beside(path: Path) -> list[str]:
    text = path.with_suffix(".txt")
    if not text.is_file():
        raise UserError(f"{path}: no caption; write {text.name} beside it or a metadata.jsonl")
    try:
        lines = text.read_text("utf-8").split("\n")
    except ValueError as error:
        raise UserError(f"{text}: not UTF-8 text ({error}); save it as such") from None
    return [line.strip() for line in lines if line.strip()]


def write_rows(out: Path, rows: list[Row]) -> None:
    """Write metadata.jsonl."""
    # ASCII: many readers of JSON lines also break them at Unicode's other line ends.
    lines = (json.dumps(row) + "\n" for row in rows)
    write_text(out / pictures.METADATA, "".join(lines))
