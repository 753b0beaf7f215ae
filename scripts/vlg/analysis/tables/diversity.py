"""A row per model: how far its pictures of a prompt are from each other and from base's.

Distances are within a training.
"""

from __future__ import annotations

from vlg.analysis import markup, table
from vlg.analysis.comparison import compare
from vlg.analysis.study import DISTANCES, Study

NEEDS = ("scores", "diversity")
ORDER = 12
WHEN = "diversity"


def build(study: Study) -> table.Table:
    found = compare(study, study.models, columns={name: name for name in DISTANCES})
    frame = found[["model", "prompts", "seeds", "trainings"]].copy()
    for end in ("", "_low", "_high"):
        frame[f"spread{end}"] = found[f"spread{end}"]
        frame[f"delta{end}"] = found[f"spread_delta{end}"]
    for end in ("", "_low", "_high"):
        frame[f"drift{end}"] = found[f"drift{end}"]
    caption = (
        "Diversity and drift: distances (1 − cos) in the judge's embedding, times 100. Diversity: "
        "between pictures of one prompt on different seeds; Δ is its paired difference to base, "
        "and a model that collapses falls far below 0. Drift: from base's picture of the same "
        f"prompt and seed. In brackets: {table.percent(study)} intervals."
        + (f" {table.retrained(study)}" if study.trainings > 1 else "")
    )
    hundred = {"scale": 100.0, "interval": True}
    columns = [
        markup.Column("Model", "model"),
        markup.Column("Diversity", "spread", **hundred),
        markup.Column("Δ diversity", "delta", signed=True, **hundred),
        markup.Column("Drift", "drift", **hundred),
    ]
    return table.of(study, frame, caption, columns, measure="")
