"""What a study of this size can show, and what more of it would be needed to show more."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from vlg.analysis.statistics import ENOUGH, Estimate

# With ENOUGH trainings the trainings' part of an error, and with it the degrees of freedom, differs
# so much from study to study that a repetition shows less: 76 % for 80, without this factor.
UNSTEADY = 1.07
# Degrees of freedom at which the factor of a detectable effect is computed.
FREEDOM = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0, 60.0, 1e4)


def detectable(estimate: Estimate, *, confidence: float, power: float = 0.8) -> np.ndarray:
    """The smallest true effect that a repetition of the study would show with probability `power`.

    To show is to have an interval that excludes 0, before any correction for many comparisons. That
    the error is itself an estimate, here and in the repetition, is part of the factor between the
    two, which matters where few trainings decide. (K,).
    """
    few = (estimate.trainings == ENOUGH) & (np.nan_to_num(estimate.sources.trainings) > 0)
    factors = _factors(estimate.freedom, confidence, power)
    return factors * np.where(few, UNSTEADY, 1.0) * estimate.error


def needed(
    effect: float, factor: float, sources: Sequence[float], counts: Sequence[int]
) -> tuple[float, ...]:
    """How many prompts, seeds or trainings, each alone raised, make `effect` detectable.

    `factor`: the smallest detectable effect over its standard error. `sources`: variances of the
    mean due to prompts, seeds and trainings (NaN: unknown), at `counts` of them. Infinite where the
    other two leave too much; NaN where effect or source is unknown. More prompts mean more
    pictures, which lowers the seeds' part, too.
    """
    if np.isnan(effect) or np.isnan(factor):
        return (float("nan"),) * 3
    goal = (effect / factor) ** 2
    prompts, seeds, trainings = np.nan_to_num(sources)
    result = []
    for count, falls, stays in zip(
        counts,
        (prompts + seeds, sources[1], sources[2]),
        (trainings, prompts + trainings, prompts + seeds),
        strict=True,
    ):
        if np.isnan(falls):
            result.append(float("nan"))
        else:
            result.append(
                float(np.ceil(count * falls / (goal - stays))) if goal > stays else np.inf
            )
    return tuple(result)


def _factors(freedom: np.ndarray, confidence: float, power: float) -> np.ndarray:
    """`_factor` at any degrees of freedom: between two of FREEDOM linear in their inverse."""
    grid = np.array(FREEDOM)
    at = np.clip(freedom, grid[0], grid[-1])
    right = np.clip(np.searchsorted(grid, np.nan_to_num(at, nan=1.0)), 1, len(grid) - 1)
    known = {i: np.log(_factor(FREEDOM[i], confidence, power)) for i in {*right, *(right - 1)}}
    low, high = (np.array([known[i] for i in ends]) for ends in (right - 1, right))
    share = (1 / grid[right - 1] - 1 / at) / (1 / grid[right - 1] - 1 / grid[right])
    return np.exp(low + share * (high - low))


@functools.cache
def _factor(freedom: float, confidence: float, power: float) -> float:
    """The multiple c of an estimated standard error that a repetition shows with `power`.

    With errors e1 (here) and e2 (there), both sigma * sqrt(chi2 / freedom): the mean over e1 of
    P(sigma * (z + c * e1 / sigma) / e2 > t) is to be `power`.
    """
    from scipy.special import chdtri, nctdtr, stdtrit

    threshold = stdtrit(freedom, (1 + confidence) / 2)
    levels = (np.arange(100) + 0.5) / 100
    ratios = np.sqrt(chdtri(freedom, 1 - levels) / freedom)
    low, high = 0.01, 1000.0
    while high > 1.001 * low:
        middle = np.sqrt(low * high)
        missed = np.nan_to_num(nctdtr(freedom, middle * ratios, threshold), nan=0.0)
        low, high = (middle, high) if missed.mean() > 1 - power else (low, middle)
    return float(np.sqrt(low * high))
