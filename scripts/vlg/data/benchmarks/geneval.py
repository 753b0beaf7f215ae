"""GenEval (arXiv:2310.11513): 553 prompts with what a detector must find."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlg.data.benchmark import json_lines

SOURCE = "github:djghosh13/geneval@af4902f24d3ca90ebbb446dd9891a59e0f82725f"
FILES = {
    "prompts/evaluation_metadata.jsonl": (
        "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13"
    )
}
NUMBERS = {
    "single_object": 80,
    "two_object": 99,
    "counting": 80,
    "colors": 94,
    "position": 100,
    "color_attr": 100,
}
JUDGED = {"questions": ("questions",), "detector": ("metadata", "colours")}


def rows(files: list[Path]) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines with prompt, tag and what to find."""
    for line, said in json_lines(files[0]):
        yield line, {"Prompt": said["prompt"], "Category": said["tag"]}
