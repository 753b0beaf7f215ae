"""Differences to base by each judge, on the judge's own scale; the study's own first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlg.analysis.scores import OWN
from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("judges",)


def draw(settings: Mapping[str, Any], judges: pd.DataFrame) -> Figure:
    names = list(dict.fromkeys(judges["judge"]))
    titles = [f"Δ {plots.words(name)}" if name != OWN else "Δ ClipScore" for name in names]
    return plots.forests(
        judges, [(judges["judge"] == name, "delta") for name in names], titles, settings
    )
