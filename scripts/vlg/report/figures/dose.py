"""What each ladder of doses moves: judge, guide, facts and diversity over the dose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = ("dose",)
# Column of the difference, title, factor.
DIFFERENCES = (
    ("guide_delta", "Δ guide, 100·cos", 1),
    ("delta", "Δ judge (ClipScore)", 1),
    ("fidelity_delta", "Δ fidelity, points", 100),
    ("spread_delta", "Δ diversity", 100),
)
NARROW = 5.0  # points up and down that are shown at least
WIDE = 4.0  # times as large as the smallest from which a dose is drawn in logarithms


def draw(settings: Mapping[str, Any], dose: pd.DataFrame) -> Figure:
    shown = [each for each in DIFFERENCES if dose[each[0]].notna().any()]
    ladders = list(dict.fromkeys(dose["ladder"]))
    if not shown:
        return plots.empty(*plots.panels(1, 2.0), "no differences")
    height = 0.5 + 1.55 * len(ladders)
    figure, axes = plots.panels(len(shown), height, lines=len(ladders))
    for line, name in enumerate(ladders):
        own = dose[dose["ladder"] == name]
        row = axes[line * len(shown) : (line + 1) * len(shown)]
        for axis, (column, title, scale) in zip(row, shown, strict=True):
            _ladder(axis, own, column, scale)
            if line == 0:
                axis.set_title(title, fontsize=8)
            axis.set_xlabel(plots.words(own["key"].iloc[0]), fontsize=8)
        row[0].set_ylabel(plots.words(name), fontweight="bold")
    named = [axis for axis in axes if axis.get_legend_handles_labels()[0]]
    plots.legend(figure, (named or axes)[0])
    plots.noted(figure, settings, dose, "plain pictures")
    note = f"{figure.get_supxlabel()}; dotted line: the published dose"
    figure.supxlabel(note, fontsize=7.5, color="#555555")
    return figure


def _ladder(axis: Axes, rows: pd.DataFrame, column: str, scale: float) -> None:
    """One measure over the doses of one ladder, a line a model where an arm has several."""
    arms = rows["arm"] != "plain"
    models = list(dict.fromkeys(rows["model"].where(arms, "")))
    for place, model in enumerate(models):
        own = rows[rows["model"].where(arms, "") == model].sort_values("dose")
        own = own[own[column].notna()]
        ends = [own[column] - own[f"{column}_low"], own[f"{column}_high"] - own[column]]
        axis.errorbar(
            own["dose"], scale * own[column], yerr=plots.lengths(ends, scale),
            color=[plots.BLACK, *plots.OTHERS][place % 6], marker="o", markersize=4,
            linewidth=1, capsize=2, elinewidth=1, label=model if len(models) > 1 else None,
        )  # fmt: skip
    axis.axhline(0, color=plots.BLACK, linewidth=0.8, linestyle="--")
    # Ladders have scales of their own: beside one that breaks pictures the others would be flat.
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, -NARROW), max(high, NARROW))
    if np.isfinite(published := rows["published_dose"].iloc[0]):
        axis.axvline(published, color=plots.GREY, linewidth=1, linestyle=":")
    doses = np.sort(rows["dose"].unique())
    if doses[0] > 0 and doses[-1] >= WIDE * doses[0]:
        axis.set_xscale("log")
    axis.set_xticks(doses, [f"{each:g}" for each in doses], fontsize=7)
    axis.minorticks_off()
