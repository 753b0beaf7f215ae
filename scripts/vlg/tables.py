"""The tables of a study: every mean with its interval, every difference paired with its reference.

`build` turns scores into `Table`s, `write` puts one down as CSV (all columns, full precision),
Markdown and LaTeX (rounded, to be pasted). Definitions are those of `vlg.statistics`;
the claims are in `vlg.published`.

Columns every table of scores has: model, prompts, seeds, clipscore with its interval, delta (paired
difference to the reference row) with its interval, p (two-sided), p_holm (Holm's correction over
the table), mde (smallest difference the design would have shown with 80 % power), guide and
guide_delta (the score by the CLIP that guided), gap (guide_delta - delta; a gain that the
guide sees and the judge does not is reward hacking), fidelity and strict with their differences
(shares of true statements and of wholly right pictures, 0..1; empty without ground truth),
published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg import files, markup, scores, statistics
from vlg.errors import UserError
from vlg.scores import CONTROL, Grids, Key, split_model

if TYPE_CHECKING:
    import pandas as pd

BASE: Key = ("base", "", 0)
MEASURES = ("clipscore", "guide", "fidelity", "strict")
DELTAS = {m: "delta" if m == "clipscore" else f"{m}_delta" for m in MEASURES}
# Below this many prompts no interval is given: it could not be trusted (simulated coverage of 95 %
# intervals on skewed scores falls under 90 %).
FEWEST = 5
LENGTHS = ((1, 2), (3, 5), (6, 10), (11, 20), (21, None))  # words; bounds included


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

    `settings`: draws, confidence, seed, published, models (in order, base first), rounds.
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

    def values(
        self, keys: Sequence[Key], ids: Sequence[str], seeds: Sequence[int], measures: Sequence[str]
    ) -> np.ndarray:
        """Scores as (prompts, seeds, keys, measures); NaN where there is no ground truth."""
        grids = [self.grids.values(key, ids, seeds, measures) for key in keys]
        return np.stack(grids, axis=2)

    def contrast(
        self, weights: Mapping[Key, float], where: str = "study", measure: str = "clipscore"
    ) -> np.ndarray:
        """Weighted sum of scores, picture by picture: (prompts, seeds, 1)."""
        values = self.values(list(weights), *self.where(where), [measure])
        return np.einsum("pskm,k->psm", values, np.array(list(weights.values())))

    def estimate(self, values: np.ndarray) -> statistics.Estimate:
        """`vlg.statistics.estimate` under the settings of the study."""
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
        return float(self.grids.values(key, self.ids, self.seeds, ["unet_calls"]).mean())


def build(study: Study) -> list[Table]:
    """All tables of a study, in the order of a report."""
    from vlg import published

    return [
        finetune(study),
        refinement(study),
        hard_prompts(study),
        *(by_column(study, *names) for names in GROUPINGS),
        by_length(study),
        by_fact(study),
        published.claims(study),
    ]


def finetune(study: Study) -> Table:
    """Every model on the study prompts, against base."""
    frame = compare(study, study.models, BASE)
    frame = _corrected(frame)
    split = [split_model(model) for model in frame["model"]]
    frame.insert(1, "variant", [variant for variant, _ in split])
    frame.insert(2, "step", [step for _, step in split])
    seconds = [_train_seconds(study, model) for model in frame["model"]]
    frame["train_seconds"] = seconds
    frame["published"] = _published(study, "finetune", frame["model"])
    caption = (
        f"Fine-tuning. {_sample(study, study.ids, study.seeds)} {_explained(study, frame, 'base')}"
    )
    own = [markup.Column("Training, s", "train_seconds", digits=0)]
    return _table(study, "finetune", frame, caption, [markup.MODEL, *_columns(own)])


def refinement(study: Study) -> Table:
    """Plain pictures (round 0), refinement and its controls on the study prompts.

    `equal_compute_with` names the round of the control arm at the same number of UNet calls, and
    the `equal_delta` columns the paired difference to it. Between two rounds of the control the two
    are mixed linearly: what a share of the pictures with one sample more would score.
    """
    import pandas as pd

    keys = study.refined()
    present = dict.fromkeys(["base", *(key[0] for key in keys)])
    # Each model's plain pictures are its round 0; sorting keeps the order within a model.
    keys = sorted([*((m, "", 0) for m in present), *keys], key=lambda k: list(present).index(k[0]))
    frame = _corrected(compare(study, keys, BASE))
    costs = study.values(keys, study.ids, study.seeds, ["unet_calls", "seconds"]).mean(axis=(0, 1))
    frame.insert(1, "arm", [arm or "plain" for _, arm, _ in keys])
    frame.insert(2, "round", [number for *_, number in keys])
    frame["unet_calls"], frame["seconds"] = costs.T
    frame = pd.concat([frame, _equal_compute(study, keys)], axis=1)
    marks = study.settings["published"].get("refinement", {})
    frame["published"] = [
        marks.get(str(number)) if model == "base" and arm in ("", "refine") else None
        for model, arm, number in keys
    ]
    caption = (
        f"Refinement. {_sample(study, study.ids, study.seeds)} "
        f"{_explained(study, frame, 'base, plain')} Cost is cumulative, a guided step counts two "
        "UNet calls. Equal compute: paired difference to the control with as many UNet calls "
        "(fresh samples, the guide chooses); fractions of a round mix two rounds."
    )
    own = [
        markup.Column("UNet calls", "unet_calls", digits=0),
        markup.Column("Seconds", "seconds"),
        markup.Column("At equal compute", "equal_delta", interval=True, signed=True),
        markup.Column("against", "equal_compute_with", words=True),
    ]
    lead = [
        markup.MODEL,
        markup.Column("Arm", "arm", words=True),
        markup.Column("Round", "round", digits=0),
    ]
    return _table(study, "refinement", frame, caption, [*lead, *_columns(own)])


def hard_prompts(study: Study) -> Table:
    """Every model on the hard prompts: on the seeds that chose them and on fresh ones."""
    import pandas as pd

    parts = []
    for selection in ("same_seeds", "fresh_seeds"):
        ids, seeds = study.where(selection)
        if ids and seeds:
            part = compare(study, study.models, BASE, ids, seeds)
            part.insert(0, "selection", selection)
            part["published"] = _published(study, "hard_prompts", part["model"])
            # Published on the seeds of the selection; on fresh ones there is nothing to compare.
            part.loc[part["selection"] == "fresh_seeds", "published"] = np.nan
            parts.append(part)
    frame = pd.concat(parts, ignore_index=True) if parts else _nothing(study, "selection")
    frame = _corrected(frame)
    caption = (
        f"Hard prompts: the {len(study.hard)} that base scores lowest on, chosen on the selection "
        f"seeds ({len(study.seeds)}) and drawn again on fresh seeds ({len(study.fresh)}). Between "
        "the two, base itself shows the regression to the mean; only fresh seeds are unbiased. "
        f"{_explained(study, frame, 'base on the same seeds')}"
    )
    lead = [markup.Column("Seeds", "selection", words=True), markup.MODEL]
    return _table(study, "hard_prompts", frame, caption, [*lead, *_columns([])], "selection")


# Table, column of the prompts, word for it.
GROUPINGS = (
    ("by_category", "Category", "category"),
    ("by_challenge", "Challenge", "challenge"),
    ("by_split", "split", "split"),
)


def by_column(study: Study, table: str, column: str, word: str) -> Table:
    """Every model on each group of study prompts that share a value of a column."""
    rows = study.prompts[study.prompts["set"] == "study"]
    groups = [
        (value, np.flatnonzero((rows[column] == value).to_numpy()), "fidelity")
        for value in dict.fromkeys(rows[column])
        if value
    ]
    return _grouped(study, table, word, groups, f"By {word}.")


def by_length(study: Study) -> Table:
    """Every model on study prompts of like length in words."""
    rows = study.prompts[study.prompts["set"] == "study"]
    words = rows["Prompt"].str.split().str.len().to_numpy()
    groups = []
    for low, high in LENGTHS:
        label = f"{low}-{high} words" if high else f"{low} words or more"
        chosen = np.flatnonzero((words >= low) & (words <= (high or words.max())))
        if len(chosen):
            groups.append((label, chosen, "fidelity"))
    return _grouped(study, "by_length", "length", groups, "By length of the prompt.")


def by_fact(study: Study) -> Table:
    """Every model on the study prompts that state a fact; `fidelity` is the share that show it."""
    stated = np.isfinite(study.values([BASE], study.ids, study.seeds, scores.FACTS)[:, :, 0])
    stated = stated.all(axis=1)  # (prompts, facts)
    groups = [
        (fact, np.flatnonzero(stated[:, i]), fact)
        for i, fact in enumerate(scores.FACTS)
        if stated[:, i].any()
    ]
    text = "By fact: on the prompts that state it, fidelity is the share of pictures that show it."
    return _grouped(study, "by_fact", "fact", groups, text, "fidelity")


def _grouped(
    study: Study,
    table: str,
    word: str,
    groups: list[tuple[str, np.ndarray, str]],
    text: str,
    measure: str = "clipscore",
) -> Table:
    """Models compared within groups: (label, positions of its prompts, fidelity column)."""
    import pandas as pd

    parts = []
    for label, chosen, fidelity in groups:
        ids = [study.ids[i] for i in chosen]
        part = compare(study, study.models, BASE, ids, study.seeds, fidelity, DELTAS[measure])
        part.insert(0, word, label)
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True) if parts else _nothing(study, word)
    frame = _corrected(frame)
    frame["published"] = np.nan
    caption = (
        f"{text} {_sample(study, study.ids, study.seeds)} "
        f"{_explained(study, frame, f'base in the same {word}', measure)} Groups of fewer than "
        f"{FEWEST} prompts have no interval."
    )
    lead = [markup.Column(word.capitalize(), word), markup.MODEL]
    lead.append(markup.Column("Prompts", "prompts", digits=0))
    columns = [*lead, *(markup.FIDELITY if measure == "fidelity" else _columns([]))]
    return _table(study, table, frame, caption, columns, word, measure)


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
    import pandas as pd

    ids, seeds = study.ids if ids is None else ids, study.seeds if seeds is None else seeds
    columns = [fidelity if measure == "fidelity" else measure for measure in MEASURES]
    values = study.values([*keys, reference], ids, seeds, columns)
    values, base = values[:, :, :-1], values[:, :, -1:]
    quantities = {}
    for i, measure in enumerate(MEASURES):
        quantities[measure] = values[..., i]
        quantities[DELTAS[measure]] = values[..., i] - base[..., i]
    quantities["gap"] = quantities["guide_delta"] - quantities["delta"]
    # What has no ground truth (NaN) is left out of the draws.
    known = {name: array for name, array in quantities.items() if np.isfinite(array).all()}
    estimate = study.estimate(np.concatenate(list(known.values()), axis=2))
    smallest = study.detectable(estimate)
    itself = np.array([key == reference for key in keys])

    def column(name: str, numbers: np.ndarray, needs_prompts: bool = True) -> np.ndarray:
        if name not in known or (needs_prompts and len(ids) < FEWEST):
            return np.full(len(keys), np.nan)
        return numbers.reshape(len(known), len(keys))[list(known).index(name)]

    result: dict[str, Any] = {"model": [key[0] for key in keys]}
    result |= {"prompts": len(ids), "seeds": len(seeds)}
    for name in quantities:
        result[name] = column(name, estimate.mean, needs_prompts=False)
        result[f"{name}_low"] = column(name, estimate.low)
        result[f"{name}_high"] = column(name, estimate.high)
        if name == "delta":
            result["p"] = np.where(itself, np.nan, column(tested, estimate.p))
            result["p_holm"] = np.nan
            result["mde"] = np.where(itself, np.nan, column(tested, smallest))
    return pd.DataFrame(result)


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


def write(table: Table, folder: Path) -> None:
    """Write `table` as CSV, Markdown and LaTeX into `folder`."""
    text = table.frame.to_csv(index=False, lineterminator="\n", float_format=_number)
    files.write_text(folder / f"{table.name}.csv", text)
    rows, marks = markup.cells(table.frame, table.columns), _best(table)
    groups = list(table.frame[table.group]) if table.group else []
    files.write_text(
        folder / f"{table.name}.md", markup.markdown(table.columns, rows, marks, table.caption)
    )
    files.write_text(
        folder / f"{table.name}.tex",
        markup.latex(table.columns, rows, marks, table.caption, table.name, groups),
    )


def _number(value: float) -> str:
    """Six decimals are far below any interval and far above what the order of a sum changes."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _best(table: Table) -> list[tuple[bool, bool]]:
    """(bold, dagger) of each row: a dagger where Holm's p is small, bold for the best of a group
    if it has one and is better than the reference."""
    frame = table.frame
    if table.measure not in frame:
        return [(False, False)] * len(frame)
    dagger = (frame["p_holm"] < table.alpha).to_numpy()
    groups = frame[table.group] if table.group else np.zeros(len(frame))
    best = frame.groupby(np.asarray(groups), sort=False)[table.measure].transform("max")
    better = (frame[table.measure] == best) & (frame[DELTAS[table.measure]] > 0)
    return list(zip((better.to_numpy() & dagger).tolist(), dagger.tolist(), strict=True))


