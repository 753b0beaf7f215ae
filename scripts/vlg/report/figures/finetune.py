"""ClipScore and fidelity by training steps; base and others as lines, bounds in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlg.analysis.scores import compared
from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = ("finetune",)


def draw(settings: Mapping[str, Any], finetune: pd.DataFrame) -> Figure:
    panels = plots.measures(finetune)
    figure, axes = plots.panels(len(panels), height=2.9)
    if not (finetune["step"] > 0).any() and len(compared(finetune)) > 1:
        return plots.empty(figure, axes, "nothing was trained in this study")
    for axis, panel in zip(axes, panels, strict=True):
        ladder(axis, finetune, panel)
    plots.legend(figure, axes[0])
    return plots.noted(figure, settings, finetune)


def ladder(axis: Axes, table: pd.DataFrame, panel: plots.Measure) -> None:
    """One measure of each variant by training steps; base and others as lines."""
    title, mean, delta, scale = panel
    plots.bounds(axis, table, mean, scale)
    table = compared(table)
    base = table[table["variant"] == "base"].iloc[0]
    tuned = table[table["step"] > 0]
    others = table[(table["step"] == 0) & (table["variant"] != "base")]
    variants = list(dict.fromkeys([*tuned["variant"], *others["variant"]]))
    span = float(tuned["step"].max()) if len(tuned) else 1.0
    line = {"color": plots.BLACK, "linestyle": "--", "linewidth": 1}
    axis.axhline(scale * base[mean], **line, label="base")
    for _, row in others.iterrows():
        colour = plots.series(row["variant"], variants)["color"]
        axis.axhline(scale * row[mean], linewidth=1, color=colour, label=plots.words(row["model"]))
    for i, variant in enumerate(dict.fromkeys(tuned["variant"])):
        rows = tuned[tuned["variant"] == variant].sort_values("step")
        # Moved aside a little, so that bars at the same step do not hide each other.
        x = rows["step"] + span * 0.012 * (i - (len(variants) - 1) / 2)
        style = plots.series(variant, variants)
        plots.bars(axis, x, rows, mean, delta, scale, **style, label=variant)
        start = [0, x.iloc[0]], [scale * base[mean], scale * rows[mean].iloc[0]]
        axis.plot(*start, color=style["color"], linewidth=0.8, linestyle=":")
    axis.set_title(title)
    axis.set_xlabel("training steps")
    axis.set_xticks([0, *sorted(set(tuned["step"]))])
    axis.set_xlim(left=0)
