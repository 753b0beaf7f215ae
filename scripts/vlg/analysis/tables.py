"""The tables of a study: every mean with its interval, every difference paired with its reference.

`build` turns scores into `Table`s, `write` puts one down as CSV (all columns, full precision),
Markdown and LaTeX (rounded, to be pasted). Definitions are those of `vlg.analysis.statistics`;
the claims are in `vlg.analysis.claims`.

Columns every table of scores has: model, prompts, seeds, clipscore with its interval, delta (paired
difference to the reference row) with its interval, p (two-sided), p_holm (Holm's correction over
the table), mde (smallest difference the design would have shown with 80 % power), guide and
guide_delta (the score by the CLIP that guided), gap (guide_delta - delta; a gain that the
guide sees and the judge does not is reward hacking), fidelity and strict with their differences
(shares of true statements and of wholly right pictures, 0..1; empty without ground truth),
trainings (how many the row is the mean of), delta_sd (standard deviation of delta between them),
gain_seen_by (whose interval lies above 0: the judge's, the facts', both, neither), published.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlg import files
from vlg.analysis import markup, scores, statistics
from vlg.analysis.comparison import (
    BASE,
    DELTAS,
    FEWEST,
    MEASURES,
    Study,
    Table,
    compare,
    contrasts,
    control,
    mix,
    summary,
)
from vlg.analysis.scores import CONTROL, Key, split_model

if TYPE_CHECKING:
    import pandas as pd


def build(study: Study) -> list[Table]:
    """All tables of a study, in the order of a report."""
    from vlg.analysis import claims

    return [
        finetune(study),
        refinement(study),
        equal_compute(study),
        hard_prompts(study),
        *(by_column(study, *names) for names in GROUPINGS),
        by_length(study),
        by_fact(study),
        claims.claims(study),
    ]


def finetune(study: Study) -> Table:
    """Every model on the study prompts, against base."""
    frame = compare(study, study.models, BASE)
    frame = _corrected(frame)
    split = [split_model(model) for model in frame["model"]]
    frame.insert(1, "variant", [variant for variant, _ in split])
    frame.insert(2, "step", [step for _, step in split])
    seconds = [study.train_seconds(model) for model in frame["model"]]
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
    costs = study.values(keys, study.ids, study.seeds, ["unet_calls", "seconds"])
    costs = costs.mean(axis=(0, 1, 2))
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
    if len(parts) == 2:
        parts.append(_regression(study))
    frame = pd.concat(parts, ignore_index=True) if parts else _nothing(study, "selection")
    frame = _corrected(frame)
    caption = (
        f"Hard prompts: the {len(study.hard)} that base scores lowest on, chosen on the selection "
        f"seeds ({len(study.seeds)}) and drawn again on fresh seeds ({len(study.fresh)}). Between "
        "the two, base itself shows the regression to the mean (last row: base on fresh seeds, Δ "
        "to base on the seeds that chose them); only fresh seeds are unbiased. "
        f"{_explained(study, frame, 'base on the same seeds')}"
    )
    lead = [markup.Column("Seeds", "selection", words=True), markup.MODEL]
    return _table(study, "hard_prompts", frame, caption, [*lead, *_columns([])], "selection")


def _regression(study: Study) -> pd.DataFrame:
    """Base on fresh seeds against base on the seeds that chose the prompts, prompt by prompt: the
    seeds of the two sides are different draws, so only the prompts' means pair."""
    sides = [study.where(name) for name in ("fresh_seeds", "same_seeds")]
    fresh, same = (
        study.values([BASE], *side, MEASURES)[:1].mean(axis=2, keepdims=True) for side in sides
    )
    quantities = {}
    for i, measure in enumerate(MEASURES):
        quantities[measure] = fresh[..., i]
        quantities[DELTAS[measure]] = fresh[..., i] - same[..., i]
    frame = summary(study, quantities, np.array([False]), len(study.hard))
    labels = {"selection": "regression", "model": "base", "prompts": len(study.hard)}
    labels |= {"seeds": len(sides[0][1]) + len(sides[1][1]), "trainings": 0}
    for place, (name, value) in enumerate(labels.items()):
        frame.insert(place, name, value)
    return frame.assign(published=np.nan, gain_seen_by="")


def equal_compute(study: Study) -> Table:
    """Variants at equal steps and equal training seconds, arms at equal UNet calls and samples.

    Rows name what they hold equal (`equal`) and at what value (`at`). Between two checkpoints, or
    two rounds of the control, scores are mixed linearly.
    """
    rows = [*_equal_training(study), *_equal_drawing(study)]
    labels = [row[:6] for row in rows]
    if rows:
        frame = _corrected(contrasts(study, [row[6] for row in rows]))
    else:
        frame = _nothing(study, "arm").drop(columns=["arm", "model", "published"])
    for place, name in enumerate(("model", "arm", "round", "against", "equal", "at")):
        frame.insert(place, name, [label[place] for label in labels])
    frame["published"] = np.nan
    caption = (
        f"At equal cost. {_sample(study, study.ids, study.seeds)} "
        f"{_explained(study, frame, 'what the row is set against')} Equal steps; equal seconds of "
        "training as measured, between checkpoints by linear interpolation; equal UNet calls and "
        "equal numbers of samples of a picture, against the best of that many fresh ones."
    )
    lead = [
        markup.MODEL,
        markup.Column("Arm", "arm", words=True),
        markup.Column("Round", "round", digits=0),
        markup.Column("Against", "against", words=True),
        markup.Column("Equal", "equal", words=True),
        markup.Column("at", "at", digits=0),
    ]
    return _table(study, "equal_compute", frame, caption, [*lead, *_columns([])])


