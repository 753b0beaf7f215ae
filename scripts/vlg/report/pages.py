"""Pages of the report: each table to be sorted and searched, and the findings in a few sentences.

A page holds everything it needs, so that it opens from disk, from a zip and from within another
page, and asks no network for anything.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlg import files
from vlg.analysis import markup
from vlg.errors import UserError

TEMPLATES = Path(__file__).parent / "templates"
FORMS = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX"}
CELL = re.compile(r"(?<!\\)\|")
STRONG = re.compile(r"\*\*(.*)\*\*(.*)", re.DOTALL)


def fill(template: str, **parts: str) -> str:
    """The template's text with each {{name}} replaced. Give `data` last: it may hold braces."""
    result = (TEMPLATES / template).read_text(encoding="utf-8")
    for key, value in parts.items():
        result = result.replace("{{" + key + "}}", value)
    return result


def embedded(data: Any) -> str:
    """`data` as JSON that can stand in a script element, where only "<" could end it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c")


def table(folder: Path, name: str) -> str:
    """The page of the table `name`, from its CSV, Markdown and LaTeX in `folder`, as HTML."""
    sources = {form: read(folder / f"{name}.{form}") for form in FORMS}
    header, rows, caption = parse(sources["md"])
    full = list(csv.reader(io.StringIO(sources["csv"])))
    data = {
        "caption": caption,
        "views": {
            "shown": {"header": header, "rows": rows},
            "all": {"header": full[0], "rows": [[_cell(text) for text in row] for row in full[1:]]},
        },
        "sources": {title: sources[form] for form, title in FORMS.items()},
    }
    return fill("table.html", title=html.escape(words(name)), data=embedded(data))


def words(name: str) -> str:
    """A table's name as a title: `Hard prompts`."""
    return name.replace("_", " ").capitalize()


def read(path: Path) -> str:
    """A table's text; UserError when it is not there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: not found; make the tables first") from None


def parse(text: str) -> tuple[list[str], list[list[dict[str, Any]]], str]:
    """(header, rows of cells, caption) of a table that `markup.markdown` wrote.

    A cell is {"text": ..., "strong": bool}.
    """
    lines = text.splitlines()
    table = [line for line in lines if line.startswith("|")]
    caption = " ".join(line for line in lines if line and not line.startswith("|"))
    header, _, *rows = [
        [part.strip() for part in CELL.split(line.strip("|"))] for line in table if line
    ]
    return (
        [plain(cell) for cell in header],
        [[_marked(cell) for cell in row] for row in rows],
        caption,
    )


def plain(text: str) -> str:
    """Markdown without its escapes."""
    return re.sub(r"\\([\\|*_`<])", r"\1", text)


def _marked(text: str) -> dict[str, Any]:
    strong = STRONG.fullmatch(text)
    return _cell(plain(strong[1] + strong[2] if strong else text), bool(strong))


def _cell(text: str, strong: bool = False) -> dict[str, Any]:
    return {"text": text, "strong": strong}


# --- findings -----------------------------------------------------------------------------------

VERDICTS = ("supported", "contradicted", "unresolved")


def findings(folder: Path) -> str:
    """What the tables in `folder` say, as a piece of HTML for the report's first page.

    Every claim of claims.csv stands under its verdict, with its effect and interval; nothing is
    said that is not a row of that table.
    """
    rows = list(csv.DictReader(io.StringIO(read(folder / "claims.csv"))))
    parts = []
    for verdict in dict.fromkeys([*VERDICTS, *(row["verdict"] for row in rows)]):
        own = [row for row in rows if row["verdict"] == verdict]
        if own:
            items = "".join(f"<li>{_finding(row)}</li>" for row in own)
            parts.append(f"<p><b>{html.escape(verdict.capitalize())}</b></p><ul>{items}</ul>\n")
    return "".join(parts) or "<p>This study has no claims to judge.</p>"


def _finding(row: Mapping[str, str]) -> str:
    text = html.escape(row["statement"])
    numbers = [
        _number(row["effect"], True),
        _number(row["effect_low"]),
        _number(row["effect_high"]),
    ]
    if numbers[0] != markup.EMPTY:
        text += f": {numbers[0]} [{numbers[1]}, {numbers[2]}] {html.escape(row['measure'])}"
    if row.get("published"):
        text += f" (published {_number(row['published'], True)})"
    if numbers[0] == markup.EMPTY:
        text += f" ({html.escape(row['reason'])})"
    return text


def _number(text: str, signed: bool = False) -> str:
    return markup.number(float(text) if text else float("nan"), signed=signed)


def write(folder: Path, names: Sequence[str], out: Path) -> list[Path]:
    """Write the page of each table in `names`, and findings.html, into `out`; return the files."""
    written = []
    for name in names:
        written.append(out / f"{name}.html")
        files.write_text(written[-1], table(folder, name))
    written.append(out / "findings.html")
    files.write_text(written[-1], findings(folder))
    return written
