"""What each judge and the guide say of each model, and how far they can be believed.

A judge's first row is about all models' pictures together. `auc` is the chance that a picture that
shows all its prompt says scores above one that does not, `truth_spearman` the rank correlation of
scores and fidelity. accuracy_FACT: of two pictures of a prompt that differ in this kind of fact
alone, how often the truer one scores higher. All are empty without ground truth. `kendall` is the
rank agreement of a judge with the study's own over models, `spearman` that over the differences to
base of single pictures, and spearman_JUDGE the same with another judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vlg.analysis import judging, markup, table
from vlg.analysis.comparison import (
    Rows,
    about,
    certain,
    corrected,
    estimates,
    sides,
    together,
    trainings,
)
from vlg.analysis.scores import ALL, GUIDE, OWN
from vlg.analysis.study import BASE, Study
from vlg.judge.columns import FACTS

if TYPE_CHECKING:
    import pandas as pd

NEEDS = ("scores", "judges")
ORDER = 11
ENDS = ("", "_low", "_high")
JUDGED = "every model against base by every judge"
GUIDED = "every model against base by the guide"


def build(study: Study) -> table.Table:
    pairs = [({key: 1.0}, {BASE: 1.0}) for key in study.models]
    judges = {OWN: study.judges[OWN], GUIDE: GUIDE, **study.judges}
    truth = ("strict", "fidelity", *FACTS)
    # (trainings, prompts, seeds, models, judges and what is true)
    every, references = sides(study, pairs, study.ids, study.seeds, [*judges.values(), *truth])
    scores, true = np.split(every, [len(judges)], axis=-1)
    changes = scores - references[..., : len(judges)]
    # All models by all judges share their draws.
    quantities = {}
    for place, judge in enumerate(judges):
        quantities[f"{judge} score"] = scores[..., place]
        quantities[f"{judge} delta"] = changes[..., place]
    found = estimates(study, quantities)
    agree = _agreement(study, list(judges), scores.mean(axis=(0, 1, 2)), changes)
    parts = []
    for place, judge in enumerate(judges):
        own = _rows(study, judge, found, scores[..., place], true)
        for name, numbers in agree.items():
            own.frame[name] = numbers[place]
        parts.append(own)
    rows = together(parts)
    # What the guide says of what it guided is looked at apart.
    family = [GUIDED if judge == GUIDE else JUDGED for judge in rows.frame["judge"]]
    frame = corrected(study, rows, family)
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
    return table.of(study, frame, _caption(study, frame), columns)


def _rows(study: Study, judge: str, found: Rows, scores: np.ndarray, true: np.ndarray) -> Rows:
    """What one judge says: of all models together, then of each.

    scores: (trainings, prompts, seeds, models). true: the same with strict, fidelity and FACTS.
    """
    import pandas as pd

    frame = pd.DataFrame(
        {
            f"{name}{end}": found.frame[f"{judge} {name}{end}"]
            for name in ("score", "delta")
            for end in ENDS
        }
    )
    itself = np.array([key == BASE for key in study.models])
    certain(frame, itself, "delta")
    frame["p"] = found.frame[f"{judge} delta_p"].mask(itself)
    frame["rank"] = frame["score"].rank(ascending=False, method="min")
    empty = pd.DataFrame(np.nan, index=[0], columns=frame.columns)
    frame = pd.concat([empty, frame], ignore_index=True)
    numbers = [trainings(study, {key: 1.0}) for key in study.models]
    labels = {"judge": judge, "model": [ALL, *(key[0] for key in study.models)]}
    labels |= {"prompts": len(study.ids), "seeds": len(study.seeds)}
    labels["trainings"] = [max(numbers), *numbers]
    labels["about"] = [about(number) for number in labels["trainings"]]
    for column, (name, value) in enumerate(labels.items()):
        frame.insert(column, name, value)
    of = [slice(None), *(slice(place, place + 1) for place in range(len(numbers)))]
    told = [_believed(study, scores[..., own], true[..., own, :], own == of[0]) for own in of]
    draws = found.draws[f"{judge} delta_p"]
    draws = np.concatenate([np.zeros((len(draws), 1)), draws], axis=1)
    return Rows(pd.concat([frame, pd.DataFrame(told)], axis=1), {"p": draws})


def _believed(study: Study, scores: np.ndarray, true: np.ndarray, facts: bool) -> dict[str, float]:
    """How scores follow truth; shapes as in `_rows`. facts: also by kind of fact."""
    prompts = np.broadcast_to(np.arange(scores.shape[1])[None, :, None, None], scores.shape)
    pictures = judging.Pictures(prompts.ravel(), **study.options())
    numbers, (strict, fidelity, *shown) = scores.ravel(), true.reshape(-1, true.shape[-1]).T
    found = {"auc": pictures.auc(numbers, strict)}
    found["truth_spearman"] = pictures.spearman(numbers, fidelity)
    by_fact = pictures.accuracy(numbers, np.stack(shown, axis=1)) if facts else []
    found |= {f"accuracy_{fact}": told for fact, told in zip(FACTS, by_fact, strict=False)}
    result = {}
    for name, told in found.items():
        ends = (told.value, told.low, told.high)
        result |= {f"{name}{end}": number for end, number in zip(ENDS, ends, strict=True)}
    return result


def _agreement(
    study: Study, judges: list[str], means: np.ndarray, changes: np.ndarray
) -> dict[str, list[float]]:
    """Rank correlations of judges by column, each with a number for every judge.

    means: (models, judges). changes: differences to base, (..., models, judges).
    """
    from scipy.stats import kendalltau, spearmanr

    tuned = [place for place, key in enumerate(study.models) if key != BASE]
    singles = changes[..., tuned, :].reshape(-1, len(judges)).T

    def alike(one: np.ndarray, other: np.ndarray) -> float:
        constant = any(np.ptp(each) == 0 if len(each) else True for each in (one, other))
        return np.nan if constant else float(spearmanr(one, other).statistic)

    first = means[:, 0]
    found = {"kendall": [kendalltau(first, own).statistic if tuned else np.nan for own in means.T]}
    # Of two judges each says the same of the other.
    for name, other in zip(judges if len(judges) > 2 else judges[:1], singles, strict=False):
        found[_correlation(name)] = [alike(own, other) for own in singles]
    return found


def _correlation(judge: str) -> str:
    """The column of rank correlations with a judge."""
    return "spearman" if judge == OWN else f"spearman_{judge}"


def _caption(study: Study, frame: pd.DataFrame) -> str:
    words = [
        f"Judges. {table.sample(study.ids, study.seeds)} {OWN} is the study's, {GUIDE} the CLIP "
        "that guided. Δ: paired difference to base by the same judge, in brackets "
        f"{table.percent(study)} intervals (paired two-level bootstrap, {study.settings.draws:,} "
        f"draws). †: not 0 after correction ({table.method(study)}; all judges are a family, and "
        "the guide is one)."
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
        "over the differences to base of single pictures with the judge it names. Judges have "
        "scales of their own; those that are no cosine are not ClipScores. "
        f"{table.retrained(study)}"
    )
    return " ".join(words)
