"""Captioned pictures in parquet files, or beside them, as data sets of the Hub have them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vlg.data.columns import LISTS, caption_columns, named, of_split, told
from vlg.data.imagefolder import beside
from vlg.data.wordless import is_blank, is_data
from vlg.errors import UserError
from vlg.files import below, check_pointer

PICTURE_COLUMNS = ("image", "picture", "img", "jpg", "png", "file_name")
REMEDY = "name the columns in dataset.picture and dataset.captions"


def files_of(source: Path, split: str) -> list[Path]:
    """The parquet files of `source` that hold a split; none where it is an image folder.

    UserError for a folder that is both, of which one would be left out.
    """
    if source.is_file():
        return [source]
    names = [path.relative_to(source).as_posix() for path in below(source)]
    tables = [name for name in names if name.lower().endswith(".parquet")]
    if not tables:
        return []
    other = next((name for name in names if name.rpartition("/")[2] in LISTS), None)
    if not other and (pair := beside(source)):
        other = " with ".join(path.relative_to(source).as_posix() for path in pair)
    if other:
        raise UserError(
            f"{source}: holds captioned pictures twice, {tables[0]} and {other}; move one of them "
            "out of the folder"
        )
    if not (chosen := of_split(tables, split, ".parquet")):
        raise UserError(
            f"dataset.split: no parquet file of split {split}, there are {named(tables)}; name one "
            "of these splits"
        )
    return [source / name for name in chosen]


def rows_of(
    files: Iterable[Path],
    picture: str | None,
    captions: list[str] | None,
    fetch: Callable[[Path], None] | None = None,
) -> Iterator[tuple[str, bytes, list[str]]]:
    """(label, bytes, captions) of every row, a few rows in memory at a time."""
    for path in files:
        for number, (cell, texts) in enumerate(_cells(path, picture, captions)):
            label = f"row {number}"
            for name, text in texts.items():
                if isinstance(text, str) and is_data(text):
                    raise UserError(
                        f"{path}: {label}, column {told(name)}: a list or an object as text; write "
                        "a list, or name another column in dataset.captions"
                    )
            yield f"{path.name}: {label}", _bytes(cell, path, label, fetch), _texts(texts)


def check(path: Path, picture: str | None, captions: list[str] | None) -> None:
    """UserError for what the end of a parquet file tells: not whole, or without such columns."""
    from pyarrow import ArrowException, parquet

    check_pointer(path)
    try:
        with parquet.ParquetFile(path) as file:
            _columns(path, file.schema_arrow, picture, captions)
    except (ArrowException, OSError) as error:
        raise UserError(
            f"{path}: not a whole parquet file ({_short(error)}); get it again"
        ) from None


def _cells(
    path: Path, picture: str | None, captions: list[str] | None
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """(what the picture column holds, {caption column: what it holds}) of every row."""
    from pyarrow import ArrowException, parquet

    check(path, picture, captions)
    with parquet.ParquetFile(path) as file:
        column, texts = _columns(path, file.schema_arrow, picture, captions)
        number = 0
        for group in range(file.num_row_groups):
            batches = file.iter_batches(32, row_groups=[group], columns=[column, *texts])
            while True:
                try:
                    batch = next(batches, None)
                except (ArrowException, OSError) as error:
                    raise UserError(
                        f"{path}: row group {group}, after row {number - 1}: cannot be read "
                        f"({_short(error)}); get the file again"
                    ) from None
                if batch is None:
                    break
                for place in range(batch.num_rows):
                    row = {}
                    for name in (column, *texts):
                        try:
                            row[name] = batch.column(name)[place].as_py()
                        except UnicodeDecodeError as error:
                            raise UserError(
                                f"{path}: row {number}, column {told(name)}: not UTF-8 text "
                                f"({error.reason}); write the file anew in UTF-8"
                            ) from None
                    yield row.pop(column), row
                    number += 1


def _columns(
    path: Path, schema: Any, picture: str | None, captions: list[str] | None
) -> tuple[str, list[str]]:
    """(column of pictures, those of captions); UserError when they are not there or hold others."""
    names = schema.names
    column = picture or next((name for name in PICTURE_COLUMNS if name in names), "image")
    texts = caption_columns(names, captions) or ["text"]
    for name in (column, *texts):
        if name not in names:
            raise UserError(
                f"{path}: has no column {told(name)}, there are {named(names)}; {REMEDY}"
            )
        kind = schema.field(name).type
        if not (_holds_pictures(kind) if name == column else _holds_texts(kind)):
            what = "no pictures or paths of them" if name == column else "no text or lists of it"
            raise UserError(f"{path}: column {told(name)} holds {_short(kind)}, {what}; {REMEDY}")
    return column, texts


def _holds_texts(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _holds_texts(kind.value_type)
    views = getattr(types, "is_string_view", lambda kind: False)
    return (
        types.is_null(kind) or types.is_string(kind) or types.is_large_string(kind) or views(kind)
    )


def _holds_pictures(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_struct(kind):
        return bool({"bytes", "path"} & {field.name for field in kind})
    views = getattr(types, "is_binary_view", lambda kind: False)
    binary = types.is_binary(kind) or types.is_large_binary(kind) or views(kind)
    return binary or (_holds_texts(kind) and not types.is_nested(kind))


def _short(what: object) -> str:
    return " ".join(str(what).split())[:200]


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
        if not inside or not os.path.isfile(path):
            raise UserError(
                f"{table}: {label}: {told(cell)} is no file beside it; put the pictures there, or "
                "name the column that holds them in dataset.picture"
            )
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; make it readable or remove it") from None
    return cell if isinstance(cell, bytes) else b""


def _texts(cells: Mapping[str, Any]) -> list[str]:
    """The captions of a row; those that are no text or blank are left out."""
    each = [text for cell in cells.values() for text in _flat(cell)]
    return [" ".join(text.split()) for text in each if isinstance(text, str) and not is_blank(text)]


def _flat(cell: Any) -> Iterator[Any]:
    if isinstance(cell, list):
        for each in cell:
            yield from _flat(each)
    else:
        yield cell
