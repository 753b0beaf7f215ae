"""Rows compared with their references: the one way from a study's scores to the figures of a table.

`estimates` turns arrays of scores and differences into means, intervals and tests; `compare` and
`contrasts` make the columns every table of scores has; `corrected` corrects a table's p values.

Columns every table of scores has: model, prompts, seeds, trainings (how many the row is the mean
of; 0 for what is not trained), and with its interval each: clipscore, delta (paired difference to
the reference row), guide and guide_delta (the same by the CLIP that guided), fidelity and strict
with their differences (shares of true statements and of wholly right pictures, 0..1; empty without
ground truth), gap (guide_delta - delta; a gain that the guide sees and the judge does not is reward
hacking). Of the tested difference: p (two-sided), p_holm (corrected over the table), mde (smallest
difference the design would have shown with 80 % power). delta_sd is the standard deviation of delta
between trainings, gain_seen_by says whose interval lies above 0 (the judge's, the facts', both,
neither), published is a published figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vlg.analysis import statistics
from vlg.analysis.scores import CONTROL, Key
from vlg.analysis.study import BASE, MEASURES, Study, trained

if TYPE_CHECKING:
    import pandas as pd

# Below this many prompts no interval is given: it could not be trusted (simulated coverage of 95 %
# intervals on skewed scores falls under 90 %).
FEWEST = 5


def delta(measure: str) -> str:
    """The column of a measure's difference."""
    return "delta" if measure == "clipscore" else f"{measure}_delta"


def estimates(study: Study, quantities: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Every quantity with its uncertainty, a row for each of R.

    quantities: (trainings, prompts, seeds, R) by name; one with NaN has no ground truth, and its
    columns are empty. Columns: NAME, NAME_low, NAME_high, NAME_p, NAME_mde.
    """
    import pandas as pd

    names = list(quantities)
    _, prompts, _, rows = quantities[names[0]].shape
    known = [name for name in names if np.isfinite(quantities[name]).all()]
    result = {f"{name}{end}": np.full(rows, np.nan) for name in names for end in ENDS}
    if known:
        found = study.estimate(np.concatenate([quantities[name] for name in known], axis=3))
        figures = [found.mean, found.low, found.high, found.p, study.detectable(found)]
        for end, numbers in zip(ENDS, figures, strict=True):
            if end and prompts < FEWEST:
                continue
            for name, own in zip(known, numbers.reshape(len(known), rows), strict=True):
                result[f"{name}{end}"] = own
    return pd.DataFrame(result)


ENDS = ("", "_low", "_high", "_p", "_mde")


def compare(
    study: Study,
    keys: Sequence[Key],
    reference: Key = BASE,
    ids: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    columns: Mapping[str, str] | None = None,
    tested: str = "clipscore",
) -> pd.DataFrame:
    """One row per key with the columns every table of scores has, but published.

    ids, seeds: the pictures that count; the study's own by default. columns: {measure: the column
    of scores to take for it}, where that is another than its name. tested: the measure whose
    difference p and mde are about. The reference row's difference is 0 and has no p value; p_holm
    is left for the whole table.
    """
    pairs = [({key: 1.0}, {reference: 1.0}) for key in keys]
    frame = contrasts(study, pairs, ids, seeds, columns, tested)
    frame.insert(0, "model", [key[0] for key in keys])
    return frame


def contrasts(
    study: Study,
    pairs: Sequence[tuple[Mapping[Key, float], Mapping[Key, float]]],
    ids: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    columns: Mapping[str, str] | None = None,
    tested: str = "clipscore",
) -> pd.DataFrame:
    """One row per pair of (weights of what the row is, weights of its reference): `compare` without
    the column model, for rows and references that are mixtures."""
    ids, seeds = study.ids if ids is None else ids, study.seeds if seeds is None else seeds
    names = {measure: measure for measure in MEASURES} | dict(columns or {})
    rows, references = sides(study, pairs, ids, seeds, list(names.values()))
    quantities = {}
    for i, measure in enumerate(names):
        quantities[measure] = rows[..., i]
        quantities[delta(measure)] = rows[..., i] - references[..., i]
    itself = np.array([row == reference for row, reference in pairs])
    frame = summary(study, quantities, itself, tested)
    frame.insert(0, "prompts", len(ids))
    frame.insert(1, "seeds", len(seeds))
    frame.insert(2, "trainings", [trainings(study, *pair) for pair in pairs])
    return frame


def sides(
    study: Study,
    pairs: Sequence[tuple[Mapping[Key, float], Mapping[Key, float]]],
    ids: Sequence[str],
    seeds: Sequence[int],
    measures: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and references as (trainings, prompts, seeds, rows, measures), picture by picture."""
    keys = list(dict.fromkeys(key for pair in pairs for side in pair for key in side))
    values = study.values(keys, ids, seeds, measures)

    def weighted(sides: Sequence[Mapping[Key, float]]) -> np.ndarray:
        return np.stack(
            [sum(w * values[..., keys.index(key), :] for key, w in side.items()) for side in sides],
            axis=3,
        )

    rows, references = (weighted([pair[i] for pair in pairs]) for i in (0, 1))
    return rows, references


