"""How well scores tell right pictures from wrong ones, with intervals.

Right and wrong are labels of pictures, from the truth of a drawn world or from whoever has looked
at them; a picture without a label (NaN) counts for nothing. Intervals are a bootstrap over prompts
with all pictures of each: they are about new prompts with new seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vlg.analysis.statistics import CHUNK, FEWEST

DRAWS = 2000  # at most: each of them ranks all pictures anew
STREAM = 6  # of their random numbers; those of `vlg.analysis.study` are others


@dataclass(frozen=True)
class Told:
    """A figure and the ends of its interval; NaN where it cannot be told."""

    value: float
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True)
class Pictures:
    """N pictures by their prompts, (N,) whole numbers, and how intervals are drawn."""

    prompts: np.ndarray
    confidence: float
    seed: int
    draws: int

    def auc(self, scores: np.ndarray, right: np.ndarray) -> Told:
        """Chance that a right picture (1) scores above a wrong one (0), whatever their prompts; a
        tie counts half. Both arrays are (N,)."""
        scores, right, prompts, size = self._labelled(scores, right)
        yes, no = right == 1, right == 0
        won = np.zeros((size, size))  # by right pictures of a prompt over wrong ones of another
        for other in np.unique(prompts[no]):
            rivals = np.sort(scores[no & (prompts == other)])
            ends = (np.searchsorted(rivals, scores[yes], side) for side in ("left", "right"))
            won[:, other] = np.bincount(prompts[yes], sum(ends) / 2, size)
        numbers = [np.bincount(prompts[each], minlength=size) for each in (yes, no)]

        def share(weights: np.ndarray) -> np.ndarray:
            of = (weights @ numbers[0]) * (weights @ numbers[1])
            return divided(((weights @ won) * weights).sum(axis=1), of)

        return self._told(share, size, size, size)

    def spearman(self, scores: np.ndarray, labels: np.ndarray) -> Told:
        """Rank correlation of scores and labels, both (N,); equal ones share their rank."""
        scores, labels, prompts, size = self._labelled(scores, labels)
        both = [_groups(values, prompts, size) for values in (scores, labels)]

        def correlation(weights: np.ndarray) -> np.ndarray:
            own = weights[:, prompts]
            total = own.sum(axis=1, keepdims=True)
            ranks = (_ranks(weights, *each) for each in both)
            x, y = (each - (own * each).sum(axis=1, keepdims=True) / total for each in ranks)
            spread = (own * x**2).sum(axis=1) * (own * y**2).sum(axis=1)
            return divided((own * x * y).sum(axis=1), np.sqrt(spread))

        return self._told(correlation, size, size, len(prompts))

    def accuracy(self, scores: np.ndarray, facts: np.ndarray) -> list[Told]:
        """For each of F facts: of two pictures of a prompt that differ in it alone, how often the
        truer one scores higher; a tie counts half. scores (N,), facts (N, F) in 0..1, NaN where a
        prompt says nothing of one."""
        size = int(self.prompts.max()) + 1
        pairs, told = np.zeros((2, size, facts.shape[1]))
        for prompt in np.unique(self.prompts):
            own = self.prompts == prompt
            score, shown = scores[own], np.nan_to_num(facts[own])
            one, other = np.triu_indices(len(score), 1)
            apart = np.sign(shown[one] - shown[other])
            alone = (apart != 0) & ((apart != 0).sum(axis=1, keepdims=True) == 1)
            agree = np.sign(score[one] - score[other])[:, None] * apart
            pairs[prompt], told[prompt] = alone.sum(axis=0), (alone * (1 + agree) / 2).sum(axis=0)

        def share(fact: int) -> Callable[[np.ndarray], np.ndarray]:
            return lambda weights: divided(weights @ told[:, fact], weights @ pairs[:, fact])

        differing = (pairs > 0).sum(axis=0)
        return [self._told(share(f), size, n, size) for f, n in enumerate(differing)]

    def _labelled(
        self, scores: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Scores, labels and prompts of what has a label, and the number of these prompts."""
        known = np.isfinite(labels)
        names, prompts = np.unique(self.prompts[known], return_inverse=True)
        return scores[known], labels[known], prompts, len(names)

    def _told(
        self, figure: Callable[[np.ndarray], np.ndarray], size: int, differing: int, width: int
    ) -> Told:
        """What `figure` makes of all pictures, and of bootstraps.

        figure: from weights of `size` prompts, (draws, size), to a figure each, holding `width`
        numbers for each draw. differing: how many prompts say something.
        """
        value = float(figure(np.ones((1, size)))[0]) if size else np.nan
        if differing < FEWEST or np.isnan(value):
            return Told(value)
        rng = np.random.default_rng([self.seed, STREAM])
        drawn, left = [], min(self.draws, DRAWS)
        while left > 0:
            many = min(left, max(1, CHUNK // width))
            counts = rng.multinomial(size, np.full(size, 1 / size), size=many)
            drawn.append(figure(counts.astype(float)))
            left -= many
        ends = np.array([1 - self.confidence, 1 + self.confidence]) / 2
        low, high = np.nanquantile(np.concatenate(drawn), ends)
        return Told(value, float(low), float(high))


def _groups(values: np.ndarray, prompts: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(how many pictures of each prompt have each value, (size, values); the place of each one's
    among the values, which rise)."""
    _, places = np.unique(values, return_inverse=True)
    numbers = np.zeros((size, places.max(initial=-1) + 1))
    np.add.at(numbers, (prompts, places), 1)
    return numbers, places


def _ranks(weights: np.ndarray, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The mean rank of each picture among all under each draw's weights, (draws, N)."""
    of = weights @ numbers
    return (of.cumsum(axis=1) - of / 2)[:, places]


def divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Quotients, NaN where the divisor is not above 0."""
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
