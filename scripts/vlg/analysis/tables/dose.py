"""Each ladder of doses, a row a rung: what it moves in judge, guide, facts and diversity.

A rung of a variant is its last checkpoint, against base; one of an arm is its last round, or that
round which is the dose, against the plain pictures of the same model. `seen` says of a rung, by
corrected p values alone (the first that holds):

    hacks              the guide rises while judge or facts fall
    harms              judge or facts fall
    helps              judge or facts rise
    moves the guide    the guide rises
    nothing            none of these

and `verdict` of a ladder at which doses these hold, or that it is too weak to be seen. mde,
guide_mde and fidelity_mde are the smallest true differences that a repetition of the study would
show after correction with 80 % power.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vlg.analysis import markup, power, table
from vlg.analysis.comparison import ENDS, contrasts, corrected, estimates, sides
from vlg.analysis.scores import Key
from vlg.analysis.study import BASE, Study
from vlg.config.layout import parse_model

if TYPE_CHECKING:
    import pandas as pd

NEEDS = ("scores", "refined", "diversity", "ladders")
WHEN = "ladders"
ORDER = 4
FAMILY = "every rung against plain pictures"
HACKS, HARMS, HELPS, GUIDE = "hacks", "harms", "helps", "moves the guide"
NOTHING, WEAK, FEW = "nothing", "too weak to be seen", "too few prompts to tell"
# Columns of what a word rests on: difference and its corrected p.
SIGNS = {
    "judge": ("delta", "p_corrected"),
    "guide": ("guide_delta", "guide_delta_p_corrected"),
    "facts": ("fidelity_delta", "fidelity_delta_p_corrected"),
}
Weights = Mapping[Key, float]


class Rung(NamedTuple):
    """A row of the table, and what it is set against."""

    ladder: str
    dose: float
    key: Key
    reference: Key


def build(study: Study) -> table.Table:
    found = rungs(study)
    pairs: list[tuple[Weights, Weights]] = [({r.key: 1.0}, {r.reference: 1.0}) for r in found]
    rows = contrasts(study, pairs)
    frame = corrected(study, rows, FAMILY)
    ladders = study.settings.ladders
    lead = {
        "ladder": [rung.ladder for rung in found],
        "key": [ladders[rung.ladder].dose for rung in found],
        "dose": [rung.dose for rung in found],
        "published_dose": [ladders[rung.ladder].published for rung in found],
        "model": [rung.key[0] for rung in found],
        "arm": [rung.key[1] or "plain" for rung in found],
        "round": [rung.key[2] for rung in found],
    }
    for place, (name, values) in enumerate(lead.items()):
        frame.insert(place, name, values)
    frame["published_dose"] = frame["published_dose"].astype(float)
    _detectable(study, pairs, rows.draws, frame)
    _diversity(study, pairs, frame)
    frame["seen"] = words(frame, 1 - study.settings.confidence)
    frame["verdict"] = verdicts(frame)
    frame["published"] = np.nan
    caption = (
        f"Doses. {table.sample(study.ids, study.seeds)} "
        f"{table.explained(study, frame, 'plain pictures of base, or of the model of an arm')} "
        "Seen, after correction: helps, judge or facts rise and neither falls; hacks, the guide "
        "rises while judge or facts fall; harms, they fall alone; moves the guide, it rises alone. "
        "Smallest: the true difference that a repetition would show after correction, with 80 % "
        f"power. {'; '.join(dict.fromkeys(_sentences(frame)))}."
    )
    own = [
        markup.Column("Smallest", "mde"),
        markup.Column("Smallest, facts, %", "fidelity_mde", scale=100),
        markup.Column("Δ diversity", "spread_delta", scale=100, interval=True, signed=True),
        markup.Column("Seen", "seen"),
    ]
    columns = [
        markup.Column("Ladder", "ladder", words=True),
        markup.Column("Key", "key", words=True),
        markup.Column("Dose", "dose", exact=True),
        markup.Column("Published dose", "published_dose", exact=True),
        markup.MODEL,
        *table.scores(*own),
    ]
    return table.of(study, frame, caption, columns, "ladder")


def rungs(study: Study) -> list[Rung]:
    """The rungs of all ladders, doses rising, for an arm those of each model."""
    last: dict[str, str] = {}
    for model, *_ in study.models[1:]:
        name = parse_model(model)
        if name.variant not in last or name.step > parse_model(last[name.variant]).step:
            last[name.variant] = model
    refined = study.refined()
    ends = {key[:2]: key for key in refined}  # rounds rise
    result = []
    for name, ladder in study.settings.ladders.items():
        if ladder.variant:
            result += [Rung(name, r.dose, (last[r.name], "", 0), BASE) for r in ladder.rungs]
            continue
        arms = {rung.name for rung in ladder.rungs}
        for model in dict.fromkeys(model for model, arm, _ in refined if arm in arms):
            for rung in ladder.rungs:
                at = (model, rung.name)
                key = ends[at] if rung.round is None else (*at, rung.round)
                result.append(Rung(name, rung.dose, key, (model, "", 0)))
    return result


def words(frame: pd.DataFrame, alpha: float) -> np.ndarray:
    """What is seen of each row, by the rule above."""

    def moves(who: str, sign: int) -> np.ndarray:
        difference, p = (frame[name].to_numpy(float) for name in SIGNS[who])
        return (p < alpha) & (sign * difference > 0)

    falls = moves("judge", -1) | moves("facts", -1)
    rises = moves("judge", 1) | moves("facts", 1)
    guide = moves("guide", 1)
    return np.select([falls & guide, falls, rises, guide], [HACKS, HARMS, HELPS, GUIDE], NOTHING)


def verdicts(frame: pd.DataFrame) -> list[str]:
    """The verdict of each row's ladder (on its model)."""
    result = {}
    for at, own in frame.groupby(["ladder", frame["model"].where(frame["arm"] != "plain", "")]):
        parts = []
        for word in (HELPS, HACKS, HARMS, GUIDE):
            doses = own["dose"][own["seen"] == word]
            if len(doses):
                parts.append(f"{word} at {', '.join(f'{dose:g}' for dose in doses)}")
        unknown = own["mde"].isna().all() and own["guide_mde"].isna().all()
        result[at] = "; ".join(parts) or (FEW if unknown else WEAK)
    models = frame["model"].where(frame["arm"] != "plain", "")
    return [result[at] for at in zip(frame["ladder"], models, strict=True)]


