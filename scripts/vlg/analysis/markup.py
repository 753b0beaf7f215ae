"""Tables as Markdown and LaTeX: rounding, intervals, bold and daggers, escaping."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

DAGGER = "†"
EMPTY = "–"
FOOTNOTE = r"\footnotesize\setlength{\tabcolsep}{3.5pt}"
MOST = 11  # columns that can still be read across a page of LaTeX
TEX = {
    "\\": r"\textbackslash{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "†": r"\textsuperscript{\dag}",
    "–": "--",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "−": "$-$",
    "<": "$<$",
}


@dataclass(frozen=True)
class Column:
    """How a column of a frame is shown.

    `chance`: a p value, whose small ones are only bounded; `large`: numbers from a million on in
    powers of ten; `exact`: as many digits as it has. `interval`: with `<name>_low` and
    `<name>_high` in brackets; `scale`: factor, 100 for shares; `marked`: carries the dagger and the
    bold of its row; `words`: a name like best_of_n, shown without underscores; `wrap`: in LaTeX,
    the share of the line that a column of text takes.
    """

    title: str
    name: str
    digits: int = 2
    interval: bool = False
    signed: bool = False
    scale: float = 1.0
    marked: bool = False
    words: bool = False
    wrap: float = 0.0
    chance: bool = False
    large: bool = False
    exact: bool = False


MODEL = Column("Model", "model", marked=True)
ARM = Column("Arm", "arm", words=True)
ROUND = Column("Round", "round", digits=0)
PUBLISHED = Column("Published", "published")
BLANK = Column("Blank", "blank", digits=0)
ABOUT = Column("Speaks of", "about")
# The standard error of a share is about a hundredth, so a tenth of a per cent is enough.
SCORES = (
    Column("ClipScore", "clipscore", interval=True, marked=True),
    Column("Δ ClipScore", "delta", interval=True, signed=True),
    Column("p", "p_corrected", chance=True),
    Column("Δ guide", "guide_delta", interval=True, signed=True),
    Column("Gap", "gap", signed=True),
    Column("Fidelity, %", "fidelity", digits=1, scale=100),
    Column("Δ fidelity", "fidelity_delta", digits=1, scale=100, interval=True, signed=True),
    Column("p", "fidelity_delta_p_corrected", chance=True),
    Column("Strict, %", "strict", digits=1, scale=100),
    Column("Gain seen by", "gain_seen_by"),
    ABOUT,
)
FIDELITY = (
    Column("Fidelity, %", "fidelity", digits=1, scale=100, interval=True, marked=True),
    Column("Δ fidelity", "fidelity_delta", digits=1, scale=100, interval=True, signed=True),
    Column("p", "p_corrected", chance=True),
    ABOUT,
)


def cells(frame: pd.DataFrame, columns: Sequence[Column]) -> list[list[str]]:
    """The text of each row's cells; a minus is U+2212."""
    return [[_cell(row, column) for column in columns] for row in frame.to_dict("records")]


def markdown(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    marks: Sequence[tuple[bool, bool]],
    caption: str,
) -> str:
    """A pipe table, columns aligned, with its caption below.

    `marks`: (bold, dagger) of each row.
    """
    from tabulate import tabulate

    body = [
        [
            marked(_escape_markdown(cell), column, mark, "**{}**")
            for cell, column in zip(row, columns, strict=True)
        ]
        for row, mark in zip(rows, marks, strict=True)
    ]
    text = tabulate(
        body,
        [_escape_markdown(column.title) for column in columns],
        tablefmt="pipe",
        colalign=["right" if _numeric(rows, i) else "left" for i in range(len(columns))],
        disable_numparse=True,
    )
    if not body:
        text += "\n\nNothing to report in this study."
    return f"{text}\n\n{caption}\n"


