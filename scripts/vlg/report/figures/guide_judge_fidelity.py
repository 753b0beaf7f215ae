"""What the guide, the judge and the ground truth say of each gain, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlg.analysis.scores import compared
from vlg.config.layout import parse_model
from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("finetune", "refinement")


def draw(settings: Mapping[str, Any], finetune: pd.DataFrame, refinement: pd.DataFrame) -> Figure:
    import pandas as pd

    finetune, refinement = compared(finetune), compared(refinement)
    last = refinement[refinement["arm"] != "plain"]
    last = last.sort_values("round").drop_duplicates(["model", "arm"], keep="last").sort_index()
    tuned = finetune[finetune["model"] != "base"]
    labels = [*tuned["model"]]
    labels += [f"{row.model}, {plots.words(row.arm)} {row.round}" for row in last.itertuples()]
    kinds = [parse_model(model).variant for model in tuned["model"]] + [*last["arm"]]
    rows = pd.concat([tuned, last], ignore_index=True)
    panels = [("guide, 100·cos", "guide_delta", 1), ("judge (ClipScore)", "delta", 1)]
    if rows["fidelity_delta"].notna().any():
        panels.append(("fidelity, points", "fidelity_delta", 100))
    height = 1.3 + 0.24 * len(rows)
    figure, axes = plots.panels(len(panels), height=height, sharey=True)
    if rows.empty:
        return plots.empty(figure, axes, "one model only")
    for axis, (title, delta, scale) in zip(axes, panels, strict=True):
        for y, kind in enumerate(kinds):
            style = plots.series(kind, kinds) | {"linestyle": ""}
            plots.bar(axis, rows.iloc[y], delta, y, scale, style)
        plots.forest(axis, labels)
        axis.set_title(f"Δ {title}")
    return plots.noted(figure, settings)
