"""Captioned pictures of an image folder: metadata.jsonl or .csv, or a text beside each picture."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from vlg.data import listings, pixels
from vlg.data.columns import LISTS, caption_columns, named, of_split, told
from vlg.data.text import is_whole
from vlg.data.wordless import is_blank, is_data
from vlg.errors import UserError
from vlg.files import POINTER, below, check_pointer

log = logging.getLogger("vlg")

BESIDE = (".txt", ".caption")  # endings of caption files: of two the first counts
REMEDY = "name the pictures' column file_name, and the captions' in dataset.captions"

Row = dict[str, Any]


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
                f"dataset.split: no {kind} of split {split}, there are {named(sorted(found))}; "
                "name one of these splits"
            )
    return []


def captioned(
    source: Path,
    captions: list[str] | None = None,
    exists: Callable[[str], bool] | None = None,
    split: str = "train",
    first: int | None = None,
) -> list[Row]:
    """[{"file_name": ..., "text": [captions]}] of an image folder, checked, one row a picture.

    Captions come from metadata.jsonl or metadata.csv (file_name and caption columns, whose cells
    may be lists in jsonl) at the top or in the folders of a split, whose file names start from
    where they stand; or from a .txt or .caption file beside each picture, one caption a line.
    exists: whether there is a file of this name, where the folder itself does not tell.
    first: how many rows of a list are looked at; None: all.
    """
    found: dict[str, list[str]] = {}
    rows = _listed(source, lists_in(source, split), captions)
    for where, folder, row in itertools.islice(rows, first):
        name = row.get("file_name")
        cells = [row.get(column) for column in caption_columns(row, captions)]
        texts = [t for cell in cells for t in (cell if isinstance(cell, list) else [cell])]
        said = texts and all(isinstance(each, str) and not is_blank(each) for each in texts)
        if not isinstance(name, str) or not said:
            lacking = _lacking(row, captions)
            what = f"{lacking}; {REMEDY}" if lacking else "file_name or a caption; complete it"
            raise UserError(f"{where} lacks {what}")
        if not all(map(is_whole, texts)):
            raise UserError(f"{where} has half a character in a caption; mend or remove it")
        if any(map(is_data, texts)):
            raise UserError(
                f"{where} has a list or an object in a cell of text; write a metadata.jsonl, whose "
                "captions may be lists"
            )
        # The name is also the link's below `out`: neither may lead out of its folder.
        path = PurePosixPath(folder, name)
        known = exists(path.as_posix()) if exists else os.path.isfile(source / path)
        if path.is_absolute() or ".." in path.parts or not known:
            raise UserError(f"{where}: {told(name)} is no file below {source / folder}; mend it")
        # Several captions may also stand in rows of their own.
        found.setdefault(path.as_posix(), []).extend(texts)
    return [{"file_name": name, "text": texts} for name, texts in found.items()]


def lists_in(source: Path, split: str) -> list[str]:
    """Those of `lists_of` that a folder has; none where captions stand beside the pictures."""
    for name in LISTS:  # before a large folder is searched
        if (source / name).is_file():
            return [name]
    if any(path.suffix.lower() in pixels.KINDS for path in source.glob("*")):
        return []  # lists below a folder that has pictures of its own are not of its pictures
    return lists_of((path.relative_to(source).as_posix() for path in below(source)), split)


def beside(source: Path) -> tuple[Path, Path] | None:
    """The first picture below a folder that has a caption file, and that file."""
    files = below(source)
    pictures = {path.with_suffix(""): path for path in files if path.suffix.lower() in pixels.KINDS}
    for path in files:
        if path.suffix.lower() in BESIDE and (picture := pictures.get(path.with_suffix(""))):
            return picture, path
    return None


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
            rows = (
                listings.json_rows(table) if table.name == LISTS[0] else _csv_rows(table, captions)
            )
        folder = table.parent.relative_to(source).as_posix() if lists else "."
        for number, row in enumerate(rows, start=1):
            yield f"{table}: row {number}", folder, row if isinstance(row, dict) else {}
    if not number:
        raise UserError(f"{tables[0]}: no captioned pictures; dataset.source needs at least one")


def _csv_rows(table: Path, captions: list[str] | None) -> Iterator[Row]:
    """The rows of a metadata.csv."""
    header, rows = listings.csv_table(table)
    if header and (lacking := _lacking(dict.fromkeys(header), captions)):
        commas = "" if len(header) > 1 else "separate cells by commas, "
        raise UserError(f"{table}: lacks {lacking}; {commas}{REMEDY}")
    yield from rows


def _lacking(row: Row, captions: list[str] | None) -> str | None:
    """The column that a row lacks, and those it has; None where all are there."""
    wanted = ["file_name", *(caption_columns(row, captions) or ["text"])]
    missing = next((name for name in wanted if name not in row), None)
    if missing is None:
        return None
    there = f"there are {named(row)}" if row else "there are none"
    return f"the column {told(missing)}, {there}"


def _beside(source: Path) -> list[Row]:
    """The pictures below a folder with the captions beside them, in the order of their names.

    A file of no known kind that has captions and no picture of their name is one of them, too.
    """
    files = below(source)
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
    if lost := sorted(texts[name] for name in alone - {path.with_suffix("") for path in found}):
        log.warning("%s%s: a caption without a picture", lost[0], _more(lost))
    if bare := [path for path in found if path.with_suffix("") not in texts]:
        text = bare[0].with_suffix(BESIDE[0]).name
        raise UserError(
            f"{bare[0]}: no caption; write {text} beside it or a metadata.jsonl{_more(bare)}"
        )
    rows, strange, empty = [], [], []
    pointer = POINTER.decode()
    for path in sorted(found):
        text = texts[path.with_suffix("")]
        try:
            lines = text.read_text("utf-8-sig").split("\n")
        except ValueError:
            lines = ["\0"]
        if lines[0].startswith(pointer):
            check_pointer(text)
        captions = [line.strip() for line in lines if not is_blank(line)]
        strange += [text] if any("\0" in line for line in lines) else []  # UTF-16 has NULs
        empty += [] if captions else [text]
        rows.append({"file_name": path.relative_to(source).as_posix(), "text": captions})
    if strange:
        raise UserError(f"{strange[0]}: not UTF-8 text{_more(strange)}; {listings.ENCODE}")
    if empty:
        raise UserError(
            f"{empty[0]}: has no caption{_more(empty)}; write one or remove it with its picture"
        )
    return rows


def _more(paths: list[Path]) -> str:
    return f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
