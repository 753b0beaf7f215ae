"""Variants at equal steps and equal training FLOPs, arms at equal UNet calls and samples.

Rows name what they hold equal (`equal`) and at what value (`at`). Between two checkpoints, or two
rounds of the control, scores are mixed linearly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vlg.analysis import markup, table
from vlg.analysis.comparison import contrasts, control, corrected, mix, nothing
from vlg.analysis.scores import CONTROL, Key
from vlg.analysis.study import BASE, Study
from vlg.config.layout import parse_model

NEEDS = ("scores", "refined", "training")
ORDER = 3
WHEN = "base"
FAMILIES = ("every arm against the best of N", "any method against the plain one")


class Row(NamedTuple):
    """What is compared, at what; `sides`: weights of the row and of its reference."""

    model: str
    arm: str
    round: int
    against: str
    equal: str
    at: float
    sides: tuple[dict[Key, float], dict[Key, float]]


def build(study: Study) -> table.Table:
    rows = [*_training(study), *_drawing(study)]
    if rows:
        found = contrasts(study, [row.sides for row in rows])
        families = [FAMILIES[row.equal in ("steps", "flops")] for row in rows]
        frame = corrected(study, found, families)
    else:
        frame = corrected(study, nothing(study, "arm")).drop(columns=["arm", "model"])
    for place, name in enumerate(Row._fields[:-1]):
        frame.insert(place, name, [getattr(row, name) for row in rows])
    frame["published"] = np.nan
    caption = (
        f"At equal cost. {table.sample(study.ids, study.seeds)} "
        f"{table.explained(study, frame, 'what the row is set against')} Equal steps; equal "
        "FLOPs of training as counted, between checkpoints by linear interpolation; equal UNet "
        "calls and equal numbers of samples of a picture, against the best of that many fresh ones."
    )
    lead = [
        *(markup.MODEL, markup.ARM, markup.ROUND),
        markup.Column("Against", "against", words=True),
        markup.Column("Equal", "equal", words=True),
        markup.Column("at", "at", digits=0, large=True),
    ]
    return table.of(study, frame, caption, [*lead, *table.scores()])


def _training(study: Study) -> list[Row]:
    """Each variant against `normal`, or the first there is, at equal steps and equal FLOPs."""
    steps: dict[str, list[int]] = {}
    for model, *_ in study.models:
        name = parse_model(model)
        if not name.step:
            continue
        steps.setdefault(name.variant, []).append(name.step)
    if not steps:
        return []
    plain = "normal" if "normal" in steps else next(iter(steps))
    paths = {
        variant: [(0.0, BASE)]
        + [(study.train_flops(f"{variant}-{n}"), (f"{variant}-{n}", "", 0)) for n in sorted(own)]
        for variant, own in steps.items()
    }
    rows = []
    for variant in steps:
        if variant == plain:
            continue
        for step in sorted(set(steps[variant]) & set(steps[plain])):
            keys = (f"{variant}-{step}", "", 0), (f"{plain}-{step}", "", 0)
            pair = {keys[0]: 1.0}, {keys[1]: 1.0}
            rows.append(Row(keys[0][0], "plain", 0, keys[1][0], "steps", float(step), pair))
        last = min(paths[variant][-1][0], paths[plain][-1][0])
        for cost in sorted({last, *(cost for cost, _ in paths[variant][1:] if cost <= last)}):
            first, second = mix(paths[variant], cost), mix(paths[plain], cost)
            if first and second:
                rows.append(Row(variant, "plain", 0, plain, "flops", cost, (first, second)))
    return rows


def _drawing(study: Study) -> list[Row]:
    """The last round of each arm against the best of as many UNet calls, and of as many samples
    where its rounds tell how many there were."""
    rows = []
    last = {key[:2]: key for key in study.refined() if key[1] != CONTROL}
    for key in last.values():
        model, arm, number = key
        drawn = (model, CONTROL, number)
        if weights := control(study, key):
            average = sum(each * weight for (*_, each), weight in weights.items())
            calls, against = study.calls(key), f"{CONTROL} {average:.4g}"
            pair = {key: 1.0}, weights
            rows.append(Row(model, arm, number, against, "unet_calls", calls, pair))
        if drawn in study.grids and arm not in study.settings.uncounted:
            pair = {key: 1.0}, {drawn: 1.0}
            against = f"{CONTROL} {number}"
            rows.append(Row(model, arm, number, against, "samples", number + 1.0, pair))
    return rows
