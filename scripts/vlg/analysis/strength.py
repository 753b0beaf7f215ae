"""How much a gain depends on how good the base is: the same rows of several studies, joined.

Only tables are read, so any studies can be joined: an early and a late checkpoint of one base, or
two models of other origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlg import files
from vlg.analysis.scores import compared
from vlg.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("delta", "guide_delta", "fidelity_delta")
ENDS = ("", "_low", "_high")
COLUMNS = ["prompts", "seeds", "trainings", "clipscore", "fidelity"]
COLUMNS += [measure + end for measure in MEASURES for end in ENDS]


def write(studies: Sequence[Path], out: Path) -> Path:
    """Write `join(studies)` as OUT.csv and return its path."""
    path = out.with_name(f"{out.name}.csv")
    text = join(studies).to_csv(index=False, lineterminator="\n", float_format="%.6g")
    files.write_text(path, text)
    return path


def join(studies: Sequence[Path]) -> pd.DataFrame:
    """A row for each study (results/<study>), model and what it is set against: base, or another
    variant at equal steps.

    Columns: study, base_clipscore, base_fidelity, model, against, those of `COLUMNS`, and
    delta_change and fidelity_delta_change with their ends: this study's difference less the first
    study's, NaN in the first. Raises UserError when a study lacks a table.
    """
    import pandas as pd

    parts = []
    for study in studies:
        tuned, equal = (
            _read(study / f"tables/{name}.csv") for name in ("finetune", "equal_compute")
        )
        tuned = compared(tuned)
        base = tuned[tuned["model"] == "base"].iloc[0]
        gains = tuned[tuned["model"] != "base"].assign(against="base")
        rows = pd.concat([gains, equal[equal["equal"] == "steps"]], ignore_index=True)
        rows = rows[["model", "against", *COLUMNS]]
        for place, (name, value) in enumerate(
            [
                ("study", study.name),
                ("base_clipscore", base["clipscore"]),
                ("base_fidelity", base["fidelity"]),
            ]
        ):
            rows.insert(place, name, value)
        parts.append(rows)
    table = pd.concat(parts, ignore_index=True)
    first = parts[0].set_index(["model", "against"])
    known = first.reindex(pd.MultiIndex.from_frame(table[["model", "against"]]))
    later = (table["study"] != studies[0].name).to_numpy()
    for measure in ("delta", "fidelity_delta"):
        ours, theirs = (
            [frame[measure + end].to_numpy(float) for end in ENDS] for frame in (table, known)
        )
        for end, values in zip(ENDS, change(ours, theirs), strict=True):
            table[f"{measure}_change{end}"] = np.where(later, values, np.nan)
    return table


def change(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Difference of two independent (mean, low, high), from their intervals alone (MOVER; Zou &
    Donner, Statistics in Medicine 27, 2008)."""
    (mean, low, high), (other, least, most) = ours, theirs
    change = mean - other
    below = np.hypot(mean - low, most - other)
    above = np.hypot(high - mean, other - least)
    return change, change - below, change + above


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run that study first") from None
