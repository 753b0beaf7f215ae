"""What each way to guide gains by judge, guide, facts and diversity, and what it costs.

A row is a way to draw: a model's plain pictures, or the last round of an arm on a model; of each
variant the last checkpoint counts. tflops is what a picture takes to draw, train_tflops what the
training took, which is spread over the pictures that will be drawn: at_N_tflops is the cost of a
picture when there are N of them (PICTURES), at_N_against the best of how many fresh samples of base
costs as much (linear between two rounds of the control; empty beyond its last), and at_N_delta and
at_N_fidelity_delta, with interval and p, the difference to it. at_N says who sees that difference.

interaction and interaction_fidelity, of an arm on a trained model: what both gain together beyond
the sum of what each gains alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vlg.analysis import markup, table
from vlg.analysis.comparison import (
    ENDS,
    compare,
    contrasts,
    corrected,
    estimates,
    mix,
)
from vlg.analysis.scores import CONTROL, Key
from vlg.analysis.study import BASE, Study, trained

if TYPE_CHECKING:
    import pandas as pd

NEEDS = ("scores", "refined", "training", "diversity")
ORDER = 3
WHEN = "base"
TERA = 1e12
PICTURES = (100, 10_000, 1_000_000)
SHOWN = 10_000  # pictures, in the table to read and to paste
FAMILIES = ("every way against base, plain", "every way against the best of N at its cost")


def build(study: Study) -> table.Table:
    keys = ways(study)
    frame = corrected(study, compare(study, keys), FAMILIES[0])
    frame.insert(1, "arm", [arm or "plain" for _, arm, _ in keys])
    frame.insert(2, "round", [number for *_, number in keys])
    _diversity(study, keys, frame)
    frame["tflops"] = [drawing(study, key) / TERA for key in keys]
    frame["train_tflops"] = [study.train_flops(model) / TERA for model, *_ in keys]
    _at_equal_cost(study, keys, frame)
    _interactions(study, keys, frame)
    frame["published"] = np.nan
    caption = (
        f"Ways to guide. {table.sample(study.ids, study.seeds)} "
        f"{table.explained(study, frame, 'base, plain')} TFLOPs: of drawing a picture, as counted, "
        f"and with the training spread over {SHOWN:,} pictures; against: the best of how many "
        "fresh samples of base (the guide chooses) costs as much, and the paired difference to it, "
        "a family of its own. Together: what an arm on a trained model gains beyond the sum of "
        "what both gain alone. The page has a slider for the number of pictures."
    )
    at = f"at_{SHOWN}"
    own = [
        markup.Column("Δ diversity", "spread_delta", scale=100, interval=True, signed=True),
        markup.Column("TFLOPs", f"{at}_tflops", digits=4),
        markup.Column("Against best of", f"{at}_against", digits=1),
        markup.Column("Δ at equal cost", f"{at}_delta", interval=True, signed=True),
        markup.Column("p", f"{at}_delta_p_corrected", chance=True),
        markup.Column("Seen by", at),
        markup.Column("Together", "interaction", interval=True, signed=True),
        markup.Column("p", "interaction_p_corrected", chance=True),
    ]
    lead = [markup.MODEL, markup.ARM, markup.ROUND]
    made = table.of(study, frame, caption, [*lead, *table.scores(*own)])
    made.chart = _chart(study, keys, frame)
    return made


def ways(study: Study) -> list[Key]:
    """Base's plain pictures, then of base and of each variant's last checkpoint the plain ones and
    the last round of each arm."""
    rounds = {key[:2]: key for key in study.refined()}  # rounds rise
    return [
        key
        for model in study.last.values()
        for key in [(model, "", 0), *(key for own, key in rounds.items() if own[0] == model)]
    ]


def drawing(study: Study, key: Key) -> float:
    """Mean FLOPs of drawing a picture of the study set."""
    return float(study.values([key], study.ids, study.seeds, ["flops"]).mean())


def frontier(study: Study) -> list[tuple[float, Key]]:
    """(FLOPs of a picture, row) of base's plain pictures and of the best of 2, 3, ... of them."""
    keys = [BASE, *(key for key in study.refined() if key[:2] == (BASE[0], CONTROL))]
    return sorted((drawing(study, key), key) for key in keys)


def _diversity(study: Study, keys: Sequence[Key], frame: pd.DataFrame) -> None:
    """The columns spread and spread_delta, where distances between pictures were measured."""
    names = [f"{name}{end}" for name in ("spread", "spread_delta") for end in ENDS[:3]]
    frame[names] = np.nan
    if "spread" not in study.grids.columns:
        return
    values = study.values([BASE, *keys], study.ids, study.seeds, ["spread"])[..., 0]
    own, base = values[..., 1:], values[..., :1]
    found = estimates(study, {"spread": own, "spread_delta": own - base}).frame
    frame[names] = found[names]


