"""Each published claim, and each question to it, with its published effect, ours, and a verdict.

supported: ours is above 0 and its p is small after correction within its family; contradicted: the
same below 0; unresolved: anything else, and the reason says whether p was small before correction
and what would settle it. On the seeds that chose the prompts nothing is supported. probability:
that the effect is larger than `smallest`, the smallest worth having. prompts_, seeds_ and
trainings_for_ours: how many of each alone would show an effect as large as ours with 80 % power.
Fidelity effects are in per cent.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vlg.analysis import markup, power, statistics, table
from vlg.analysis.claims import CHOSEN, CLAIMS, Claim, Effect, NotMeasured
from vlg.analysis.comparison import SOURCES, Rows, about, corrected, largest, shares
from vlg.analysis.study import Study

NEEDS = ("scores", "refined", "hard", "training")
ORDER = 10
WHEN = "base"
BESIDE = {"guide": 1.0, "fidelity": 100.0}  # further measures of an effect and their scale
UNITS = {"clipscore": "ClipScore", "fidelity": "fidelity, %"}
NUMBERS = ("effect", "effect_low", "effect_high", "smallest", "probability", "p", "mde")
NUMBERS += tuple(f"share_{source}" for source in SOURCES)
COUNTS = ("prompts_for_published", *(f"{source}_for_ours" for source in SOURCES))


def build(study: Study) -> table.Table:
    import pandas as pd

    effects = [_effect(study, claim) for claim in CLAIMS]
    frame = pd.DataFrame([_row(study, *each) for each in zip(CLAIMS, effects, strict=True)])
    draws = {"p": _draws(study, [getattr(each, "estimate", None) for each in effects])}
    for measure in BESIDE:
        own = [getattr(each, "beside", {}).get(measure) for each in effects]
        draws[f"{measure}_p"] = _draws(study, own)
    frame = corrected(study, Rows(frame, draws), [claim.family for claim in CLAIMS])
    verdicts = [
        _verdict(row, 1 - study.settings.confidence) if isinstance(each, Effect) else None
        for row, each in zip(frame.to_dict("records"), effects, strict=True)
    ]
    frame["verdict"] = [each[0] if each else "unresolved" for each in verdicts]
    frame["reason"] = [
        each[1] if each else f"not measured: {effect}"
        for each, effect in zip(verdicts, effects, strict=True)
    ]
    columns = [
        markup.Column("Claim", "statement", wrap=0.2),
        markup.Column("Measured in", "measure"),
        markup.Column("Published", "published", signed=True),
        markup.Column("Ours", "effect", interval=True, signed=True),
        markup.Column("Above smallest", "probability"),
        markup.Column("p", "p_corrected", chance=True),
        markup.Column("Prompts", "prompts", digits=0),
        markup.Column("Seeds", "seeds", digits=0),
        markup.Column("Speaks of", "about", wrap=0.08),
        markup.Column("Verdict", "verdict"),
        markup.Column("Why", "reason", wrap=0.14),
    ]
    settings = study.settings
    caption = (
        "Claims of the published study and questions a careful reader puts to them (those without "
        f"a published effect). Ours: paired effect with its {table.percent(study)} interval "
        f"(two-level bootstrap over prompts and seeds, {settings.draws:,} draws). Above smallest: "
        "probability that the effect is larger than the smallest worth having, "
        f"{settings.smallest_clipscore:g} ClipScores or {settings.smallest_fidelity:g} % of the "
        f"facts. p: after correction by {table.method(study)} within a family "
        f"({table.families(frame)}). Verdict: supported when the effect is above 0 and p below "
        f"{1 - settings.confidence:.2g}, contradicted when it is below 0 with such a p, unresolved "
        "otherwise; on the seeds that chose the prompts nothing is supported. "
        f"{table.retrained(study)} The CSV has the same effect by the guide and in fidelity with p "
        "values, the gap of guide and judge, the smallest effect that a repetition would show with "
        "80 % power, what of its error comes of prompts, seeds and trainings, and how many of each "
        "would be needed."
    )
    return table.of(study, frame, caption, columns)


def _effect(study: Study, claim: Claim) -> Effect | NotMeasured:
    try:
        return claim.effect(study)
    except NotMeasured as reason:
        return reason


def _draws(study: Study, estimates: list[statistics.Estimate | None]) -> np.ndarray:
    """The draws of several estimates of one quantity as those of one, (draws, estimates)."""
    nothing = np.zeros(study.settings.draws)
    return np.stack([nothing if e is None else e.draws[:, 0] for e in estimates], axis=1)


def _row(study: Study, claim: Claim, effect: Effect | NotMeasured) -> dict[str, Any]:
    kind = "control" if claim.published is None else "published"
    row = {"claim": claim.name, "kind": kind, "statement": claim.statement, "measure": ""}
    nan = float("nan")
    row |= {"published": nan if claim.published is None else claim.published}
    row |= dict.fromkeys(NUMBERS, nan) | {"worth_adding": "", "prompts": 0, "seeds": 0}
    row |= {"verdict": "", "trainings": study.trainings, "about": ""} | dict.fromkeys(COUNTS, nan)
    ends = ("_effect", "_effect_low", "_effect_high", "_p")
    row |= dict.fromkeys([*(f"{measure}{end}" for measure in BESIDE for end in ends), "gap"], nan)
    if isinstance(effect, NotMeasured):
        return row
    estimate, fidelity = effect.estimate, effect.measure == "fidelity"
    scale = 100.0 if fidelity else 1.0
    mean, low, high = (
        scale * float(values[0]) for values in (estimate.mean, estimate.low, estimate.high)
    )
    mde = scale * float(study.detectable(estimate)[0])
    settings = study.settings
    smallest = settings.smallest_fidelity if fidelity else settings.smallest_clipscore
    trainings = study.trainings if effect.trained else 0
    row |= {"statement": effect.statement, "measure": UNITS[effect.measure]}
    row |= {"effect": mean, "effect_low": low, "effect_high": high, "smallest": smallest}
    row |= {"probability": float(statistics.exceeds(estimate, smallest / scale)[0])}
    row |= {"p": float(estimate.p[0]), "mde": mde, "trainings": trainings}
    row |= {"prompts": effect.prompts, "seeds": effect.seeds, "about": about(trainings)}
    parts = shares(estimate)
    row |= {f"share_{name}": float(each) for name, each in zip(SOURCES, parts[:, 0], strict=True)}
    row["worth_adding"] = str(largest(parts)[0])
    for measure, other in effect.beside.items():
        for end, values in zip(ends, (other.mean, other.low, other.high, other.p), strict=True):
            factor = 1.0 if end == "_p" else BESIDE[measure]
            row[f"{measure}{end}"] = factor * float(values[0])
    row["gap"] = row["guide_effect"] - mean
    error = scale * float(estimate.error[0])
    factor = mde / error if error > 0 else nan
    sources = tuple(error**2 * float(each) for each in parts[:, 0])
    counts = (effect.prompts, effect.seeds, max(trainings, 1))
    row["prompts_for_published"] = power.needed(row["published"], factor, sources, counts)[0]
    ours = power.needed(mean, factor, sources, counts)
    row |= {f"{source}_for_ours": number for source, number in zip(SOURCES, ours, strict=True)}
    return row


def _verdict(row: dict[str, Any], alpha: float) -> tuple[str, str]:
    """The verdict on a row whose p values are corrected, and why, with how many trainings stand
    behind it."""
    verdict, reason = _reasoned(row, alpha)
    number = int(row["trainings"])
    return verdict, f"{reason}; of {table.count(number, 'training')}" if number else reason


def _reasoned(row: dict[str, Any], alpha: float) -> tuple[str, str]:
    if math.isnan(row["p"]):
        fewest = statistics.FEWEST
        return "unresolved", f"fewer than {fewest} prompts differ, too few for an interval"
    side = "above" if row["effect"] > 0 else "below"
    p, after = markup.chance(row["p"]), markup.chance(row["p_corrected"])
    if side == "above" and row["family"] == CHOSEN:
        return "unresolved", "these seeds chose the prompts, which lifts what is drawn again"
    if row["p_corrected"] < alpha:
        verdict = "supported" if side == "above" else "contradicted"
        return verdict, f"{side} 0 for {row['about']} (p {after} after correction)"
    if row["p"] < alpha:
        return "unresolved", f"{side} 0 before correction only (p {p}, then {after})"
    needed, ours = row["prompts_for_published"], _settling(row)
    covers = f"the interval covers 0 (p {after} after correction)"
    if math.isnan(needed):
        return "unresolved", f"{covers}; to be seen with 80 % power, {ours}"
    if needed <= row["prompts"]:
        return "unresolved", (
            f"{covers} though an effect as large as the published one would have been seen with "
            f"80 % power; {ours}"
        )
    return "unresolved", (
        f"{covers}; to be seen with 80 % power, an effect as large as the published one needs "
        f"{_number(needed, 'prompts')}, {ours}"
    )


def _settling(row: dict[str, Any]) -> str:
    """How many prompts, and of what is worth adding if that is another, an effect as large as ours
    needs."""
    if row["effect"] == 0:
        return "ours is 0"
    words = [_number(row["prompts_for_ours"], "prompts")]
    source = row["worth_adding"]
    if source not in ("", "prompts"):
        words.append(_number(row[f"{source}_for_ours"], source))
    return f"one as large as ours needs {' or '.join(words)}"


def _number(needed: float, word: str) -> str:
    if math.isinf(needed):
        return f"more than any number of {word}"
    return f"{markup.number(needed, 0)} {word}"
