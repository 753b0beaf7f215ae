"""Rows compared with their references: the one way from a study's scores to the figures of a table.

`estimates` turns arrays of scores and differences into means, intervals and tests; `compare` and
`contrasts` make the columns every table of scores has; `corrected` corrects a table's p values.

Columns every table of scores has: model, prompts, seeds, trainings (how many the row is the mean
of; 0 for what is not trained), about (whether its interval speaks of this checkpoint or of the
method), and with its interval each: clipscore, delta (paired difference to the reference row),
guide and guide_delta (the same by the CLIP that guided), fidelity and strict with their differences
(shares of true statements and of wholly right pictures, 0..1; empty without ground truth), gap
(guide_delta - delta; a gain that the guide sees and the judge does not is reward hacking).

Of the tested difference: p (two-sided), p_corrected (within the row's family), mde (smallest
difference that a repetition would show with 80 % power), share_prompts, share_seeds and
share_trainings (whence the variance of its error comes; empty where it cannot be told) and
worth_adding (the largest of them). NAME_p and NAME_p_corrected: the same of every other difference.
ClipScore and fidelity, on which all words rest, are corrected together, further measures each by
itself. delta_sd is the standard deviation of delta between trainings.
family says, in words, with which rows a row was corrected; gain_seen_by, who sees a gain after the
correction (the judge, the facts, both, neither), or before it only; published is a published
figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vlg.analysis import statistics
from vlg.analysis.scores import CONTROL, Key
from vlg.analysis.study import MEASURES, Study

if TYPE_CHECKING:
    import pandas as pd

FEWEST = statistics.FEWEST
ENDS = ("", "_low", "_high", "_p", "_mde")
SOURCES = ("prompts", "seeds", "trainings")
# The p values that words and marks of a table rest on: of ClipScore and fidelity.
JUDGED = ("p", "delta_p", "fidelity_delta_p")
AGAINST_BASE = "every row against base"


@dataclass
class Rows:
    """Rows of a table whose p values are still to be corrected.

    draws: by column of p values, the bootstrap's deviations of what it is about, (draws, rows).
    """

    frame: pd.DataFrame
    draws: Mapping[str, np.ndarray]


def delta(measure: str) -> str:
    """The column of a measure's difference."""
    return "delta" if measure == "clipscore" else f"{measure}_delta"


def estimates(
    study: Study,
    quantities: Mapping[str, np.ndarray],
    where: str = "study",
    among: tuple[Sequence[int], int] | None = None,
) -> Rows:
    """Every quantity with its uncertainty, a row for each of R.

    quantities: (trainings, prompts, seeds, R) by name; one with NaN has no ground truth, and its
    columns are empty. where, among: of which prompts, as in `Study.estimate`. Columns: NAME,
    NAME_low, NAME_high, NAME_p, NAME_mde, and NAME_share_SOURCE for each of SOURCES.
    """
    import pandas as pd

    names = list(quantities)
    rows = quantities[names[0]].shape[3]
    known = [name for name in names if quantities[name].size]
    known = [name for name in known if np.isfinite(quantities[name]).all()]
    ends = [*ENDS, *(f"_share_{source}" for source in SOURCES)]
    result = {f"{name}{end}": np.full(rows, np.nan) for name in names for end in ends}
    draws = {f"{name}_p": np.zeros((study.settings.draws, rows)) for name in names}
    if known:
        together = np.concatenate([quantities[name] for name in known], axis=3)
        found = study.estimate(together, where, among)
        figures = [found.mean, found.low, found.high, found.p, study.detectable(found)]
        figures += list(shares(found))
        for end, numbers in zip(ends, figures, strict=True):
            for name, own in zip(known, numbers.reshape(len(known), rows), strict=True):
                result[f"{name}{end}"] = own
        parts = np.split(found.draws, len(known), axis=1)
        draws |= {f"{name}_p": own for name, own in zip(known, parts, strict=True)}
    return Rows(pd.DataFrame(result), draws)


