"""Pages of the report: each table to be sorted and searched, and the findings in a few sentences.

A page holds everything it needs, so that it opens from disk, from a zip and from within another
page, and asks no network for anything.

The script that sorts and searches is our own few lines (templates/table.js): the smallest bundle of
DataTables that a package brings (itables) makes a page of 30 kB one of 750 kB that takes ten times
as long to open, and a report in one file larger by a megabyte for each table.
"""

from __future__ import annotations

import csv
import functools
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg import files
from vlg.analysis import markup
from vlg.analysis.table import FORMS, Table

if TYPE_CHECKING:
    import jinja2
    import pandas as pd
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
LONG = 40  # characters; a longer cell goes on over several lines


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> str:
    """A page from a file of templates/; every value is text, but for what is `Markup`."""
    return _environment().get_template(template).render(values)


def source(name: str) -> Markup:
    """A style or program of templates/, to stand in a page as it is."""
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def embedded(data: Any) -> Markup:
    """`data` as JSON that can stand in a script element."""
    from jinja2.utils import htmlsafe_json_dumps

    options = {"ensure_ascii": False, "separators": (",", ":"), "sort_keys": True}
    return htmlsafe_json_dumps(data, **options)


def words(name: str) -> str:
    """A table's name as a title: `Hard prompts`."""
    return name.replace("_", " ").capitalize()


def write(path: Path, text: str) -> None:
    """Write a page, and its checksum beside it."""
    files.write_text(path, text)
    files.write_checksum(path)


# --- tables -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """value: what it is sorted by, None when it is empty or of words."""

    text: str
    value: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a page; kind: number, text (long) or nothing."""

    title: str
    kind: str


@dataclass(frozen=True)
class View:
    """Which columns of a table are seen, and how they are written."""

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def table(name: str, made: Table, texts: dict[str, str]) -> str:
    """The page of the table `name`; texts: its forms, to be copied (`Table.texts`)."""
    return render(
        "table.html",
        title=words(name),
        caption=made.caption,
        views=[_shown(made), _everything(made.frame, texts["csv"])],
        sources={title: texts[form] for form, title in FORMS.items()},
        program=source("table.js"),
        chart=made.chart and {"data": embedded(made.chart), "program": source(f"{name}.js")},
    )


def _shown(made: Table) -> View:
    """The columns of the Markdown table, with its marks."""
    columns, marks = made.shown, made.marks
    lines = zip(markup.cells(made.frame, columns), marks, strict=True)
    texts = [
        [markup.marked(text, column, mark) for text, column in zip(line, columns, strict=True)]
        for line, mark in lines
    ]
    strong = [[bold and column.marked for column in columns] for bold, _ in marks]
    names = [column.name for column in columns]
    return _view("shown", [column.title for column in columns], made.frame[names], texts, strong)


def _everything(frame: pd.DataFrame, text: str) -> View:
    """All columns as the CSV has them."""
    header, *texts = csv.reader(io.StringIO(text))
    return _view("all", header, frame, texts)


def _view(
    name: str,
    titles: Sequence[str],
    frame: pd.DataFrame,
    texts: Sequence[Sequence[str]],
    strong: Sequence[Sequence[bool]] | None = None,
) -> View:
    """texts, strong: of each row of `frame`, a column of which is sorted by its numbers if it has
    some and no words."""
    columns, parts = [], []
    for place, title in enumerate(titles):
        own = list(frame.iloc[:, place])
        cells = [line[place] for line in texts]
        bold = [line[place] for line in strong] if strong else [False] * len(cells)
        filled = [each for each in own if not _empty(each)]
        number = bool(filled) and not any(isinstance(each, str) for each in filled)
        long = not number and any(len(text) > LONG for text in cells)
        columns.append(Column(title, "number" if number else "text" if long else ""))
        values = [float(each) if number and not _empty(each) else None for each in own]
        parts.append([Cell(*cell) for cell in zip(cells, values, bold, strict=True)])
    return View(name, columns, list(zip(*parts, strict=True)))


def _empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


# --- findings -----------------------------------------------------------------------------------

VERDICTS = ("supported", "contradicted", "unresolved")


def findings(rows: Sequence[dict[str, str]]) -> str:
    """What the claims came to, as a piece of HTML for the report's first page.

    rows: of claims.csv. Every claim stands under its verdict, with its effect and interval; nothing
    is said that is not a row of that table.
    """
    groups: dict[str, list[dict[str, str]]] = {verdict: [] for verdict in VERDICTS}
    for row in rows:
        groups.setdefault(row["verdict"], []).append(row)
    return render("findings.html", groups=groups, number=_number, empty=markup.EMPTY)


def _number(text: str, signed: bool = False) -> str:
    return markup.number(float(text) if text else float("nan"), signed=signed)
