"""Intervals and tests for mean scores: a paired two-level bootstrap over prompts and seeds.

**What an interval is about.** A score table asks what would come out for *new prompts* of the kind
of the given ones, drawn with *new seeds*; weights are taken as they are. Noise is keyed by
(prompt, seed), so a seed number means different noise for each prompt and the seeds are nested in
the prompts: y[i, j] = mean + prompt effect i + seed effect j within i. Model differences are taken
picture by picture (same prompt, same noise) before anything else, so what two models share cancels.

**Why the draws are rescaled.** Drawing prompts with replacement and then seeds within each prompt
counts the seed noise twice: a prompt's mean over S seeds holds it already. With 2 seeds and no
other variation the naive scheme overstates the variance of the mean by half (Davison & Hinkley,
*Bootstrap Methods and their Application*, 1997, section 3.8). Here the prompt part and the seed
part of every score are first rescaled to their estimated variance components ("reflated residuals";
Carpenter, Goldstein & Rasbash, *Applied Statistics* 52, 2003), so that the draws have exactly the
unbiased variance of the mean. With one seed it is the ordinary bootstrap over prompts.

**Small numbers of prompts.** Percentile intervals are too short for few prompts, as normal
intervals are against Student's; the percentiles are therefore taken further out, at the level that
Student's quantile has under the normal distribution ("expanded percentile interval"; Hesterberg,
*The American Statistician* 69, 2015). P values invert the same rule: p < 1 - confidence exactly
when the interval excludes 0, up to the resolution of the draws. Where next to no draw lies beyond
0, the draws cannot tell p = 0.001 from 0.00001, which Holm's correction needs to know in a large
table; there p is Student's, from the same standard error, if that is smaller.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

# Draws are made and used in chunks of about this many picks (16 MB), whatever the study's size.
CHUNK = 2_000_000
# With fewer draws than this beyond 0, their share is too uncertain to be a p value.
FEW = 10
# How much of the noise in the trainings' means is subtracted from their spread. With all of it two
# trainings cover 91 % at worst, with none of it 99 %; three or more care little.
SUBTRACTED = 0.7


@dataclass(frozen=True)
class Part:
    """A part of the variance of K means, (K,), and its degrees of freedom."""

    variance: np.ndarray
    freedom: float


@dataclass(frozen=True)
class Estimate:
    """Means of K quantities, with their uncertainty; every array has shape (K,).

    `low`, `high`: the interval; `error`: standard error of the mean; `p`: two-sided p value of
    "the mean is 0"; `freedom`: degrees of freedom of the error. With fewer than two prompts
    all but `mean` are NaN.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray
    p: np.ndarray
    freedom: np.ndarray


def estimate(values: np.ndarray, *, draws: int, confidence: float, seed: int) -> Estimate:
    """Mean, interval and p value of K quantities measured on the same pictures.

    `values`: (prompts, seeds, K) or (trainings, prompts, seeds, K), finite; one quantity may be a
    score, a paired difference of scores or any other linear combination of them, picture by
    picture. All quantities share their draws. The result depends on nothing but the arguments.
    """
    trainings = _checked(values)
    pooled = trainings.mean(axis=0)
    mean = pooled.mean(axis=(0, 1))
    count = len(pooled)
    if count < 2:
        return _without_error(mean)
    drawn = mean + _deviations(pooled, draws, seed)
    prompts = Part(_prompt_variance(pooled) / count, count - 1.0)
    return _summary(mean, drawn, [prompts], _trainings([trainings], [1]), confidence, seed)


def difference(
    first: np.ndarray, second: np.ndarray, *, draws: int, confidence: float, seed: int
) -> Estimate:
    """Mean of `first` minus mean of `second`, measured on two sets of prompts.

    Shapes as in `estimate`; prompts and seeds may differ in number, trainings are the same ones.
    The sets are drawn independently; prompts that are in both make the interval wider than needed
    (what their two values share would cancel), never shorter, as long as that share is positive.
    """
    first, second = _checked(first), _checked(second)
    trainings = _trainings([first, second], [1, -1])
    first, second = first.mean(axis=0), second.mean(axis=0)
    mean = first.mean(axis=(0, 1)) - second.mean(axis=(0, 1))
    if min(len(first), len(second)) < 2:
        return _without_error(mean)
    drawn = mean + _deviations(first, draws, seed) - _deviations(second, draws, seed, stream=1)
    parts = [Part(_prompt_variance(v) / len(v), len(v) - 1.0) for v in (first, second)]
    return _summary(mean, drawn, parts, trainings, confidence, seed)


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


