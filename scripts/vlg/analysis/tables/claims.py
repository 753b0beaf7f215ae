"""Each published claim, and each question to it, with its published effect, ours, and a verdict.

supported: our interval lies above 0; contradicted: below 0; unresolved: it covers 0, and the reason
says how many prompts would settle it. Fidelity effects are in per cent.
"""

from __future__ import annotations

import math
from typing import Any

from vlg.analysis import markup, statistics, table
from vlg.analysis.claims import CLAIMS, Claim, NotMeasured
from vlg.analysis.comparison import corrected
from vlg.analysis.study import Study

NEEDS = ("scores", "refined", "hard", "training")
ORDER = 10
BESIDE = {"guide": 1.0, "fidelity": 100.0}  # further measures of an effect and their scale
UNITS = {"clipscore": "ClipScore", "fidelity": "fidelity, %"}


def build(study: Study) -> table.Table:
    import pandas as pd

    frame = corrected(pd.DataFrame([_row(study, claim) for claim in CLAIMS]))
    columns = [
        markup.Column("Claim", "statement", wrap=0.2),
        markup.Column("Measured in", "measure"),
        markup.Column("Published", "published", signed=True),
        markup.Column("Ours", "effect", interval=True, signed=True),
        markup.Column("Prompts", "prompts", digits=0),
        markup.Column("Seeds", "seeds", digits=0),
        markup.Column("Verdict", "verdict"),
        markup.Column("Why", "reason", wrap=0.14),
    ]
    caption = (
        "Claims of the published study and questions a careful reader puts to them (those without "
        f"a published effect). Ours: paired effect with its {table.percent(study)} interval "
        f"(two-level bootstrap over prompts and seeds, {study.settings.draws:,} draws). Verdict: "
        "supported when the interval lies above 0, contradicted when below, unresolved when it "
        "covers 0. The CSV has the same effect by the guide and in fidelity, the gap of guide and "
        "judge, p values, Holm's correction over the table, and the smallest effects that could "
        "have been seen with 80 % power."
    )
    return table.of(study, frame, caption, columns)


def _row(study: Study, claim: Claim) -> dict[str, Any]:
    kind = "control" if claim.published is None else "published"
    row = {"claim": claim.name, "kind": kind, "statement": claim.statement, "measure": ""}
    nan = float("nan")
    row |= {"published": nan if claim.published is None else claim.published}
    numbers = ("effect", "effect_low", "effect_high", "p", "p_holm", "mde")
    row |= dict.fromkeys(numbers, nan)
    row |= {"prompts": 0, "seeds": 0, "verdict": "unresolved"}
    row |= {"trainings": study.trainings}
    row |= {"prompts_for_published": nan, "prompts_for_ours": nan}
    beside = [f"{measure}_effect{end}" for measure in BESIDE for end in ("", "_low", "_high")]
    row |= dict.fromkeys([*beside, "gap"], nan)
    try:
        effect = claim.effect(study)
    except NotMeasured as reason:
        return row | {"reason": f"not measured: {reason}"}
    estimate, scale = effect.estimate, 100.0 if effect.measure == "fidelity" else 1.0
    mean, low, high = (
        scale * float(values[0]) for values in (estimate.mean, estimate.low, estimate.high)
    )
    mde = scale * float(study.detectable(estimate)[0])
    row |= {"statement": effect.statement, "measure": UNITS[effect.measure]}
    row |= {"effect": mean, "effect_low": low, "effect_high": high}
    row |= {"p": float(estimate.p[0]), "mde": mde}
    row |= {"prompts": effect.prompts, "seeds": effect.seeds}
    for measure, other in effect.beside.items():
        for end, values in (("", other.mean), ("_low", other.low), ("_high", other.high)):
            row[f"{measure}_effect{end}"] = BESIDE[measure] * float(values[0])
    row["gap"] = row["guide_effect"] - mean
    if claim.published is not None:
        row["prompts_for_published"] = statistics.prompts_needed(
            claim.published, mde, effect.prompts
        )
    row["prompts_for_ours"] = statistics.prompts_needed(mean, mde, effect.prompts)
    row["verdict"], row["reason"] = _verdict(row)
    return row


def _verdict(row: dict[str, Any]) -> tuple[str, str]:
    if math.isnan(row["effect_low"]):
        return "unresolved", "too few prompts for an interval"
    if row["effect_low"] > 0:
        return "supported", "the interval lies above 0"
    if row["effect_high"] < 0:
        return "contradicted", "the interval lies below 0"
    needed, ours = row["prompts_for_published"], row["prompts_for_ours"]
    settle = (
        "ours is 0"
        if math.isinf(ours)
        else f"one as large as ours needs {markup.number(ours, 0)} prompts"
    )
    if math.isnan(needed):
        return "unresolved", f"the interval covers 0; to be seen with 80 % power, {settle}"
    if needed <= row["prompts"]:
        return "unresolved", (
            "the interval covers 0 though an effect as large as the published one would have been "
            f"seen with 80 % power; {settle}"
        )
    return "unresolved", (
        "the interval covers 0; to be seen with 80 % power, an effect as large as the published "
        f"one needs {markup.number(needed, 0)} prompts, {settle}"
    )
