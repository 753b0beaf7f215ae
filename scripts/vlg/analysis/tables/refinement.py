"""Plain pictures (round 0), refinement and its controls on the study prompts, against base; under
them what scores are held against.

`equal_compute_with` names the round of the control arm at the same number of UNet calls, and the
`equal_delta` columns the paired difference to it. Between two rounds of the control the two are
mixed linearly: what a share of the pictures with one sample more would score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vlg.analysis import markup, references, table
from vlg.analysis.comparison import compare, control, corrected, estimates, sides
from vlg.analysis.scores import CONTROL, REFINEMENT, Key
from vlg.analysis.study import Study

if TYPE_CHECKING:
    import pandas as pd

NEEDS = ("scores", "refined", "references")
ORDER = 2
WHEN = "base"

COSTS = ("unet_calls", "seconds", "flops")  # of a picture, cumulative over the rounds


def build(study: Study) -> table.Table:
    import pandas as pd

    keys = study.refined()
    present = list(dict.fromkeys(["base", *(key[0] for key in keys)]))
    # Each model's plain pictures are its round 0; sorting keeps the order within a model.
    keys = sorted([*((m, "", 0) for m in present), *keys], key=lambda key: present.index(key[0]))
    frame = corrected(study, compare(study, keys), "every arm and round against base, plain")
    costs = study.values(keys, study.ids, study.seeds, COSTS)
    frame.insert(1, "arm", [arm or "plain" for _, arm, _ in keys])
    frame.insert(2, "round", [number for *_, number in keys])
    for name, cost in zip(COSTS, costs.mean(axis=(0, 1, 2)).T, strict=True):
        frame[name] = cost
    frame = pd.concat([frame, _equal_compute(study, keys)], axis=1)
    frame["blank"] = [study.blank(key) for key in keys]
    figures = study.settings.published.get("refinement", {})
    frame["published"] = [
        figures.get(str(number)) if model == "base" and arm in ("", REFINEMENT) else None
        for model, arm, number in keys
    ]
    caption = (
        f"Refinement. {table.sample(study.ids, study.seeds)} "
        f"{table.explained(study, frame, 'base, plain')} Cost is cumulative, a guided step counts "
        "two UNet calls. Equal compute: paired difference to the control with as many UNet calls "
        "(fresh samples, the guide chooses), a family of its own; fractions of a round mix two "
        f"rounds.{references.explained(study)}"
    )
    frame = references.beneath(study, frame)
    blank, words = table.blank(frame)
    lead = [markup.MODEL, markup.ARM, markup.ROUND]
    own = [
        *blank,
        markup.Column("UNet calls", "unet_calls", digits=0),
        markup.Column("Seconds", "seconds"),
        markup.Column("At equal compute", "equal_delta", interval=True, signed=True),
        markup.Column("against", "equal_compute_with", words=True),
        markup.Column("p", "equal_p_corrected", chance=True),
    ]
    return table.of(study, frame, caption + words, [*lead, *table.scores(*own)])


def _equal_compute(study: Study, keys: Sequence[Key]) -> pd.DataFrame:
    """The columns equal_*: each refined row against the control at as many UNet calls."""
    import pandas as pd

    names = ["equal_compute_with", "equal_delta", "equal_delta_low", "equal_delta_high"]
    names += ["equal_p", "equal_p_corrected"]
    frame = pd.DataFrame(np.nan, index=range(len(keys)), columns=names).astype({names[0]: object})
    controls = {i: control(study, key) for i, key in enumerate(keys) if key[1] not in ("", CONTROL)}
    controls = {i: weights for i, weights in controls.items() if weights is not None}
    if not controls:
        return frame
    pairs = [({keys[i]: 1.0}, weights) for i, weights in controls.items()]
    rows, references = sides(study, pairs, study.ids, study.seeds, ["clipscore"])
    found = estimates(study, {"delta": (rows - references)[..., 0]})
    p = found.frame["delta_p"].to_numpy()
    after = study.correct(p, found.draws["delta_p"])
    for place, (i, weights) in enumerate(controls.items()):
        average = sum(number * weight for (*_, number), weight in weights.items())
        frame.loc[i, names[0]] = f"{CONTROL} {average:.4g}"
        figures = found.frame.loc[place, ["delta", "delta_low", "delta_high"]]
        frame.loc[i, names[1:]] = [*figures, p[place], after[place]]
    return frame