def _table(
    study: Study,
    name: str,
    frame: pd.DataFrame,
    caption: str,
    columns: list[markup.Column],
    group: str = "",
    measure: str = "clipscore",
) -> Table:
    """Columns that are empty throughout are in the CSV only."""
    shown = [c for c in columns if frame.empty or frame[c.name].notna().any()]
    return Table(name, frame, caption, shown, group, measure, 1 - study.settings["confidence"])


def _columns(own: list[markup.Column]) -> list[markup.Column]:
    return [*markup.SCORES, *own, markup.PUBLISHED]


def _corrected(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(p_holm=statistics.holm(frame["p"].to_numpy(float)))


def _nothing(study: Study, word: str) -> pd.DataFrame:
    """A table without rows, with the columns it would have."""
    empty = compare(study, [BASE], BASE).iloc[:0]
    empty.insert(0, word, "")
    return empty.assign(published=np.nan)


def _equal_compute(study: Study, keys: Sequence[Key]) -> pd.DataFrame:
    """The columns equal_*: each refined row against the control at as many UNet calls."""
    import pandas as pd

    names = ["equal_compute_with", "equal_delta", "equal_delta_low", "equal_delta_high"]
    names += ["equal_p", "equal_p_holm"]
    frame = pd.DataFrame(np.nan, index=range(len(keys)), columns=names).astype({names[0]: object})
    controls = {i: control(study, key) for i, key in enumerate(keys) if key[1] not in ("", CONTROL)}
    controls = {i: weights for i, weights in controls.items() if weights is not None}
    if not controls:
        return frame
    contrasts = [
        study.contrast({keys[i]: 1.0} | {key: -w for key, w in weights.items()})
        for i, weights in controls.items()
    ]
    estimate = study.estimate(np.concatenate(contrasts, axis=2))
    for j, (i, weights) in enumerate(controls.items()):
        average = sum(number * weight for (*_, number), weight in weights.items())
        frame.loc[i, names[0]] = f"{CONTROL} {average:.4g}"
        columns = (estimate.mean, estimate.low, estimate.high, estimate.p)
        frame.loc[i, names[1:5]] = [values[j] for values in columns]
    frame["equal_p_holm"] = statistics.holm(frame["equal_p"].to_numpy(float))
    return frame


def _train_seconds(study: Study, model: str) -> float:
    if model == "base":
        return 0.0
    if model not in study.training:
        raise UserError(f"--training: no summary of {model}; give training/{model}/summary.json")
    return float(study.training[model]["train_seconds"])


def _published(study: Study, table: str, models: Sequence[str]) -> list[float | None]:
    figures = study.settings["published"].get(table, {})
    return [figures.get(model) for model in models]


def _sample(study: Study, ids: Sequence[str], seeds: Sequence[int]) -> str:
    return f"{count(len(ids), 'prompt')}, {count(len(seeds), 'seed')} each."


def _explained(
    study: Study, frame: pd.DataFrame, reference: str, measure: str = "clipscore"
) -> str:
    """How the figures of a table were computed, in the words of its caption."""
    percent = f"{100 * study.settings['confidence']:g} %"
    compared = int(frame["p"].notna().sum())
    what, scale = ("fidelity", 100) if measure == "fidelity" else ("ClipScore", 1)
    words = [
        "ClipScore is 100·cos by the judge, guide the same by the CLIP that guided; gap is what "
        "the guide sees of a gain and the judge does not.",
        f"In brackets: {percent} intervals (paired two-level bootstrap over prompts and seeds, "
        f"{study.settings['draws']:,} draws). Δ: paired difference to {reference}.",
    ]
    if measure == "fidelity":
        words = words[1:]
    elif frame["fidelity"].notna().any():
        words.append(
            "Fidelity: share of the prompt's facts that the picture shows; strict: share of "
            "pictures that show all of them."
        )
    if compared:
        words.append(
            f"†: the difference in {what} is not 0 after Holm's correction for "
            f"{count(compared, 'comparison')}; bold: the best row, if it is above the reference "
            "and has a †."
        )
        low, high = scale * frame["mde"].min(), scale * frame["mde"].max()
        words.append(
            f"With 80 % power the design shows true differences (uncorrected) from {low:.2f} up in "
            f"the best determined row and from {high:.2f} up in the worst."
        )
    return " ".join(words)


def count(number: int, word: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
