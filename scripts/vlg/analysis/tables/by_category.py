"""Every model on the study prompts that share a category, against base on the same."""

from __future__ import annotations

from vlg.analysis.groups import by_column
from vlg.analysis.study import Study
from vlg.analysis.table import Table

NEEDS = ("scores",)
ORDER = 5


def build(study: Study) -> Table:
    return by_column(study, "Category", "category")
