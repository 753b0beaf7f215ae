"""A leaderboard: every row with its rank, then every pair of rows with its difference.

A row's rank is 1 and one more for each row that is told above it in ClipScore after correction over
all pairs, so rows that cannot be told apart share one; `rank_last` is the lowest place that it can
still have. With the family-wise error held, all true ranks lie between the two with the study's
confidence (Al Mohamad, Goeman & van Zwet, *Biometrics* 78, 2022). Pairs are compared prompt by
prompt, whose means over seeds have the same differences, and the same errors, as pictures have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vlg.analysis import markup, table
from vlg.analysis.comparison import Rows, alike, among, arranged, corrected, estimates, sides
from vlg.analysis.scores import Key, name
from vlg.analysis.study import Study

if TYPE_CHECKING:
    import pandas as pd

NEEDS = ("scores", "refined")
ORDER = 4.5
MEASURES = ("clipscore", "fidelity")
ENDS = ("", "_low", "_high")
FAMILY = "every pair of rows"
NAMED = 4  # rows that are named in words; more are counted


def build(study: Study) -> table.Table:
    import pandas as pd

    last = {key[:2]: key for key in study.refined()}
    keys = [*study.models, *last.values()]
    rows = _rows(study, keys)
    order = list(np.argsort(-rows["clipscore"].to_numpy(), kind="stable"))
    rows, keys = rows.iloc[order].reset_index(drop=True), [keys[place] for place in order]
    pairs = _pairs(study, keys)
    above = _above(pairs, len(keys), "p_corrected", "delta", study)
    facts = _above(pairs, len(keys), "fidelity_delta_p_corrected", "fidelity_delta", study)
    rows["rank"] = 1 + above.sum(axis=0)
    rows["rank_last"] = len(keys) - above.sum(axis=1)
    known = rows["fidelity"].notna().all()
    names = list(rows["model"])
    rows["words"] = [
        _words(names, place, above, facts if known else None) for place in range(len(names))
    ]
    rows = rows.sort_values(["rank", "clipscore"], ascending=[True, False], kind="stable")
    frame = pd.concat([rows, pairs.drop(columns=["first", "second"])], ignore_index=True)
    for column in ("against", "paired", "words", "family", "control"):
        frame[column] = frame[column].astype(object).fillna("")
    ranks = zip(frame["rank"], frame["rank_last"], strict=True)
    frame["ranks"] = [_ranks(first, lowest) for first, lowest in ranks]
    columns = [
        markup.Column("Rank", "ranks"),
        markup.Column("Row", "model", words=True),
        markup.Column("In words", "words", wrap=0.2),
        markup.Column("Against", "against", words=True),
        markup.Column("ClipScore", "clipscore", interval=True),
        markup.Column("Δ ClipScore", "delta", interval=True, signed=True),
        markup.Column("p", "p_corrected", chance=True),
        markup.Column("Fidelity, %", "fidelity", digits=1, scale=100, interval=True),
        markup.Column("Δ fidelity", "fidelity_delta", 1, True, True, scale=100),
        markup.Column("p", "fidelity_delta_p_corrected", chance=True),
        markup.Column("Prompts", "prompts", digits=0),
        markup.Column("Noise", "paired"),
    ]
    return table.of(study, frame, _caption(study, frame, len(keys)), columns, "kind", measure="")


def _rows(study: Study, keys: Sequence[Key]) -> pd.DataFrame:
    """Each row by itself, on the prompts that it has."""
    parts = alike(study, [(key, key) for key in keys])
    found, numbers = [], {}
    for part in parts:
        ids = study.ids if part.ids is None else part.ids
        own = study.by_prompt([keys[place] for place in part.places], ids, study.seeds, MEASURES)
        quantities = {measure: own[..., i] for i, measure in enumerate(MEASURES)}
        found.append(estimates(study, quantities, among=among(study.ids, part.ids)))
        numbers |= dict.fromkeys(part.places, len(ids))
    frame = arranged(found, [place for part in parts for place in part.places]).frame
    frame = frame[[f"{measure}{end}" for measure in MEASURES for end in ENDS]].copy()
    frame.insert(0, "kind", "row")
    frame.insert(1, "model", [name(key) for key in keys])
    frame.insert(2, "prompts", [numbers[place] for place in range(len(keys))])
    return frame.assign(control=[study.control(*key[:2]) for key in keys])


def _pairs(study: Study, keys: Sequence[Key]) -> pd.DataFrame:
    """Each pair of rows on the prompts that both have: first and second are their places."""
    places = [(i, j) for i in range(len(keys)) for j in range(i + 1, len(keys))]
    both = [(keys[i], keys[j]) for i, j in places]
    parts = alike(study, both)
    found, numbers = [], {}
    for part in parts:
        ids = study.ids if part.ids is None else part.ids
        pairs = [({both[place][0]: 1.0}, {both[place][1]: 1.0}) for place in part.places]
        own, other = sides(study, pairs, ids, study.seeds, MEASURES, paired=False)
        change = own - other
        quantities = {"delta": change[..., 0], "fidelity_delta": change[..., 1]}
        found.append(estimates(study, quantities, among=among(study.ids, part.ids)))
        numbers |= dict.fromkeys(part.places, len(ids))
    if not places:
        found.append(
            estimates(study, {n: np.zeros((1, 1, 1, 0)) for n in ("delta", "fidelity_delta")})
        )
    rows = arranged(found, [place for part in parts for place in part.places])
    names = [f"{each}{end}" for each in ("delta", "fidelity_delta") for end in (*ENDS, "_p")]
    frame = rows.frame[names].rename(columns={"delta_p": "p"})
    frame.insert(0, "kind", "pair")
    frame.insert(1, "model", [name(one) for one, _ in both])
    frame.insert(2, "against", [name(other) for _, other in both])
    frame.insert(3, "prompts", [numbers[place] for place in range(len(both))])
    frame["paired"] = ["the same" if study.paired(*pair) else "not shared" for pair in both]
    draws = {"p": rows.draws["delta_p"], "fidelity_delta_p": rows.draws["fidelity_delta_p"]}
    frame = corrected(study, Rows(frame, draws), FAMILY).drop(columns="gain_seen_by")
    frame["first"], frame["second"] = np.array(places, dtype=int).reshape(-1, 2).T
    return frame


def _above(pairs: pd.DataFrame, number: int, p: str, delta: str, study: Study) -> np.ndarray:
    """Which row is told above which other, bool (rows, rows)."""
    result = np.zeros((number, number), dtype=bool)
    told = pairs[pairs[p] < 1 - study.settings.confidence]
    for first, second, change in zip(told["first"], told["second"], told[delta], strict=True):
        result[(first, second) if change > 0 else (second, first)] = True
    return result


def _ranks(first: float, last: float) -> str:
    if np.isnan(first):
        return ""
    return f"{first:.0f}" if first == last else f"{first:.0f}–{last:.0f}"


def _words(names: list[str], place: int, above: np.ndarray, facts: np.ndarray | None) -> str:
    """Whom a row is told from, in one line."""
    told = _told(names, place, above)
    if facts is None:
        return told or "told from no other row"
    own = _told(names, place, facts)
    if told == own:
        return f"{told} (ClipScore and facts)" if told else "told from no other row"
    none = "told from no other row"
    return f"{told or none} (ClipScore); {own or none} (facts)"


def _told(names: list[str], place: int, above: np.ndarray) -> str:
    found = []
    for word, others in (("above", above[place]), ("below", above[:, place])):
        own = [names[i].replace("_", " ") for i in np.flatnonzero(others)]
        if own:
            every = len(own) == len(names) - 1 > 1
            some = ", ".join(own) if len(own) <= NAMED else f"{len(own)} rows"
            found.append(f"{word} {'all others' if every else some}")
    return "; ".join(found)


def _caption(study: Study, frame: pd.DataFrame, number: int) -> str:
    words = [
        f"Leaderboard of {table.count(number, 'row')}, then every pair of them. "
        f"{table.sample(study.ids, study.seeds)} Rank: 1 and one more for each row that is told "
        "above this one in ClipScore after correction, so rows that cannot be told apart share "
        "one; behind the dash the lowest place that the row can still have. All true ranks lie "
        f"between the two with {table.percent(study)} confidence. In brackets: "
        f"{table.percent(study)} intervals (paired bootstrap over prompts, "
        f"{study.settings.draws:,} draws). Δ: paired difference of the row and the one that it "
        f"stands against, on the prompts that both have. p: after correction by "
        f"{table.method(study)} over all pairs, ClipScore and fidelity together "
        f"({table.families(frame[frame['kind'] == 'pair'])})."
    ]
    if study.apart:
        words.append(
            "Noise: whether both rows were drawn from the same noise; where it is not shared, "
            "seeds say nothing and only prompts pair."
        )
    if (study.trainings > 1) and len(study.models) > 1:
        words.append(table.retrained(study))
    return " ".join(words)
