"""Every model on the study prompts of each split, against base on the same.

A split says who was shown such pictures: the base in its training, fine-tuning alone, or nobody.
"""

from __future__ import annotations

from vlg.analysis.groups import by_column
from vlg.analysis.study import Study
from vlg.analysis.table import Table

NEEDS = ("scores",)
ORDER = 7


def build(study: Study) -> Table:
    return by_column(study, "split", "split")
