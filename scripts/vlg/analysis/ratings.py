"""What people say of pictures: ratings read from a file, and the figures of them.

A file of scores has the columns rater, model, id (of the prompt; or prompt, its text), seed (may be
missing where each model has one picture of a prompt; of a set of pictures, as its maker counts)
and score. A file of votes has rater, id or
prompt, seed, model_a, model_b and winner: `a`, `b`, `tie`, or the name of the model that won. Or it
is the demo's, whose `both_bad` counts as a tie and whose votes on pictures that the study has since
drawn anew are left out. A round of an arm is rated under the name `base best_of_n round 3`.
Intervals are a bootstrap over raters and over prompts, both at once (the pigeonhole bootstrap
of Owen, 2007), which is rather too wide than too narrow; with one rater over prompts alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlg.analysis.judging import DRAWS, divided
from vlg.analysis.scores import name as row_name
from vlg.analysis.statistics import FEWEST
from vlg.data import ratings as data
from vlg.data.ratings import SIDES
from vlg.data.text import composed
from vlg.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

WON = {"left": "a", "right": "b", "tie": "tie", "both_bad": "tie"}
TIE = "tie"
STREAM = 7  # of their random numbers


@dataclass(frozen=True)
class Ratings:
    """scores: rater, model, id, seed, score, a row a rating; empty for votes. pairs: rater, id,
    seed, model_a, model_b and won: 1 for a, 0 for b, 0.5 for a tie; of scores, every pair of a
    rater's pictures with one prompt and seed. stale: votes left out."""

    scores: pd.DataFrame
    pairs: pd.DataFrame
    stale: int = 0


def read(
    path: Path,
    prompts: Mapping[str, str],
    models: Sequence[str],
    pictures: Mapping[tuple[str, str, int], str] | None = None,
    usual: Mapping[tuple[str, str], Collection[int]] | None = None,
    numbered: Mapping[tuple[str, str, int], int] | None = None,
) -> Ratings:
    """Ratings of a .csv file. UserError names the line of what is wrong.

    prompts: {id: text} of the study. models: names of those that may be rated. pictures: {(name,
    id, seed): sha256} of their pictures, which are all that can be rated; a vote of the demo on
    another picture is stale. usual: {(name, id): seeds} among which a line that says no seed means
    the only one. numbered: {(name, id, seed as the maker of a set of pictures counts): the seed by
    which the study calls it}; the demo's votes have the latter.
    """
    import pandas as pd

    told = data.read(path)
    stale = 0
    ids = {composed(text): key for key, text in prompts.items()}
    sets = {(name, key) for name, key, _ in numbered or {}}
    rows, seen = [], set()
    for where, row in told.rows:
        if told.demo:
            row |= _of_demo(row, where)
        key = row.get("id") or ids.get(composed(row.get("prompt", "")), "")
        if told.published and (row["model"], key) not in sets:
            continue
        if key not in prompts:
            what = row.get("id") or row.get("prompt")
            raise UserError(f"{where}: {what!r} is no prompt of the study; mend or remove it")
        made = {"rater": row["rater"], "id": key, "seed": 0}
        for name in ("model_a", "model_b") if told.voted else ("model",):
            if row[name] not in models:
                raise data.stranger(where, row[name], models)
            made[name] = row[name]
        made |= _vote(row, where) if told.voted else {"score": _number(row["score"], where)}
        given_seed = row.get("seed", "")
        made["seed"] = _whole(given_seed, where) if given_seed else _seed(made, usual)
        if given_seed and not told.demo:
            made["seed"] = _numbered(made, numbered or {}, where)
        if told.demo and _is_stale(row, made, pictures):
            stale += 1
            continue
        for who in _shown(made):
            if pictures is not None and (who, key, made["seed"]) not in pictures:
                what = f"with seed {given_seed}" if given_seed else "that needs no seed"
                raise UserError(f"{where}: {who} has no picture of {key} {what}; mend the seed")
        same = tuple(value for name, value in made.items() if name not in ("score", "won"))
        if not row["rater"] or same in seen:
            what = "a second time" if row["rater"] else "by no rater"
            raise UserError(f"{where}: the same is rated {what}; mend or remove it")
        seen.add(same)
        rows.append(made)
    if not rows and stale:
        raise UserError(
            f"{path}: all {stale} votes are on pictures that the study has since drawn anew; vote "
            "again, or set ratings: null"
        )
    if not rows and told.published:
        there = ", ".join(sorted({row["model"] for _, row in told.rows}))
        raise UserError(
            f"{path}: rates no picture of a set of this study; name sets in `pictures` by whom "
            f"they are of: {there}"
        )
    if not rows:
        raise UserError(f"{path}: has no ratings; write at least one")
    if told.voted:
        none = pd.DataFrame(columns=["rater", "id", "seed", "model", "score"])
        return Ratings(none, pd.DataFrame(rows), stale)
    scores = pd.DataFrame(rows)
    return Ratings(scores, _compared(scores))


