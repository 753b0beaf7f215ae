"""The table of a sweep: all variants ranked by the judge on the development prompts, with costs.

The reference row is the best: `delta` says how far each stays behind it and whether the development
prompts can tell. The best of many was chosen by the same prompts, so its own score flatters it;
what it is worth, only the reported prompts say, to which no sweep has access.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlg.analysis import markup, scores, statistics
from vlg.analysis.tables import DELTAS, FEWEST, MEASURES, Table, count
from vlg.errors import UserError

# Of the columns of scores, those that the page has room for.
SHOWN = ("clipscore", "delta", "fidelity", "fidelity_delta", "strict")


def rank(
    prompts: Path,
    score_files: Sequence[Path],
    training: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> Table:
    """The table; rows by ClipScore, the best first.

    prompts: development.tsv; training: the summaries by model; settings: draws, confidence, seed.
    Columns are those of all tables of scores, and variant, step, train_seconds,
    pictures_per_second, memory_gb. Raises UserError when models were not drawn on the same
    prompts and seeds.
    """
    import pandas as pd

    frame = scores.read(score_files, scores.read_prompts(prompts))
    grids = {
        measure: frame.pivot(index=["id", "seed"], columns="model", values=measure)
        for measure in MEASURES
    }
    clipscore = grids["clipscore"]
    if clipscore.isna().any().any():
        lacking = clipscore.columns[clipscore.isna().any()][0]
        raise UserError(f"scores of {lacking}: some development prompts are missing; rerun them")
    if absent := sorted(set(clipscore.columns) - set(training)):
        raise UserError(f"--training: no summary of {absent[0]}; give its summary.json")
    models = list(clipscore.mean().sort_values(ascending=False, kind="stable").index)
    ids, seeds = (clipscore.index.unique(level) for level in ("id", "seed"))

    table: dict[str, Any] = {"model": models}
    split = [scores.split_model(model) for model in models]
    table |= {"variant": [name for name, _ in split], "step": [step for _, step in split]}
    table |= {"prompts": len(ids), "seeds": len(seeds)}
    for measure in MEASURES:
        values = grids[measure][models].to_numpy().reshape(len(ids), len(seeds), len(models))
        for name, quantity in ((measure, values), (DELTAS[measure], values - values[..., :1])):
            known = np.isfinite(quantity).all()  # there may be no ground truth
            numbers = np.full((4, len(models)), np.nan)
            if known:
                found = statistics.estimate(quantity, **settings)
                numbers = np.stack([found.mean, found.low, found.high, found.p])
            if len(ids) < FEWEST:
                numbers[1:] = np.nan
            table[name], table[f"{name}_low"], table[f"{name}_high"] = numbers[:3]
            if name == "delta":
                table["p"] = np.where(np.arange(len(models)) == 0, np.nan, numbers[3])
                table["p_holm"] = statistics.holm(table["p"])
    table["published"] = np.nan
    for column, number in (
        ("train_seconds", lambda summary: summary["train_seconds"]),
        ("pictures_per_second", lambda summary: summary["last_step"]["pictures_per_second"]),
        ("memory_gb", lambda summary: summary["peak_memory_gb"]),
    ):
        table[column] = [float(number(training[model])) for model in models]

    caption = (
        f"Sweep: variants by ClipScore on {len(ids)} development prompts, none of them reported, "
        f"{count(len(seeds), 'seed')} each. Δ: paired difference to the best, in brackets "
        f"{100 * settings['confidence']:g} % intervals (paired two-level bootstrap, "
        f"{settings['draws']:,} draws). †: behind the best also after Holm's correction. The best "
        "was chosen by these prompts, so its score is flattering. Training: seconds of all steps "
        "up to the checkpoint; memory: the most the training process held."
    )
    shown = [
        markup.MODEL,
        *(c for c in markup.SCORES if c.name in SHOWN and np.isfinite(table[c.name]).all()),
        markup.Column("Training, s", "train_seconds", digits=0),
        markup.Column("Memory, GB", "memory_gb", digits=1),
    ]
    alpha = 1 - settings["confidence"]
    return Table("sweep", pd.DataFrame(table), caption, shown, alpha=alpha)
