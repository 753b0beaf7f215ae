"""The published study: its figures, its claims, and what ours says of each.

Figures are average ClipScores (100·cos) on the first 100 PartiPrompts and on 50 prompts on which
the original scores below 20. The study compared the original Stable Diffusion with normal and embed
fine-tuning at 2k, 5k and 10k steps, and drew one picture per prompt.

Our ladder may have other steps: its first, middle and last stand for 2k, 5k and 10k, and half
and all of our rounds for 3 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vlg.analysis import markup, statistics
from vlg.analysis.scores import CONTROL, REFINEMENT, Key, split_model

if TYPE_CHECKING:
    from vlg.analysis.comparison import Study, Table

# In the shape of the config's `published`.
FIGURES: Mapping[str, Mapping[str, float]] = {
    "finetune": {
        "base": 23.4626,
        "normal-5000": 23.6169,
        "normal-10000": 23.5181,
        "embed-2000": 23.8905,
        "embed-5000": 23.8673,
        "embed-10000": 23.6294,
    },
    "hard_prompts": {"base": 18.8323, "normal-5000": 18.9441, "embed-2000": 19.6628},
    "refinement": {"0": 23.6384, "3": 24.0205, "6": 24.1287},
}

BESIDE = {"guide": 1.0, "fidelity": 100.0}  # further measures of an effect and their scale
UNITS = {"clipscore": "ClipScore", "fidelity": "fidelity, %"}


class NotMeasured(Exception):
    """Why this study says nothing about a claim."""


@dataclass(frozen=True)
class Effect:
    """What a claim is about in our study; positive when the claim holds."""

    statement: str
    estimate: statistics.Estimate  # K = 1
    prompts: int
    seeds: int
    measure: str = "clipscore"
    # The same by the guide and in fidelity, for an effect in ClipScore: what of it is real?
    beside: Mapping[str, statistics.Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """`published`: the effect in the published figures; None for a question of ours about them."""

    name: str
    published: float | None
    effect: Callable[[Study], Effect]
    statement: str  # in the published study's terms, for when it was not measured


def claims(study: Study) -> Table:
    """The table of claims: each with its published effect, ours, and a verdict.

    supported: our interval lies above 0; contradicted: below 0; unresolved: it covers 0, and the
    reason says how many prompts would settle it. Fidelity effects are in per cent.
    """
    import pandas as pd

    from vlg.analysis.comparison import Table

    frame = pd.DataFrame([_row(study, claim) for claim in CLAIMS])
    frame["p_holm"] = statistics.holm(frame["p"].to_numpy(float))
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
    percent = f"{100 * study.settings['confidence']:g} %"
    caption = (
        "Claims of the published study and questions a careful reader puts to them (those without "
        f"a published effect). Ours: paired effect with its {percent} interval (two-level "
        f"bootstrap over prompts and seeds, {study.settings['draws']:,} draws). Verdict: supported "
        "when the interval lies above 0, contradicted when below, unresolved when it covers 0. "
        "The CSV has the same effect by the guide and in fidelity, the gap of guide and judge, "
        "p values, Holm's correction over the table, and the smallest effects "
        "that could have been seen with 80 % power."
    )
    return Table("claims", frame, caption, columns)


def _row(study: Study, claim: Claim) -> dict[str, object]:
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


def _verdict(row: dict) -> tuple[str, str]:
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


# --- effects ------------------------------------------------------------------------------------

BASE: Key = ("base", "", 0)
PLACES = ("first", "middle", "last")


def _steps(study: Study) -> dict[str, list[int]]:
    """Rising step counts of each variant."""
    result: dict[str, list[int]] = {}
    for model, _, _ in study.models:
        variant, step = split_model(model)
        if step:
            result.setdefault(variant, []).append(step)
    return {variant: sorted(steps) for variant, steps in result.items()}


def _checkpoint(study: Study, variant: str, place: str) -> tuple[Key, int]:
    """The variant's first, middle or last checkpoint and its step."""
    steps = _steps(study).get(variant)
    if not steps:
        raise NotMeasured(f"there is no variant {variant}")
    step = {"first": steps[0], "middle": steps[len(steps) // 2], "last": steps[-1]}[place]
    return (f"{variant}-{step}", "", 0), step


def _effect(
    study: Study,
    statement: str,
    weights: Mapping[Key, float],
    where: str = "study",
    measure: str = "clipscore",
) -> Effect:
    import numpy as np

    ids, seeds = study.where(where)
    if not ids or not seeds:
        what = "hard prompts" if not ids else "fresh seeds"
        raise NotMeasured(f"there are no {what}")
    values = study.contrast(weights, where, measure)
    if not np.isfinite(values).all():
        raise NotMeasured("there is no ground truth")
    beside = {}
    for other in ("guide", "fidelity") if measure == "clipscore" else ():
        further = study.contrast(weights, where, other)
        if np.isfinite(further).all():
            beside[other] = study.estimate(further)
    return Effect(statement, study.estimate(values), len(ids), len(seeds), measure, beside)


def _gain(variant: str, place: str, where: str = "study", measure: str = "clipscore"):
    """Gain of a variant over base."""

    def effect(study: Study) -> Effect:
        key, step = _checkpoint(study, variant, place)
        words = {
            "study": "",
            "same_seeds": " on hard prompts, on the seeds that chose them",
            "fresh_seeds": " on hard prompts, on fresh seeds",
        }[where]
        what = (
            "makes more of the prompts' facts true" if measure == "fidelity" else "gains over base"
        )
        statement = f"{variant} {what} at {step:,} steps{words}"
        return _effect(study, statement, {key: 1, BASE: -1}, where, measure)

    return effect


def _lead(place: str, measure: str = "clipscore"):
    """Embed over normal at equal steps."""

    def effect(study: Study) -> Effect:
        (embed, step), (normal, other) = (
            _checkpoint(study, name, place) for name in ("embed", "normal")
        )
        what = "makes more facts true than" if measure == "fidelity" else "beats"
        statement = f"embed {what} normal at equal steps ({step:,})"
        if step != other:
            raise NotMeasured("embed and normal have different steps")
        return _effect(study, statement, {embed: 1, normal: -1}, measure=measure)

    return effect


def _lead_on_hard(study: Study) -> Effect:
    (embed, few), (normal, many) = (
        _checkpoint(study, "embed", "first"),
        _checkpoint(study, "normal", "middle"),
    )
    statement = f"embed at {few:,} steps beats normal at {many:,} on hard prompts, on fresh seeds"
    return _effect(study, statement, {embed: 1, normal: -1}, "fresh_seeds")


def _lead_at_equal_time(study: Study) -> Effect:
    """Both variants at the largest training time that both reach, by linear interpolation between
    checkpoints (base at 0 s)."""
    from vlg.analysis.comparison import mix

    series = {}
    for variant in ("embed", "normal"):
        steps = _steps(study).get(variant)
        if not steps:
            raise NotMeasured(f"there is no variant {variant}")
        keys = [f"{variant}-{step}" for step in steps]
        times = [(study.train_seconds(key), (key, "", 0)) for key in keys]
        series[variant] = [(0.0, BASE), *times]
    time = min(points[-1][0] for points in series.values())
    weights: dict[Key, float] = {}
    for variant, sign in (("embed", 1), ("normal", -1)):
        for key, weight in (mix(series[variant], time) or {}).items():
            weights[key] = weights.get(key, 0) + sign * weight
    return _effect(study, f"embed beats normal at equal training time ({time:,.0f} s)", weights)


def _decline(study: Study) -> Effect:
    first, few = _checkpoint(study, "embed", "first")
    last, many = _checkpoint(study, "embed", "last")
    if few == many:
        raise NotMeasured("embed has one checkpoint only")
    return _effect(
        study, f"embed's gain declines from {few:,} to {many:,} steps", {first: 1, last: -1}
    )


def _most_on_hard(study: Study) -> Effect:
    """Gain on hard prompts (fresh seeds) over the gain on the study prompts."""
    key, step = _checkpoint(study, "embed", "first")
    ids, seeds = study.where("fresh_seeds")
    if not ids or not seeds:
        raise NotMeasured("there are no hard prompts on fresh seeds")
    parts = [study.contrast({key: 1, BASE: -1}, where) for where in ("fresh_seeds", "study")]
    estimate = statistics.difference(*parts, **study.options())
    statement = f"embed gains more on hard prompts than on the study's, at {step:,} steps"
    return Effect(statement, estimate, len(ids), len(seeds))


def _rounds(number: str, over: str = "none", measure: str = "clipscore"):
    """Refinement of base after half or all rounds, over none or half of them."""

    def effect(study: Study) -> Effect:
        rows = [key for key in study.refined() if key[:2] == ("base", REFINEMENT)]
        if not rows:
            raise NotMeasured("base was not refined")
        last = rows[-1][2]
        named = {"none": BASE, "half": ("base", REFINEMENT, max(1, last // 2)), "all": rows[-1]}
        first, second = named[number], named[over]
        if first == second:
            raise NotMeasured("there is one round only")
        what = "makes more facts true" if measure == "fidelity" else "gains"
        statement = f"refinement {what} in {first[2]} rounds"
        if over != "none":
            statement = f"refinement still gains from round {second[2]} to {first[2]}"
        return _effect(study, statement, {first: 1, second: -1}, measure=measure)

    return effect


def _over_control(measure: str = "clipscore"):
    """Refinement over the best of N fresh samples at as many UNet calls."""

    def effect(study: Study) -> Effect:
        from vlg.analysis.comparison import control

        for key in reversed([k for k in study.refined() if k[:2] == ("base", REFINEMENT)]):
            weights = control(study, key)
            if weights is not None:
                break
        else:
            raise NotMeasured(f"there is no arm {CONTROL} of equal compute")
        calls = study.calls(key)
        what = "makes more facts true than" if measure == "fidelity" else "beats"
        statement = (
            f"refinement ({key[2]} rounds) {what} the best of N fresh samples at equal compute "
            f"({calls:,.0f} UNet calls)"
        )
        return _effect(
            study, statement, {key: 1.0} | {k: -w for k, w in weights.items()}, measure=measure
        )

    return effect


def _regression(study: Study) -> Effect:
    """Base on fresh seeds over base on the seeds that chose the prompts, prompt by prompt."""
    ids, fresh = study.where("fresh_seeds")
    _, same = study.where("same_seeds")
    if not ids or not fresh:
        raise NotMeasured("there are no hard prompts on fresh seeds")
    # The seeds of the two sides are different draws, so only the prompts' means pair.
    means = [
        study.contrast({BASE: 1}, where)[:1].mean(axis=2, keepdims=True)
        for where in ("fresh_seeds", "same_seeds")
    ]
    estimate = study.estimate(means[0] - means[1])
    statement = "drawing hard prompts again lifts base itself (regression to the mean)"
    return Effect(statement, estimate, len(ids), len(fresh) + len(same))


def _published(table: str, first: str, second: str) -> float:
    return round(FIGURES[table][first] - FIGURES[table][second], 4)


_tune, _hard, _refine = "finetune", "hard_prompts", "refinement"
CLAIMS = (
    Claim(
        "normal_gain",
        _published(_tune, "normal-5000", "base"),
        _gain("normal", "middle"),
        "normal gains a little over the original at 5k steps",
    ),
    Claim(
        "normal_gain_late",
        _published(_tune, "normal-10000", "base"),
        _gain("normal", "last"),
        "normal gains a little over the original at 10k steps",
    ),
    Claim(
        "embed_gain_early",
        _published(_tune, "embed-2000", "base"),
        _gain("embed", "first"),
        "embed gains over the original at 2k steps",
    ),
    Claim(
        "embed_gain",
        _published(_tune, "embed-5000", "base"),
        _gain("embed", "middle"),
        "embed gains over the original at 5k steps",
    ),
    Claim(
        "embed_gain_late",
        _published(_tune, "embed-10000", "base"),
        _gain("embed", "last"),
        "embed gains over the original at 10k steps",
    ),
    Claim(
        "embed_over_normal",
        _published(_tune, "embed-5000", "normal-5000"),
        _lead("middle"),
        "embed beats normal at 5k steps",
    ),
    Claim(
        "embed_over_normal_late",
        _published(_tune, "embed-10000", "normal-10000"),
        _lead("last"),
        "embed beats normal at 10k steps",
    ),
    Claim(
        "embed_declines",
        _published(_tune, "embed-2000", "embed-10000"),
        _decline,
        "embed's gain declines from 2k to 10k steps",
    ),
    Claim(
        "embed_gain_hard_same_seeds",
        _published(_hard, "embed-2000", "base"),
        _gain("embed", "first", "same_seeds"),
        "embed gains over the original on hard prompts at 2k steps",
    ),
    Claim(
        "embed_gain_hard",
        _published(_hard, "embed-2000", "base"),
        _gain("embed", "first", "fresh_seeds"),
        "embed gains over the original on hard prompts at 2k steps, on fresh seeds",
    ),
    Claim(
        "embed_over_normal_hard",
        _published(_hard, "embed-2000", "normal-5000"),
        _lead_on_hard,
        "embed at 2k steps beats normal at 5k on hard prompts",
    ),
    Claim(
        "embed_most_on_hard",
        round(_published(_hard, "embed-2000", "base") - _published(_tune, "embed-2000", "base"), 4),
        _most_on_hard,
        "embed gains more on hard prompts than on the first 100",
    ),
    Claim(
        "refinement_half",
        _published(_refine, "3", "0"),
        _rounds("half"),
        "refinement gains in 3 rounds",
    ),
    Claim(
        "refinement_full",
        _published(_refine, "6", "0"),
        _rounds("all"),
        "refinement gains in 6 rounds",
    ),
    Claim(
        "refinement_more_rounds",
        _published(_refine, "6", "3"),
        _rounds("all", "half"),
        "refinement still gains from round 3 to 6",
    ),
    # What a careful reader asks of these figures.
    Claim(
        "embed_over_normal_equal_time",
        None,
        _lead_at_equal_time,
        "embed beats normal at equal training time",
    ),
    Claim(
        "refinement_over_best_of_n",
        None,
        _over_control(),
        "refinement beats the best of N fresh samples at equal compute",
    ),
    Claim("hard_regression", None, _regression, "drawing hard prompts again lifts base itself"),
    Claim(
        "normal_fidelity",
        None,
        _gain("normal", "middle", measure="fidelity"),
        "normal makes more of the prompts' facts true",
    ),
    Claim(
        "embed_fidelity",
        None,
        _gain("embed", "middle", measure="fidelity"),
        "embed makes more of the prompts' facts true",
    ),
    Claim(
        "embed_over_normal_fidelity",
        None,
        _lead("middle", "fidelity"),
        "embed makes more facts true than normal at equal steps",
    ),
    Claim(
        "embed_hard_fidelity",
        None,
        _gain("embed", "first", "fresh_seeds", "fidelity"),
        "embed makes more facts of hard prompts true",
    ),
    Claim(
        "refinement_fidelity",
        None,
        _rounds("all", measure="fidelity"),
        "refinement makes more facts true",
    ),
    Claim(
        "refinement_over_best_of_n_fidelity",
        None,
        _over_control("fidelity"),
        "refinement makes more facts true than the best of N at equal compute",
    ),
)
