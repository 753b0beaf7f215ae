"""What every table is made of: a study's scores, and rows compared with their references.

Differences are paired picture by picture and, where variants were trained several times, training
by training: a training seed means the same order of pictures and the same noise for every variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg.analysis import markup, statistics
from vlg.analysis.scores import CONTROL, Grids, Key
from vlg.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

BASE: Key = ("base", "", 0)
MEASURES = ("clipscore", "guide", "fidelity", "strict")
DELTAS = {m: "delta" if m == "clipscore" else f"{m}_delta" for m in MEASURES}
# Below this many prompts no interval is given: it could not be trusted (simulated coverage of 95 %
# intervals on skewed scores falls under 90 %).
FEWEST = 5


@dataclass
class Table:
    """One table: its rows, what its caption says and which rows are compared with each other."""

    name: str
    frame: pd.DataFrame
    caption: str
    columns: list[markup.Column]
    group: str = ""  # column whose values share a reference row; "" if the whole table does
    measure: str = "clipscore"  # what p_holm is about and the best row is best in
    alpha: float = 0.05


@dataclass
class Study:
    """What tables are made of.

    `settings`: draws, confidence, seed, published, models (in order, base first), rounds;
    train_seeds where variants were trained more than once, the first of them under plain names.
    `training`: the summaries of the fine-tuned models, by model.
    """

    grids: Grids
    prompts: pd.DataFrame
    hard: pd.DataFrame
    training: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    ids: list[str] = field(init=False)
    seeds: list[int] = field(init=False)
    fresh: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = list(self.prompts["id"][self.prompts["set"] == "study"])
        self.seeds = self.grids.seeds("base", "study")
        self.fresh = [s for s in self.grids.seeds("base", "hard") if s not in self.seeds]
        needed = ("draws", "confidence", "seed", "published", "models", "rounds")
        if missing := [name for name in needed if name not in self.settings]:
            raise UserError(f"--settings: no key {', '.join(missing)}; give a value for each")
        if not self.ids or not self.seeds:
            raise UserError(
                "scores: no plain pictures of base on study prompts; rerun the score step"
            )

    @property
    def models(self) -> list[Key]:
        """The plain pictures of each model, in the order of the config."""
        return [(model, "", 0) for model in self.settings["models"]]

    def refined(self) -> list[Key]:
        """All refined rows, in the order of a table."""
        return self.grids.rounds(self.settings["models"], self.settings["rounds"])

    def where(self, name: str) -> tuple[list[str], list[int]]:
        """Prompt ids and seeds of `study`, `same_seeds` or `fresh_seeds` (the hard prompts)."""
        if name == "study":
            return self.ids, self.seeds
        return list(self.hard["id"]), self.seeds if name == "same_seeds" else self.fresh

    @property
    def trainings(self) -> int:
        """How often each variant was trained."""
        return max(1, len(self.settings.get("train_seeds", [])))

    def runs(self, key: Key) -> list[Key]:
        """`key` and the same of its further trainings; base, which is not trained, alone."""
        further = [] if key[0] == "base" else self.settings.get("train_seeds", [])[1:]
        return [key, *((f"{key[0]}-s{seed}", *key[1:]) for seed in further)]

    def values(
        self, keys: Sequence[Key], ids: Sequence[str], seeds: Sequence[int], measures: Sequence[str]
    ) -> np.ndarray:
        """Scores as (trainings, prompts, seeds, keys, measures); NaN where there is no ground
        truth. What is not trained is the same for each training."""
        grids = []
        for key in keys:
            own = [self.grids.values(run, ids, seeds, measures) for run in self.runs(key)]
            grids.append(own if len(own) == self.trainings else own * self.trainings)
        return np.stack([np.stack(own) for own in grids], axis=3)

    def contrast(
        self, weights: Mapping[Key, float], where: str = "study", measure: str = "clipscore"
    ) -> np.ndarray:
        """Weighted sum of scores, picture by picture: (trainings, prompts, seeds, 1)."""
        values = self.values(list(weights), *self.where(where), [measure])
        return np.einsum("tpskm,k->tpsm", values, np.array(list(weights.values())))

    def estimate(self, values: np.ndarray) -> statistics.Estimate:
        """`vlg.analysis.statistics.estimate` under the settings of the study."""
        return statistics.estimate(values, **self.options())

    def options(self) -> dict[str, Any]:
        """Arguments that every estimate takes from the settings."""
        return {name: self.settings[name] for name in ("draws", "confidence", "seed")}

    def detectable(self, estimate: statistics.Estimate) -> np.ndarray:
        """Smallest detectable effects, (K,)."""
        return statistics.detectable(
            estimate.error, estimate.freedom, confidence=self.settings["confidence"]
        )

    def calls(self, key: Key) -> float:
        """Mean UNet calls a picture of the study set cost."""
        return float(self.values([key], self.ids, self.seeds, ["unet_calls"]).mean())

    def train_seconds(self, model: str) -> float:
        """Mean seconds of the trainings up to a checkpoint; 0 for base."""
        if model == "base":
            return 0.0
        runs = [run for run, *_ in self.runs((model, "", 0))]
        if missing := [run for run in runs if run not in self.training]:
            raise UserError(
                f"--training: no summary of {missing[0]}; give training/{missing[0]}/summary.json"
            )
        return float(np.mean([float(self.training[run]["train_seconds"]) for run in runs]))


def compare(
    study: Study,
    keys: Sequence[Key],
    reference: Key,
    ids: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    fidelity: str = "fidelity",
    tested: str = "delta",
) -> pd.DataFrame:
    """One row per key with the columns every table of scores has, but published.

    ids, seeds: the pictures that count; the study's own by default. fidelity: the score column to
    take for fidelity. tested: the difference that p and mde are about. The reference row's
    difference is 0 and has no p value; p_holm is left for the whole table.
    """
    pairs = [({key: 1.0}, {reference: 1.0}) for key in keys]
    frame = contrasts(study, pairs, ids, seeds, fidelity, tested)
    frame.insert(0, "model", [key[0] for key in keys])
    return frame


def contrasts(
    study: Study,
    pairs: Sequence[tuple[Mapping[Key, float], Mapping[Key, float]]],
    ids: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    fidelity: str = "fidelity",
    tested: str = "delta",
) -> pd.DataFrame:
    """One row per pair of (weights of what the row is, weights of its reference): `compare` without
    the column model, for rows and references that are mixtures."""
    ids, seeds = study.ids if ids is None else ids, study.seeds if seeds is None else seeds
    columns = [fidelity if measure == "fidelity" else measure for measure in MEASURES]
    keys = list(dict.fromkeys(key for pair in pairs for side in pair for key in side))
    values = study.values(keys, ids, seeds, columns)

    def weighted(sides: Sequence[Mapping[Key, float]]) -> np.ndarray:
        return np.stack(
            [sum(w * values[..., keys.index(key), :] for key, w in side.items()) for side in sides],
            axis=3,
        )

    rows, references = (weighted([pair[i] for pair in pairs]) for i in (0, 1))
    quantities = {}
    for i, measure in enumerate(MEASURES):
        quantities[measure] = rows[..., i]
        quantities[DELTAS[measure]] = rows[..., i] - references[..., i]
    itself = np.array([row == reference for row, reference in pairs])
    trained = [any(key[0] != "base" for side in pair for key in side) for pair in pairs]
    frame = summary(study, quantities, itself, len(ids), tested)
    frame.insert(0, "prompts", len(ids))
    frame.insert(1, "seeds", len(seeds))
    frame.insert(2, "trainings", [study.trainings if each else 0 for each in trained])
    return frame


def summary(
    study: Study,
    quantities: Mapping[str, np.ndarray],
    itself: np.ndarray,
    prompts: int,
    tested: str = "delta",
) -> pd.DataFrame:
    """Means, intervals and tests of the measures and their differences, a row for each of R.

    quantities: (trainings, prompts, seeds, R) of every measure and every difference. itself:
    (R,), the rows that are their own reference.
    """
    import pandas as pd

    quantities = dict(quantities)
    quantities["gap"] = quantities["guide_delta"] - quantities["delta"]
    # What has no ground truth (NaN) is left out of the draws.
    known = {name: array for name, array in quantities.items() if np.isfinite(array).all()}
    estimate = study.estimate(np.concatenate(list(known.values()), axis=3))
    smallest = study.detectable(estimate)

    def column(name: str, numbers: np.ndarray, needs_prompts: bool = True) -> np.ndarray:
        if name not in known or (needs_prompts and prompts < FEWEST):
            return np.full(len(itself), np.nan)
        return numbers.reshape(len(known), len(itself))[list(known).index(name)]

    result: dict[str, Any] = {}
    for name in quantities:
        result[name] = column(name, estimate.mean, needs_prompts=False)
        result[f"{name}_low"] = column(name, estimate.low)
        result[f"{name}_high"] = column(name, estimate.high)
        if name == "delta":
            result["p"] = np.where(itself, np.nan, column(tested, estimate.p))
            result["p_holm"] = np.nan
            result["mde"] = np.where(itself, np.nan, column(tested, smallest))
            means = quantities["delta"].mean(axis=(1, 2))  # (trainings, R)
            result["delta_sd"] = np.full(len(itself), np.nan)
            if len(means) > 1:
                result["delta_sd"] = np.where(itself, np.nan, means.std(axis=0, ddof=1))
    frame = pd.DataFrame(result)
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