def _at_equal_cost(study: Study, keys: Sequence[Key], frame: pd.DataFrame) -> None:
    """The columns at_N..., against the best of as many samples as cost as much."""
    points = frontier(study)
    numbers = {key: key[2] + 1.0 for _, key in points}
    pairs: dict[tuple[int, int], tuple[dict[Key, float], dict[Key, float]]] = {}
    for n in PICTURES:
        cost = frame["tflops"] + frame["train_tflops"] / n
        sides = [mix(points, TERA * each) if len(points) > 1 else None for each in cost]
        frame[f"at_{n}_tflops"] = cost
        frame[f"at_{n}_against"] = [
            sum(numbers[key] * share for key, share in side.items()) if side else np.nan
            for side in sides
        ]
        for place, (key, side) in enumerate(zip(keys, sides, strict=True)):
            # What was not trained costs the same whatever the number of pictures.
            if side and {key: 1.0} != side and (trained(key[0]) or n == SHOWN):
                pairs[place, n] = ({key: 1.0}, side)
    found = None
    if pairs:
        found = corrected(study, contrasts(study, list(pairs.values())), FAMILIES[1])
    wanted = [name for name in ("delta", "fidelity_delta") for name in _columns(name)]
    for n in PICTURES:
        frame[[f"at_{n}_{name}" for name in wanted]] = np.nan
        frame[f"at_{n}"] = ""
        for row, (place, number) in enumerate(pairs):
            if found is not None and (number == n or not trained(keys[place][0])):
                for name in wanted:
                    source = name.removeprefix("delta_") if name.startswith("delta_p") else name
                    frame.loc[place, f"at_{n}_{name}"] = found[source].iloc[row]
                frame.loc[place, f"at_{n}"] = _seen(found.iloc[row], 1 - study.settings.confidence)


def _columns(name: str) -> list[str]:
    return [f"{name}{end}" for end in (*ENDS[:4], "_p_corrected")]


def _seen(row: pd.Series, alpha: float) -> str:
    """Who sees a difference after the correction, and which: `judge more, facts less`; `nobody`."""
    judged = {"judge": ("delta", "p_corrected")}
    judged["facts"] = ("fidelity_delta", "fidelity_delta_p_corrected")
    words = [
        f"{who} {'more' if row[name] > 0 else 'less'}"
        for who, (name, p) in judged.items()
        if row[p] < alpha
    ]
    return ", ".join(words) or "nobody"


def _interactions(study: Study, keys: Sequence[Key], frame: pd.DataFrame) -> None:
    """The columns interaction... of arms on trained models that base has, too."""
    measures = {"interaction": "clipscore", "interaction_fidelity": "fidelity"}
    frame[[column for name in measures for column in _columns(name)]] = np.nan
    places = [
        place
        for place, (model, arm, number) in enumerate(keys)
        if arm and trained(model) and (BASE[0], arm, number) in study.grids
    ]
    if not places:
        return
    quantities = {}
    for name, measure in measures.items():
        parts = []
        for place in places:
            model, arm, number = keys[place]
            both, plain, alone = keys[place], (model, "", 0), (BASE[0], arm, number)
            weights = {both: 1.0, plain: -1.0, alone: -1.0, BASE: 1.0}
            parts.append(study.contrast(weights, measure=measure))
        quantities[name] = np.concatenate(parts, axis=3)
    rows = estimates(study, quantities)
    names = [f"{name}_p" for name in measures]
    p = rows.frame[names].to_numpy().T
    draws = np.concatenate([rows.draws[name] for name in names], axis=1)
    after = study.correct(p.ravel(), draws).reshape(p.shape)
    for name, own in zip(measures, after, strict=True):
        found = rows.frame.assign(**{f"{name}_p_corrected": own})
        for column in _columns(name):
            frame.loc[places, column] = found[column].to_numpy()


def _name(study: Study, model: str, arm: str) -> str:
    name = f"{model}, {arm.replace('_', ' ')}" if arm else model
    control = study.control(model, arm)
    return f"{name} ({control})" if control else name


def _chart(study: Study, keys: Sequence[Key], frame: pd.DataFrame) -> dict[str, object]:
    """What the page's chart shows: gains over the cost of a picture."""
    measures = {"ClipScore": ("delta", 1), "guide": ("guide_delta", 1)}
    if frame["fidelity"].notna().any():
        measures["fidelity, %"] = ("fidelity_delta", 100)

    def gains(row: pd.Series) -> dict[str, list[float | None]]:
        return {
            title: [
                None if np.isnan(row[f"{name}{end}"]) else round(scale * row[f"{name}{end}"], 4)
                for end in ENDS[:3]
            ]
            for title, (name, scale) in measures.items()
        }

    points = frontier(study)
    control = compare(study, [key for _, key in points]).frame
    return {
        "measures": list(measures),
        "pictures": list(PICTURES),
        "shown": SHOWN,
        "frontier": [
            {"tflops": cost / TERA, "samples": key[2] + 1, "gain": gains(row)}
            for (cost, key), (_, row) in zip(points, control.iterrows(), strict=True)
        ],
        "ways": [
            {
                "name": _name(study, model, arm),
                "trained": trained(model),
                "tflops": row["tflops"],
                "train_tflops": row["train_tflops"],
                "gain": gains(row),
            }
            for (model, arm, _), (_, row) in zip(keys, frame.iterrows(), strict=True)
            if (model, arm) not in ((BASE[0], ""), (BASE[0], CONTROL))
        ],
    }
