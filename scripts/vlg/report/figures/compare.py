"""How far every row stays behind the first of the leaderboard, by ClipScore and in facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("compare",)


def draw(settings: Mapping[str, Any], compare: pd.DataFrame) -> Figure:
    rows, pairs = (compare[compare["kind"] == kind] for kind in ("row", "pair"))
    names = list(rows["model"])
    panels = [each for each in plots.measures(rows) if len(names) > 1]
    height = 1.2 + 0.26 * len(names)
    figure, axes = plots.panels(max(1, len(panels)), height=height, sharey=True)
    if not panels:
        return plots.empty(figure, axes, "one row only")
    labels = [f"{_ranks(row)}   {plots.words(row.model)}" for row in rows.itertuples()]
    for axis, (title, _, delta, scale) in zip(axes, panels, strict=True):
        for y, name in enumerate(names):
            style = plots.series(name, names) | {"linestyle": ""}
            ends = [delta, f"{delta}_low", f"{delta}_high"]
            if y == 0:
                axis.plot(0, 0, **style)
                continue
            own = pairs[(pairs["model"] == names[0]) & (pairs["against"] == name)]
            sign = -1 if len(own) else 1
            own = (
                own
                if len(own)
                else pairs[(pairs["model"] == name) & (pairs["against"] == names[0])]
            )
            row = own.iloc[0][ends].astype(float) * sign
            if sign < 0:
                row[ends[1:]] = row[ends[:0:-1]].to_numpy()
            plots.bar(axis, row, delta, y, scale, style)
        plots.forest(axis, labels)
        axis.set_title(f"Δ {title.replace('%', 'points')}")
    return plots.noted(figure, settings, reference=plots.words(names[0]))


def _ranks(row: Any) -> str:
    first, last = f"{row.rank:.0f}", f"{row.rank_last:.0f}"
    return first if first == last else f"{first}–{last}"