def detectable(
    error: np.ndarray, freedom: np.ndarray, *, confidence: float, power: float = 0.8
) -> np.ndarray:
    """The smallest true effect whose interval would exclude 0 with probability `power`.

    `error`, `freedom`: standard error and its degrees of freedom, as `Estimate` has them.
    Before any correction for many comparisons.
    """
    from scipy.special import stdtrit

    quantiles = stdtrit(freedom, (1 + confidence) / 2) + stdtrit(freedom, power)
    return quantiles * error


def prompts_needed(effect: float, smallest: float, prompts: int) -> float:
    """Number of prompts, at the same seeds for each, at which `effect` would be detectable.

    `smallest`: the smallest detectable effect (`detectable`) at `prompts` prompts; it falls with
    the square root of their number. Infinite for an effect of 0; NaN if either is unknown.
    """
    if np.isnan(effect) or np.isnan(smallest):
        return float("nan")
    if effect == 0:
        return float("inf")
    return float(np.ceil(prompts * (smallest / effect) ** 2))


def _checked(values: np.ndarray) -> np.ndarray:
    """`values` as (trainings, prompts, seeds, K)."""
    values = np.asarray(values, dtype=float)
    if values.ndim == 3:
        values = values[None]
    if values.ndim != 4 or 0 in values.shape[:3] or not np.isfinite(values).all():
        raise ValueError(
            f"need finite values of shape (trainings, prompts, seeds, K), got {values.shape}"
        )
    return values


def _trainings(sets: list[np.ndarray], signs: list[int]) -> tuple[Part, np.ndarray] | None:
    """(variance of the mean as the trainings' means show it, what of it is noise of prompts and
    seeds); None with one training, which says nothing of the spread."""
    count = len(sets[0])
    if count == 1:
        return None
    means = [values.mean(axis=2) for values in sets]  # (trainings, prompts, K)
    together = sum(s * m.mean(axis=1) for s, m in zip(signs, means, strict=True))
    shown = together.var(axis=0, ddof=1) / count
    noise = np.zeros_like(shown)
    for each in means:
        prompts = each.shape[1]
        if prompts == 1:
            continue
        rest = each - each.mean(axis=0) - each.mean(axis=1, keepdims=True)
        rest = rest + each.mean(axis=(0, 1))
        noise += (rest**2).sum(axis=(0, 1)) / ((count - 1) * (prompts - 1)) / prompts / count
    return Part(shown, count - 1.0), noise


def _without_error(mean: np.ndarray) -> Estimate:
    unknown = np.full_like(mean, np.nan)
    return Estimate(mean, unknown, unknown, unknown, unknown, unknown)


def _prompt_variance(values: np.ndarray) -> np.ndarray:
    """Variance between the prompts' means, (K,). Over the number of prompts it is the unbiased
    variance of the overall mean, seed noise included."""
    return values.mean(axis=1).var(axis=0, ddof=1)


def _rescaled(values: np.ndarray) -> np.ndarray:
    """Deviations (prompts, seeds, K) whose two-level draws have the variance of the mean.

    With B the variance of prompt means and W the pooled variance within prompts, E[B] is
    (prompt variance) + W / S, so r = W / (S B) estimates the share of B that is seed noise. The
    prompt part is shrunk to the rest, 1 - r, and the seed part blown up to r; both
    carry n / (n - 1) for what drawing with replacement loses at their level.
    """
    prompts, seeds, _ = values.shape
    means = values.mean(axis=1, keepdims=True)
    between = means - means.mean(axis=0)
    correction = prompts / (prompts - 1)
    if seeds == 1:
        return between * np.sqrt(correction)
    within = values - means
    noise = (within**2).sum(axis=(0, 1)) / (prompts * (seeds - 1)) / seeds
    total = _prompt_variance(values)
    share = np.divide(noise, total, out=np.zeros_like(total), where=total > 0)
    between = between * np.sqrt(correction * np.clip(1 - share, 0, None))
    # Where the noise alone would exceed the whole, it is cut to the whole.
    kept = np.divide(total, noise, out=np.ones_like(total), where=noise > 0).clip(max=1)
    return between + within * np.sqrt(kept * seeds / (seeds - 1))


