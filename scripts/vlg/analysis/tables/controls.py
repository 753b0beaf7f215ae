"""What is there for comparison, and whether it did what it must.

A row is a variant's last checkpoint against base, or an arm's last round against the plain pictures
of its model. Of each, `must` is

    positive   raise the guide        as it was seen to on development prompts
    oracle     raise the facts        the guide is the verifier itself
    shuffled   raise nothing          the guide is shown other texts

and `did` is yes or no, by corrected p values alone. `lost`, of the oracle, is how much less of the
facts its twin gains, which differs from it in the guide alone: what the twin's guide loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vlg.analysis import markup, table
from vlg.analysis.comparison import ENDS, contrasts, corrected, estimates
from vlg.analysis.scores import Key
from vlg.analysis.study import BASE, Study
from vlg.analysis.tables.dose import SIGNS

if TYPE_CHECKING:
    import pandas as pd

NEEDS = ("scores", "refined", "controls")
WHEN = "controls"
ORDER = 5
FAMILY = "every control against plain pictures"
ORACLE = "oracle"
MUST = {
    "positive": "raise the guide",
    ORACLE: "raise the facts",
    "shuffled": "raise nothing",
}
RAISED = {"positive": "guide", ORACLE: "facts"}  # by whose score that is seen
UNKNOWN = "too few prompts to tell"
LOST = [f"lost{end}" for end in (*ENDS[:4], "_p_corrected")]


class Row(NamedTuple):
    """A control, what it is set against, and what differs from it in the guide alone."""

    kind: str
    key: Key
    reference: Key
    twin: Key | None


def build(study: Study) -> table.Table:
    found = rows(study)
    pairs = [({row.key: 1.0}, {row.reference: 1.0}) for row in found]
    frame = corrected(study, contrasts(study, pairs), FAMILY)
    lead = {
        "kind": [row.kind for row in found],
        "model": [row.key[0] for row in found],
        "arm": [row.key[1] or "plain" for row in found],
        "round": [row.key[2] for row in found],
        "must": [MUST[row.kind] for row in found],
    }
    for place, (name, values) in enumerate(lead.items()):
        frame.insert(place, name, values)
    alpha = 1 - study.settings.confidence
    frame.insert(5, "did", [did(row, alpha) for _, row in frame.iterrows()])
    _lost(study, found, frame)
    frame["published"] = np.nan
    rules = "; ".join(f"{kind}, {must}" for kind, must in MUST.items() if kind in lead["kind"])
    caption = (
        f"Controls. {table.sample(study.ids, study.seeds)} "
        f"{table.explained(study, frame, 'plain pictures of base, or of the model of an arm')} "
        f"What each must do beyond chance, after correction: {rules}. Lost: how much less of the "
        "facts is gained by what differs from the oracle in the guide alone."
    )
    columns = [
        markup.Column("Kind", "kind"),
        *(markup.MODEL, markup.ARM, markup.ROUND),
        markup.Column("Must", "must"),
        markup.Column("Did", "did"),
        *table.scores(
            markup.Column("Lost, points", "lost", scale=100, interval=True, signed=True, digits=1),
            markup.Column("p", "lost_p_corrected", chance=True),
        ),
    ]
    return table.of(study, frame, caption, columns)


def rows(study: Study) -> list[Row]:
    """The controls that drew the study's pictures, kind by kind."""
    last, refined = study.last, study.refined()
    ends = {key[:2]: key for key in refined}  # rounds rise
    result = []
    for control in sorted(study.settings.controls, key=lambda each: [*MUST].index(each.kind)):
        name, twin = control.name, control.twin or ""
        if control.variant:
            if name in last:  # those of sweeps drew development prompts
                other = (last[twin], "", 0) if twin in last else None
                result.append(Row(control.kind, (last[name], "", 0), BASE, other))
            continue
        for model in dict.fromkeys(model for model, arm, _ in refined if arm == name):
            own = ends[model, name]
            result.append(Row(control.kind, own, (model, "", 0), ends.get((model, twin))))
    return result


def did(row: pd.Series, alpha: float) -> str:
    """Whether a row did what it must, by the rule above."""
    p = {who: float(row[column]) for who, (_, column) in SIGNS.items()}
    rises = {who: float(row[difference]) > 0 for who, (difference, _) in SIGNS.items()}
    if row["kind"] in RAISED:
        who = RAISED[row["kind"]]
        return UNKNOWN if np.isnan(p[who]) else "yes" if rises[who] and p[who] < alpha else "no"
    if all(np.isnan(each) for each in p.values()):
        return UNKNOWN
    wrong = [who for who in SIGNS if rises[who] and p[who] < alpha]
    if wrong:
        return f"no: {', '.join(wrong)} more"
    single = {
        who: float(row[column.removesuffix("_corrected")]) for who, (_, column) in SIGNS.items()
    }
    nearly = [who for who in SIGNS if rises[who] and single[who] < alpha]
    return f"yes ({', '.join(nearly)} more before correction)" if nearly else "yes"


def _lost(study: Study, found: Sequence[Row], frame: pd.DataFrame) -> None:
    """The columns lost..., a family of their own."""
    frame[LOST] = np.nan
    places = [i for i, row in enumerate(found) if row.kind == ORACLE and row.twin]
    if not places:
        return
    parts = [
        study.contrast({found[i].key: 1.0, found[i].twin: -1.0}, measure="fidelity") for i in places
    ]
    estimated = estimates(study, {"lost": np.concatenate(parts, axis=3)})
    for name in LOST[:4]:
        frame.loc[places, name] = estimated.frame[name].to_numpy()
    p, draws = estimated.frame["lost_p"].to_numpy(), estimated.draws["lost_p"]
    frame.loc[places, LOST[4]] = study.correct(p, draws)
