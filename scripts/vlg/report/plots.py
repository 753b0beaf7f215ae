"""What the figures share: colours, markers, panels, bars, notes, and how a figure is saved.

Each is written as SVG and PNG whose bytes depend on nothing but the data and matplotlib's version.
Colours are Okabe and Ito's, which people with any colour vision tell apart; every series has a
marker of its own as well, so that prints in grey can be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vlg import files
from vlg.analysis.scores import BOUNDS, REFERENCE
from vlg.config.layout import parse_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

BLACK, GREY = "#000000", "#777777"
# Okabe & Ito, "Color Universal Design" (2008).
COLOURS = {
    "base": BLACK,
    "plain": BLACK,
    "normal": "#0072B2",
    "embed": "#D55E00",
    "refine": "#009E73",
    "best_of_n": "#E69F00",
}
OTHERS = ("#CC79A7", "#56B4E9", "#F0E442", "#0072B2", "#D55E00")
MARKERS = {"base": "o", "plain": "o", "normal": "s", "embed": "D", "refine": "^", "best_of_n": "v"}
OTHER_MARKERS = ("P", "X", "p", "h", "<")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
    # Ids inside an SVG are random otherwise.
    "svg.hashsalt": "vlg",
}
WIDTH = 7.0  # inches: a page's text
ABREAST = 3  # forests in a line

# Title, column of the mean, column of the difference to base, factor.
Measure: TypeAlias = tuple[str, str, str, float]


def reference(table: pd.DataFrame) -> str:
    """The model that others of a table are held against: its first row; base of an empty one."""
    return table["model"].iloc[0] if len(table) else "base"


def panels(
    columns: int,
    height: float,
    lines: int = 1,
    sharey: bool | str = False,
    widths: Sequence[float] | None = None,
    figure: FigureBase | None = None,
) -> tuple[FigureBase, list[Axes]]:
    """Axes in lines of a new figure, or of a part of one."""
    import matplotlib.pyplot as plt

    if figure is None:
        figure = plt.figure(figsize=(WIDTH if columns > 1 else WIDTH * 0.62, height))
    axes = figure.subplots(lines, columns, sharey=sharey, squeeze=False, width_ratios=widths)
    return figure, list(axes.ravel())


def stacked(*heights: float) -> tuple[Figure, list[FigureBase]]:
    """A figure as wide as a page and its parts, one below the other."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(WIDTH, sum(heights)))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)
    return figure, list(parts.ravel())


def measures(table: pd.DataFrame) -> list[Measure]:
    """What the table has of ClipScore and fidelity."""
    result = [("ClipScore", "clipscore", "delta", 1.0)]
    if table["fidelity"].notna().any():
        result.append(("fidelity, %", "fidelity", "fidelity_delta", 100.0))
    return result


def bars(
    axis: Axes,
    x: Any,
    rows: pd.DataFrame,
    mean: str,
    delta: str,
    scale: float,
    **style: Any,
) -> None:
    """Values of `rows` with the interval of their difference to base around them."""
    ends = [rows[delta] - rows[f"{delta}_low"], rows[f"{delta}_high"] - rows[delta]]
    axis.errorbar(
        x, scale * rows[mean], yerr=lengths(ends, scale), capsize=2, elinewidth=1, **style
    )


def bounds(axis: Axes, table: pd.DataFrame, mean: str, scale: float) -> None:
    """Say at the ends of an axis what ceilings and floors are: drawn to scale, they would leave no
    room for differences between models."""
    if REFERENCE not in table:
        return
    for bound, sign, y in zip(BOUNDS, "↑↓", (0.99, 0.01), strict=True):
        rows = table[table[REFERENCE] == bound]
        said = [f"{row['model']} {scale * row[mean]:.1f}" for _, row in rows.iterrows()]
        if said:
            place = {"ha": "right", "va": "top" if bound == BOUNDS[0] else "bottom"}
            text = f"{sign} {', '.join(said)}"
            axis.text(0.99, y, text, place, transform=axis.transAxes, fontsize=7, color=GREY)
            axis.margins(y=0.12)  # its line is free of bars


def bar(
    axis: Axes,
    row: pd.Series,
    delta: str,
    y: float,
    scale: float,
    style: Mapping[str, Any],
    fill: str | None = None,
) -> None:
    """One difference with its interval, lying."""
    ends = [[row[delta] - row[f"{delta}_low"]], [row[f"{delta}_high"] - row[delta]]]
    style = dict(style) | ({"markerfacecolor": fill} if fill else {})
    axis.errorbar(
        scale * row[delta], y, xerr=lengths(ends, scale), capsize=2, elinewidth=1, **style
    )


def lengths(ends: list[Any], scale: float) -> np.ndarray:
    """Lengths of bars; a missing interval has none, and rounding must not make one negative."""
    return np.clip(np.nan_to_num(np.array(ends, dtype=float)) * scale, 0, None)


