"""Prompt files: reading and checking a source, choosing from it, and the study's own table.

A source is `.tsv` as PartiPrompts is published (a header, tabs, no quoting: one of its prompts
begins with a double quote), `.csv` (a header, ordinary quoting) or `.txt` (one prompt a line). All
are UTF-8. Only the column Prompt is needed; Category, Challenge and Note are empty where missing,
and further columns are kept. Wholly blank lines are skipped.

Spaces at the edges of a prompt are removed (ten of PartiPrompts' 1,632 have some): CLIP tokenizers
drop them too, but noise is keyed by the prompt's text, which a slip of typing should not change.
Nothing else of a prompt is altered, but prompts that differ only in how Unicode composes their
letters count as the same (`vlg.data.text`).
"""

from __future__ import annotations

import csv
import difflib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlg import files
from vlg.data.text import composed
from vlg.data.wordless import is_blank, is_data
from vlg.errors import UserError

# Columns of the study's own table with their meaning; a source needs only the first. The first four
# are PartiPrompts'.
MEANING = {
    "Prompt": "The text given to the model. Spaces at its edges were removed.",
    "Category": "Subject of the prompt, such as `Animals`; may be empty.",
    "Challenge": "What makes it difficult, such as `Quantity`; may be empty.",
    "Note": "Free text; may be empty.",
    "id": "`p` and the position in the source file, counted from 0, in at least 4 digits.",
    "split": (
        "In the shapes world, whether its pairs of shape and colour were seen by the base (`in`), "
        "only by fine-tuning (`adapt`) or by no training (`never`); empty elsewhere, unless the "
        "source has the column."
    ),
    "set": (
        "`study` for the prompts that are reported, `rest` for those that only belong to the pool "
        "the hard ones are chosen from."
    ),
}
COLUMNS = tuple(MEANING)
SOURCE_COLUMNS = COLUMNS[:4]
# A further one of hard_prompts.tsv.
CLIPSCORE = "Mean ClipScore of the base model on the selection seeds, 100·cos."

# How files begin that are no plain text, though UTF-8.
OTHERS = {"{\\rtf": "RTF", "<!doctype": "a web page", "<html": "a web page", "%pdf": "a PDF"}

Row = dict[str, str]


def read(path: Path | str) -> list[Row]:
    """The prompts of a source file, in its order, with the columns COLUMNS and any others it has.

    `id` is the position in the file (`p0000`), `split` is kept where the file has it, `set` is
    empty until `select`. Raises UserError with the line for whatever is wrong with the file.
    """
    return checked(path, _records(Path(path)))


def checked(path: Path | str, records: Iterable[tuple[int, Row]]) -> list[Row]:
    """The rows of `read` from (line number, {column: cell}) of the file at `path`."""
    rows = []
    seen: dict[str, tuple[int, str]] = {}
    for line, cells in records:
        row = dict.fromkeys(COLUMNS, "") | cells
        row |= {"Prompt": row["Prompt"].strip(), "id": f"p{len(rows):04d}", "set": ""}
        text = row["Prompt"]
        if is_blank(text):
            seen_as = ", what it holds cannot be seen" if text else ""
            raise UserError(
                f"{path}: line {line}: the prompt is empty{seen_as}; write one or delete the line"
            )
        if is_data(text):
            raise UserError(
                f"{path}: line {line}: the prompt is a list or an object ({_short(text)}); write "
                "its text alone"
            )
        before, other = seen.setdefault(composed(text), (line, text))
        if before != line:
            differ = "" if other == text else ", in other code points"
            raise UserError(
                f"{path}: lines {before} and {line} have the same prompt ({_short(text)}{differ}); "
                "delete one"
            )
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: has no prompts; write at least one")
    return rows


def check_sha256(path: Path | str, expected: str | None) -> None:
    """UserError when a prompt file is not the one whose checksum the config tells (None: any)."""
    if expected is not None and (found := files.sha256(path)) != expected:
        raise UserError(
            f"config: prompts.sha256: {path} has another checksum, {found}; give the file that "
            "was meant, or this checksum"
        )


def select(
    rows: Sequence[Row],
    study: int,
    pool: int | None = None,
    category: Sequence[str] | None = None,
    challenge: Sequence[str] | None = None,
    order: str = "first",
) -> list[Row]:
    """The prompts of a study, `set` filled in: config keys `prompts.*`.

    Rows of the wanted categories and challenges (None: all) in the wanted order; the first `study`
    are set `study`, those after them up to `pool` (None: all) `rest`, and those beyond are left
    out. Raises UserError when a category is not there or there are too few prompts.
    """
    for column, key, wanted in (
        ("Category", "category", category),
        ("Challenge", "challenge", challenge),
    ):
        if wanted is not None:
            _require(rows, column, key, wanted)
            names = set(map(composed, wanted))
            rows = [row for row in rows if composed(row[column]) in names]
    if order == "stratified":
        rows = _stratified(rows)
    for key, number in (("study", study), ("pool", pool)):
        if number is not None and number > len(rows):
            raise UserError(
                f"config: prompts.{key}: asks for {number} prompts, the source has {len(rows)} "
                f"that fit; lower it to {len(rows)} or less"
            )
    return [
        row | {"set": "study" if position < study else "rest"}
        for position, row in enumerate(rows[:pool])
    ]


