"""How far each judge says what people say, over all rated pictures and by kind of prompt.

Pairs are of two rated pictures with one prompt. accuracy is the share of pairs of which judge and
people say the same (better, worse, equal), where the judge calls a tie what differs by no more than
`threshold`, chosen for the highest accuracy on these very pairs (Deutsch et al., arXiv:2305.14324);
chance is the same of the best constant answer. accuracy_decided leaves out pairs that people call
equal and gives the judge no ties but its own equal scores, which count half. spearman is the rank
correlation of a judge's scores and people's mean scores, empty for votes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vlg.analysis import judging, markup, ratings, table
from vlg.analysis.scores import ALL, GUIDE, OWN
from vlg.analysis.scores import name as row_name
from vlg.analysis.study import Study

if TYPE_CHECKING:
    import pandas as pd

NEEDS = ("scores", "refined", "judges", "ratings", "pictures")
WHEN = "ratings"
ORDER = 13
ENDS = ("", "_low", "_high")


def build(study: Study) -> table.Table:
    import pandas as pd

    own = study.rated()
    judges = {OWN: study.judges[OWN], GUIDE: GUIDE, **study.judges}
    plain = study.grids.plain
    scored = pd.concat([plain[plain["set"] == "study"], study.grids.refined])
    places = zip(scored["model"], scored["arm"], scored["round"], strict=True)
    scored = scored.assign(model=[*map(row_name, places)]).set_index(["model", "id", "seed"])
    pairs, means = of_people(own)
    groups = {ALL: None}
    if "Category" in study.prompts and len(study.prompts):
        kinds = study.prompts.set_index("id")["Category"]
        groups |= {kind: kind for kind in dict.fromkeys(kinds) if kind}
    rows = []
    for judge, measure in judges.items():
        known = scored[measure].to_dict()
        both = [_with(frame, known, sides) for frame, sides in ((pairs, "ab"), (means, ""))]
        for label, kind in groups.items():
            chosen = [f if kind is None else f[f["id"].map(kinds) == kind] for f in both]
            if len(chosen[0]):
                rows.append({"judge": judge, "prompt_kind": label} | _row(study, *chosen))
    names = ["judge", "prompt_kind"]
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*names, "pairs"])
    columns = [
        markup.Column("Judge", "judge", words=True),
        markup.Column("Prompts", "prompt_kind"),
        markup.Column("Pairs", "pairs", digits=0),
        markup.Column("Ties, %", "ties", digits=0, scale=100),
        markup.Column("Accuracy, %", "accuracy", digits=1, interval=True, scale=100),
        markup.Column("Constant, %", "chance", digits=1, scale=100),
        markup.Column("Tie below", "threshold"),
        markup.Column("Decided, %", "accuracy_decided", digits=1, interval=True, scale=100),
        markup.Column("ρ people", "spearman", interval=True),
    ]
    columns = [column for column in columns if column.name in frame]
    return table.of(study, frame, _caption(study), columns)


def of_people(own: ratings.Ratings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(pairs of pictures with what people say of them as -1, 0 or 1: id, seed_a, model_a, seed_b,
    model_b, said; mean scores of pictures: id, seed, model, score).

    Of scores, every pair of pictures with one prompt by their means; of votes, what
    the majority says of each pair.
    """
    names = ["id", "seed", "model"]
    means = own.scores.groupby(names, as_index=False)["score"].mean()
    if len(own.scores):
        both = means.merge(means, on="id", suffixes=("_a", "_b"))
        first = both["model_a"] < both["model_b"]
        first |= (both["model_a"] == both["model_b"]) & (both["seed_a"] < both["seed_b"])
        both = both[first].reset_index(drop=True)
        both["said"] = np.sign((both["score_a"] - both["score_b"]).round(9))
        return both, means
    votes = own.pairs.assign(said=2 * own.pairs["won"] - 1)
    turned = votes["model_a"] > votes["model_b"]
    votes.loc[turned, ["model_a", "model_b"]] = votes.loc[turned, ["model_b", "model_a"]].to_numpy()
    votes["said"] = votes["said"].where(~turned, -votes["said"])
    pairs = votes.groupby(["id", "seed", "model_a", "model_b"], as_index=False)["said"].sum()
    pairs["said"] = np.sign(pairs["said"])
    return pairs.rename(columns={"seed": "seed_a"}).assign(seed_b=pairs["seed"]), means


def _with(frame: pd.DataFrame, known: dict, sides: str) -> pd.DataFrame:
    """Of pairs (`ab`) with the judge's difference, of pictures with its score, as `judged`; what it
    has not scored is left out."""

    def scores(end: str) -> np.ndarray:
        names = (f"model{end}", "id", f"seed{end}")
        places = zip(*(frame[name] for name in names), strict=True)
        return np.array([known.get(place, np.nan) for place in places], float)

    judged = scores("_a") - scores("_b") if sides else scores("")
    frame = frame.assign(judged=judged)
    return frame[np.isfinite(judged)]


def _row(study: Study, pairs: pd.DataFrame, means: pd.DataFrame) -> dict[str, float]:
    said, judged = pairs["said"].to_numpy(float), pairs["judged"].to_numpy(float)
    accuracy, threshold = ratings.tied(said, judged)
    called = np.where(np.abs(judged) <= threshold, 0, np.sign(judged))
    right = (called == said).astype(float)
    decided = np.where(said == 0, np.nan, (1 + np.sign(judged) * said) / 2)
    prompts = np.unique(pairs["id"], return_inverse=True)[1]
    one = ratings.Drawn(np.zeros(len(pairs), int), prompts, **study.options())

    def shares(weights: np.ndarray) -> np.ndarray:
        kept = np.isfinite(decided)
        parts = ((right, np.ones(len(right))), (np.where(kept, decided, 0), kept))
        return np.stack([ratings.divided(weights @ a, weights @ b) for a, b in parts], axis=1)

    found = one.told(shares)
    result: dict[str, float] = {"pairs": len(pairs), "ties": float((said == 0).mean())}
    result |= {f"accuracy{end}": value for end, value in zip(ENDS, found[:, 0], strict=True)}
    result |= {"chance": max(float((said == each).mean()) for each in (-1, 0, 1))}
    result |= {"threshold": threshold}
    result |= {f"accuracy_decided{e}": value for e, value in zip(ENDS, found[:, 1], strict=True)}
    told = judging.Told(np.nan)
    if len(means) > 1:
        places = np.unique(means["id"], return_inverse=True)[1]
        pictures = judging.Pictures(places, **study.options())
        told = pictures.spearman(means["judged"].to_numpy(float), means["score"].to_numpy(float))
    ends = (told.value, told.low, told.high)
    return result | {f"spearman{end}": value for end, value in zip(ENDS, ends, strict=True)}


def _caption(study: Study) -> str:
    draws = min(study.settings.draws, ratings.DRAWS)
    return (
        "Judges against people. Accuracy: share of pairs of a prompt's pictures of which judge and "
        "people say the same, equal among it; the difference up to which the judge calls a tie was "
        "chosen on these pairs (Deutsch et al. 2023), so it flatters a little. Constant: the best "
        "that one answer for all pairs would reach. Decided: without the pairs that people call "
        "equal. ρ people: Spearman's rank correlation with people's mean scores. In brackets: "
        f"{table.percent(study)} intervals (bootstrap over prompts, {draws:,} draws, the threshold "
        "held)."
    )
