"""Whether judges see what is right, where that is known, and what each says of each model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlg.analysis.scores import ALL, OWN
from vlg.judge.columns import FACTS
from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = ("judges",)


def draw(settings: Mapping[str, Any], judges: pd.DataFrame) -> Figure:
    names = list(dict.fromkeys(judges["judge"]))
    titles = [f"Δ {plots.words(name)}" if name != OWN else "Δ ClipScore" for name in names]
    models = judges[judges["model"] != ALL]
    shown = [(models["judge"] == name, "delta") for name in names]
    together = judges[judges["model"] == ALL]
    if not together["auc"].notna().any():
        return plots.forests(models, shown, titles, settings)
    upper = 0.9 + (len(FACTS) + 1) * (0.1 + 0.12 * len(names))
    whole, (above, below) = plots.stacked(upper, plots.forests_height(models, len(names)))
    believed(above.subplots(), together)
    plots.forests(models, shown, titles, settings, figure=below)
    return whole


def believed(axis: Axes, table: pd.DataFrame) -> None:
    """How often each judge scores what is right above what is wrong; chance as a line."""
    measures = {"all facts": "auc"} | {fact: f"accuracy_{fact}" for fact in FACTS}
    names = list(table["judge"])
    for place, (_, row) in enumerate(table.iterrows()):
        for y, column in enumerate(measures.values()):
            aside = 0.6 * ((place + 0.5) / len(names) - 0.5)
            label = plots.words(row["judge"]) if not y else None
            style = plots.series(row["judge"], names) | {"linestyle": "", "label": label}
            plots.bar(axis, row, column, y + aside, 100, style)
    plots.forest(axis, list(measures), chance=50)
    axis.set_title("a right picture scores above a wrong one, %")
    axis.legend(loc="lower left")