def latex(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    marks: Sequence[tuple[bool, bool]],
    caption: str,
    name: str,
    groups: Sequence[object] = (),
) -> str:
    """A `table` with booktabs rules, caption and label `tab:<name>`, no wider than the line.

    Intervals are small, and what is still wider than the line is scaled down to it; a table of more
    than MOST columns stands on its side. One with wrapped columns is a `longtable`, which goes on
    over pages. The first line names the packages.
    Not by pandas' Styler: cells would have to be marked and escaped here all the same, it knows
    neither the scaling nor the gaps, so its text would be taken apart to put them in, and its first
    call takes seconds.
    `groups`: of each row; there is a gap where it changes, and between rows of several lines.
    """
    wide = any(column.wrap for column in columns)
    body = []
    for i, (row, mark) in enumerate(zip(rows, marks, strict=True)):
        if i and (wide or (len(groups) and groups[i] != groups[i - 1])):
            body.append(r"\addlinespace")
        cells = (_latex_cell(*parts, mark) for parts in zip(row, columns, strict=True))
        body.append(" & ".join(cells) + r" \\")
    header = " & ".join(_escape_latex(column.title) for column in columns) + r" \\"
    align = "".join(
        rf">{{\raggedright\arraybackslash}}p{{{column.wrap:g}\linewidth}}"
        if column.wrap
        else ("r" if _numeric(rows, i) else "l")
        for i, column in enumerate(columns)
    )
    title = [rf"\caption{{{_escape_latex(caption)}}}", rf"\label{{tab:{name}}}"]
    size = r"\scriptsize\setlength{\tabcolsep}{3pt}" if wide else FOOTNOTE
    if wide:
        parts = [
            r"% \usepackage{array,booktabs,longtable}",
            rf"\begingroup{size}\setlength{{\LTcapwidth}}{{\linewidth}}",
            rf"\begin{{longtable}}{{{align}}}",
            *title,
            r"\\ \toprule",
            *(header, r"\midrule", r"\endfirsthead"),
            *(r"\toprule", header, r"\midrule", r"\endhead"),
            *(r"\bottomrule", r"\endfoot"),
            *body,
            r"\end{longtable}",
            r"\endgroup",
        ]
    else:
        turned = len(columns) > MOST
        kind = "sidewaystable" if turned else "table"
        parts = [
            rf"% \usepackage{{booktabs,graphicx{',rotating' if turned else ''}}}",
            rf"\begin{{{kind}}}",
            rf"\centering{size}",
            *title,
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{align}}}",
            *(r"\toprule", header, r"\midrule", *body, r"\bottomrule"),
            r"\end{tabular}}",
            rf"\end{{{kind}}}",
        ]
    return "\n".join([*parts, ""])


def _latex_cell(cell: str, column: Column, mark: tuple[bool, bool]) -> str:
    """A cell with its marks: the dagger and the bold stand by the value, not by its interval."""
    value, bracket, interval = cell.partition(" [") if column.interval else (cell, "", "")
    text = marked(_escape_latex(value), column, mark, r"\textbf{{{}}}", TEX[DAGGER])
    return text + (rf" {{\scriptsize[{_escape_latex(interval)}}}" if bracket else "")


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """A rounded number with a true minus sign; `–` for NaN, no sign on what rounds to 0."""
    if value is None or math.isnan(value):
        return EMPTY
    if math.isinf(value):
        return "∞"
    text = f"{value:+,.{digits}f}" if signed else f"{value:,.{digits}f}"
    if not text.strip("+-0.,"):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def chance(p: float) -> str:
    """A p value with three digits; one below a thousandth is `<0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _cell(row: dict[str, Any], column: Column) -> str:
    value = row[column.name]
    if isinstance(value, str):
        return (value.replace("_", " ") if column.words else value) or EMPTY
    if value is None or math.isnan(value):
        return EMPTY
    if column.chance:
        return chance(value)
    if column.exact:
        return f"{value:g}".replace("-", "−")
    if column.large and abs(value) >= 1e6:
        return f"{value:.3g}".replace("e+", "e")
    text = number(value * column.scale, column.digits, column.signed)
    if not column.interval:
        return text
    low, high = (row[f"{column.name}_{end}"] * column.scale for end in ("low", "high"))
    if math.isnan(low) or low == high:
        return text
    return f"{text} [{number(low, column.digits)}, {number(high, column.digits)}]"


def marked(
    cell: str,
    column: Column,
    mark: tuple[bool, bool],
    strong: str = "{}",
    dagger: str = DAGGER,
) -> str:
    """A cell with what `mark` (bold, dagger) of its row puts on it."""
    bold, significant = mark
    if not column.marked:
        return cell
    text = strong.format(cell) if bold else cell
    return text + dagger if significant and column.interval else text


def _numeric(rows: Sequence[Sequence[str]], position: int) -> bool:
    texts = [row[position] for row in rows if row[position] != EMPTY]
    return bool(texts) and all(re.match(r"[+−<]?[\d∞]", text) for text in texts)


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\|*_`<])", r"\\\1", text)


def _escape_latex(text: str) -> str:
    return "".join(TEX.get(character, character) for character in text).replace("∞", r"$\infty$")
