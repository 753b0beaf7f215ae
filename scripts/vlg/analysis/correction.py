"""P values of many comparisons, corrected for looking at all of them.

`max_t` is Westfall and Young's step-down (*Resampling-Based Multiple Testing*, 1993, section 2.6):
the smallest p of a family is held against the smallest that the family's draws, which hold no
effect, show together, so that rows which rise and fall together count as few. Each quantity is
measured by its rank among its own draws, which puts skewed and normal ones on one scale.
"""

from __future__ import annotations

import numpy as np

from vlg.analysis.statistics import FEW


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of a family of p values, shape (K,); NaN stays NaN.

    The k-th smallest of m is multiplied by m - k + 1, and none may end below one before it (Holm,
    *Scandinavian Journal of Statistics* 6, 1979). statsmodels has it too, and importing that takes
    longer than making all tables.
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    result = np.full_like(p, np.nan)
    result[order] = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return result


def max_t(p: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Step-down max-T adjustment of a family of p values, (K,); NaN stays NaN.

    `draws`: (draws, K), deviations from the means that the p values are about; columns that share
    their draws are corrected for no more than they say together. Where next to no draw is as far
    out, Holm's bound is taken if that is smaller.
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    least = np.ones(len(draws))
    adjusted = np.empty(len(order))
    for place in range(len(order) - 1, -1, -1):
        own = order[place]
        above, below = _ranks(draws[:, own])
        least = np.minimum(least, 2 * np.minimum(above, below))
        as_far = np.count_nonzero(least <= p[own])
        adjusted[place] = (as_far + 1) / (len(draws) + 1)
        if as_far < FEW:
            adjusted[place] = min(adjusted[place], (len(order) - place) * p[own])
    result = np.full_like(p, np.nan)
    result[order] = np.maximum.accumulate(np.maximum(adjusted, p[order])).clip(max=1)
    return result


def level(draws: np.ndarray, alpha: float) -> float:
    """The p value below which the smallest of a family falls with probability `alpha` where nothing
    is there: what a single comparison is held against by `max_t` in its first step.

    draws: as in `max_t`. At least alpha / K, Bonferroni's; alpha without any draws.
    """
    if not draws.shape[1]:
        return alpha
    least = np.ones(len(draws))
    for column in draws.T:
        above, below = _ranks(column)
        least = np.minimum(least, 2 * np.minimum(above, below))
    return max(float(np.quantile(least, alpha)), alpha / draws.shape[1])


def opposite(mean: np.ndarray, p: np.ndarray, draws: np.ndarray) -> float:
    """P value of "none of K means is above 0, or none is below": small when both are.

    Each side is corrected for the best of K, one-sided, on the draws; the larger of the two counts
    (an intersection-union test; Piantadosi & Gail, *Statistics in Medicine* 12, 1993). `p`:
    two-sided, of each mean; `draws`: as in `max_t`. 1 when none, or all, are above 0; NaN means
    are left out.
    """
    known = np.flatnonzero(~np.isnan(p))
    sides = [known[mean[known] > 0], known[mean[known] < 0]]
    if not all(len(side) for side in sides):
        return 1.0
    ranks = [_ranks(draws[:, place]) for place in known]
    found = []
    for i, side in enumerate(sides):
        least = np.min([each[i] for each in ranks], axis=0)
        best = p[side].min() / 2
        as_far = np.count_nonzero(least <= best)
        share = (as_far + 1) / (len(draws) + 1)
        found.append(min(share, len(known) * best) if as_far < FEW else share)
    return float(min(max(found), 1.0))


def _ranks(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of draws that are as high as each, and share that are as low, ties included."""
    rising = np.sort(column)
    above = len(column) - np.searchsorted(rising, column, side="left")
    below = np.searchsorted(rising, column, side="right")
    return above / len(column), below / len(column)