def shares(estimate: statistics.Estimate) -> np.ndarray:
    """Share of each of SOURCES in the variance of the error, (3, K); NaN where it is unknown."""
    own = estimate.sources
    parts = np.stack([own.prompts, own.seeds, own.trainings])
    whole = estimate.error**2
    return np.divide(parts, whole, out=np.full_like(parts, np.nan), where=whole > 0)


def largest(shares: np.ndarray) -> np.ndarray:
    """Which of SOURCES has the largest share, (K,); "" where none is known or nothing varied."""
    known = np.where(np.isnan(shares), -1.0, shares)
    return np.where(known.max(axis=0) > 0, np.array(SOURCES)[known.argmax(axis=0)], "")


def compare(
    study: Study,
    keys: Sequence[Key],
    reference: Key | None = None,
    where: str = "study",
    ids: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    tested: str = "clipscore",
) -> Rows:
    """One row per key with the columns every table of scores has, but published.

    reference: the study's by default. where: the pictures that count, as in `Study.where`. ids:
    some of their prompts; all by default. A set of pictures is compared on the prompts that both
    sides have; where there are none, its row is empty.
    columns: {measure: the column of scores to take for it}, where that is another than its name.
    tested: the measure whose difference p and mde are about. The reference row's difference is 0
    and has no p value; corrections are left for the whole table (`corrected`).
    """
    reference = study.reference if reference is None else reference
    parts = alike(study, [(key, reference) for key in keys], where, ids)
    found = []
    for part in parts:
        pairs = [({keys[place]: 1.0}, {reference: 1.0}) for place in part.places]
        found.append(contrasts(study, pairs, where, part.ids, columns, tested, part.paired))
    rows = arranged(found, [place for part in parts for place in part.places])
    rows.frame.insert(0, "model", [key[0] for key in keys])
    rows.frame.loc[[study.is_set(key) for key in keys], "about"] = "these pictures"
    return rows


@dataclass(frozen=True)
class Part:
    """Comparisons that are made of pictures of the same prompts.

    places: which of all comparisons. ids: the prompts; None for all of the study's. paired:
    whether picture by picture, from the same noise, or prompt by prompt.
    """

    places: list[int]
    ids: Sequence[str] | None
    paired: bool


def alike(
    study: Study,
    pairs: Sequence[tuple[Key, Key]],
    where: str = "study",
    ids: Sequence[str] | None = None,
) -> list[Part]:
    """Pairs of rows by how they are compared; ids as in `compare`."""
    every, seeds = study.where(where)
    wanted = every if ids is None else ids
    found: dict[tuple[bytes, bool], Part] = {}
    for place, pair in enumerate(pairs):
        paired = study.paired(*pair)
        both = np.ones(len(wanted), dtype=bool)
        if not paired:
            both = study.has(pair[0], wanted) & study.has(pair[1], wanted)
        own = (
            ids if both.all() else [name for name, there in zip(wanted, both, strict=True) if there]
        )
        part = found.setdefault((both.tobytes(), paired), Part([], own, paired))
        part.places.append(place)
    return list(found.values())


def among(every: Sequence[str], ids: Sequence[str] | None) -> tuple[list[int], int] | None:
    """Which of all prompts these are, as `Study.estimate` takes it; None for all of them."""
    if ids is None:
        return None
    places = {prompt: place for place, prompt in enumerate(every)}
    return [places[prompt] for prompt in ids], len(every)


def arranged(parts: Sequence[Rows], places: Sequence[int]) -> Rows:
    """The rows of parts in the order of their places."""
    if list(places) == list(range(len(places))) and len(parts) == 1:
        return parts[0]
    rows, order = together(parts), np.argsort(places)
    draws = {name: own[:, order] for name, own in rows.draws.items()}
    return Rows(rows.frame.iloc[order].reset_index(drop=True), draws)


