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
0, the draws cannot tell p = 0.001 from 0.00001, which a correction needs to know in a large table;
there p is Student's, from the same standard error, if that is smaller. Where fewer than FEWEST
prompts differ there is neither: what all but a few prompts have in common, most often a difference
of exactly 0, says nothing of how far the next one would move.

**Trainings.** From ENOUGH trainings on, trainings are drawn together with the prompts, the same
ones for all quantities (multi-bootstrap; Sellam et al., arXiv:2106.16163), and the interval is
about new trainings, too. Their weights in a draw are normal numbers and not counts: three
trainings can be drawn in ten ways only. One training, or two, say too little of their spread: the
interval is then about their weights as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Draws are made and used in chunks of about this many picks (16 MB), whatever the study's size.
CHUNK = 2_000_000
# With fewer draws than this beyond 0, their share is too uncertain to be a p value.
FEW = 10
# No interval is given where fewer prompts differ, counting those with the commonest value as one:
# 95 % intervals then cover 80 to 90 % where a few large changes make the mean.
FEWEST = 15
# Trainings below which an interval says nothing of further ones: those of two cover 91 % at worst.
ENOUGH = 3
# How much of the noise in the trainings' means is subtracted from their spread.
SUBTRACTED = 0.7
TRAININGS = 2  # the stream of their draws; those of `estimate` are other numbers


@dataclass(frozen=True)
class Part:
    """A part of the variance of K means, (K,), and its degrees of freedom."""

    variance: np.ndarray
    freedom: float


@dataclass(frozen=True)
class Sources:
    """What of the variance of K means comes of the choice of prompts, of seeds and of trainings.

    Each (K,); NaN where it cannot be told: with one seed its part is within that of the prompts,
    and with fewer than ENOUGH trainings theirs is unknown.
    """

    prompts: np.ndarray
    seeds: np.ndarray
    trainings: np.ndarray


