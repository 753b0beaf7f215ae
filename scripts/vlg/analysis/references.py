"""Rows of references: what perfect pictures and pictures of other prompts score, for scale.

They stand under the rows of a table and are compared with its reference row alone: they have no p
value, belong to no family, and no word of a table rests on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlg import plugins
from vlg.analysis.comparison import compare, delta
from vlg.analysis.scores import REFERENCE
from vlg.analysis.study import MEASURES, Study

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("model", "prompts", "seeds", "trainings")


def beneath(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """`frame`, which counts blank pictures, with a column REFERENCE and, under its own rows, those
    of the study's references."""
    import pandas as pd

    frame = frame.copy()
    frame.insert(1, REFERENCE, "")
    keys = study.references()
    if not keys:
        return frame
    measures = [*MEASURES, *map(delta, MEASURES), "gap"]
    shown = [f"{name}{end}" for name in measures for end in ("", "_low", "_high")]
    rows = compare(study, keys).frame[[*LABELS, *shown]]
    rows["blank"] = [study.blank(key) for key in keys]
    rows[REFERENCE] = [_said(key[0], "BOUND") for key in keys]
    # What is text or a whole number stays so.
    empty = {name: "" for name, first in frame.iloc[0].items() if isinstance(first, str)}
    empty |= dict.fromkeys(frame.select_dtypes("integer"), 0)
    empty = {name: value for name, value in empty.items() if name not in rows}
    return pd.concat([frame, rows.assign(**empty)], ignore_index=True)


def explained(study: Study) -> str:
    """What a caption says of the references under a table; "" where there are none."""
    found = [f"{key[0]}, {_said(key[0], 'WORDS')}" for key in study.references()]
    return f" Under the others, for scale and in no family: {'; '.join(found)}." if found else ""


def _said(name: str, what: str) -> str:
    return plugins.constant(plugins.REFERENCES, name, what)
