"""What each way to guide gains, and what that costs: above, gain over FLOPs of a picture beside the
best of N; below, every way's differences to base and to the best of N at its cost. Ways that lose
many times what the best gains are named at the edge, or the others could not be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg.analysis.scores import CONTROL
from vlg.analysis.tables.methods import PICTURES, SHOWN
from vlg.config.layout import parse_model
from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = ("methods", "refinement")
TERA = 1e12
# Who loses more than so many times the highest gain, and than so many points, is drawn at the edge.
FAR, POINTS = 2.0, 10.0
# Column of a difference, what stands above it, factor.
DIFFERENCES = (
    ("delta", "Δ ClipScore", 1.0),
    ("guide_delta", "Δ guide", 1.0),
    ("fidelity_delta", "Δ fidelity, %", 100.0),
    ("spread_delta", "Δ diversity", 100.0),
    (f"at_{SHOWN}_delta", "Δ at\nequal cost", 1.0),
)


def draw(settings: Mapping[str, Any], methods: pd.DataFrame, refinement: pd.DataFrame) -> Figure:
    ways = methods[1:].reset_index(drop=True)
    shown = [each for each in DIFFERENCES if ways[each[0]].notna().any()]
    figure, (above, below) = plots.stacked(3.4, 1.2 + 0.22 * max(len(ways), 1))
    measures = [each for each in shown if each[0] in ("delta", "fidelity_delta")]
    if not measures:
        return plots.empty(figure, plots.panels(1, 0, figure=above)[1], "no way but the plain one")
    _, axes = plots.panels(len(measures), height=0, figure=above)
    names = [_series(row) for _, row in ways.iterrows()]
    for axis, (column, title, scale) in zip(axes, measures, strict=True):
        _frontier(axis, refinement, column, scale)
        floor = _floor(ways, column, scale)
        for (_, row), name in zip(ways.iterrows(), names, strict=True):
            if row[column] >= floor:
                _way(axis, row, column, scale, plots.series(name, names))
        if far := int((ways[column] < floor).sum()):
            axis.set_ylim(bottom=scale * floor)
            axis.text(
                0.02, 0.02, f"{far} lower", transform=axis.transAxes, fontsize=7, color=plots.GREY
            )
        axis.axhline(0, color=plots.BLACK, linewidth=1, linestyle="--")
        _powers(axis)
        axis.set_title(title)
        axis.set_xlabel("TFLOPs a picture")
    _forests(below, ways, names, shown)
    trained = f"lines of trained models: {PICTURES[-1]:,} to {PICTURES[0]:,} pictures drawn"
    note = f"{trained}, their mark and equal cost: {SHOWN:,}"
    plots.noted(figure, settings, methods)
    figure.supxlabel(f"{figure.get_supxlabel()}\n{note}", fontsize=7.5, color="#555555")
    return figure


def _floor(ways: pd.DataFrame, column: str, scale: float) -> float:
    """Below which a difference is too far down to be drawn with the others."""
    highest = ways[f"{column}_high"].fillna(ways[column]).max()
    floor = -max(FAR * highest, POINTS / scale)
    return floor if ways[column].min() < 1.5 * floor else -np.inf


def _series(row: pd.Series) -> str:
    """What has a colour of its own: an arm, or else a variant."""
    return row["arm"] if row["arm"] != "plain" else parse_model(row["model"]).variant


def _label(row: pd.Series) -> str:
    arm = plots.words(row["arm"])
    plain, base = row["arm"] == "plain", row["model"] == "base"
    return row["model"] if plain else arm if base else f"{row['model']}, {arm}"


def _frontier(axis: Axes, refinement: pd.DataFrame, column: str, scale: float) -> None:
    """The best of 1, 2, 3, ... fresh samples of base, with its band."""
    own = refinement[(refinement["model"] == "base") & refinement["arm"].isin(["plain", CONTROL])]
    own = own.sort_values("round")
    if len(own) < 2:
        return
    cost, colour = own["flops"] / TERA, plots.COLOURS[CONTROL]
    axis.plot(cost, scale * own[column], color=colour, marker=".")
    low, high = (scale * own[f"{column}{end}"].fillna(own[column]) for end in ("_low", "_high"))
    axis.fill_between(cost, low, high, color=colour, alpha=0.2, linewidth=0)


def _powers(axis: Axes) -> None:
    """A logarithmic axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())


def _way(axis: Axes, row: pd.Series, column: str, scale: float, style: dict[str, Any]) -> None:
    costs = [row[f"at_{n}_tflops"] for n in (PICTURES[-1], PICTURES[0])]
    style = style | {"linestyle": ""}
    if row["train_tflops"] > 0:
        axis.plot(costs, [scale * row[column]] * 2, color=style["color"], linewidth=1, alpha=0.6)
    ends = [[row[column] - row[f"{column}_low"]], [row[f"{column}_high"] - row[column]]]
    bars = plots.lengths(ends, scale)
    at = row[f"at_{SHOWN}_tflops"]
    axis.errorbar(at, scale * row[column], yerr=bars, capsize=2, elinewidth=1, **style)


def _forests(
    figure: Any, ways: pd.DataFrame, names: Sequence[str], shown: Sequence[tuple[str, str, float]]
) -> None:
    _, axes = plots.panels(len(shown), height=0, sharey=True, figure=figure)
    for axis, (column, title, scale) in zip(axes, shown, strict=True):
        floor = _floor(ways, column, scale)
        for y, (name, (_, row)) in enumerate(zip(names, ways.iterrows(), strict=True)):
            if row[column] < floor:
                text = f"\N{BLACK LEFT-POINTING TRIANGLE} {scale * row[column]:.0f}"
                axis.text(scale * floor, y, text, fontsize=6, va="center", color=plots.GREY)
            elif np.isfinite(row[column]):
                style = plots.series(name, names) | {"linestyle": ""}
                plots.bar(axis, row, column, y, scale, style)
        if np.isfinite(floor):
            axis.set_xlim(left=scale * floor)
        plots.forest(axis, [_label(row) for _, row in ways.iterrows()])
        axis.set_title(title, fontsize=8)
