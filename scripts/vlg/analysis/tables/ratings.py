"""What people say of models and arms: mean score, share of comparisons won, strength.

score is empty where people voted. win_rate counts a tie as half; strength is the logarithm of the
Bradley-Terry strength, its mean over models 0, and empty where a model won or lost all. alpha is
Krippendorff's, of all raters' scores (interval) or votes (nominal), the same in each row.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from vlg.analysis import markup, ratings, table
from vlg.analysis.scores import name as row_name
from vlg.analysis.study import Study

if TYPE_CHECKING:
    import pandas as pd

NEEDS = ("scores", "refined", "ratings", "pictures")
WHEN = "ratings"
ORDER = 12
ENDS = ("", "_low", "_high")


def build(study: Study) -> table.Table:
    import pandas as pd

    own = study.rated()
    scores, pairs = own.scores, own.pairs
    rated = {*scores["model"], *pairs["model_a"], *pairs["model_b"]}
    keys = [key for key in (*study.models, *study.refined()) if row_name(key) in rated]
    models = [row_name(key) for key in keys]
    at = {model: place for place, model in enumerate(models)}
    found = {"score": np.full((3, len(models)), np.nan)}
    if len(scores):
        places, values = scores["model"].map(at).to_numpy(), scores["score"].to_numpy(float)
        found["score"] = _drawn(study, scores).told(
            lambda weights: ratings.mean_scores(weights, values, places, len(models))
        )
    sides = np.stack([pairs[name].map(at).to_numpy(int) for name in ("model_a", "model_b")], axis=1)
    won = pairs["won"].to_numpy(float)

    def both(weights: np.ndarray) -> np.ndarray:
        beaten = ratings.wins(weights, sides, won, len(models))
        return np.concatenate([ratings.win_rates(beaten), ratings.bradley_terry(beaten)], axis=1)

    empty = np.full((3, 2 * len(models)), np.nan)
    figures = _drawn(study, pairs).told(both) if len(pairs) else empty
    found["win_rate"], found["strength"] = np.split(figures, 2, axis=1)
    frame = pd.DataFrame(keys, columns=["model", "arm", "round"])
    raw = scores if len(scores) else pairs
    frame["raters"], frame["prompts"] = raw["rater"].nunique(), raw["id"].nunique()
    frame["ratings"] = np.bincount(scores["model"].map(at).to_numpy(int), minlength=len(models))
    frame["comparisons"] = np.bincount(sides.ravel(), minlength=len(models))
    for name, numbers in found.items():
        for end, values in zip(ENDS, numbers, strict=True):
            frame[f"{name}{end}"] = values
    frame["alpha"] = alpha = agreement(own)
    columns = [
        markup.MODEL,
        *([markup.ARM, markup.ROUND] if (frame["arm"] != "").any() else []),
        markup.Column("Ratings", "ratings", digits=0),
        markup.Column("Score", "score", interval=True),
        markup.Column("Comparisons", "comparisons", digits=0),
        markup.Column("Won, %", "win_rate", digits=1, interval=True, scale=100),
        markup.Column("Strength", "strength", interval=True),
    ]
    caption = _caption(study, frame, alpha, voted=not len(scores)) + _left_out(own.stale)
    return table.of(study, frame, caption, columns)


def _left_out(stale: int) -> str:
    if not stale:
        return ""
    return f" Left out: {table.count(stale, 'vote')} on pictures that were drawn anew since."


def agreement(own: ratings.Ratings) -> float:
    """Krippendorff's alpha over pictures, or over pairs of pictures."""
    if len(own.scores):
        grid = own.scores.pivot(index="rater", columns=["model", "id", "seed"], values="score")
        return ratings.krippendorff(grid.to_numpy(float), "interval")
    pairs = own.pairs.copy()
    turned = pairs["model_a"] > pairs["model_b"]
    pairs.loc[turned, ["model_a", "model_b"]] = pairs.loc[turned, ["model_b", "model_a"]].to_numpy()
    pairs["won"] = pairs["won"].where(~turned, 1 - pairs["won"])
    names = ["model_a", "model_b", "id", "seed"]
    grid = pairs.pivot_table(index="rater", columns=names, values="won")  # both orders: the mean
    return ratings.krippendorff(grid.to_numpy(float), "nominal")


def _drawn(study: Study, rows: pd.DataFrame) -> ratings.Drawn:
    places = [np.unique(rows[name].astype(str), return_inverse=True)[1] for name in ("rater", "id")]
    return ratings.Drawn(*places, **study.options())


def _caption(study: Study, frame: pd.DataFrame, alpha: float, voted: bool) -> str:
    raters, prompts = int(frame["raters"].iloc[0]), int(frame["prompts"].iloc[0])
    draws = min(study.settings.draws, ratings.DRAWS)
    over = "raters and prompts" if raters > 1 else "prompts, since there is one rater"
    agreed = "cannot be told" if math.isnan(alpha) else f"{alpha:.2f}"
    level = "votes, nominal" if voted else "scores, interval"
    return (
        f"Ratings by people: {table.count(raters, 'rater')}, {table.count(prompts, 'prompt')}. "
        f"Won: share of comparisons, a tie half. Strength: log of the Bradley-Terry strength, mean "
        f"0. In brackets: {table.percent(study)} intervals (bootstrap over {over}, {draws:,} "
        f"draws). Krippendorff's alpha ({level}): {agreed}."
    )
