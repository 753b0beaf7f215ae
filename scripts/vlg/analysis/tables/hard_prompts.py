"""Every model on the hard prompts: on the seeds that chose them and on fresh ones.

The last row is base on fresh seeds against base on the seeds that chose the prompts: regression to
the mean.
"""

from __future__ import annotations

import numpy as np

from vlg.analysis import markup, table
from vlg.analysis.comparison import (
    Rows,
    about,
    compare,
    corrected,
    delta,
    nothing,
    summary,
    together,
)
from vlg.analysis.study import BASE, MEASURES, Study

NEEDS = ("scores", "hard")
ORDER = 4
WHEN = "hard"
CHOSEN = "same_seeds"
FAMILIES = {
    CHOSEN: "none: these seeds chose the prompts",
    "fresh_seeds": "every checkpoint against base on fresh seeds",
    "regression": "base on fresh seeds against the seeds that chose the prompts",
}


def build(study: Study) -> table.Table:
    parts, families = [], []
    for selection in (CHOSEN, "fresh_seeds"):
        ids, seeds = study.where(selection)
        if ids and seeds:
            part = compare(study, study.models, where=selection)
            part.frame.insert(0, "selection", selection)
            part.frame["published"] = table.published(study, "hard_prompts", part.frame["model"])
            # Published on the seeds of the selection; on fresh ones there is nothing to compare.
            part.frame.loc[part.frame["selection"] == "fresh_seeds", "published"] = np.nan
            parts.append(part)
            families += [FAMILIES[selection]] * len(part.frame)
    if len(parts) == 2:
        parts.append(_regression(study))
        families.append(FAMILIES["regression"])
    rows = together(parts) if parts else nothing(study, "selection")
    published = rows.frame.get("published", np.nan)
    frame = corrected(study, rows, families, unjudged=[FAMILIES[CHOSEN]])
    frame["published"] = published
    for selection, word in ((CHOSEN, "not judged: chosen by these seeds"), ("regression", "")):
        own = (frame["selection"] == selection) & frame["p"].notna()
        frame.loc[own, "gain_seen_by"] = word
    caption = (
        f"Hard prompts: the {len(study.where('same_seeds')[0])} that base scores lowest on, chosen "
        f"on the selection seeds ({len(study.seeds)}) and drawn again on fresh seeds "
        f"({len(study.fresh)}). Between the two, base itself shows the regression to the mean "
        "(last row: base on fresh seeds, Δ to base on the seeds that chose them); only fresh seeds "
        "are unbiased, so on the others nothing is corrected, marked or called seen. "
        f"{table.explained(study, frame, 'base on the same seeds')}"
    )
    lead = [markup.Column("Seeds", "selection", words=True), markup.MODEL]
    return table.of(study, frame, caption, [*lead, *table.scores()], "selection")


def _regression(study: Study) -> Rows:
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
    rows = summary(study, quantities, np.array([False]), where="regression")
    labels = {"selection": "regression", "model": "base", "prompts": len(sides[0][0])}
    labels |= {"seeds": len(sides[0][1]) + len(sides[1][1]), "trainings": 0, "about": about(0)}
    for place, (name, value) in enumerate(labels.items()):
        rows.frame.insert(place, name, value)
    rows.frame["published"] = np.nan
    return rows
