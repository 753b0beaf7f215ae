"""A row per model: how far its pictures of a prompt are from each other and from base's.

Distances are within a training.
"""

from __future__ import annotations

import numpy as np

from vlg.analysis import markup, table
from vlg.analysis.comparison import (
    AGAINST_BASE,
    Rows,
    about,
    certain,
    corrected,
    estimates,
    sides,
    trainings,
)
from vlg.analysis.study import BASE, DISTANCES, Study

NEEDS = ("scores", "diversity")
ORDER = 12
WHEN = "diversity"


def build(study: Study) -> table.Table:
    import pandas as pd

    keys = [key for key in study.models if study.paired(key)]
    pairs = [({key: 1.0}, {BASE: 1.0}) for key in keys]
    own, references = sides(study, pairs, study.ids, study.seeds, list(DISTANCES))
    quantities = {"spread": own[..., 0], "delta": (own - references)[..., 0], "drift": own[..., 1]}
    rows = estimates(study, quantities)
    frame = pd.DataFrame({"model": [key[0] for key in keys]})
    frame["prompts"], frame["seeds"] = len(study.ids), len(study.seeds)
    frame["trainings"] = [trainings(study, *pair) for pair in pairs]
    frame["about"] = [about(number) for number in frame["trainings"]]
    for name in quantities:
        for end in ("", "_low", "_high"):
            frame[f"{name}{end}"] = rows.frame[f"{name}{end}"]
    strange = [not study.paired(key, BASE) for key in keys]
    frame.loc[strange, [f"drift{end}" for end in ("", "_low", "_high")]] = np.nan
    itself = np.array([key == BASE for key in keys])
    certain(frame, itself, "delta")
    frame.insert(frame.columns.get_loc("delta_high") + 1, "p", rows.frame["delta_p"].mask(itself))
    frame = corrected(study, Rows(frame, {"p": rows.draws["delta_p"]}), AGAINST_BASE)
    shared = ", where both start from the same noise" if any(strange) else ""
    caption = (
        "Diversity and drift: distances (1 − cos) in the judge's embedding, times 100. Diversity: "
        "between pictures of one prompt on different seeds; Δ is its paired difference to base, "
        "and a model that collapses falls far below 0. Drift: from base's picture of the same "
        f"prompt and seed{shared}. In brackets: {table.percent(study)} intervals; p of Δ is "
        f"corrected ({table.method(study)} over the table). {table.retrained(study)}"
    )
    hundred = {"scale": 100.0, "interval": True}
    columns = [
        markup.Column("Model", "model"),
        markup.Column("Diversity", "spread", **hundred),
        markup.Column("Δ diversity", "delta", signed=True, **hundred),
        markup.Column("p", "p_corrected", chance=True),
        markup.Column("Drift", "drift", **hundred),
    ]
    return table.of(study, frame, caption, columns, measure="")
