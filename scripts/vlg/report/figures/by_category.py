"""Forest plot of differences to the reference by category."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("by_category",)


def draw(settings: Mapping[str, Any], by_category: pd.DataFrame) -> Figure:
    reference = plots.reference(by_category)
    tuned = by_category[by_category["model"] != reference]
    panels = [panel for panel in plots.measures(by_category) if not tuned.empty]
    models = list(dict.fromkeys(tuned["model"]))
    groups = list(dict.fromkeys(tuned["category"]))
    height = max(2.2, 0.9 + 0.15 * len(groups) * (len(models) + 1))
    figure, axes = plots.panels(max(1, len(panels)), height=height, sharey=True)
    if not panels:
        return plots.empty(figure, axes, "no categories in this study")
    variants = plots.variants(models)
    for axis, (title, _, delta, scale) in zip(axes, panels, strict=True):
        for g, group in enumerate(groups):
            rows = tuned[tuned["category"] == group].set_index("model")
            for m, model in enumerate(models):
                style = plots.model_style(model, models, variants)
                style |= {"linestyle": "", "markersize": 4}
                y = g + (m - (len(models) - 1) / 2) * 0.8 / len(models)
                plots.bar(axis, rows.loc[model], delta, y, scale, style)
        sizes = tuned.groupby("category", sort=False)["prompts"].first()
        plots.forest(axis, [f"{group}\n{plots.count(sizes[group])}" for group in groups])
        for edge in range(1, len(groups)):
            axis.axhline(edge - 0.5, color="#d0d0d0", linewidth=0.6)
        axis.set_title(f"Δ {title.replace('%', 'points')}")
    plots.model_legend(figure, models, variants)
    return plots.noted(figure, settings, reference=reference)