def _of_demo(row: Mapping[str, str], where: str) -> dict[str, str]:
    """model_a, model_b and winner of a vote of the demo."""
    if row["vote"] not in WON:
        raise UserError(f"{where}: vote {row['vote']!r}; a vote is one of {', '.join(WON)}")
    result = {"winner": WON[row["vote"]]}
    for each, side in SIDES.items():
        number = _whole(row.get(f"{side}round", ""), where, "round")
        result[each] = row_name((row[f"{side}model"], row.get(f"{side}arm", ""), number))
    return result


def _is_stale(
    row: Mapping, made: Mapping, pictures: Mapping[tuple[str, str, int], str] | None
) -> bool:
    """Whether a vote of the demo is on another picture than the study now has."""
    return pictures is not None and any(
        (shown := row.get(f"{side}sha256", ""))
        and pictures.get((made[each], made["id"], made["seed"])) != shown
        for each, side in SIDES.items()
    )


def _shown(made: Mapping) -> list[str]:
    """Whose pictures a line is about."""
    return [made[name] for name in ("model", *SIDES) if name in made]


def _seed(made: Mapping, usual: Mapping[tuple[str, str], Collection[int]] | None) -> int:
    """The seed of a line that says none: the only one that all have of the prompt, or -1."""
    if usual is None:
        return 0
    seeds = {seed for who in _shown(made) for seed in usual.get((who, made["id"]), ())}
    return seeds.pop() if len(seeds) == 1 else -1


def _numbered(made: Mapping, numbered: Mapping[tuple[str, str, int], int], where: str) -> int:
    """The seed by which the study calls what a line is about."""
    seed = made["seed"]
    found = {numbered.get((who, made["id"], seed), seed) for who in _shown(made)}
    if len(found) > 1:
        raise UserError(
            f"{where}: seed {seed} is not the same place in {' and '.join(_shown(made))}, whose "
            "pictures are numbered each in its own way; number them alike, or give scores"
        )
    return found.pop()


def _whole(text: str, where: str, what: str = "seed") -> int:
    try:
        return int(text or 0)
    except ValueError:
        raise UserError(f"{where}: {what} {text!r} is no whole number; mend it") from None


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: score {text!r} is no number; mend or remove it")
    return value


def _vote(row: Mapping[str, str], where: str) -> dict[str, float]:
    a, b, winner = row["model_a"], row["model_b"], row["winner"]
    said = {"a": 1.0, "b": 0.0, TIE: 0.5} | ({a: 1.0, b: 0.0} if a != b else {})
    if a == b or winner not in said:
        what = f"{a!r} against itself" if a == b else f"winner {winner!r}"
        raise UserError(f"{where}: {what}; winner is a, b, tie or the name of one of two models")
    return {"won": said[winner]}


def _compared(scores: pd.DataFrame) -> pd.DataFrame:
    """Every pair of a rater's scores of one prompt and seed, as votes."""
    both = scores.merge(scores, on=["rater", "id", "seed"], suffixes=("_a", "_b"))
    both = both[both["model_a"] < both["model_b"]].reset_index(drop=True)
    both["won"] = (1 + np.sign(both["score_a"] - both["score_b"])) / 2
    return both[["rater", "id", "seed", "model_a", "model_b", "won"]]


# --- figures ------------------------------------------------------------------------------------


def bradley_terry(wins: np.ndarray, rounds: int = 500) -> np.ndarray:
    """Log strengths (..., M), their mean 0, of how often each of M beat each other (..., M, M), a
    tie half a win for both; NaN where some never win, or never lose, against the others.

    Zermelo's and Hunter's iteration (Annals of Statistics 32, 2004).
    """
    size = wins.shape[-1]
    every = wins.reshape(-1, size, size)
    # Each must be reached from each along wins, or its strength is without a bound.
    reached = (every > 0) | np.eye(size, dtype=bool)
    for _ in range(max(1, (size - 1).bit_length())):
        reached = (reached.astype(float) @ reached) > 0
    bounded = reached.all(axis=(-1, -2))
    own = every[bounded]
    played, won = own + own.swapaxes(-1, -2), own.sum(axis=-1)
    strength = np.ones(won.shape)
    for _ in range(rounds):
        pairs = strength[..., :, None] + strength[..., None, :]
        new = won / (played / pairs).sum(axis=-1)
        new /= np.exp(np.log(new).mean(axis=-1, keepdims=True))
        change = np.abs(new - strength).max(initial=0)
        strength = new
        if change < 1e-10:
            break
    result = np.full(every.shape[:-1], np.nan)
    result[bounded] = np.log(strength)
    return result.reshape(wins.shape[:-1])


