"""Every model on the study prompts that share a challenge, against base on the same."""

from __future__ import annotations

from vlg.analysis.groups import by_column
from vlg.analysis.study import Study
from vlg.analysis.table import Table

NEEDS = ("scores",)
ORDER = 6


def build(study: Study) -> Table:
    return by_column(study, "Challenge", "challenge")
