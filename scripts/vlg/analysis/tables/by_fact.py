"""Every model on the study prompts that state a fact, against base on the same.

`fidelity` is the share of pictures that show it.
"""

from __future__ import annotations

import numpy as np

from vlg.analysis.groups import Group, by_group
from vlg.analysis.study import BASE, Study
from vlg.analysis.table import Table
from vlg.judge.columns import FACTS

NEEDS = ("scores",)
ORDER = 9


def build(study: Study) -> Table:
    stated = np.isfinite(study.values([BASE], study.ids, study.seeds, FACTS)[0, :, :, 0])
    stated = stated.all(axis=1)  # (prompts, facts)
    groups = [
        Group(fact, np.flatnonzero(stated[:, i]), fact)
        for i, fact in enumerate(FACTS)
        if stated[:, i].any()
    ]
    text = "By fact: on the prompts that state it, fidelity is the share of pictures that show it."
    return by_group(study, "fact", groups, text, "fidelity", opposites=True)
