"""What every table is made of: the scores of a study as arrays, by model, arm, round and measure.

Differences are paired picture by picture and, where variants were trained several times, training
by training: a training seed means the same order of pictures and the same noise for every variant.
Sets of pictures that were drawn elsewhere share no noise with others: they pair by prompt, on the
prompts that both sides have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from vlg import files
from vlg.analysis import correction, power, ratings, statistics
from vlg.analysis.scores import OWN, Grids, Key, read_prompts, with_further
from vlg.analysis.scores import name as row_name
from vlg.analysis.scores import read as read_scores
from vlg.config.keys import Keys
from vlg.config.layout import parse_model
from vlg.config.sections import Statistics
from vlg.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

BASE: Key = ("base", "", 0)
# What the judge says, what the guide says, the share of true facts, whether all of them are true.
MEASURES = ("clipscore", "guide", "fidelity", "strict")
DISTANCES = ("spread", "drift")  # measures of the table of diversity
# Sets of pictures whose prompts or seeds differ have bootstrap draws of their own.
STREAMS = {"study": 0, "development": 1, "fresh_seeds": 3, "same_seeds": 4, "regression": 5}


class Rung(Keys):
    """One dose of a ladder."""

    dose: float = Field(description="The value of the key.")
    name: str = Field(description="Name of the variant or arm that has it.")
    round: int | None = Field(None, description="Of an arm; null: the last there is.")


class Ladder(Keys):
    """Doses of a method or an arm (`vlg.config.plan.ladders`)."""

    variant: bool = Field(description="Whether it is one of variants, and not of arms.")
    dose: str = Field(description="The key that varies.")
    published: float | None = Field(None, description="The published dose.")
    rungs: list[Rung] = Field(min_length=1, description="Its doses, rising.")


class Control(Keys):
    """A variant or an arm that is there for comparison (`vlg.config.plan.controls`)."""

    kind: Literal["positive", "oracle", "shuffled"] = Field(description="What it is there for.")
    name: str = Field(description="Of the variant or arm.")
    variant: bool = Field(description="Whether it is a variant.")
    twin: str | None = Field(None, description="What differs from it in the guide alone.")


class Settings(Statistics):
    """What tables depend on beside their inputs."""

    models: list[str] | None = Field(
        None,
        description=(
            "Models and sets of pictures in the order of their rows, the one that the others are "
            "held against first; null: all that have scores, base first."
        ),
    )
    sets: list[str] = Field([], description="Those of them that are sets of pictures.")
    train_seeds: list[int] = Field(
        [0], min_length=1, description="Seeds of the trainings, that of the plain names first."
    )
    published: dict[str, dict[str, float]] = Field({}, description="Published figures, by table.")
    uncounted: list[str] = Field(
        [], description="Arms that after r rounds have not had r + 1 samples of each picture."
    )
    ladders: dict[str, Ladder] = Field({}, description="Ladders of doses, by name.")
    controls: list[Control] = Field([], description="What is there for comparison.")


@dataclass
class Study:
    """What tables are made of; what a table does not ask for (its NEEDS) is empty.

    prompts, hard, scores: as `analysis.scores` reads them. training: the summaries of fine-tuned
    models, by model. judges: {name: measure} of all judges, the study's own first. strangers:
    models whose latents have another shape than the base's, so that they draw from other noise.
    ratings: the file of what people say. numbered: of sets of pictures, {(set, id, seed as its
    maker counts): the seed here}.
    """

    prompts: pd.DataFrame
    scores: pd.DataFrame
    hard: pd.DataFrame | None = None
    training: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    judges: Mapping[str, str] = dataclasses.field(default_factory=lambda: {OWN: MEASURES[0]})
    strangers: frozenset[str] = frozenset()
    settings: Settings = Settings()
    ratings: Path | None = None
    numbered: Mapping[tuple[str, str, int], int] = dataclasses.field(default_factory=dict)

    @cached_property
    def grids(self) -> Grids:
        return Grids(self.scores)

    @cached_property
    def ids(self) -> list[str]:
        """The study prompts."""
        return self._prompts("study")

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds with which all study prompts were drawn."""
        first = self.reference[0]
        found = self.grids.seeds(first, "study")
        if not self.ids or not found:
            raise UserError(
                f"scores: no plain pictures of {first} on study prompts; rerun the score step"
            )
        return found

    @cached_property
    def fresh(self) -> list[int]:
        """The seeds with which hard prompts alone were drawn."""
        return [s for s in self.grids.seeds("base", "hard") if s not in self.seeds]

    @property
    def reference(self) -> Key:
        """What the others are held against: base, or a set of pictures where there is no base."""
        return self.models[0]

    @property
    def models(self) -> list[Key]:
        """The plain pictures of each model and set, in the order of rows, the reference first."""
        return [(model, "", 0) for model in self._models]

    def refined(self) -> list[Key]:
        """All refined rows, in the order of a table."""
        return self.grids.rounds(self._models)

    @cached_property
    def _models(self) -> list[str]:
        if self.settings.models is not None:
            return self.settings.models
        plain = self.grids.plain
        names = plain["model"][plain["set"] == "study"].unique()
        first = [n for n in names if not self.is_trained(n) or parse_model(n).seed is None]
        return sorted(first, key=lambda name: name != "base")

    @property
    def last(self) -> dict[str, str]:
        """The last checkpoint of each variant, and base, in the order of the config.

        Of rows that pair with the reference's picture by picture.
        """
        result: dict[str, str] = {}
        for model, *_ in [key for key in self.models if self.paired(key, self.reference)]:
            variant = parse_model(model).variant if self.is_trained(model) else model
            known = result.setdefault(variant, model)
            if parse_model(model).step > parse_model(known).step:
                result[variant] = model
        return result

    def control(self, model: str, arm: str = "") -> str:
        """`oracle` or `shuffled`, of what is drawn or was trained with such a guide, or empty.

        model: its name, or that of a variant.
        """
        variant = parse_model(model).variant if self.is_trained(model) else model
        names = {(False, arm), (True, variant)}
        controls = self.settings.controls
        kinds = [each.kind for each in controls if (each.variant, each.name) in names]
        return next((kind for kind in kinds if kind != "positive"), "")

    def references(self) -> list[Key]:
        """Pictures that scores are held against, ceilings before floors."""
        return self.grids.references()

    def swept(self) -> list[Key]:
        """All models that drew the development prompts."""
        plain = self.grids.plain
        models = plain["model"][plain["set"] == "development"].unique()
        return [(model, "", 0) for model in sorted(models)]

    def where(self, part: str) -> tuple[list[str], list[int]]:
        """Prompt ids and seeds of `study`, of `same_seeds` and `fresh_seeds` (the hard prompts),
        or of `development`."""
        if part == "study":
            return self.ids, self.seeds
        if part == "development":
            plain = self.grids.plain
            seeds = plain["seed"][plain["set"] == part].unique()
            return self._prompts(part), sorted(int(seed) for seed in seeds)
        hard = [] if self.hard is None else list(self.hard["id"])
        return hard, self.seeds if part == "same_seeds" else self.fresh

    def _prompts(self, name: str) -> list[str]:
        return list(self.prompts["id"][self.prompts["set"] == name])

    @property
    def trainings(self) -> int:
        """How often each variant was trained."""
        return len(self.settings.train_seeds)

    def first(self) -> Study:
        """The study as the first training of each variant alone shows it."""
        seeds = self.settings.train_seeds[:1]
        return dataclasses.replace(
            self, settings=self.settings.model_copy(update={"train_seeds": seeds})
        )

    def runs(self, key: Key) -> list[Key]:
        """`key` and the same of its further trainings; what is not trained alone."""
        further = self.settings.train_seeds[1:] if self.is_trained(key[0]) else []
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

    def by_prompt(
        self, keys: Sequence[Key], ids: Sequence[str], seeds: Sequence[int], measures: Sequence[str]
    ) -> np.ndarray:
        """Scores as `values`, but (trainings, prompts, 1, keys, measures): the mean over a prompt's
        pictures, on these seeds or, of a set of pictures, on all that it has. NaN where a prompt
        has none."""
        grids = []
        for key in keys:
            if self.is_set(key):  # whose seeds are nobody else's
                own = [self.grids.means(key, ids, measures)]
            else:
                own = [self.grids.values(run, ids, seeds, measures) for run in self.runs(key)]
            own = [each.mean(axis=1, keepdims=True) for each in own]
            grids.append(own if len(own) == self.trainings else own * self.trainings)
        return np.stack([np.stack(own) for own in grids], axis=3)

    def pictures(self, key: Key, measures: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(places of their prompts among the study's, (N,); scores (N, measures)) of a row's
        pictures: those of all trainings, or those that a set has."""
        if self.is_set(key):
            rows = self.grids.plain[self.grids.plain["model"] == key[0]]
            rows = rows[rows["id"].isin(self.ids)]
            places = {name: place for place, name in enumerate(self.ids)}
            return rows["id"].map(places).to_numpy(), rows[[*measures]].to_numpy(float)
        values = self.values([key], self.ids, self.seeds, measures)[:, :, :, 0]
        places = np.broadcast_to(np.arange(values.shape[1])[None, :, None], values.shape[:3])
        return places.ravel(), values.reshape(-1, len(measures))

    @property
    def is_guided(self) -> bool:
        """Whether a guide says something of the pictures."""
        return bool(self.scores["guide"].notna().any())

    @property
    def apart(self) -> list[str]:
        """Rows of plain pictures that share no noise with others."""
        return [m for m, *_ in self.models if m in self.strangers or m in self.settings.sets]

    def is_set(self, key: Key) -> bool:
        """Whether a row is a set of pictures that were drawn elsewhere."""
        return key[0] in self.settings.sets

    def is_trained(self, model: str) -> bool:
        """Whether a row is a checkpoint of a variant, which further trainings have, too."""
        return model not in self.settings.sets and trained(model)

    def paired(self, *keys: Key) -> bool:
        """Whether rows pair picture by picture: all drawn from the same noise."""
        strange = {key[0] for key in keys} & self.strangers
        alone = len({key[0] for key in keys}) == 1
        return not any(map(self.is_set, keys)) and (not strange or alone)

    def has(self, key: Key, ids: Sequence[str]) -> np.ndarray:
        """Of which prompts a row has pictures, (prompts,) bool: a set may lack some."""
        if not self.is_set(key):
            return np.ones(len(ids), dtype=bool)
        return np.isfinite(self.grids.means(key, ids, MEASURES[:1])[:, 0, 0])

    def each(self, keys: Sequence[Key], ids: Sequence[str], seeds: Sequence[int]) -> list[int]:
        """How many pictures of a prompt each row has at most."""
        return [self.grids.most(key, ids) if self.is_set(key) else len(seeds) for key in keys]

    def contrast(
        self, weights: Mapping[Key, float], where: str = "study", measure: str = "clipscore"
    ) -> np.ndarray:
        """Weighted sum of scores, picture by picture: (trainings, prompts, seeds, 1)."""
        values = self.values(list(weights), *self.where(where), [measure])
        return np.einsum("tpskm,k->tpsm", values, np.array(list(weights.values())))

    def estimate(
        self,
        values: np.ndarray,
        where: str = "study",
        among: tuple[Sequence[int], int] | None = None,
    ) -> statistics.Estimate:
        """`vlg.analysis.statistics.estimate` under the settings of the study.

        where: which pictures the values are of, one of STREAMS. among: where they are some of its
        prompts, their places and how many it has.
        """
        stream = STREAMS[where]
        return statistics.estimate(values, **self.options(), stream=stream, among=among)

    def correct(self, p: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """A family of p values, corrected as the settings say; draws as in `correction.max_t`."""
        holm = self.settings.correction == "holm"
        return correction.holm(p) if holm else correction.max_t(p, draws)

    def level(self, draws: np.ndarray) -> float:
        """The p value that is small enough for the smallest of a family; draws as in `correct`."""
        alpha = 1 - self.settings.confidence
        if self.settings.correction == "holm":
            return alpha / max(1, draws.shape[1])
        return correction.level(draws, alpha)

    def options(self) -> dict[str, Any]:
        """Arguments that every estimate takes from the settings."""
        return {name: getattr(self.settings, name) for name in ("draws", "confidence", "seed")}

    def detectable(self, estimate: statistics.Estimate) -> np.ndarray:
        """Smallest detectable effects, (K,)."""
        return power.detectable(estimate, confidence=self.settings.confidence)

    def calls(self, key: Key) -> float:
        """Mean UNet calls a picture of the study set cost."""
        return float(self.values([key], self.ids, self.seeds, ["unet_calls"]).mean())

    def rated(self) -> ratings.Ratings:
        """What people say of pictures of the study's models and of rounds of their arms."""
        if self.ratings is None:
            raise UserError("--ratings: no file of ratings; give one")
        texts = dict(zip(self.prompts["id"], self.prompts["Prompt"], strict=True))
        keys = [*((model, "", 0) for model in self._models), *self.refined()]
        names = {key: row_name(key) for key in keys}
        columns = ["model", "arm", "round", "id", "seed", "sha256", "set"]
        pictures, usual = {}, {}
        for part in (self.grids.plain, self.grids.refined):
            for *key, prompt, seed, shown, where in part[columns].itertuples(index=False):
                if (name := names.get(tuple(key))) is not None:
                    pictures[name, prompt, seed] = shown
                    if where == "study":
                        usual.setdefault((name, prompt), set()).add(seed)
        return ratings.read(self.ratings, texts, [*names.values()], pictures, usual, self.numbered)

    def blank(self, key: Key) -> int:
        """How many pictures of the study set, of all trainings, have one colour throughout."""
        runs = self.runs(key)
        if self.is_set(key):
            rows = self.grids.plain
            own = (rows["model"] == key[0]) & rows["id"].isin(self.ids)
            return int(rows.loc[own, "blank"].sum())
        parts = [self.grids.values(run, self.ids, self.seeds, ["blank"]) for run in runs]
        return int(sum(part.sum() for part in parts))

    def summaries(self, model: str) -> list[Mapping[str, Any]]:
        """The summaries of a model's trainings up to this checkpoint."""
        runs = [run for run, *_ in self.runs((model, "", 0))]
        if missing := [run for run in runs if run not in self.training]:
            raise UserError(
                f"--training: no summary of {missing[0]}; give training/{missing[0]}/summary.json"
            )
        return [self.training[run] for run in runs]

    def train_seconds(self, model: str) -> float:
        """Mean seconds of the trainings up to a checkpoint; 0 for what is not trained."""
        if not self.is_trained(model):
            return 0.0
        return float(np.mean([float(one["train_seconds"]) for one in self.summaries(model)]))

    def train_flops(self, model: str) -> float:
        """Mean FLOPs of the steps of the trainings up to a checkpoint and of what was drawn for
        them before, looks at held-out pictures left out; 0 for what is not trained."""
        if not self.is_trained(model):
            return 0.0
        spent = [
            sum(cost["flops"] for what, cost in one["cost"].items() if what != "looks")
            for one in self.summaries(model)
        ]
        return float(np.mean(spent))


def trained(model: str) -> bool:
    """Whether a name is that of a checkpoint of a variant."""
    try:
        return parse_model(model).step > 0
    except ValueError:
        return False


def further(
    scores: pd.DataFrame, judges: Sequence[Path], diversity: Path | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """(scores with the measures of further files, the measure of each judge); as in `read`."""
    measures = {OWN: MEASURES[0]}
    for name in dict.fromkeys(path.parent.name for path in judges):
        measures[name] = f"judges.{name}"
        own = [path for path in judges if path.parent.name == name]
        scores = with_further(scores, own, {measures[name]: "score"})
    if diversity:
        distances = {name: name for name in DISTANCES}
        scores = with_further(scores, [diversity], distances, some=True)  # of what draws alone
    return scores, measures


def read(
    settings: Settings,
    prompts: Sequence[Path],
    scores: Sequence[Path],
    hard: Path | None = None,
    training: Sequence[Path] = (),
    judges: Sequence[Path] = (),
    diversity: Path | None = None,
    models: Sequence[Path] = (),
    ratings: Path | None = None,
    pictures: Sequence[Path] = (),
) -> Study:
    """A study from the files of results/<study>.

    prompts: prompts.tsv and, with scores of development pictures, development.tsv. scores: score
    files, in any order. hard: hard_prompts.tsv. training: summary.json files. judges: files
    judges/<judge>/<model>.csv. models: manifest.json of each model of models.compare. ratings: a
    file as `vlg.analysis.ratings` reads it. pictures: metadata.jsonl of the sets that it may be
    about. UserError for what is missing, damaged or of other pictures.
    """
    import pandas as pd

    table = pd.concat([read_prompts(path) for path in prompts], ignore_index=True)
    frame, measures = further(read_scores(scores, table), judges, diversity)
    return Study(
        prompts=table,
        scores=frame,
        hard=None if hard is None else read_prompts(hard),
        training={path.parent.name: files.read_json(path) for path in training},
        judges=measures,
        strangers=frozenset(path.parent.name for path in models if _strange(files.read_json(path))),
        settings=settings,
        ratings=ratings,
        numbered={
            (row["model"], row["id"], row["own_seed"]): row["seed"]
            for path in pictures
            for row in files.read_lines(path)
        },
    )


def _strange(manifest: Mapping[str, Any]) -> bool:
    return manifest["latent_shape"] != manifest["base_latent_shape"]
