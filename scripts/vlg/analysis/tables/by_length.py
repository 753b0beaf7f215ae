"""Every model on the study prompts of like length in words, against base on the same."""

from __future__ import annotations

import numpy as np

from vlg.analysis.groups import Group, by_group
from vlg.analysis.study import Study
from vlg.analysis.table import Table

NEEDS = ("scores",)
ORDER = 8
LENGTHS = ((1, 2), (3, 5), (6, 10), (11, 20), (21, None))  # words; bounds included


def build(study: Study) -> Table:
    rows = study.prompts[study.prompts["set"] == "study"]
    words = rows["Prompt"].str.split().str.len().to_numpy()
    groups = []
    for low, high in LENGTHS:
        label = f"{low}-{high} words" if high else f"{low} words or more"
        chosen = np.flatnonzero((words >= low) & (words <= (high or words.max())))
        if len(chosen):
            groups.append(Group(label, chosen))
    return by_group(study, "length", groups, "By length of the prompt.")
