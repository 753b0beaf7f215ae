"""The published study: its figures, its claims, and what ours says of each.

Figures are average ClipScores (100·cos) on the first 100 PartiPrompts and on 50 prompts on which
the original scores below 20. The study compared the original Stable Diffusion with normal and embed
fine-tuning at 2k, 5k and 10k steps, and drew one picture per prompt.

Our ladder may have other steps: its first, middle and last stand for 2k, 5k and 10k, and half
and all of our rounds for 3 and 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from vlg.analysis import statistics
from vlg.analysis.comparison import control, mix
from vlg.analysis.scores import CONTROL, REFINEMENT, Key
from vlg.analysis.study import BASE, STREAMS, Study, trained
from vlg.config.layout import parse_model

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


class NotMeasured(Exception):
    """Why this study says nothing about a claim."""


@dataclass(frozen=True)
class Effect:
    """What a claim is about in our study; positive when the claim holds."""

    statement: str
    estimate: statistics.Estimate  # K = 1
    prompts: int
    seeds: int
    where: str = "study"
    measure: str = "clipscore"
    # The same by the guide and in fidelity, for an effect in ClipScore: what of it is real?
    beside: Mapping[str, statistics.Estimate] = field(default_factory=dict)
    trained: bool = True  # whether a trained model is part of it


@dataclass(frozen=True)
class Claim:
    """`published`: the effect in the published figures; None for a question of ours about them."""

    name: str
    published: float | None
    effect: Callable[[Study], Effect]
    family: str  # the claims that it is looked at together with, in words
    statement: str  # in the published study's terms, for when it was not measured


# --- effects ------------------------------------------------------------------------------------


def _steps(study: Study) -> dict[str, list[int]]:
    """Rising step counts of each variant."""
    result: dict[str, list[int]] = {}
    for model, _, _ in study.models:
        if trained(model):
            name = parse_model(model)
            result.setdefault(name.variant, []).append(name.step)
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
            beside[other] = study.estimate(further, where)
    estimate = study.estimate(values, where)
    tuned = any(trained(key[0]) for key in weights)
    return Effect(statement, estimate, len(ids), len(seeds), where, measure, beside, tuned)


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


def _lead_at_equal_cost(study: Study) -> Effect:
    """Both variants at the largest training cost in FLOPs that both reach, by linear interpolation
    between checkpoints (base at 0)."""
    series = {}
    for variant in ("embed", "normal"):
        steps = _steps(study).get(variant)
        if not steps:
            raise NotMeasured(f"there is no variant {variant}")
        keys = [f"{variant}-{step}" for step in steps]
        costs = [(study.train_flops(key), (key, "", 0)) for key in keys]
        series[variant] = [(0.0, BASE), *costs]
    cost = min(points[-1][0] for points in series.values())
    weights: dict[Key, float] = {}
    for variant, sign in (("embed", 1), ("normal", -1)):
        for key, weight in (mix(series[variant], cost) or {}).items():
            weights[key] = weights.get(key, 0) + sign * weight
    return _effect(study, f"embed beats normal at equal training cost ({cost:.3g} FLOPs)", weights)


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
    streams = STREAMS["fresh_seeds"], STREAMS["study"]
    estimate = statistics.difference(*parts, **study.options(), streams=streams)
    statement = f"embed gains more on hard prompts than on the study's, at {step:,} steps"
    return Effect(statement, estimate, len(ids), len(seeds), "fresh_seeds")


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
    estimate = study.estimate(means[0] - means[1], "regression")
    statement = "drawing hard prompts again lifts base itself (regression to the mean)"
    return Effect(
        statement, estimate, len(ids), len(fresh) + len(same), "regression", trained=False
    )


def _published(table: str, first: str, second: str) -> float:
    return round(FIGURES[table][first] - FIGURES[table][second], 4)


# Claims that answer one question are looked at together.
GAINS = "gains over base"
LEADS = "embed against normal"
REFINED = "refinement"
CHOSEN = "the seeds that chose the prompts"
ANEW = "regression to the mean"

_tune, _hard, _refine = "finetune", "hard_prompts", "refinement"
CLAIMS = (
    Claim(
        "normal_gain",
        _published(_tune, "normal-5000", "base"),
        _gain("normal", "middle"),
        GAINS,
        "normal gains a little over the original at 5k steps",
    ),
    Claim(
        "normal_gain_late",
        _published(_tune, "normal-10000", "base"),
        _gain("normal", "last"),
        GAINS,
        "normal gains a little over the original at 10k steps",
    ),
    Claim(
        "embed_gain_early",
        _published(_tune, "embed-2000", "base"),
        _gain("embed", "first"),
        GAINS,
        "embed gains over the original at 2k steps",
    ),
    Claim(
        "embed_gain",
        _published(_tune, "embed-5000", "base"),
        _gain("embed", "middle"),
        GAINS,
        "embed gains over the original at 5k steps",
    ),
    Claim(
        "embed_gain_late",
        _published(_tune, "embed-10000", "base"),
        _gain("embed", "last"),
        GAINS,
        "embed gains over the original at 10k steps",
    ),
    Claim(
        "embed_over_normal",
        _published(_tune, "embed-5000", "normal-5000"),
        _lead("middle"),
        LEADS,
        "embed beats normal at 5k steps",
    ),
    Claim(
        "embed_over_normal_late",
        _published(_tune, "embed-10000", "normal-10000"),
        _lead("last"),
        LEADS,
        "embed beats normal at 10k steps",
    ),
    Claim(
        "embed_declines",
        _published(_tune, "embed-2000", "embed-10000"),
        _decline,
        GAINS,
        "embed's gain declines from 2k to 10k steps",
    ),
    Claim(
        "embed_gain_hard_same_seeds",
        _published(_hard, "embed-2000", "base"),
        _gain("embed", "first", "same_seeds"),
        CHOSEN,
        "embed gains over the original on hard prompts at 2k steps",
    ),
    Claim(
        "embed_gain_hard",
        _published(_hard, "embed-2000", "base"),
        _gain("embed", "first", "fresh_seeds"),
        GAINS,
        "embed gains over the original on hard prompts at 2k steps, on fresh seeds",
    ),
    Claim(
        "embed_over_normal_hard",
        _published(_hard, "embed-2000", "normal-5000"),
        _lead_on_hard,
        LEADS,
        "embed at 2k steps beats normal at 5k on hard prompts",
    ),
    Claim(
        "embed_most_on_hard",
        round(_published(_hard, "embed-2000", "base") - _published(_tune, "embed-2000", "base"), 4),
        _most_on_hard,
        GAINS,
        "embed gains more on hard prompts than on the first 100",
    ),
    Claim(
        "refinement_half",
        _published(_refine, "3", "0"),
        _rounds("half"),
        REFINED,
        "refinement gains in 3 rounds",
    ),
    Claim(
        "refinement_full",
        _published(_refine, "6", "0"),
        _rounds("all"),
        REFINED,
        "refinement gains in 6 rounds",
    ),
    Claim(
        "refinement_more_rounds",
        _published(_refine, "6", "3"),
        _rounds("all", "half"),
        REFINED,
        "refinement still gains from round 3 to 6",
    ),
    # What a careful reader asks of these figures.
    Claim(
        "embed_over_normal_equal_cost",
        None,
        _lead_at_equal_cost,
        LEADS,
        "embed beats normal at equal training cost",
    ),
    Claim(
        "refinement_over_best_of_n",
        None,
        _over_control(),
        REFINED,
        "refinement beats the best of N fresh samples at equal compute",
    ),
    Claim(
        "hard_regression", None, _regression, ANEW, "drawing hard prompts again lifts base itself"
    ),
    Claim(
        "normal_fidelity",
        None,
        _gain("normal", "middle", measure="fidelity"),
        GAINS,
        "normal makes more of the prompts' facts true",
    ),
    Claim(
        "embed_fidelity",
        None,
        _gain("embed", "middle", measure="fidelity"),
        GAINS,
        "embed makes more of the prompts' facts true",
    ),
    Claim(
        "embed_over_normal_fidelity",
        None,
        _lead("middle", "fidelity"),
        LEADS,
        "embed makes more facts true than normal at equal steps",
    ),
    Claim(
        "embed_hard_fidelity",
        None,
        _gain("embed", "first", "fresh_seeds", "fidelity"),
        GAINS,
        "embed makes more facts of hard prompts true",
    ),
    Claim(
        "refinement_fidelity",
        None,
        _rounds("all", measure="fidelity"),
        REFINED,
        "refinement makes more facts true",
    ),
    Claim(
        "refinement_over_best_of_n_fidelity",
        None,
        _over_control("fidelity"),
        REFINED,
        "refinement makes more facts true than the best of N at equal compute",
    ),
)