def _deviations(values: np.ndarray, draws: int, seed: int, stream: int = 0) -> np.ndarray:
    """Deviations of `draws` bootstrap means from the mean, (draws, K)."""
    prompts, seeds, quantities = values.shape
    cells = _rescaled(values).reshape(prompts * seeds, quantities) / (prompts * seeds)
    counts = _counts(prompts, seeds, draws, seed, stream)
    chunk = max(1, CHUNK // len(cells))
    return np.concatenate(
        [counts[i : i + chunk].astype(float) @ cells for i in range(0, draws, chunk)]
    )


@functools.lru_cache(maxsize=4)
def _counts(prompts: int, seeds: int, draws: int, seed: int, stream: int) -> np.ndarray:
    """How often each draw picks each (prompt, seed): (draws, prompts * seeds), as uint8.

    Prompts are drawn with replacement, then for each of them its seeds with replacement. A byte
    is enough: a cell is picked once in the mean, and at most prompts * seeds times.
    """
    rng = np.random.default_rng([seed, stream])
    cells = prompts * seeds
    chunk = max(1, CHUNK // cells)
    result = np.empty((draws, cells), dtype=np.uint8)
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        picked = rng.integers(prompts, size=(size, prompts, 1), dtype=np.int32) * seeds
        picked = picked + rng.integers(seeds, size=(size, prompts, seeds), dtype=np.int32)
        picked = picked.reshape(size, cells) + np.arange(size, dtype=np.int32)[:, None] * cells
        counts = np.bincount(picked.ravel(), minlength=size * cells)
        result[start : start + size] = counts.reshape(size, cells)
    return result


def _satterthwaite(parts: list[Part]) -> np.ndarray:
    """Degrees of freedom of a sum of independent parts; any number serves where there is none."""
    total = sum(part.variance for part in parts)
    spread = sum(part.variance**2 / part.freedom for part in parts)
    return np.divide(total**2, spread, out=np.full_like(total, 1.0), where=spread > 0)


def _summary(
    mean: np.ndarray,
    drawn: np.ndarray,
    prompts: list[Part],
    trainings: tuple[Part, np.ndarray] | None,
    confidence: float,
    seed: int,
) -> Estimate:
    """Expanded percentile interval and the p value that agrees with it.

    `drawn`: means over drawn prompts and seeds, (draws, K); what trainings add to their variance is
    added here.
    """
    from scipy.special import ndtr, ndtri, stdtr, stdtridf, stdtrit

    variance = sum(part.variance for part in prompts)
    freedom = _satterthwaite(prompts)
    quantile = stdtrit(freedom, (1 + confidence) / 2)
    if trainings is not None:
        shown, noise = trainings
        more = np.clip(shown.variance - SUBTRACTED * noise, 0, None)
        wide = quantile**2 * variance + stdtrit(shown.freedom, (1 + confidence) / 2) ** 2 * more
        variance = variance + more
        joint = np.sqrt(np.divide(wide, variance, out=np.ones_like(wide), where=variance > 0))
        quantile = np.where(more > 0, joint, quantile)
        freedom = np.where(more > 0, stdtridf((1 + confidence) / 2, joint), freedom)
        rng = np.random.default_rng([seed, 2])
        drawn = drawn + np.sqrt(more) * rng.standard_normal((len(drawn), 1))
    error = np.sqrt(variance)
    # Sums in another order differ in their last bits, which must not decide on which side of 0 a
    # draw lies.
    drawn = np.where(np.abs(drawn) < 1e-12, 0.0, drawn)
    drawn.sort(axis=0)
    tail = ndtr(-quantile)
    low, high = _quantile(drawn, tail), _quantile(drawn, 1 - tail)
    # So far out that the draws hardly reach it, an end is Student's.
    far = tail * len(drawn) < FEW
    low = np.where(far, mean - quantile * error, low)
    high = np.where(far, mean + quantile * error, high)
    beyond = np.minimum((drawn <= 0).sum(axis=0), (drawn >= 0).sum(axis=0))
    share = np.minimum((beyond + 1) / (len(drawn) + 1), 0.5)
    p = 2 * stdtr(freedom, ndtri(share))
    ratio = np.divide(np.abs(mean), error, out=np.full_like(mean, np.inf), where=error > 0)
    student = np.where(ratio == np.inf, np.where(mean == 0, 1.0, 0.0), 2 * stdtr(freedom, -ratio))
    p = np.where(beyond < FEW, np.minimum(p, student), p)
    p = np.where(far, student, p)
    return Estimate(mean, low, high, error, p, freedom)


def _quantile(rising: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Quantile of each column of a sorted array at a level of its own, by linear interpolation."""
    position = level * (len(rising) - 1)
    below = np.floor(position).astype(int)
    above = np.minimum(below + 1, len(rising) - 1)
    column = np.arange(rising.shape[1])
    low, high = rising[below, column], rising[above, column]
    return low + (position - below) * (high - low)
