"""The gallery: one page that shows the same prompts across models and rounds, with their scores.

`write` makes a folder that opens from disk: `index.html` with style, program and data inside it,
and `pictures/`, named by their content, so that a picture that several rounds keep is there once.
The page asks no network for anything.
"""

from __future__ import annotations

import hashlib
import html
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg import files
from vlg.errors import UserError
from vlg.scores import FACTS, Grids, Key, name, split_model

if TYPE_CHECKING:
    import pandas as pd

TEMPLATES = Path(__file__).parent / "templates"
# Larger pictures are shown as thumbnails of this many pixels: 100 prompts of 512 pixels on 20
# models and rounds would be a gigabyte.
LARGEST = 256
# Smaller pictures are shown enlarged, pixel by pixel.
SMALL = 64


def write(
    root: Path,
    scores: pd.DataFrame,
    prompts: pd.DataFrame,
    hard: pd.DataFrame,
    settings: Mapping[str, Any],
    out: Path,
) -> int:
    """Write the gallery into the folder `out` and return the number of prompts shown.

    root: what the scores' picture paths are relative to (results/<study>). scores: as
    `vlg.scores.read` returns them. settings: study (the title), prompts (at most so many), models
    (in order, base first), rounds (the last of refinement).
    UserError when a picture is missing or is not the one that was scored.
    """
    grids = Grids(scores)
    shown = choose(prompts, hard, settings["prompts"])
    columns = _columns(grids, settings)
    rows = _rows(grids)
    with files.atomic_folder(out) as folder:
        pictures = _Pictures(root, folder / "pictures")
        cells: dict[str, dict[str, list]] = {}
        for position, column in enumerate(columns):
            for row in rows.get(column["key"], []):
                if row["id"] in shown.index:
                    seeds = cells.setdefault(row["id"], {})
                    line = seeds.setdefault(str(row["seed"]), [None] * len(columns))
                    line[position] = _cell(row, pictures.add(row))
        data = {
            "study": settings["study"],
            "columns": [{k: v for k, v in c.items() if k != "key"} for c in columns],
            "prompts": [_prompt(key, row, cells.get(key, {})) for key, row in shown.iterrows()],
            "seeds": _seeds(grids),
            "facts": list(FACTS),
            "truth": bool(scores["fidelity"].notna().any()),
            "small": pictures.largest <= SMALL,
        }
        files.write_text(folder / "index.html", page(data))
        files.write_manifest(folder)
    return len(shown)


def choose(prompts: pd.DataFrame, hard: pd.DataFrame, limit: int) -> pd.DataFrame:
    """The prompts to show, by id, `rank` among the hard ones added (0: not hard).

    Hard prompts come first, lowest score first; they may take half of the places, and more when
    there are not enough study prompts for the rest.
    """
    rank = {key: i + 1 for i, key in enumerate(hard["id"])}
    study = [key for key in prompts["id"][prompts["set"] == "study"] if key not in rank]
    places = max(limit // 2, limit - len(study))
    ids = [*list(rank)[:places]]
    ids += study[: limit - len(ids)]
    table = prompts.set_index("id").loc[ids]
    return table.assign(rank=[rank.get(key, 0) for key in ids])


def page(data: Mapping[str, Any]) -> str:
    """The whole page as HTML; `data` as the program in templates/gallery.js reads it."""
    # Within a script element only "<" could end it; prompts may hold anything.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    parts = {
        "title": html.escape(data["study"]),
        "style": (TEMPLATES / "gallery.css").read_text(encoding="utf-8"),
        "program": (TEMPLATES / "gallery.js").read_text(encoding="utf-8"),
        "data": text.replace("<", "\\u003c"),
    }
    result = (TEMPLATES / "gallery.html").read_text(encoding="utf-8")
    # Data last: a prompt may read "{{style}}".
    for key, value in parts.items():
        result = result.replace("{{" + key + "}}", value)
    return result


def _columns(grids: Grids, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Models, then the rounds of each arm of each refined model: key, group, label within it,
    full name, refined (bool)."""
    columns = []
    for model in settings["models"]:
        variant, step = split_model(model)
        label = f"{step:,} steps" if step else model
        columns.append({"key": (model, "", 0), "label": label, "group": variant, "name": model})
    for key in grids.rounds(settings["models"], settings["rounds"]):
        model, arm, number = key
        words = arm.replace("_", " ")
        group = words if model == "base" else f"{words} of {model}"
        columns.append({"key": key, "label": f"round {number}", "group": group, "name": name(key)})
    return [
        {**column, "refined": column["key"][1] != ""}
        for column in columns
        if column["key"] in grids
    ]


def _rows(grids: Grids) -> dict[Key, list[dict[str, Any]]]:
    wanted = ["id", "seed", "clipscore", "guide", "fidelity", "strict", *FACTS, "picture", "sha256"]
    return {
        key: rows[wanted].to_dict("records")
        for source in (grids.plain, grids.refined)
        for key, rows in source.groupby(["model", "arm", "round"], sort=False)
    }


def _cell(row: Mapping[str, Any], picture: str) -> list:
    """[picture, clipscore, guide, fidelity, strict, fact, fact, ...]; None where empty."""
    scores = [round(row["clipscore"], 2), round(row["guide"], 2)]
    truth = [row["fidelity"], row["strict"], *(row[fact] for fact in FACTS)]
    return [picture, *scores, *(None if math.isnan(v) else round(v, 3) for v in truth)]


def _prompt(key: str, row: pd.Series, cells: Mapping[str, list]) -> dict[str, Any]:
    return {
        "id": key,
        "text": row["Prompt"],
        "category": row["Category"],
        "challenge": row["Challenge"],
        "split": row["split"],
        "hard": int(row["rank"]),
        "cells": cells,
    }


def _seeds(grids: Grids) -> list[dict[str, Any]]:
    """All seeds of plain pictures; those only of hard prompts are fresh."""
    selection = grids.seeds("base", "study")
    fresh = [seed for seed in grids.seeds("base", "hard") if seed not in selection]
    return [
        {"seed": str(seed), "fresh": seed in fresh} for seed in dict.fromkeys([*selection, *fresh])
    ]


class _Pictures:
    """Copies pictures into the gallery, each content once."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.folder.mkdir(parents=True)
        self.names: dict[str, str] = {}
        self.largest = 0

    def add(self, row: Mapping[str, Any]) -> str:
        """Copy the picture of a score row; its path within the gallery."""
        digest = row["sha256"]
        if digest not in self.names:
            path = self.root / row["picture"]
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                raise UserError(f"{path}: not found; rerun the step that draws it") from None
            if hashlib.sha256(content).hexdigest() != digest:
                raise UserError(f"{path}: is not the picture that was scored; rerun the score step")
            small, suffix = self._small(content, path)
            self.names[digest] = f"pictures/{digest[:20]}{suffix}"
            (self.folder / f"{digest[:20]}{suffix}").write_bytes(small)
        return self.names[digest]

    def _small(self, content: bytes, path: Path) -> tuple[bytes, str]:
        """The bytes to show and their suffix: as they are, or a JPEG thumbnail."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(content)) as picture:
                self.largest = max(self.largest, *picture.size)
                if max(picture.size) <= LARGEST:
                    return content, path.suffix
                picture = picture.convert("RGB")
        except (OSError, Image.DecompressionBombError) as error:
            raise UserError(f"{path}: not a picture ({error}); delete it and rerun") from None
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=88)
        return buffer.getvalue(), ".jpg"
