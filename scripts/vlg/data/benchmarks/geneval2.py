"""GenEval 2 (arXiv:2512.16853): 800 prompts of 3 to 10 atoms, with questions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlg.data.benchmark import json_lines

SOURCE = "github:facebookresearch/GenEval2@a6e82d2289e8d418f27f0adee77908b07060eea3"
FILES = {"geneval2_data.jsonl": "09233adbc9f877fba205f1a20efa4a8640e7e62a91dfd55893562bed8a928e43"}
NUMBERS = {
    "3 atoms": 100,
    "4 atoms": 100,
    "5 atoms": 100,
    "6 atoms": 100,
    "7 atoms": 100,
    "8 atoms": 100,
    "9 atoms": 100,
    "10 atoms": 100,
}
JUDGED = {"questions": ("questions",)}


def rows(files: list[Path]) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines with prompt, atom_count, and the skill that each question asks for."""
    for line, said in json_lines(files[0]):
        skills = ", ".join(sorted({*said["skills"]}))
        atoms = f"{int(said['atom_count'])} atoms"
        yield line, {"Prompt": said["prompt"], "Category": atoms, "Challenge": skills}
