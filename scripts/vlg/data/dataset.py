"""Captioned pictures for fine-tuning: drawn in the shapes world, or gathered from files.

A source is an image folder (metadata.jsonl or metadata.csv, in it or in the folder of each split,
or a .txt or .caption file beside each picture) or parquet files with pictures inside or beside
them, as data sets of the Hub have them.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import logging
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vlg.data import pictures, pixels
from vlg.data.text import is_whole
from vlg.errors import UserError
from vlg.files import link, write_json, write_text

log = logging.getLogger("vlg")

LISTS = (pictures.METADATA, "metadata.csv")
BESIDE = (".txt", ".caption")  # endings of caption files: of two the first counts
PICTURE_COLUMNS = ("image", "picture", "img", "jpg", "png", "file_name")
CAPTION_COLUMNS = ("text", "caption", "captions")
REMEDY = "name the pictures' column file_name, and the captions' in dataset.captions"
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
    if tables := parquet_files(source, split):

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
    for name, data, texts in _progress(parquet_rows(files, picture, captions, fetch)):
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
    files: Iterable[Path],
    picture: str | None,
    captions: list[str] | None,
    fetch: Callable[[Path], None] | None = None,
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
                        label = f"row {number}"
                        data = _bytes(row[column], path, label, fetch)
                        yield f"{path.name}: {label}", data, _texts(row, texts)
                        number += 1
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: captions are not UTF-8 text ({error}); mend it") from None
        except (ArrowException, OSError) as error:
            raise UserError(f"{path}: not a whole parquet file ({error}); get it again") from None


def _bytes(cell: Any, table: Path, label: str, fetch: Callable[[Path], None] | None) -> bytes:
    """A picture's bytes, from a cell that holds them or the path of a file; empty if neither.

    Paths start from the table's folder and may not lead out of it.
    """
    if isinstance(cell, dict):
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if isinstance(cell, str) and cell:
        folder = os.path.abspath(table.parent)
        path = Path(os.path.abspath(os.path.join(folder, cell)))
        inside = path.is_relative_to(folder)
        if inside and fetch:
            fetch(path)
        if not inside or not path.is_file():
            raise UserError(
                f"{table}: {label}: {_told(cell)} is no file beside it; put the pictures there, or "
                "name the column that holds them in dataset.picture"
            )
        return path.read_bytes()
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


def lists_of(names: Iterable[str], split: str) -> list[str]:
    """Which of the files of an image folder list its pictures with captions, as paths below it.

    One at the top, or those in the folders of a split. UserError names the others when there are
    lists of other splits alone.
    """
    names = list(names)
    for kind in LISTS:
        if kind in names:
            return [kind]
    for kind in LISTS:
        found = [name for name in names if name.endswith(f"/{kind}")]
        if chosen := of_split(found, split, kind):
            return chosen
        if found:
            raise UserError(
                f"dataset.split: no {kind} of split {split}, there are {_named(sorted(found))}; "
                "name one of these splits"
            )
    return []


def captioned(
    source: Path,
    captions: list[str] | None = None,
    exists: Callable[[str], bool] | None = None,
    split: str = "train",
) -> list[Row]:
    """[{"file_name": ..., "text": [captions]}] of an image folder, checked, one row a picture.

    Captions come from metadata.jsonl or metadata.csv (file_name and caption columns, whose cells
    may be lists in jsonl) at the top or in the folders of a split, whose file names start from
    where they stand; or from a .txt or .caption file beside each picture, one caption a line.
    exists: whether there is a file of this name, where the folder itself does not tell.
    """
    # Lists below a folder that has pictures of its own are not of its pictures.
    deep = not any(path.suffix.lower() in pixels.KINDS for path in source.glob("*"))
    files = source.glob("**/metadata.*" if deep else "*")
    lists = lists_of((path.relative_to(source).as_posix() for path in files), split)
    found: dict[str, list[str]] = {}
    for where, folder, row in _listed(source, lists, captions):
        name = row.get("file_name")
        cells = [row.get(column) for column in caption_columns(row, captions)]
        texts = [t for cell in cells for t in (cell if isinstance(cell, list) else [cell])]
        told = texts and all(isinstance(each, str) and each.strip() for each in texts)
        if not isinstance(name, str) or not told:
            lacking = _lacking(row, captions)
            what = f"{lacking}; {REMEDY}" if lacking else "file_name or a caption; complete it"
            raise UserError(f"{where} lacks {what}")
        if not all(map(is_whole, texts)):
            raise UserError(f"{where} has half a character in a caption; mend or remove it")
        # The name is also the link's below `out`: neither may lead out of its folder.
        path = PurePosixPath(folder, name)
        known = exists(path.as_posix()) if exists else (source / path).is_file()
        if path.is_absolute() or ".." in path.parts or not known:
            raise UserError(f"{where}: {_told(name)} is no file below {source / folder}; mend it")
        # Several captions may also stand in rows of their own.
        found.setdefault(path.as_posix(), []).extend(texts)
    return [{"file_name": name, "text": texts} for name, texts in found.items()]


def _listed(
    source: Path, lists: list[str], captions: list[str] | None
) -> Iterator[tuple[str, str, Row]]:
    """(where it stands, the folder that its file name starts from, row) of what there is."""
    tables = [source / name for name in lists] or [source]
    number = 0
    for table in tables:
        if not lists:
            rows = _beside(source)
        else:
            rows = _json_rows(table) if table.name == LISTS[0] else _csv_rows(table, captions)
        folder = table.parent.relative_to(source).as_posix() if lists else "."
        for number, row in enumerate(rows, start=1):
            yield f"{table}: row {number}", folder, row if isinstance(row, dict) else {}
    if not number:
        raise UserError(f"{tables[0]}: no captioned pictures; dataset.source needs at least one")


def _json_rows(table: Path) -> list[Any]:
    try:
        lines = table.read_text("utf-8-sig").split("\n")
        return [json.loads(line) for line in lines if line.strip()]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{table}: not JSON lines ({error}); mend it") from None


def _csv_rows(table: Path, captions: list[str] | None) -> list[Row]:
    """The rows of a metadata.csv. Cells that are missing at the end of a row are None."""
    try:
        # Spreadsheets put a byte order mark at the beginning.
        with open(table, newline="", encoding="utf-8-sig") as file:
            header, *rows = [cells for cells in csv.reader(file, strict=True) if cells] or [[]]
    except (ValueError, csv.Error) as error:
        raise UserError(f"{table}: not a CSV file in UTF-8 ({error}); mend it") from None
    header = [name.strip() for name in header]
    if twice := [name for name, count in Counter(header).items() if name and count > 1]:
        raise UserError(f"{table}: two columns are named {_told(twice[0])}; rename or delete one")
    if header and (lacking := _lacking(dict.fromkeys(header), captions)):
        commas = "" if len(header) > 1 else "separate cells by commas, "
        raise UserError(f"{table}: lacks {lacking}; {commas}{REMEDY}")
    for number, cells in enumerate(rows, start=1):
        if len(cells) > len(header):
            raise UserError(
                f"{table}: row {number}: {len(cells)} cells where the header has {len(header)}; "
                "quote a caption that has a comma"
            )
    return [dict(itertools.zip_longest(header, cells)) for cells in rows]


def _lacking(row: Row, captions: list[str] | None) -> str | None:
    """The column that a row lacks, and those it has; None where all are there."""
    wanted = ["file_name", *(caption_columns(row, captions) or ["text"])]
    missing = next((name for name in wanted if name not in row), None)
    if missing is None:
        return None
    there = f"there are {_named(row)}" if row else "there are none"
    return f"the column {_told(missing)}, {there}"


def _beside(source: Path) -> list[Row]:
    """The pictures below a folder with the captions beside them, in the order of their names.

    A file of no known kind that has captions and no picture of their name is one of them, too.
    """
    files = sorted(source.rglob("*"))
    texts: dict[Path, Path] = {}
    for ending in reversed(BESIDE):
        texts |= {path.with_suffix(""): path for path in files if path.suffix.lower() == ending}
    found = [path for path in files if path.suffix.lower() in pixels.KINDS]
    alone = texts.keys() - {path.with_suffix("") for path in found}
    found += [
        path
        for path in files
        if path.with_suffix("") in alone and path.suffix.lower() not in BESIDE and path.is_file()
    ]
    if bare := [path for path in found if path.with_suffix("") not in texts]:
        text = bare[0].with_suffix(BESIDE[0]).name
        raise UserError(
            f"{bare[0]}: no caption; write {text} beside it or a metadata.jsonl{_more(bare)}"
        )
    rows, strange, empty = [], [], []
    for path in sorted(found):
        text = texts[path.with_suffix("")]
        try:
            lines = text.read_text("utf-8-sig").split("\n")
        except ValueError:
            lines = ["\0"]
        captions = [line.strip() for line in lines if line.strip()]
        strange += [text] if any("\0" in line for line in lines) else []  # UTF-16 has NULs
        empty += [] if captions else [text]
        rows.append({"file_name": path.relative_to(source).as_posix(), "text": captions})
    if strange:
        raise UserError(
            f"{strange[0]}: not UTF-8 text{_more(strange)}; save as such (iconv -t UTF-8)"
        )
    if empty:
        raise UserError(
            f"{empty[0]}: has no caption{_more(empty)}; write one or remove it with its picture"
        )
    return rows


def _more(paths: list[Path]) -> str:
    return f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""


def _told(name: str) -> str:
    """A name on one line."""
    return name if name.isprintable() else ascii(name)


def _named(names: Iterable[Any]) -> str:
    """A few names on one line."""
    names = [_told(str(name)) for name in names]
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


def write_rows(out: Path, rows: list[Row]) -> None:
    """Write metadata.jsonl."""
    # ASCII: many readers of JSON lines also break them at Unicode's other line ends.
    lines = (json.dumps(row) + "\n" for row in rows)
    write_text(out / pictures.METADATA, "".join(lines))
