"""Captioned pictures in parquet files, or beside them, as data sets of the Hub have them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vlg.data.columns import LISTS, caption_columns, of_split, told
from vlg.errors import UserError
from vlg.files import below

PICTURE_COLUMNS = ("image", "picture", "img", "jpg", "png", "file_name")


def files_of(source: Path, split: str) -> list[Path]:
    """The parquet files of `source` that hold a split; none where it is an image folder."""
    if source.is_file():
        return [source]
    if any((source / name).is_file() for name in LISTS):
        return []
    names = (path.relative_to(source).as_posix() for path in below(source))
    return [source / name for name in of_split(names, split, ".parquet")]


def rows_of(
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
                f"{table}: {label}: {told(cell)} is no file beside it; put the pictures there, or "
                "name the column that holds them in dataset.picture"
            )
        return path.read_bytes()
    return cell if isinstance(cell, bytes) else b""


def _texts(row: Mapping[str, Any], columns: Iterable[str]) -> list[str]:
    """The captions of a row; those that are no text or blank are left out."""
    cells = [row.get(name) for name in columns]
    each = [text for cell in cells for text in (cell if isinstance(cell, list) else [cell])]
    return [" ".join(text.split()) for text in each if isinstance(text, str) and text.strip()]