def _sentences(frame: pd.DataFrame) -> list[str]:
    """The verdicts in words, with what would have been seen of those that are too weak."""
    result = []
    several = frame.groupby("ladder")["model"].nunique() > 1
    for _, row in frame.iterrows():
        name = row["ladder"].replace("_", " ")
        if row["arm"] != "plain" and several[row["ladder"]]:
            name += f" on {row['model']}"
        text = row["verdict"]
        if text == WEAK:
            own = frame[(frame["ladder"] == row["ladder"]) & (frame["verdict"] == WEAK)]
            parts = [f"{own['mde'].max():.2f} ClipScore"] if own["mde"].notna().any() else []
            if own["fidelity_mde"].notna().any():
                parts.append(f"{100 * own['fidelity_mde'].max():.1f} % of the facts")
            if own["guide_mde"].notna().any():
                parts.append(f"{own['guide_mde'].max():.2f} of the guide's score")
            text += f" (which {', '.join(parts)} would have been)"
        result.append(f"{name}: {text}")
    return result


def _detectable(
    study: Study,
    pairs: Sequence[tuple[Weights, Weights]],
    draws: Mapping[str, np.ndarray],
    frame: pd.DataFrame,
) -> None:
    """The columns mde, guide_mde and fidelity_mde, each at the level of its family's correction."""
    measures = {"mde": "clipscore", "fidelity_mde": "fidelity", "guide_mde": "guide"}
    own, references = sides(study, pairs, study.ids, study.seeds, list(measures.values()))
    families = {"mde": ("p", "fidelity_delta_p"), "guide_mde": ("guide_delta_p",)}
    families["fidelity_mde"] = families["mde"]
    for place, name in enumerate(measures):
        frame[name] = np.nan
        difference = (own - references)[..., place]
        if not np.isfinite(difference).all():
            continue
        known = [draws[p] for p in families[name] if frame[p].notna().any()]
        if not known:
            continue
        together = np.concatenate(known, axis=1)
        level = study.level(together[:, together.any(axis=0)])
        found = study.estimate(difference)
        frame[name] = power.detectable(found, confidence=1 - level)


def _diversity(study: Study, pairs: Sequence[tuple[Weights, Weights]], frame: pd.DataFrame) -> None:
    """The columns spread_delta..., where distances between pictures were measured."""
    names = [f"spread_delta{end}" for end in ENDS[:4]]
    frame[[*names, "spread_delta_p_corrected"]] = np.nan
    if "spread" not in study.grids.columns:
        return
    own, references = sides(study, pairs, study.ids, study.seeds, ["spread"])
    difference = (own - references)[..., 0]
    measured = np.flatnonzero(np.isfinite(difference).all(axis=(0, 1, 2)))
    if not len(measured):
        return
    rows = estimates(study, {"spread_delta": difference[..., measured]})
    for name in names:
        frame.loc[measured, name] = rows.frame[name].to_numpy()
    after = study.correct(rows.frame["spread_delta_p"].to_numpy(), rows.draws["spread_delta_p"])
    frame.loc[measured, "spread_delta_p_corrected"] = after
