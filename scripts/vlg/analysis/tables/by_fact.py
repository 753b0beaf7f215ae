"""Every model on the study prompts that state a fact, against base on the same.

`fidelity` is the share of pictures that show it.
"""

from __future__ import annotations

import numpy as np

from vlg.analysis.groups import Group, by_group
from vlg.analysis.study import Study
from vlg.analysis.table import Table
from vlg.judge.columns import FACTS

NEEDS = ("scores",)
ORDER = 9


def build(study: Study) -> Table:
    means = study.by_prompt([study.reference], study.ids, study.seeds, FACTS)
    stated = np.isfinite(means[0, :, 0, 0])  # (prompts, facts)
    groups = [
        Group(fact, np.flatnonzero(stated[:, i]), fact)
        for i, fact in enumerate(FACTS)
        if stated[:, i].any()
    ]
    text = "By fact: on the prompts that state it, fidelity is the share of pictures that show it."
    return by_group(study, "fact", groups, text, "fidelity", opposites=True)
