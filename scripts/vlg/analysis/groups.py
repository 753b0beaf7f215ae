"""Models compared within groups of study prompts: by category, by split, by fact and the like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vlg.analysis import correction, markup, table
from vlg.analysis.comparison import compare, corrected, delta, nothing, together
from vlg.analysis.study import Study

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Group:
    """Study prompts that are compared by themselves, by their positions in `Study.ids`."""

    label: str
    prompts: Sequence[int]
    fidelity: str = "fidelity"  # the column of scores to take for it


def by_column(study: Study, column: str, word: str) -> table.Table:
    """Every model on each group of study prompts that share a value of a column of the prompts."""
    rows = study.prompts[study.prompts["set"] == "study"]
    groups = [
        Group(value, np.flatnonzero((rows[column] == value).to_numpy()))
        for value in dict.fromkeys(rows[column])
        if value
    ]
    return by_group(study, word, groups, f"By {word}.")


def by_group(
    study: Study,
    word: str,
    groups: Sequence[Group],
    text: str,
    measure: str = "clipscore",
    opposites: bool = False,
) -> table.Table:
    """Every model within each group, against base on the same prompts.

    word: what a group is, the name of its column. text: how the caption begins. measure: what the
    table tests, clipscore or fidelity. opposites: say where a model gains in one group and loses in
    another.
    """
    parts = []
    for group in groups:
        ids = [study.ids[i] for i in group.prompts]
        columns = {"fidelity": group.fidelity}
        part = compare(study, study.models, ids=ids, columns=columns, tested=measure)
        part.frame.insert(0, word, group.label)
        parts.append(part)
    rows = together(parts) if parts else nothing(study, word)
    frame = corrected(study, rows, f"every model in every {word} against {study.reference[0]}")
    caption = (
        f"{text} {table.sample(study.ids, study.seeds)} "
        f"{table.explained(study, frame, f'{study.reference[0]} in the same {word}', measure)}"
    )
    if opposites:
        frame["opposite"], words = _opposites(study, word, frame, rows.draws["p"], delta(measure))
        caption += words
    frame["published"] = np.nan
    lead = [markup.Column(word.capitalize(), word), markup.MODEL]
    lead.append(markup.Column("Prompts", "prompts", digits=0))
    columns = markup.FIDELITY if measure == "fidelity" else table.scores()
    return table.of(study, frame, caption, [*lead, *columns], word, measure)


def _opposites(
    study: Study, word: str, frame: pd.DataFrame, draws: np.ndarray, difference: str
) -> tuple[list[str], str]:
    """Of each row, how its model moves in opposite directions ("" if it does not beyond chance),
    and what the caption says of it.

    The chance that all groups move one way is corrected over the groups of a model
    (`correction.opposite`), then by Holm over the models.
    """
    models = list(dict.fromkeys(frame["model"]))
    p = []
    for model in models:
        own = (frame["model"] == model).to_numpy()
        mean, single = (frame.loc[own, name].to_numpy(float) for name in (difference, "p"))
        p.append(correction.opposite(mean, single, draws[:, own]))
    after = correction.holm(np.where(np.array(p) < 1, p, np.nan)) if models else []
    alpha = 1 - study.settings.confidence
    found = {}
    for model, chance, adjusted in zip(models, p, after, strict=True):
        if chance < alpha:
            own = frame[frame["model"] == model].sort_values("p", kind="stable")
            up, down = (own[word][s * own[difference] > 0].iloc[0] for s in (1, -1))
            after_all = "" if adjusted < alpha else ", before correction over the models"
            found[model] = f"{up} up, {down} down{after_all}"
    words = "; ".join(f"{model}: {text}" for model, text in found.items())
    return [found.get(model, "") for model in frame["model"]], (
        f" Opposite directions: {words}. A mean over {word}s hides them."
        if words
        else f" No model moves in opposite directions in two {word}s beyond chance."
    )