# model, arm, round, against, equal, at, (weights of the row, weights of its reference)
Row = tuple[str, str, int, str, str, float, tuple[dict[Key, float], dict[Key, float]]]


def _equal_training(study: Study) -> list[Row]:
    """Each variant against `normal`, or the first there is, at equal steps and equal seconds."""
    steps: dict[str, list[int]] = {}
    for model, *_ in study.models[1:]:
        variant, step = split_model(model)
        steps.setdefault(variant, []).append(step)
    if not steps:
        return []
    plain = "normal" if "normal" in steps else next(iter(steps))
    paths = {
        variant: [(0.0, BASE)]
        + [(study.train_seconds(f"{variant}-{n}"), (f"{variant}-{n}", "", 0)) for n in sorted(own)]
        for variant, own in steps.items()
    }
    rows: list[Row] = []
    for variant in steps:
        if variant == plain:
            continue
        for step in sorted(set(steps[variant]) & set(steps[plain])):
            keys = (f"{variant}-{step}", "", 0), (f"{plain}-{step}", "", 0)
            pair = {keys[0]: 1.0}, {keys[1]: 1.0}
            rows.append((keys[0][0], "plain", 0, keys[1][0], "steps", float(step), pair))
        last = min(paths[variant][-1][0], paths[plain][-1][0])
        for time in sorted({last, *(time for time, _ in paths[variant][1:] if time <= last)}):
            first, second = mix(paths[variant], time), mix(paths[plain], time)
            if first and second:
                rows.append((variant, "plain", 0, plain, "seconds", time, (first, second)))
    return rows


def _equal_drawing(study: Study) -> list[Row]:
    """The last round of each arm against the best of as many UNet calls, and of as many samples."""
    rows: list[Row] = []
    last = {key[:2]: key for key in study.refined() if key[1] != CONTROL}
    for model, arm, number in last.values():
        key, drawn = (model, arm, number), (model, CONTROL, number)
        if weights := control(study, key):
            average = sum(each * weight for (*_, each), weight in weights.items())
            calls, against = study.calls(key), f"{CONTROL} {average:.4g}"
            rows.append((model, arm, number, against, "unet_calls", calls, ({key: 1.0}, weights)))
        if drawn in study.grids:
            pair = {key: 1.0}, {drawn: 1.0}
            against = f"{CONTROL} {number}"
            rows.append((model, arm, number, against, "samples", number + 1.0, pair))
    return rows


LENGTHS = ((1, 2), (3, 5), (6, 10), (11, 20), (21, None))  # words; bounds included
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
    stated = np.isfinite(study.values([BASE], study.ids, study.seeds, scores.FACTS)[0, :, :, 0])
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


def write(table: Table, folder: Path) -> list[Path]:
    """Write `table` as CSV, Markdown and LaTeX into `folder`; the files."""
    rows, marks = markup.cells(table.frame, table.columns), _best(table)
    groups = list(table.frame[table.group]) if table.group else []
    texts = {
        "csv": table.frame.to_csv(index=False, lineterminator="\n", float_format=_number),
        "md": markup.markdown(table.columns, rows, marks, table.caption),
        "tex": markup.latex(table.columns, rows, marks, table.caption, table.name, groups),
    }
    for form, text in texts.items():
        files.write_text(folder / f"{table.name}.{form}", text)
    return [folder / f"{table.name}.{form}" for form in texts]


def write_apart(table: Table, folder: Path) -> None:
    """Write a table that not every study has, which the manifest of `folder` does not list: with
    checksums beside its files."""
    for path in write(table, folder):
        files.write_checksum(path)


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
    differences = [
        study.contrast({keys[i]: 1.0} | {key: -w for key, w in weights.items()})
        for i, weights in controls.items()
    ]
    estimate = study.estimate(np.concatenate(differences, axis=3))
    for j, (i, weights) in enumerate(controls.items()):
        average = sum(number * weight for (*_, number), weight in weights.items())
        frame.loc[i, names[0]] = f"{CONTROL} {average:.4g}"
        columns = (estimate.mean, estimate.low, estimate.high, estimate.p)
        frame.loc[i, names[1:5]] = [values[j] for values in columns]
    frame["equal_p_holm"] = statistics.holm(frame["equal_p"].to_numpy(float))
    return frame


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
    if study.trainings > 1 and (frame["trainings"] > 0).any():
        words.append(
            f"Means over {study.trainings} trainings of each variant; their spread is part of the "
            "intervals."
        )
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
