"""Gain against cost: ClipScore and fidelity by UNet calls and by seconds for each arm.

Best of N, the control of equal compute, is a line with a band: the frontier to be beaten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg.analysis.scores import CONTROL, compared
from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = ("refinement",)
COSTS = (("unet_calls", "UNet calls per picture"), ("seconds", "seconds per picture"))


def draw(settings: Mapping[str, Any], refinement: pd.DataFrame) -> Figure:
    panels = plots.measures(refinement)
    figure, axes = plots.panels(len(panels), lines=len(COSTS), height=5.2, sharey="col")
    places = [(panel, cost) for cost in COSTS for panel in panels]
    for axis, (panel, cost) in zip(axes, places, strict=True):
        gain(axis, refinement, panel, cost)
        if cost != COSTS[0]:
            axis.set_title("")
    plots.legend(figure, axes[0])
    return plots.noted(figure, settings, refinement, "base without refinement")


def gain(
    axis: Axes, table: pd.DataFrame, panel: plots.Measure, cost: tuple[str, str] = COSTS[0]
) -> None:
    """One measure of each arm by what it costs."""
    (title, mean, delta, scale), (column, label) = panel, cost
    plots.bounds(axis, table, mean, scale)
    table = compared(table)
    for start, rows, style in _arms(table):
        x, y = np.r_[start[column], rows[column]], scale * np.r_[start[mean], rows[mean]]
        if (rows["arm"] == CONTROL).all():
            # What guided refinement has to beat: a band, so that the arms stand out on it.
            ends = (np.r_[0, rows[delta + end] - rows[delta]] for end in ("_low", "_high"))
            low, high = (y + scale * np.nan_to_num(end) for end in ends)
            axis.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
            axis.plot(x, y, **style | {"label": f"{style['label']} (control)"})
            continue
        axis.plot(x, y, **style | {"marker": "", "label": ""})
        alone = style | {"linestyle": "", "label": ""}
        plots.bars(axis, rows[column], rows, mean, delta, scale, **alone)
        axis.plot([], [], **style)  # for the legend: marker and line
    plain = table[table["arm"] == "plain"]
    axis.plot(plain[column], scale * plain[mean], color=plots.BLACK, marker="o", linestyle="")
    axis.set_title(title)
    axis.set_xlabel(label)
    axis.set_xlim(left=0)


def _arms(table: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]]:
    """(plain row, rows of the rounds, style) of each model and arm."""
    arms = [arm for arm in dict.fromkeys(table["arm"]) if arm != "plain"]
    models = list(dict.fromkeys(table["model"]))
    for m, model in enumerate(models):
        own = table[table["model"] == model]
        for arm in arms:
            rows = own[own["arm"] == arm].sort_values("round")
            if len(rows):
                label = plots.words(arm) if len(models) == 1 else f"{plots.words(arm)}, {model}"
                look = {"linestyle": ("-", "--", ":", "-.")[m % 4], "label": label}
                yield own[own["arm"] == "plain"], rows, plots.series(arm, arms) | look
