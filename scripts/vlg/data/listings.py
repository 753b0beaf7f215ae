"""Lists of pictures as files: metadata.jsonl and metadata.csv, line by line."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlg.data.columns import told
from vlg.errors import UserError
from vlg.files import check_pointer

ENCODE = "save as such (from Latin-1: iconv -f LATIN1 -t UTF-8)"


def json_rows(table: Path) -> Iterator[Any]:
    """What the lines of a .jsonl say that are not empty. UserError names a line."""
    for number, line in enumerate(_lines(table), start=1):
        try:
            row = json.loads(line, object_pairs_hook=_each_once) if line.strip() else None
        except (ValueError, RecursionError) as error:
            why = f"line {number} is no JSON ({getattr(error, 'msg', error)})"
            raise UserError(f"{table}: {why}; mend it") from None
        if line.strip():
            yield row


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, of whose equal names readers would take the last."""
    row = dict(pairs)
    if len(row) != len(pairs):
        twice = next(
            name for name, count in Counter(name for name, _ in pairs).items() if count > 1
        )
        raise ValueError(f"two keys are named {told(twice)}")
    return row


def _lines(table: Path, newline: str | None = None) -> Iterator[str]:
    """Without the byte order mark that spreadsheets put there.

    newline: as that of `open`."""
    check_pointer(table)
    try:
        with open(table, newline=newline, encoding="utf-8-sig") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise UserError(f"{table}: not UTF-8 text ({error}); {ENCODE}") from None


def csv_table(table: Path) -> tuple[list[str], Iterator[dict[str, str]]]:
    """(columns, rows) of a .csv. UserError for two columns of one name and a row of another number
    of cells."""
    records = _records(table)
    header = [name.strip() for name in next(records, [])]
    if twice := [name for name, count in Counter(header).items() if name and count > 1]:
        raise UserError(f"{table}: two columns are named {told(twice[0])}; rename or delete one")

    def rows() -> Iterator[dict[str, str]]:
        for number, cells in enumerate(records, start=1):
            if len(cells) != len(header):
                raise UserError(
                    f"{table}: row {number}: {len(cells)} cells where the header has "
                    f"{len(header)}; quote a cell that has a comma, and write one comma a further "
                    "column"
                )
            yield dict(zip(header, cells, strict=True))

    return header, rows()


def _records(table: Path) -> Iterator[list[str]]:
    """The cells of each line of a CSV file that is not empty."""
    try:
        yield from filter(None, csv.reader(_lines(table, ""), strict=True, skipinitialspace=True))
    except csv.Error as error:
        raise UserError(f"{table}: not a CSV file ({error}); mend it") from None