def write(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as the study's prompt table, atomically: UTF-8, LF, tabs, no quoting.

    Columns are COLUMNS and then whatever else the rows have. Raises UserError with the line when a
    cell holds a tab, a line break or another control character.
    """
    columns = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    lines = []
    for cells in [columns, *([str(row.get(name, "")) for name in columns] for row in rows)]:
        _check_cells(Path(path), len(lines) + 1, cells)
        lines.append("\t".join(cells))
    files.write_text(path, "\n".join(lines) + "\n")
    files.write_checksum(path)


def read_table(path: Path | str) -> list[Row]:
    """The rows of a table that `write` wrote (prompts.tsv, hard_prompts.tsv), unaltered."""
    rows = [cells for _, cells in _records(Path(path))]
    missing = [name for name in COLUMNS if rows and name not in rows[0]]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]}; delete it and rerun")
    return rows


# --- reading ------------------------------------------------------------------------------------


def _records(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number, {column: cell}) of every row of a source file."""
    kind = path.suffix.lower()
    if kind not in (".tsv", ".csv", ".txt"):
        raise UserError(f"{path}: not a .tsv, .csv or .txt file; save the prompts as one of these")
    text = _text(path)
    if kind == ".txt":
        records = [(n, [line]) for n, line in _lines(text)]
        columns = ["Prompt"]
        _check_plain(path, text, records[0][1][0] if records else "")
    else:
        if kind == ".csv":
            records = _csv_records(path, text)
        else:
            records = ((n, line.split("\t")) for n, line in _lines(text))
        _, header = next(records, (1, []))
        if not header:
            raise UserError(f"{path}: is empty; name the columns in the first line")
        columns = columns_of(path, header)
    for line, cells in records:
        if len(cells) != len(columns):
            separator = "commas; quote a prompt that has one" if kind == ".csv" else "tabs"
            raise UserError(
                f"{path}: line {line}: {len(cells)} cells where the header has {len(columns)}; "
                f"check its {separator}"
            )
        _check_cells(path, line, cells)
        yield line, dict(zip(columns, cells, strict=True))


def _check_plain(path: Path, text: str, first: str) -> None:
    """UserError for a .txt file that is of another kind, whose lines would be taken for prompts."""
    for beginning, what in OTHERS.items():
        if text.lstrip()[:100].lower().startswith(beginning):
            raise UserError(f"{path}: is {what}; save it as plain text, one prompt a line")
    if is_data(text):
        raise UserError(f"{path}: is JSON; write one prompt a line")
    if first.strip().lower() == "prompt":
        raise UserError(f"{path}: line 1 looks like a header; delete it, or name the file .csv")


def _text(path: Path) -> str:
    files.check_pointer(path)
    try:
        return path.read_bytes().decode("utf-8-sig")  # spreadsheets write a byte order mark
    except FileNotFoundError:
        raise UserError(f"{path}: not found; check the path") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line}: not UTF-8 text; save the file as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a readable file") from None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of every line that is not blank; lines end with LF or CRLF."""
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip(" "):
            yield number, line


def _csv_records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """(number of its last line, cells) of every record of a CSV file."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip(" "):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(
            f"{path}: line {reader.line_num}: not valid CSV ({error}); check its quotes"
        ) from None


def columns_of(path: Path, header: list[str]) -> list[str]:
    """Column names; those of SOURCE_COLUMNS are found in any case."""
    known = {name.lower(): name for name in SOURCE_COLUMNS}
    columns = [known.get(name.strip().lower(), name.strip()) for name in header]
    _check_cells(path, 1, columns)
    if "Prompt" not in columns:
        raise UserError(
            f"{path}: has no column Prompt, its header is {_short(', '.join(columns))}; "
            "name the columns in the first line"
        )
    twice = [name for name, number in Counter(columns).items() if number > 1]
    if twice:
        raise UserError(f"{path}: two columns are named {_short(twice[0])}; rename or delete one")
    if "" in columns:
        raise UserError(f"{path}: column {columns.index('') + 1} has no name; name or delete it")
    return columns


def _check_cells(path: Path, line: int, cells: Sequence[str]) -> None:
    """Refuse what a line of a table cannot hold."""
    for cell in cells:
        if cell.isprintable():  # the usual case, and fast
            continue
        for character in cell:
            if ord(character) < 32 or ord(character) == 127 or 0xD800 <= ord(character) < 0xE000:
                names = {"\t": "a tab", "\n": "a line break", "\r": "a line break", "\0": "a NUL"}
                what = names.get(character, f"the control character {ascii(character)}")
                raise UserError(f"{path}: line {line}: has {what} inside a cell; remove it")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


# --- choosing -----------------------------------------------------------------------------------


def _require(rows: Sequence[Row], column: str, key: str, wanted: Sequence[str]) -> None:
    present = list(dict.fromkeys(row[column] for row in rows if row[column]))
    known = set(map(composed, present))
    for name in wanted:
        if composed(name) not in known:
            close = difflib.get_close_matches(name, present, n=1)
            there = f"there are {', '.join(present)}" if present else f"none has a {column}"
            remedy = f"did you mean {close[0]}?" if close else there
            raise UserError(f"config: prompts.{key}: no prompt has {_short(name)}; {remedy}")


def _stratified(rows: Sequence[Row]) -> list[Row]:
    """Rows ordered so that any beginning has each (Category, Challenge) in about its proportion.

    The k-th of a stratum's n rows stands at (k + 1/2) / n, and rows are sorted by that place.
    """
    strata = [(row["Category"], row["Challenge"]) for row in rows]
    size = Counter(strata)
    rank: Counter[tuple[str, str]] = Counter()
    places = []
    for position, stratum in enumerate(strata):
        places.append(((2 * rank[stratum] + 1) / size[stratum], position))
        rank[stratum] += 1
    return [rows[position] for _, position in sorted(places)]
