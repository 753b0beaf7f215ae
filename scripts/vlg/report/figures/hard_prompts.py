"""Slopes from the seeds that chose the prompts to fresh ones; differences to base beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("hard_prompts",)


def draw(settings: Mapping[str, Any], hard_prompts: pd.DataFrame) -> Figure:
    table = hard_prompts[hard_prompts["selection"] != "regression"]
    figure, axes = plots.panels(2, height=3.1, widths=(1, 1.4))
    if table.empty:
        return plots.empty(figure, axes, "no hard prompts in this study")
    slopes, forest = axes
    places = {"same_seeds": 0, "fresh_seeds": 1}
    models = list(dict.fromkeys(table["model"]))
    variants = plots.variants(models)
    for model in models:
        rows = table[table["model"] == model].set_index("selection")["clipscore"]
        x = [places[name] for name in rows.index]
        slopes.plot(x, rows, **plots.model_style(model, models, variants))
    slopes.set_xticks([0, 1], ["seeds that\nchose them", "fresh\nseeds"])
    slopes.set_xlim(-0.25, 1.25)
    slopes.set_title("ClipScore on hard prompts")
    tuned = [model for model in models if model != "base"]
    for i, (selection, fill) in enumerate((("same_seeds", "white"), ("fresh_seeds", None))):
        rows = table[table["selection"] == selection].set_index("model")
        for y, model in enumerate(tuned):
            if model not in rows.index:
                continue
            style = plots.model_style(model, models, variants) | {"alpha": 1, "linestyle": ""}
            plots.bar(forest, rows.loc[model], "delta", y + 0.3 * i - 0.15, 1, style, fill)
    plots.forest(forest, tuned)
    forest.set_title("Δ ClipScore")
    forest.set_xlabel("open: seeds that chose them; filled: fresh seeds", fontsize=8)
    plots.model_legend(figure, models, variants)
    return plots.noted(figure, settings)
