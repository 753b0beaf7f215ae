"""What each judge and the guide say of each model, and how far they can be believed.

A judge's first row is about all models' pictures together. `auc` is the chance that a picture that
shows all its prompt says scores above one that does not, `truth_spearman` the rank correlation of
scores and fidelity. accuracy_FACT: of two pictures of a prompt that differ in this kind of fact
alone, how often the truer one scores higher. All are empty without ground truth. `kendall` is the
rank agreement of a judge with the study's own over models, `spearman` that over the differences to
base of single pictures, and spearman_JUDGE the same with another judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vlg.analysis import judging, markup, table
from vlg.analysis.comparison import (
    Rows,
    about,
    alike,
    among,
    arranged,
    certain,
    corrected,
    estimates,
    sides,
    together,
    trainings,
)
from vlg.analysis.scores import ALL, GUIDE, OWN
from vlg.analysis.study import Study
from vlg.judge.columns import FACTS

if TYPE_CHECKING:
    import pandas as pd

NEEDS = ("scores", "judges")
ORDER = 11
ENDS = ("", "_low", "_high")


def build(study: Study) -> table.Table:
    judges = {OWN: study.judges[OWN], GUIDE: GUIDE, **study.judges}
    if not study.is_guided:
        del judges[GUIDE]
    seen = _seen(study, judges)
    agree = _agreement(list(judges), seen)
    parts = []
    for judge in judges:
        own = _rows(study, judge, seen)
        for name, numbers in agree.items():
            own.frame[name] = numbers[list(judges).index(judge)]
        parts.append(own)
    rows = together(parts)
    # What the guide says of what it guided is looked at apart.
    against = study.reference[0]
    words = {GUIDE: f"every model against {against} by the guide"}
    usual = f"every model against {against} by every judge"
    frame = corrected(study, rows, [words.get(judge, usual) for judge in rows.frame["judge"]])
    others = {_correlation(judge): judge.replace("_", " ") for judge in judges}
    columns = [
        markup.Column("Judge", "judge", words=True),
        markup.MODEL,
        markup.Column("Score", "score", interval=True),
        markup.Column("Δ", "delta", interval=True, signed=True, marked=True),
        markup.Column("p", "p_corrected", chance=True),
        markup.Column("Rank", "rank", digits=0),
        markup.Column("AUC", "auc", interval=True),
        markup.Column("ρ truth", "truth_spearman", interval=True),
        *(
            markup.Column(f"{fact.capitalize()}, %", f"accuracy_{fact}", 0, True, scale=100)
            for fact in FACTS
        ),
        markup.Column("τ", "kendall"),
        *(markup.Column(f"ρ {others[name]}", name) for name in agree if name in others),
    ]
    return table.of(study, frame, _caption(study, frame, GUIDE in judges), columns)


@dataclass(frozen=True)
class Seen:
    """What all judges say of all models, each model compared with the reference.

    found: estimates of `<judge> score` and `<judge> delta`, with the number of prompts and seeds, a
    row a model. scores: {judge: of each
    model the scores of N pictures}. true: of each model strict, fidelity and FACTS, (N, facts).
    prompts: of each model the N pictures' prompts, whole numbers. changes: (judges, M), differences
    to the reference of single pictures, or of prompts where pictures do not pair.
    """

    found: Rows
    scores: Mapping[str, Sequence[np.ndarray]]
    true: Sequence[np.ndarray]
    prompts: Sequence[np.ndarray]
    changes: np.ndarray


def _seen(study: Study, judges: Mapping[str, str]) -> Seen:
    measures, facts = list(judges.values()), ("strict", "fidelity", *FACTS)
    keys, reference = study.models, study.reference
    parts = alike(study, [(key, reference) for key in keys])
    found, changes = [], []
    pictures: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for part in parts:
        own = [keys[place] for place in part.places]
        pairs = [({key: 1.0}, {reference: 1.0}) for key in own]
        ids = study.ids if part.ids is None else part.ids
        # (trainings, prompts, seeds, models, judges); all models by all judges share their draws
        ours, theirs = sides(study, pairs, ids, study.seeds, measures, part.paired)
        quantities = {}
        for place, judge in enumerate(judges):
            quantities[f"{judge} score"] = ours[..., place]
            quantities[f"{judge} delta"] = (ours - theirs)[..., place]
        rows = estimates(study, quantities, among=among(study.ids, part.ids))
        rows.frame["prompts"] = len(ids)
        number = len(study.seeds)
        rows.frame["seeds"] = number if part.paired else study.each(own, ids, study.seeds)
        found.append(rows)
        tuned = [place for place, key in enumerate(own) if key != reference]
        changes.append((ours - theirs)[..., tuned, :].reshape(-1, len(judges)).T)
        for place, key in zip(part.places, own, strict=True):
            pictures[place] = study.pictures(key, [*measures, *facts])
    both = [pictures[place] for place in range(len(keys))]
    return Seen(
        arranged(found, [place for part in parts for place in part.places]),
        {judge: [values[:, i] for _, values in both] for i, judge in enumerate(judges)},
        [values[:, len(judges) :] for _, values in both],
        [prompts for prompts, _ in both],
        np.concatenate(changes, axis=1),
    )


def _rows(study: Study, judge: str, seen: Seen) -> Rows:
    """What one judge says: of all models together, then of each."""
    import pandas as pd

    found = seen.found.frame
    frame = pd.DataFrame(
        {
            f"{name}{end}": found[f"{judge} {name}{end}"]
            for name in ("score", "delta")
            for end in ENDS
        }
    )
    itself = np.array([key == study.reference for key in study.models])
    certain(frame, itself, "delta")
    frame["p"] = found[f"{judge} delta_p"].mask(itself)
    frame["rank"] = frame["score"].rank(ascending=False, method="min")
    empty = pd.DataFrame(np.nan, index=[0], columns=frame.columns)
    frame = pd.concat([empty, frame], ignore_index=True)
    numbers = [trainings(study, {key: 1.0}) for key in study.models]
    labels = {"judge": judge, "model": [ALL, *(key[0] for key in study.models)]}
    labels |= {"prompts": [len(study.ids), *found["prompts"]]}
    labels |= {"seeds": [len(study.seeds), *found["seeds"]]}
    labels["trainings"] = [max(numbers), *numbers]
    labels["about"] = [about(number) for number in labels["trainings"]]
    for place, key in enumerate(study.models, start=1):
        if study.is_set(key):
            labels["about"][place] = "these pictures"
    for column, (name, value) in enumerate(labels.items()):
        frame.insert(column, name, value)
    parts = list(zip(seen.prompts, seen.scores[judge], seen.true, strict=True))
    whole = [np.concatenate(each) for each in zip(*parts, strict=True)]
    told = [_believed(study, *whole, facts=True)]
    told += [_believed(study, *part, facts=False) for part in parts]
    draws = seen.found.draws[f"{judge} delta_p"]
    draws = np.concatenate([np.zeros((len(draws), 1)), draws], axis=1)
    return Rows(pd.concat([frame, pd.DataFrame(told)], axis=1), {"p": draws})


def _believed(
    study: Study, prompts: np.ndarray, scores: np.ndarray, true: np.ndarray, facts: bool
) -> dict[str, float]:
    """How scores follow truth; shapes as in `Seen`. facts: also by kind of fact."""
    pictures = judging.Pictures(prompts, **study.options())
    strict, fidelity, *shown = true.T
    found = {"auc": pictures.auc(scores, strict)}
    found["truth_spearman"] = pictures.spearman(scores, fidelity)
    by_fact = pictures.accuracy(scores, np.stack(shown, axis=1)) if facts else []
    found |= {f"accuracy_{fact}": told for fact, told in zip(FACTS, by_fact, strict=False)}
    result = {}
    for name, told in found.items():
        ends = (told.value, told.low, told.high)
        result |= {f"{name}{end}": number for end, number in zip(ENDS, ends, strict=True)}
    return result


def _agreement(judges: list[str], seen: Seen) -> dict[str, list[float]]:
    """Rank correlations of judges by column, each with a number for every judge."""
    from scipy.stats import kendalltau, spearmanr

    def alike(one: np.ndarray, other: np.ndarray) -> float:
        constant = any(np.ptp(each) == 0 if len(each) else True for each in (one, other))
        return np.nan if constant else float(spearmanr(one, other).statistic)

    several = seen.changes.shape[1] > 0
    means = [seen.found.frame[f"{judge} score"].to_numpy() for judge in judges]
    own = [kendalltau(means[0], each).statistic if several else np.nan for each in means]
    found = {"kendall": own}
    # Of two judges each says the same of the other.
    named = judges if len(judges) > 2 else judges[:1]
    for name, other in zip(named, seen.changes, strict=False):
        found[_correlation(name)] = [alike(each, other) for each in seen.changes]
    return found


def _correlation(judge: str) -> str:
    """The column of rank correlations with a judge."""
    return "spearman" if judge == OWN else f"spearman_{judge}"


def _caption(study: Study, frame: pd.DataFrame, guided: bool) -> str:
    own = f"{OWN} is the study's" + (f", {GUIDE} the CLIP that guided" if guided else "")
    families = "all judges are a family" + (", and the guide is one" if guided else "")
    apart = study.apart
    words = [
        f"Judges. {table.sample(study.ids, study.seeds)} {own}. Δ: paired difference to "
        f"{study.reference[0]} by the same judge, in brackets "
        f"{table.percent(study)} intervals (paired two-level bootstrap, {study.settings.draws:,} "
        f"draws). †: not 0 after correction ({table.method(study)}; {families}).",
        *([table.by_prompt(apart)] if apart else []),
    ]
    if frame["auc"].notna().any():
        draws = min(study.settings.draws, judging.DRAWS)
        words.append(
            "AUC: chance that a picture which shows all that its prompt says scores above one that "
            "does not; ρ truth: Spearman's rank correlation of scores and fidelity; both of single "
            "pictures. By kind of fact: of two pictures of a prompt that differ in it alone, how "
            "often the truer one scores higher; 50 % is chance. Intervals of these: bootstrap over "
            f"prompts, {draws:,} draws."
        )
    words.append(
        "Agreement: Kendall's τ over the models' means with the study's own judge; Spearman's ρ "
        f"over the differences to {study.reference[0]} of single pictures with the judge it names. "
        "Judges have scales of their own; those that are no cosine are not ClipScores."
    )
    if (frame["trainings"] > 0).any():
        words.append(table.retrained(study))
    return " ".join(words)