def contrasts(
    study: Study,
    pairs: Sequence[tuple[Mapping[Key, float], Mapping[Key, float]]],
    where: str = "study",
    ids: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    tested: str = "clipscore",
    paired: bool = True,
) -> Rows:
    """One row per pair of (weights of what the row is, weights of its reference): `compare` without
    the column model, for rows and references that are mixtures. paired: as of a `Part`."""
    every, seeds = study.where(where)
    some = among(every, ids)
    ids = every if ids is None else ids
    names = {measure: measure for measure in MEASURES} | dict(columns or {})
    own, references = sides(study, pairs, ids, seeds, list(names.values()), paired)
    quantities = {}
    for i, measure in enumerate(names):
        quantities[measure] = own[..., i]
        quantities[delta(measure)] = own[..., i] - references[..., i]
    itself = np.array([row == reference for row, reference in pairs])
    rows = summary(study, quantities, itself, tested, where, some)
    numbers = [trainings(study, *pair) for pair in pairs]
    number = len(seeds) if paired else study.each([next(iter(row)) for row, _ in pairs], ids, seeds)
    labels = {"prompts": len(ids), "seeds": number, "trainings": numbers}
    labels["about"] = [about(number) for number in numbers]
    for place, (name, value) in enumerate(labels.items()):
        rows.frame.insert(place, name, value)
    return rows


