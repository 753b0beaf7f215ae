"""Models compared within groups of study prompts: by category, by split, by fact and the like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlg.analysis import markup, table
from vlg.analysis.comparison import FEWEST, compare, corrected, nothing
from vlg.analysis.study import Study


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
    study: Study, word: str, groups: Sequence[Group], text: str, measure: str = "clipscore"
) -> table.Table:
    """Every model within each group, against base on the same prompts.

    word: what a group is, the name of its column. text: how the caption begins. measure: what the
    table tests, clipscore or fidelity.
    """
    import pandas as pd

    parts = []
    for group in groups:
        ids = [study.ids[i] for i in group.prompts]
        columns = {"fidelity": group.fidelity}
        part = compare(study, study.models, ids=ids, columns=columns, tested=measure)
        part.insert(0, word, group.label)
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True) if parts else nothing(study, word)
    frame = corrected(frame)
    frame["published"] = np.nan
    caption = (
        f"{text} {table.sample(study.ids, study.seeds)} "
        f"{table.explained(study, frame, f'base in the same {word}', measure)} Groups of fewer "
        f"than {FEWEST} prompts have no interval."
    )
    lead = [markup.Column(word.capitalize(), word), markup.MODEL]
    lead.append(markup.Column("Prompts", "prompts", digits=0))
    columns = markup.FIDELITY if measure == "fidelity" else table.scores()
    return table.of(study, frame, caption, [*lead, *columns], word, measure)