def trainings(study: Study, *sides: Mapping[Key, float]) -> int:
    """How many trainings a row is the mean of; 0 when nothing in it was trained."""
    return study.trainings if any(trained(key[0]) for side in sides for key in side) else 0


def summary(
    study: Study,
    quantities: Mapping[str, np.ndarray],
    itself: np.ndarray,
    tested: str = "clipscore",
) -> pd.DataFrame:
    """Means, intervals and tests of the measures and their differences, a row for each of R.

    quantities: (trainings, prompts, seeds, R) of every measure and every difference. itself:
    (R,), the rows that are their own reference.
    """
    quantities = dict(quantities)
    quantities["gap"] = quantities["guide_delta"] - quantities["delta"]
    found = estimates(study, quantities)
    frame = found[[f"{name}{end}" for name in quantities for end in ENDS[:3]]].copy()
    place = frame.columns.get_loc("delta_high") + 1
    empty = np.full(len(frame), np.nan)
    means = quantities["delta"].mean(axis=(1, 2))  # (trainings, R)
    for name, numbers in (
        ("p", found[f"{delta(tested)}_p"]),
        ("p_holm", empty),
        ("mde", found[f"{delta(tested)}_mde"]),
        ("delta_sd", means.std(axis=0, ddof=1) if len(means) > 1 else empty),
    ):
        frame.insert(place, name, np.where(itself, np.nan, numbers))
        place += 1
    return frame.assign(gain_seen_by=np.where(itself, "", _seen_by(frame)))


def _seen_by(frame: pd.DataFrame) -> np.ndarray:
    """Whose interval of the gain lies above 0; empty without ground truth."""
    judge, facts = (frame[f"{name}_low"].to_numpy() for name in ("delta", "fidelity_delta"))
    words = np.select(
        [(judge > 0) & (facts > 0), judge > 0, facts > 0],
        ["judge and facts", "judge only", "facts only"],
        "neither",
    )
    return np.where(np.isnan(judge) | np.isnan(facts), "", words)


def corrected(frame: pd.DataFrame, p: str = "p") -> pd.DataFrame:
    """`frame` with its column of p values corrected for being looked at together: NAME_holm.

    The one place where a table's family of comparisons, and the method, are chosen.
    """
    return frame.assign(**{f"{p}_holm": statistics.holm(frame[p].to_numpy(float))})


def nothing(study: Study, word: str) -> pd.DataFrame:
    """A table without rows, with the columns it would have; the first is `word`."""
    empty = compare(study, [BASE]).iloc[:0]
    empty.insert(0, word, "")
    return empty.assign(published=np.nan)


def mix(points: Sequence[tuple[float, Key]], at: float) -> dict[Key, float] | None:
    """Weights that interpolate linearly between rows at rising places; None outside of them."""
    places = [place for place, _ in points]
    # Places are means of counts or seconds: equal up to rounding is equal.
    slack = 1e-6 * max(1.0, abs(at))
    if not points or at < places[0] - slack or at > places[-1] + slack:
        return None
    for place, key in points:
        if abs(place - at) <= slack:
            return {key: 1.0}
    right = next(i for i, place in enumerate(places) if place > at)
    (low, first), (high, second) = points[right - 1], points[right]
    share = (at - low) / (high - low)
    return {first: 1 - share, second: share}


def control(study: Study, key: Key) -> dict[Key, float] | None:
    """Weights of the control rounds that cost as many UNet calls as `key`; None if none does."""
    model = key[0]
    points = [(study.calls((model, "", 0)), (model, "", 0))]
    points += [(study.calls(k), k) for k in study.refined() if k[0] == model and k[1] == CONTROL]
    return mix(sorted(points), study.calls(key)) if len(points) > 1 else None
