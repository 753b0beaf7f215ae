"""All variants of sweeps, ranked by the judge on the development prompts, with what each cost.

The reference row is the best: `delta` says how far each stays behind it and whether the development
prompts can tell. The best of many was chosen by the same prompts, so its own score flatters it;
what it is worth, only the reported prompts say, to which no sweep has access.
"""

from __future__ import annotations

import numpy as np

from vlg.analysis import markup, table
from vlg.analysis.comparison import compare, corrected
from vlg.analysis.study import Study
from vlg.config.layout import parse_model

NEEDS = ("samples",)
ORDER = 13
WHEN = "samples"
# Of the columns of scores, those that the page has room for.
SHOWN = ("clipscore", "delta", "fidelity", "fidelity_delta", "strict")


def build(study: Study) -> table.Table:
    study = study.first()  # members of a sweep are trained once
    ids, seeds = study.where("development")
    keys = study.swept()
    means = study.values(keys, ids, seeds, ["clipscore"]).mean(axis=(0, 1, 2, 4))
    keys = [keys[place] for place in np.argsort(-means, kind="stable")]
    rows = compare(study, keys, keys[0], "development")
    frame = corrected(study, rows, "every variant against the best")
    names = [parse_model(model) for model, *_ in keys]
    frame.insert(1, "variant", [name.variant for name in names])
    frame.insert(2, "step", [name.step for name in names])
    frame["published"] = np.nan
    summaries = [study.summaries(name.name)[0] for name in names]
    for column, numbers in (
        ("train_seconds", [one["train_seconds"] for one in summaries]),
        ("pictures_per_second", [one["last_step"]["pictures_per_second"] for one in summaries]),
        ("memory_gb", [one["peak_memory_gb"] for one in summaries]),
    ):
        frame[column] = [float(number) for number in numbers]
    caption = (
        f"Sweep: variants by ClipScore on {len(ids)} development prompts, none of them reported, "
        f"{table.count(len(seeds), 'seed')} each. Δ: paired difference to the best, in brackets "
        f"{table.percent(study)} intervals (paired two-level bootstrap, {study.settings.draws:,} "
        f"draws). †: behind the best also after correction ({table.method(study)}). The best was "
        "chosen by these prompts, so its score is flattering. Training: seconds of all steps up to "
        "the checkpoint; memory: the most the training process held."
    )
    columns = [
        markup.MODEL,
        *(column for column in markup.SCORES if column.name in SHOWN),
        markup.Column("Training, s", "train_seconds", digits=0),
        markup.Column("Memory, GB", "memory_gb", digits=1),
    ]
    return table.of(study, frame, caption, columns)
