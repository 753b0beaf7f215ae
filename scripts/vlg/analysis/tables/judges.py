"""A row per judge and model, the study's own judge first: do other judges say the same?

`kendall` is the rank agreement of a judge with the study's own over models, `spearman` that over
the differences to base of single pictures.
"""

from __future__ import annotations

import numpy as np

from vlg.analysis import markup, table
from vlg.analysis.comparison import (
    Rows,
    about,
    certain,
    corrected,
    estimates,
    sides,
    together,
    trainings,
)
from vlg.analysis.scores import OWN
from vlg.analysis.study import BASE, Study

NEEDS = ("scores", "judges")
ORDER = 11
WHEN = "judges"
ENDS = ("", "_low", "_high")


def build(study: Study) -> table.Table:
    import pandas as pd
    from scipy.stats import kendalltau, spearmanr

    pairs = [({key: 1.0}, {BASE: 1.0}) for key in study.models]
    measures = list(study.judges.values())
    # (trainings, prompts, seeds, models, judges)
    scores, references = sides(study, pairs, study.ids, study.seeds, measures)
    changes = scores - references
    tuned = [place for place, key in enumerate(study.models) if key != BASE]
    # One family: all models by all judges, which share their draws.
    quantities = {}
    for place, judge in enumerate(study.judges):
        quantities[f"{judge} score"] = scores[..., place]
        quantities[f"{judge} delta"] = changes[..., place]
    found = estimates(study, quantities)
    itself = np.array([key == BASE for key in study.models])
    parts = []
    for place, judge in enumerate(study.judges):
        figures = {
            f"{name}{end}": found.frame[f"{judge} {name}{end}"]
            for name in ("score", "delta")
            for end in ENDS
        }
        frame = pd.DataFrame(figures)
        certain(frame, itself, "delta")
        frame["p"] = found.frame[f"{judge} delta_p"].mask(itself)
        frame["rank"] = frame["score"].rank(ascending=False, method="min").astype(int)
        means = [scores[..., j].mean(axis=(0, 1, 2)) for j in (0, place)]
        frame["kendall"] = kendalltau(*means).statistic if tuned else np.nan
        singles = [changes[..., tuned, j].ravel() for j in (0, place)]
        constant = any(np.ptp(each) == 0 if len(each) else True for each in singles)
        frame["spearman"] = np.nan if constant else spearmanr(*singles).statistic
        labels = {"judge": judge, "model": [key[0] for key in study.models]}
        labels |= {"prompts": len(study.ids), "seeds": len(study.seeds)}
        labels |= {"trainings": [trainings(study, *pair) for pair in pairs]}
        labels["about"] = [about(number) for number in labels["trainings"]]
        for column, (name, value) in enumerate(labels.items()):
            frame.insert(column, name, value)
        parts.append(Rows(frame, {"p": found.draws[f"{judge} delta_p"]}))
    frame = corrected(study, together(parts), "every model against base by every judge")
    caption = (
        f"Judges. {len(study.ids)} study prompts, {len(study.seeds)} seeds each; {OWN} is the "
        f"study's. Δ: paired difference to base by the same judge, in brackets "
        f"{table.percent(study)} intervals (paired two-level bootstrap, {study.settings.draws:,} "
        f"draws). †: not 0 after correction ({table.method(study)} over all judges). Agreement "
        "with the study's own judge: Kendall's τ over the models' means, Spearman's ρ over the "
        "differences to base of single pictures. Judges have scales of their own; those that are "
        f"no cosine are not ClipScores. {table.retrained(study)}"
    )
    columns = [
        markup.Column("Judge", "judge", words=True),
        markup.MODEL,
        markup.Column("Score", "score", interval=True),
        markup.Column("Δ", "delta", interval=True, signed=True, marked=True),
        markup.Column("p", "p_corrected", chance=True),
        markup.Column("Rank", "rank", digits=0),
        markup.Column("τ", "kendall"),
        markup.Column("ρ", "spearman"),
    ]
    return table.of(study, frame, caption, columns)