@dataclass(frozen=True)
class Estimate:
    """Means of K quantities, with their uncertainty; every array but `draws` has shape (K,).

    `low`, `high`: the interval; `error`: standard error of the mean; `p`: two-sided p value of
    "the mean is 0"; `freedom`: degrees of freedom of the error; `sources`: the parts of its square;
    `draws`: deviations of the bootstrap's means from the mean, (draws, K). Where fewer than FEWEST
    prompts differ all but `mean` are NaN, and the draws 0.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray
    p: np.ndarray
    freedom: np.ndarray
    sources: Sources
    draws: np.ndarray
    trainings: int = 1


def estimate(
    values: np.ndarray,
    *,
    draws: int,
    confidence: float,
    seed: int,
    stream: int = 0,
    among: tuple[Sequence[int], int] | None = None,
) -> Estimate:
    """Mean, interval and p value of K quantities measured on the same pictures.

    `values`: (prompts, seeds, K) or (trainings, prompts, seeds, K), finite; one quantity may be a
    score, a paired difference of scores or any other linear combination of them, picture by
    picture. All quantities share their draws. The result depends on nothing but the arguments.
    `stream`: sets of other prompts or seeds have draws of their own. `among`: (places, number):
    these prompts are that many's at these places, whose draws they share with other parts of them.
    """
    trainings = _checked(values)
    pooled = trainings.mean(axis=0)
    mean = pooled.mean(axis=(0, 1))
    count = len(pooled)
    if count < FEWEST:
        return _without_error(mean, draws)
    drawn = _deviations(pooled, draws, seed, stream, among)
    prompts = Part(_prompt_variance(pooled) / count, count - 1.0)
    noise = _seed_variance(pooled) / count
    further = _trainings([trainings], [1])
    found = _summary(mean, drawn, [prompts], noise, further, confidence, seed)
    return _where(_differing(pooled) >= FEWEST, found, len(trainings))


def difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    draws: int,
    confidence: float,
    seed: int,
    streams: tuple[int, int] = (0, 1),
) -> Estimate:
    """Mean of `first` minus mean of `second`, measured on two sets of prompts.

    Shapes as in `estimate`; prompts and seeds may differ in number, trainings are the same ones.
    The sets are drawn independently; prompts that are in both make the interval wider than needed
    (what their two values share would cancel), never shorter, as long as that share is positive.
    """
    first, second = _checked(first), _checked(second)
    trainings, further = len(first), _trainings([first, second], [1, -1])
    first, second = first.mean(axis=0), second.mean(axis=0)
    mean = first.mean(axis=(0, 1)) - second.mean(axis=(0, 1))
    if min(len(first), len(second)) < FEWEST:
        return _without_error(mean, draws)
    drawn = _deviations(first, draws, seed, streams[0])
    drawn -= _deviations(second, draws, seed, streams[1])
    parts = [Part(_prompt_variance(v) / len(v), len(v) - 1.0) for v in (first, second)]
    noise = sum(_seed_variance(v) / len(v) for v in (first, second))
    found = _summary(mean, drawn, parts, noise, further, confidence, seed)
    known = np.minimum(_differing(first), _differing(second)) >= FEWEST
    return _where(known, found, trainings)


def exceeds(estimate: Estimate, smallest: float) -> np.ndarray:
    """Probability that each mean is larger than `smallest`, (K,); NaN without an interval.

    The share of draws above it, by the rule of the intervals: it is over 0.975 exactly when a 95 %
    interval lies above `smallest`, up to the resolution of the draws.
    """
    return 1 - _below(estimate.mean - smallest, estimate.draws, estimate.error, estimate.freedom)


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


def _trainings(
    sets: list[np.ndarray], signs: list[int]
) -> tuple[Part, np.ndarray, np.ndarray] | None:
    """(variance of the mean as the trainings' means show it, what of it is noise of prompts and
    seeds, the means' deviations (trainings, K)); None with too few trainings for it."""
    count = len(sets[0])
    if count < ENOUGH:
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
    return Part(shown, count - 1.0), noise, together - together.mean(axis=0)


def _without_error(mean: np.ndarray, draws: int) -> Estimate:
    unknown = np.full_like(mean, np.nan)
    sources = Sources(unknown, unknown, unknown)
    drawn = np.zeros((draws, len(mean)))
    return Estimate(mean, unknown, unknown, unknown, unknown, unknown, sources, drawn)


def _differing(values: np.ndarray) -> np.ndarray:
    """How many prompts differ, (K,): those that share the commonest value count as one."""
    rising = np.sort(values.mean(axis=1), axis=0)
    same = np.diff(rising, axis=0) < 1e-9
    run = longest = np.zeros(values.shape[2], dtype=int)
    for step in same:
        run = np.where(step, run + 1, 0)
        longest = np.maximum(longest, run)
    return len(values) - longest


def _where(known: np.ndarray, found: Estimate, trainings: int) -> Estimate:
    """`found`, of so many trainings, with nothing but its means where it is not `known`, (K,)."""

    def kept(values: np.ndarray) -> np.ndarray:
        return np.where(known, values, np.nan)

    own = found.sources
    sources = Sources(kept(own.prompts), kept(own.seeds), kept(own.trainings))
    ends = (kept(values) for values in (found.low, found.high, found.error, found.p, found.freedom))
    return Estimate(found.mean, *ends, sources, np.where(known, found.draws, 0.0), trainings)


def _prompt_variance(values: np.ndarray) -> np.ndarray:
    """Variance between the prompts' means, (K,). Over the number of prompts it is the unbiased
    variance of the overall mean, seed noise included."""
    return values.mean(axis=1).var(axis=0, ddof=1)


def _seed_variance(values: np.ndarray) -> np.ndarray:
    """What seeds add to the variance between the prompts' means, (K,); NaN with one seed."""
    prompts, seeds, quantities = values.shape
    if seeds == 1:
        return np.full(quantities, np.nan)
    within = values - values.mean(axis=1, keepdims=True)
    return (within**2).sum(axis=(0, 1)) / (prompts * (seeds - 1)) / seeds


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
    noise = _seed_variance(values)
    total = _prompt_variance(values)
    share = np.divide(noise, total, out=np.zeros_like(total), where=total > 0)
    between = between * np.sqrt(correction * np.clip(1 - share, 0, None))
    # Where the noise alone would exceed the whole, it is cut to the whole.
    kept = np.divide(total, noise, out=np.ones_like(total), where=noise > 0).clip(max=1)
    return between + within * np.sqrt(kept * seeds / (seeds - 1))


def _deviations(
    values: np.ndarray,
    draws: int,
    seed: int,
    stream: int = 0,
    among: tuple[Sequence[int], int] | None = None,
) -> np.ndarray:
    """Deviations of `draws` bootstrap means from the mean, (draws, K).

    `among`: as in `estimate`. How many of a part's prompts are drawn then varies; what is drawn are
    deviations, whose sum is 0, so the variance is that of drawing within the part.
    """
    prompts, seeds, quantities = values.shape
    cells = _rescaled(values).reshape(prompts * seeds, quantities) / (prompts * seeds)
    places, total = (range(prompts), prompts) if among is None else among
    counts = _counts(total, seeds, draws, seed, stream)
    if among is not None:
        counts = counts.reshape(draws, total, seeds)[:, list(places)].reshape(draws, len(cells))
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
    noise: np.ndarray,
    trainings: tuple[Part, np.ndarray, np.ndarray] | None,
    confidence: float,
    seed: int,
) -> Estimate:
    """Expanded percentile interval and the p value that agrees with it.

    `drawn`: deviations over drawn prompts and seeds, (draws, K); what trainings add is added here.
    `noise`: the seeds' part of the variance.
    """
    from scipy.special import ndtr, stdtridf, stdtrit

    variance = sum(part.variance for part in prompts)
    freedom = _satterthwaite(prompts)
    quantile = stdtrit(freedom, (1 + confidence) / 2)
    more = np.full_like(mean, np.nan)
    noise = np.minimum(noise, variance)
    sources = Sources(variance - np.nan_to_num(noise), noise, more)
    if trainings is not None:
        shown, mixed, apart = trainings
        more = np.clip(shown.variance - SUBTRACTED * mixed, 0, None)
        wide = quantile**2 * variance + stdtrit(shown.freedom, (1 + confidence) / 2) ** 2 * more
        variance = variance + more
        joint = np.sqrt(np.divide(wide, variance, out=np.ones_like(wide), where=variance > 0))
        quantile = np.where(more > 0, joint, quantile)
        freedom = np.where(more > 0, stdtridf((1 + confidence) / 2, joint), freedom)
        scale = np.sqrt(np.divide(more, shown.variance, out=np.zeros_like(more), where=more > 0))
        weights = np.random.default_rng([seed, TRAININGS]).standard_normal((len(drawn), len(apart)))
        drawn = drawn + weights @ apart * scale / np.sqrt(len(apart) * shown.freedom)
        sources = Sources(sources.prompts, sources.seeds, more)
    error = np.sqrt(variance)
    rising = np.sort(mean + drawn, axis=0)
    tail = ndtr(-quantile)
    low, high = _quantile(rising, tail), _quantile(rising, 1 - tail)
    # So far out that the draws hardly reach it, an end is Student's.
    far = tail * len(drawn) < FEW
    low = np.where(far, mean - quantile * error, low)
    high = np.where(far, mean + quantile * error, high)
    below, above = (_below(s * mean, s * drawn, error, freedom, far) for s in (1, -1))
    p = np.minimum(2 * np.minimum(below, above), 1)
    return Estimate(mean, low, high, error, p, freedom, sources, drawn)


