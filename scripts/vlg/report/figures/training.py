"""Loss terms, guide cosine, gradient norm, learning rate and speed by training step.

Whatever columns the logs have are drawn; the terms of a method have its names for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("logs",)
CURVES = (
    ("denoising", "denoising loss"),
    ("clip", "guide loss, 1 − cos"),
    ("guide_cosine", "guide cosine"),
    ("held_out_denoising", "held-out denoising loss"),
    ("held_out_guide_cosine", "held-out guide cosine"),
    ("grad_norm", "gradient norm"),
    ("learning_rate", "learning rate"),
    ("pictures_per_second", "pictures per second"),
)
# What is no curve of training: places, costs, and lengths of gradients by term.
HIDDEN = ("step", "loss", "memory_gb", "seconds", "held_out_grad")
FEW = 40  # points of a curve that are shown each; more are also averaged to about as many


def draw(settings: Mapping[str, Any], logs: Mapping[str, pd.DataFrame]) -> Figure:
    columns = dict.fromkeys(column for log in logs.values() for column in log)
    own = [(c, plots.words(c)) for c in columns if c not in dict(CURVES)]
    shown = [
        (column, title)
        for column, title in (*CURVES, *own)
        if not column.startswith(HIDDEN)
        and any(column in log and log[column].notna().any() for log in logs.values())
    ]
    if not shown:
        return plots.empty(*plots.panels(1, height=2.2), "no training in this study")
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure, axes = plots.panels(columns, lines=lines, height=2.1 * lines)
    variants = list(logs)
    for axis, (column, title) in zip(axes, shown, strict=False):
        for variant, log in logs.items():
            if column not in log or not log[column].notna().any():
                continue
            values = log.set_index("step")[column].dropna().astype(float)
            style = plots.series(variant, variants)
            if len(values) > FEW:
                style["marker"] = ""
            window = max(1, len(values) // FEW)
            if window > 1 and column != "learning_rate":
                axis.plot(values, **style | {"alpha": 0.2, "linewidth": 0.6})
                values = values.rolling(window, min_periods=1, center=True).mean()
            axis.plot(values, **style, label=variant)
        axis.set_title(title)
        axis.set_xlabel("training steps")
        axis.yaxis.set_major_formatter("{x:g}")
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    plots.legend(figure, axes[0])
    return figure
