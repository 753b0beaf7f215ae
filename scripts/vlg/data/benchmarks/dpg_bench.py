"""DPG-Bench (arXiv:2403.05135): 1,065 long prompts with questions that depend on each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vlg.data.benchmark import csv_lines

SOURCE = "github:TencentQQGYLab/ELLA@3c228f1dc6c4d3cad0a47493816151a419f14db3"
FILES = {"dpg_bench/dpg_bench.csv": "98457fc9901943f51ff9a30367250fc292533bed"}
# By the letters that an item_id begins with: the data set that a prompt was made from.
NUMBERS = {
    "COCOval": 100,
    "countbench": 40,
    "diffusiondb": 40,
    "drawtext": 40,
    "localized": 22,
    "midjourney": 40,
    "other": 299,
    "partiprompts": 324,
    "posescript": 40,
    "stanford": 40,
    "vrd": 40,
    "whoops": 40,
}
JUDGED = {"questions": ("questions",)}


def rows(files: list[Path]) -> Iterator[tuple[int, dict[str, str]]]:
    """A table with a row for each question; those of one item_id follow each other."""
    before = None
    for line, row in csv_lines(files[0], strict=True):
        item = row["item_id"]
        if item != before:
            letters = re.match("[A-Za-z]*", item)[0] or "other"
            yield line, {"Prompt": row["text"], "Category": letters, "item_id": item}
        before = item
