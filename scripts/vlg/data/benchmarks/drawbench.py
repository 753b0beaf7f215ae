"""DrawBench (arXiv:2205.11487): 200 prompts of eleven kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlg.data.benchmark import csv_lines

SOURCE = "hub:sayakpaul/drawbench@ad794cba698c253ffdb6d18eff3fc87b004c1135"
FILES = {"DrawBench Prompts - Sheet1.csv": None}
NUMBERS = {
    "Colors": 25,
    "Conflicting": 10,
    "Counting": 19,
    "DALL-E": 20,
    "Descriptions": 20,
    "Gary Marcus et al.": 10,
    "Misspellings": 10,
    "Positional": 20,
    "Rare Words": 7,
    "Reddit": 38,
    "Text": 21,
}


def rows(files: list[Path]) -> Iterator[tuple[int, dict[str, str]]]:
    """A table with the columns Prompts and Category."""
    for line, row in csv_lines(files[0], strict=True):
        yield line, {"Prompt": row["Prompts"], "Category": row["Category"]}
