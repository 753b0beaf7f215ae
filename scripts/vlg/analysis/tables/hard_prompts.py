"""Every model on the hard prompts: on the seeds that chose them and on fresh ones.

The last row is base on fresh seeds against base on the seeds that chose the prompts: regression to
the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vlg.analysis import markup, table
from vlg.analysis.comparison import compare, corrected, delta, nothing, summary
from vlg.analysis.study import BASE, MEASURES, Study

if TYPE_CHECKING:
    import pandas as pd

NEEDS = ("scores", "hard")
ORDER = 4


def build(study: Study) -> table.Table:
    import pandas as pd

    parts = []
    for selection in ("same_seeds", "fresh_seeds"):
        ids, seeds = study.where(selection)
        if ids and seeds:
            part = compare(study, study.models, ids=ids, seeds=seeds)
            part.insert(0, "selection", selection)
            part["published"] = table.published(study, "hard_prompts", part["model"])
            # Published on the seeds of the selection; on fresh ones there is nothing to compare.
            part.loc[part["selection"] == "fresh_seeds", "published"] = np.nan
            parts.append(part)
    if len(parts) == 2:
        parts.append(_regression(study))
    frame = pd.concat(parts, ignore_index=True) if parts else nothing(study, "selection")
    frame = corrected(frame)
    caption = (
        f"Hard prompts: the {len(study.where('same_seeds')[0])} that base scores lowest on, chosen "
        f"on the selection seeds ({len(study.seeds)}) and drawn again on fresh seeds "
        f"({len(study.fresh)}). Between the two, base itself shows the regression to the mean "
        "(last row: base on fresh seeds, Δ to base on the seeds that chose them); only fresh seeds "
        f"are unbiased. {table.explained(study, frame, 'base on the same seeds')}"
    )
    lead = [markup.Column("Seeds", "selection", words=True), markup.MODEL]
    return table.of(study, frame, caption, [*lead, *table.scores()], "selection")


def _regression(study: Study) -> pd.DataFrame:
    """Base on fresh seeds against base on the seeds that chose the prompts, prompt by prompt: the
    seeds of the two sides are different draws, so only the prompts' means pair."""
    sides = [study.where(name) for name in ("fresh_seeds", "same_seeds")]
    fresh, same = (
        study.values([BASE], *side, MEASURES)[:1].mean(axis=2, keepdims=True) for side in sides
    )
    quantities = {}
    for i, measure in enumerate(MEASURES):
        quantities[measure] = fresh[..., i]
        quantities[delta(measure)] = fresh[..., i] - same[..., i]
    frame = summary(study, quantities, np.array([False]))
    labels = {"selection": "regression", "model": "base", "prompts": len(sides[0][0])}
    labels |= {"seeds": len(sides[0][1]) + len(sides[1][1]), "trainings": 0}
    for place, (name, value) in enumerate(labels.items()):
        frame.insert(place, name, value)
    return frame.assign(published=np.nan, gain_seen_by="")