def forest(axis: Axes, labels: Sequence[str], chance: float = 0) -> None:
    axis.axvline(chance, color=BLACK, linewidth=1, linestyle="--")
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)


def forests(
    table: pd.DataFrame,
    shown: Sequence[tuple[pd.Series, str]],
    titles: Sequence[str],
    settings: Mapping[str, Any],
    scale: float = 1,
    figure: FigureBase | None = None,
) -> FigureBase:
    """A forest of models for each (which rows, column of the difference), in a new figure or in a
    part of one."""
    against = reference(table)
    models = [model for model in dict.fromkeys(table["model"]) if model != against]
    wide = min(ABREAST, len(shown))
    lines = -(-len(shown) // wide)
    height = forests_height(table, len(shown))
    figure, axes = panels(wide, height=height, lines=lines, sharey=True, figure=figure)
    if not models:
        return empty(figure, axes, "one model only")
    known = variants(models)
    for axis, (rows, column), title in zip(axes, shown, titles, strict=False):
        own = table[rows].set_index("model")
        for y, model in enumerate(models):
            style = series(parse_model(model).variant, known) | {"linestyle": ""}
            bar(axis, own.loc[model], column, y, scale, style)
        forest(axis, models)
        axis.set_title(title)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    return noted(figure, settings, table, against)


def forests_height(table: pd.DataFrame, number: int) -> float:
    """Inches that so many forests of a table's models take."""
    models = table["model"].nunique() - 1  # all but the reference
    return -(-number // ABREAST) * (1.0 + 0.24 * models)


def series(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Colour and marker of a variant or arm; those without one of their own take the next free."""
    others = [n for n in dict.fromkeys(names) if n not in COLOURS]
    if name in COLOURS:
        return {"color": COLOURS[name], "marker": MARKERS[name]}
    place = others.index(name)
    return {
        "color": OTHERS[place % len(OTHERS)],
        "marker": OTHER_MARKERS[place % len(OTHER_MARKERS)],
    }


def variants(models: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(parse_model(model).variant for model in models))


def model_style(model: str, models: Sequence[str], variants: Sequence[str]) -> dict[str, Any]:
    """A variant's colour and marker, paler for fewer steps."""
    name, others = parse_model(model), [parse_model(other) for other in models]
    steps = sorted(other.step for other in others if other.variant == name.variant)
    share = (steps.index(name.step) + 1) / len(steps)
    return {**series(name.variant, variants), "alpha": 0.35 + 0.65 * share}


def legend(figure: Figure, axis: Axes) -> None:
    """The legend of `axis` above all panels, where it hides nothing, in lines as wide as they."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        letters = 16 * figure.get_figwidth()  # in a line of 8 points
        columns = max(1, min(len(labels), int(letters / (6 + max(map(len, labels))))))
        figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def model_legend(figure: Figure, models: Sequence[str], variants: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], **model_style(model, models, variants) | {"linestyle": ""}, label=model)
        for model in models
    ]
    columns = min(len(lines), 7)
    figure.legend(
        handles=lines, loc="outside upper left", ncols=columns, columnspacing=1, handletextpad=0.2
    )


def noted(
    figure: FigureBase,
    settings: Mapping[str, Any],
    table: pd.DataFrame | None = None,
    reference: str = "base",
) -> Figure:
    """A line below that says what the bars are, and of how many pictures where all have as many."""
    percent = f"{100 * settings['confidence']:g} %"
    note = f"bars and bands: {percent} interval of the paired difference to {reference}"
    if table is not None and len(table):
        note += f"; {table['prompts'].iloc[0]} prompts, {table['seeds'].iloc[0]} seeds"
    figure.supxlabel(note, fontsize=7.5, color="#555555")
    return figure


def empty(figure: Figure, axes: Sequence[Axes], text: str) -> Figure:
    for axis in axes:
        axis.set_axis_off()
    figure.text(0.5, 0.5, text, ha="center", va="center", color=GREY)
    return figure


def count(prompts: int) -> str:
    """`1 prompt`, `50 prompts`."""
    return f"{prompts} prompt{'' if prompts == 1 else 's'}"


def words(arm: str) -> str:
    return arm.replace("_", " ")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as STEM.svg and STEM.png; the files, each with its checksum beside it."""
    paths = [stem.with_suffix(".svg"), stem.with_suffix(".png")]
    # The date and the version of the program would make every file differ.
    facts = [{"Date": None, "Creator": None}, {"Software": None}]
    for path, metadata in zip(paths, facts, strict=True):
        with files.atomic(path) as temporary:
            figure.savefig(temporary, metadata=metadata, dpi=200)
        files.write_checksum(path)
    return paths
