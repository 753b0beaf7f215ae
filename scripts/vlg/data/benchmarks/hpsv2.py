"""HPSv2's benchmark (arXiv:2306.09341): 3,200 prompts, 800 of each style."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from vlg.data.benchmark import read_text

SOURCE = "hub:zhwang/HPDv2@260dbde75ab1c68e86d32a8e7739f1b49b100578"
FILES = {
    "benchmark/anime.json": None,
    "benchmark/concept-art.json": None,
    "benchmark/paintings.json": None,
    "benchmark/photo.json": None,
}
NUMBERS = {"anime": 800, "concept-art": 800, "paintings": 800, "photo": 800}


def rows(files: list[Path]) -> Iterator[tuple[int, dict[str, str]]]:
    """A list of prompts, a file for each style."""
    number = 0
    for path in files:
        texts = json.loads(read_text(path))
        if not isinstance(texts, list):
            raise TypeError(f"{path.name} is no list")
        for text in texts:
            number += 1
            yield number, {"Prompt": text, "Category": path.stem}
