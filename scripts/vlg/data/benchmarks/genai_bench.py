"""GenAI-Bench (arXiv:2406.13743): 1,600 prompts by the skills that they ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from vlg.data.benchmark import read_text

SOURCE = "hub:BaiqiL/GenAI-Bench-1600@e51e8a8070fadfbfe1f160436bf14e7664e87247"
FILES = {"genai_image.json": None, "genai_skills.json": None}
RATED = "genai_image.json"
NUMBERS = {"basic": 722, "advanced": 871, "other": 7}


def rows(files: list[Path]) -> Iterator[tuple[int, dict[str, str]]]:
    """Prompts by their id, and ids by skill, of which `basic` and `advanced` are two."""
    entries, skills = (json.loads(read_text(path)) for path in files)
    having: dict[int, list[str]] = {}
    for skill, ids in skills.items():
        for each in ids:
            having.setdefault(int(each), []).append(skill.strip())
    for number, (item, said) in enumerate(entries.items(), 1):
        own = having.get(int(item), [])
        level = next((each for each in ("basic", "advanced") if each in own), "other")
        others = ", ".join(each for each in own if each not in ("basic", "advanced", "all"))
        yield (
            number,
            {"Prompt": said["prompt"], "Category": level, "Challenge": others, "item_id": item},
        )
