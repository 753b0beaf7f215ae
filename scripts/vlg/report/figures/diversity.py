"""How far pictures of a prompt are from each other, against base, and from base's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("diversity",)


def draw(settings: Mapping[str, Any], diversity: pd.DataFrame) -> Figure:
    everything = diversity["model"] != ""
    shown = [(everything, "delta"), (everything, "drift")]
    titles = ["Δ diversity, 100·(1 − cos)", "drift from base, 100·(1 − cos)"]
    return plots.forests(diversity, shown, titles, settings, scale=100)
