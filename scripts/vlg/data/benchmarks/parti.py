"""PartiPrompts (arXiv:2206.10789): 1,632 prompts by category and challenge."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from vlg.data.benchmark import csv_lines

SOURCE = "github:google-research/parti@5a657978134374ce28973948331b319adef164bd"
FILES = {"PartiPrompts.tsv": "fab29e41bb512a169b56acab4cf2a41dcb675e285df2efcde6640c7dd3c440eb"}
NUMBERS = {
    "Abstract": 51,
    "Animals": 314,
    "Artifacts": 287,
    "Arts": 66,
    "Food & Beverage": 74,
    "Illustrations": 124,
    "Indoor Scenes": 40,
    "Outdoor Scenes": 131,
    "People": 177,
    "Produce & Plants": 50,
    "Vehicles": 104,
    "World Knowledge": 214,
}


def rows(files: list[Path]) -> Iterator[tuple[int, dict[str, str]]]:
    """A table with tabs and without quoting; one of its prompts begins with a double quote."""
    for line, row in csv_lines(files[0], delimiter="\t", quoting=csv.QUOTE_NONE):
        yield line, {name: row[name] for name in ("Prompt", "Category", "Challenge", "Note")}