def _below(
    mean: np.ndarray,
    drawn: np.ndarray,
    error: np.ndarray,
    freedom: np.ndarray,
    far: np.ndarray | bool = False,
) -> np.ndarray:
    """One-sided p value of "the mean is at most 0", (K,); NaN where nothing varied.

    `drawn`: deviations from the mean; `far`: where Student's p is to be taken. Sums in another
    order differ in their last bits, which must not decide on which side of 0 a draw lies.
    """
    from scipy.special import ndtri, stdtr

    draws = len(drawn)
    at_most = (mean + drawn <= 1e-12).sum(axis=0)
    share = np.clip((at_most + 1) / (draws + 1), None, draws / (draws + 1))
    p = stdtr(freedom, ndtri(share))
    ratio = np.divide(mean, error, out=np.full_like(mean, np.nan), where=error > 0)
    student = stdtr(freedom, -ratio)
    p = np.where(at_most < FEW, np.minimum(p, student), p)
    p = np.where(draws - at_most < FEW, np.maximum(p, student), p)
    return np.where(far | (error == 0), student, p)


def _quantile(rising: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Quantile of each column of a sorted array at a level of its own, by linear interpolation."""
    position = level * (len(rising) - 1)
    below = np.floor(position).astype(int)
    above = np.minimum(below + 1, len(rising) - 1)
    column = np.arange(rising.shape[1])
    low, high = rising[below, column], rising[above, column]
    return low + (position - below) * (high - low)