def krippendorff(values: np.ndarray, level: str = "interval") -> float:
    """Krippendorff's alpha of values (raters, units), NaN where one has not rated; level: nominal
    or interval. NaN where nothing can be compared or nothing varies.

    K. Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011.
    """
    counted = np.isfinite(values).sum(axis=0) > 1
    values = values[:, counted]
    known, places = np.unique(values[np.isfinite(values)], return_inverse=True)
    if len(known) < 2:
        return math.nan
    units = np.broadcast_to(np.arange(values.shape[1]), values.shape)[np.isfinite(values)]
    table = np.zeros((values.shape[1], len(known)))
    np.add.at(table, (units, places), 1)
    number = table.sum(axis=1)
    met = (table.T / (number - 1)) @ table - np.diag((table.T / (number - 1)).sum(axis=1))
    totals = met.sum(axis=1)
    apart = 1.0 - np.eye(len(known)) if level == "nominal" else (known[:, None] - known) ** 2
    expected = (np.outer(totals, totals) * apart).sum() / (totals.sum() - 1)
    return float(1 - (met * apart).sum() / expected)


def tied(human: np.ndarray, judge: np.ndarray) -> tuple[float, float]:
    """(pairwise accuracy with ties, the largest difference of a judge's scores that is called a
    tie) of P pairs: signs of what people say, and differences of the judge's scores.

    The threshold is that with the highest accuracy on these pairs (Deutsch et al.,
    arXiv:2305.14324); of several the smallest.
    """
    if not len(human):
        return math.nan, math.nan
    sizes = np.abs(judge)
    order = np.argsort(sizes, kind="stable")
    agree = (np.sign(judge) == human) & (sizes > 0) & (human != 0)
    ties = human == 0
    # With the first n pairs by size called ties: their human ties, and what agrees in the others.
    right = np.concatenate([[0], ties[order].cumsum()]) + agree.sum()
    right = right - np.concatenate([[0], agree[order].cumsum()])
    limits = np.concatenate([[0.0], sizes[order]])
    ends = np.append(limits[1:] != limits[:-1], True)  # pairs of one size are ties together
    ends[: int((sizes == 0).sum())] = False  # what is equal is a tie at any threshold
    best = np.flatnonzero(ends)[right[ends].argmax()]
    return float(right[best] / len(human)), float(limits[best])


# --- intervals ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """Bootstraps over raters and prompts. raters, prompts: of each rating, (N,) whole numbers."""

    raters: np.ndarray
    prompts: np.ndarray
    confidence: float
    seed: int
    draws: int

    def told(self, figure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """(3, K): a figure and the ends of its interval, NaN where fewer than FEWEST prompts are
        rated. figure: from weights of the ratings, (draws, N), to (draws, K)."""
        value = figure(np.ones((1, len(self.raters))))[0]
        sizes = [int(each.max(initial=-1)) + 1 for each in (self.raters, self.prompts)]
        if sizes[1] < FEWEST:
            return np.stack([value, np.full_like(value, np.nan), np.full_like(value, np.nan)])
        rng = np.random.default_rng([self.seed, STREAM])
        found, left = [], min(self.draws, DRAWS)
        while left > 0:
            many = min(left, max(1, 2_000_000 // max(1, len(self.raters))))
            weights = np.ones((many, len(self.raters)))
            for places, size in zip((self.raters, self.prompts), sizes, strict=True):
                if size > 1:
                    drawn = rng.multinomial(size, np.full(size, 1 / size), size=many)
                    weights *= drawn[:, places]
            found.append(figure(weights))
            left -= many
        ends = np.array([1 - self.confidence, 1 + self.confidence]) / 2
        found = np.concatenate(found)
        known = np.isfinite(found).mean(axis=0) > self.confidence
        low, high = np.full((2, len(value)), np.nan)
        if known.any():
            low[known], high[known] = np.nanquantile(found[:, known], ends, axis=0)
        return np.stack([value, low, high])


def mean_scores(
    weights: np.ndarray, scores: np.ndarray, places: np.ndarray, size: int
) -> np.ndarray:
    """Mean score of each of `size` models, (draws, size); places (N,): whose a score is."""
    own = np.eye(size)[places]
    number = weights @ own
    return divided((weights * scores) @ own, number)


def wins(weights: np.ndarray, pairs: np.ndarray, won: np.ndarray, size: int) -> np.ndarray:
    """How often each of `size` models beat each other, (draws, size, size), a tie half; pairs
    (N, 2) of places, won (N,) of the first."""
    result = np.zeros((len(weights), size * size))
    for order, share in ((pairs, won), (pairs[:, ::-1], 1 - won)):
        cells = order[:, 0] * size + order[:, 1]
        for cell in np.unique(cells):
            own = cells == cell
            result[:, cell] += weights[:, own] @ share[own]
    return result.reshape(-1, size, size)


def win_rates(won: np.ndarray) -> np.ndarray:
    """Share of its comparisons that each model won, (draws, M), of `wins`."""
    played = won.sum(axis=2) + won.sum(axis=1)
    return divided(won.sum(axis=2), played)