def sides(
    study: Study,
    pairs: Sequence[tuple[Mapping[Key, float], Mapping[Key, float]]],
    ids: Sequence[str],
    seeds: Sequence[int],
    measures: Sequence[str],
    paired: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and references as (trainings, prompts, seeds, rows, measures), picture by picture; the
    mean picture of each prompt in place of those of its seeds where they are not paired."""
    keys = list(dict.fromkeys(key for pair in pairs for side in pair for key in side))
    values = (study.values if paired else study.by_prompt)(keys, ids, seeds, measures)

    def weighted(sides: Sequence[Mapping[Key, float]]) -> np.ndarray:
        return np.stack(
            [sum(w * values[..., keys.index(key), :] for key, w in side.items()) for side in sides],
            axis=3,
        )

    rows, references = (weighted([pair[i] for pair in pairs]) for i in (0, 1))
    return rows, references


def trainings(study: Study, *sides: Mapping[Key, float]) -> int:
    """How many trainings a row is the mean of; 0 when nothing in it was trained."""
    names = {key[0] for side in sides for key in side}
    return study.trainings if any(map(study.is_trained, names)) else 0


def about(trainings: int) -> str:
    """What the interval of a row of so many trainings speaks of."""
    if trainings >= statistics.ENOUGH:
        return "the method"
    return "this checkpoint" if trainings < 2 else f"these {trainings} checkpoints"


def summary(
    study: Study,
    quantities: Mapping[str, np.ndarray],
    itself: np.ndarray,
    tested: str = "clipscore",
    where: str = "study",
    among: tuple[Sequence[int], int] | None = None,
) -> Rows:
    """Means, intervals and tests of the measures and their differences, a row for each of R.

    quantities: (trainings, prompts, seeds, R) of every measure and every difference. itself:
    (R,), the rows that are their own reference.
    """
    quantities = dict(quantities)
    quantities["gap"] = quantities["guide_delta"] - quantities["delta"]
    rows = estimates(study, quantities, where, among)
    found, tested = rows.frame, delta(tested)
    frame = found[[f"{name}{end}" for name in quantities for end in ENDS[:3]]].copy()
    differences = [delta(measure) for measure in MEASURES] + ["gap"]
    for name in differences:
        if quantities[name].shape[1] >= FEWEST:
            certain(frame, itself, name)
    columns = [f"{tested}_share_{source}" for source in SOURCES]
    spread = np.full(len(frame), np.nan)
    if len(quantities["delta"]) > 1 and quantities["delta"].size:
        spread = quantities["delta"].mean(axis=(1, 2)).std(axis=0, ddof=1)
    own = {"p": found[f"{tested}_p"], "mde": found[f"{tested}_mde"]}
    own |= {f"share_{source}": found[name] for source, name in zip(SOURCES, columns, strict=True)}
    own["worth_adding"] = np.where(itself, "", largest(found[columns].to_numpy().T))
    own["delta_sd"] = spread
    place = frame.columns.get_loc("delta_high") + 1
    for offset, (name, numbers) in enumerate(own.items()):
        words = name == "worth_adding"
        frame.insert(place + offset, name, numbers if words else np.where(itself, np.nan, numbers))
    draws = {"p": rows.draws[f"{tested}_p"]}
    for name in differences:
        if name != tested:
            at = frame.columns.get_loc(f"{name}_high") + 1
            frame.insert(at, f"{name}_p", np.where(itself, np.nan, found[f"{name}_p"]))
            draws[f"{name}_p"] = rows.draws[f"{name}_p"]
    return Rows(frame, draws)


def certain(frame: pd.DataFrame, itself: np.ndarray, name: str) -> None:
    """Give rows that are their own reference an interval of 0: nothing about it is uncertain."""
    frame.loc[itself & frame[name].notna(), [f"{name}_low", f"{name}_high"]] = 0.0


def together(parts: Sequence[Rows]) -> Rows:
    """The rows of several parts as those of one table."""
    import pandas as pd

    draws = {
        name: np.concatenate([part.draws[name] for part in parts], axis=1)
        for name in parts[0].draws
    }
    return Rows(pd.concat([part.frame for part in parts], ignore_index=True), draws)


def corrected(
    study: Study,
    rows: Rows,
    family: str | Sequence[str] = AGAINST_BASE,
    unjudged: Sequence[str] = (),
) -> pd.DataFrame:
    """The frame of `rows` with every column of p values corrected (P_corrected) and, where there
    are scores, with family and gain_seen_by.

    family: what the rows are compared for, in words, of each or of all; rows of one family are
    looked at together, in ClipScore and fidelity at once. unjudged: families whose p values are not
    corrected, since no correction would make them right.
    """
    frame = rows.frame.copy()
    judged = [name for name in JUDGED if name in rows.draws and "fidelity_delta" in frame]
    groups = [judged or ["p"], *([name] for name in rows.draws if name not in [*judged, "p"])]
    families = np.array([family] * len(frame) if isinstance(family, str) else family, dtype=object)
    for names in groups:
        p = frame[names].to_numpy(float).T  # (measures, rows)
        draws = np.stack([rows.draws[name] for name in names], axis=1)
        result = np.full_like(p, np.nan)
        for word in dict.fromkeys(families):
            own = families == word
            if word not in unjudged:
                flat = draws[:, :, own].reshape(len(draws), -1)
                result[:, own] = study.correct(p[:, own].ravel(), flat).reshape(len(names), -1)
        for name, numbers in zip(names, result, strict=True):
            frame.insert(frame.columns.get_loc(name) + 1, f"{name}_corrected", numbers)
    frame["family"] = families
    if "fidelity_delta" in frame:
        frame["gain_seen_by"] = _seen_by(frame, 1 - study.settings.confidence)
    return frame


def _seen_by(frame: pd.DataFrame, alpha: float) -> np.ndarray:
    """Who sees a gain, after the correction or, where nobody does, before it; empty without ground
    truth and where nothing is tested."""
    tested = "p" if "delta_p" not in frame else "delta_p"
    facts_p = "fidelity_delta_p" if "fidelity_delta_p" in frame else "p"

    def words(end: str) -> np.ndarray:
        judge = (frame[f"{tested}{end}"] < alpha) & (frame["delta"] > 0)
        facts = (frame[f"{facts_p}{end}"] < alpha) & (frame["fidelity_delta"] > 0)
        names = ["judge and facts", "judge only", "facts only"]
        return np.select([judge & facts, judge, facts], names, "neither")

    after, before = words("_corrected"), words("")
    uncorrected = np.where(before == "neither", before, before + ", before correction")
    known = frame[f"{tested}_corrected"].notna() & frame[f"{facts_p}_corrected"].notna()
    return np.where(known, np.where(after == "neither", uncorrected, after), "")


def nothing(study: Study, word: str) -> Rows:
    """A table without rows, with the columns it would have; the first is `word`."""
    empty = compare(study, [study.reference])
    frame = empty.frame.iloc[:0].copy()
    frame.insert(0, word, "")
    return Rows(frame, {name: draws[:, :0] for name, draws in empty.draws.items()})


def mix(points: Sequence[tuple[float, Key]], at: float) -> dict[Key, float] | None:
    """Weights that interpolate linearly between rows at rising places; None outside of them."""
    places = [place for place, _ in points]
    # Places are means of counts: equal up to rounding is equal.
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
