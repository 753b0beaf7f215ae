"""The gallery: one page that shows the same prompts across models and rounds, with their scores.

`write` makes a folder that opens from disk: `index.html` with style, program and data inside it,
and `pictures/`, named by their content, so that a picture that several rounds keep is there once.
For the report there is also `pages/`: the same for the hard prompts and for each category, with
the pictures inside the page, which is small enough for a browser to show within the report. No page
asks a network for anything.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vlg import files
from vlg.analysis.scores import Grids, Key, name, read_further
from vlg.config import sections
from vlg.config.layout import BASE, METADATA, parse_model
from vlg.data import pixels
from vlg.data.pictures import read_metadata
from vlg.errors import UserError
from vlg.judge.columns import FACTS
from vlg.report import pages

if TYPE_CHECKING:
    import pandas as pd

# Larger pictures are shown as thumbnails of this many pixels: 100 prompts of 512 pixels on 20
# models and rounds would be a gigabyte.
LARGEST = 256
# The same for pictures inside a page of the report.
LARGEST_INSIDE = 128
# Smaller pictures are shown enlarged, pixel by pixel.
SMALL = 64
# Bytes of a page of the report. In an HTML report it becomes the address of a frame, in base64, and
# Chromium opens no address of more than 2 MiB (measured: 1.3 MB shown, 5.3 MB blocked).
LIMIT = 1_500_000


class Settings(sections.Gallery):
    """What the gallery depends on beside its inputs."""

    study: str = Field("shapes", description="`study`, the title.")
    models: list[str] = Field(
        [BASE],
        description="Models and sets of pictures in the order of columns, the reference first.",
    )
    sets: list[str] = Field([], description="Those of them that are sets of pictures.")


def write(
    root: Path,
    scores: pd.DataFrame,
    prompts: pd.DataFrame,
    hard: pd.DataFrame | None,
    settings: Settings,
    out: Path,
    judges: Mapping[str, Path] | None = None,
) -> int:
    """Write the gallery into the folder `out` and return the number of prompts shown.

    root: what the scores' picture paths are relative to (results/<study>). scores: as
    `vlg.analysis.scores.read` returns them. hard: None where there is no base. judges: the folder
    of each further judge's CSVs.
    UserError when a picture is missing or is not the one that was scored.
    """
    grids = Grids(scores)
    shown = choose(prompts, hard, settings.prompts)
    columns = _columns(grids, settings)
    rows = _rows(grids)
    further = [_judged(folder) for folder in (judges or {}).values()]
    with files.atomic_folder(out) as folder:
        pictures = _Pictures(root, folder / "pictures")
        cells: dict[str, dict[str, list]] = {}
        for position, column in enumerate(columns):
            for row in rows.get(column["key"], []):
                if row["id"] in shown.index:
                    seeds = cells.setdefault(row["id"], {})
                    line = seeds.setdefault(str(row["seed"]), [None] * len(columns))
                    line[position] = _cell(row, pictures.add(row), further)
        data = {
            "study": settings.study,
            "columns": [{k: v for k, v in c.items() if k != "key"} for c in columns],
            "prompts": [_prompt(key, row, cells.get(key, {})) for key, row in shown.iterrows()],
            "seeds": _seeds(grids, settings.models),
            "facts": list(FACTS),
            "judges": [name.replace("_", " ") for name in judges or {}],
            "truth": bool(scores["fidelity"].notna().any()),
            "guided": bool(scores["guide"].notna().any()),
            "noise": _noise(settings),
            "reference": settings.models[0],
            "samples": _samples(root, settings.models, pictures),
            "small": pictures.largest <= SMALL,
        }
        files.write_text(folder / "index.html", page(data))
        for slug, text in _pages(data, folder).items():
            files.write_text(folder / "pages" / f"{slug}.html", text)
        files.write_manifest(folder)
    return len(shown)


def _pages(data: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The pages of the report by name: hard prompts, then each category.

    A page shows as many prompts as fit in LIMIT, and says so where that is not all.
    """
    groups = {"hard-prompts": [prompt for prompt in data["prompts"] if prompt["hard"]]}
    for prompt in data["prompts"]:
        groups.setdefault(_slug(prompt["category"] or "prompts"), []).append(prompt)
    result = {}
    for slug, prompts in groups.items():
        uris: dict[str, str] = {}
        size = len(page({**data, "prompts": []}).encode())
        kept: list[dict[str, Any]] = []
        for prompt in prompts:
            own = {cell[0] for line in prompt["cells"].values() for cell in line if cell}
            fresh = {key: _uri(folder / key) for key in sorted(own - uris.keys())}
            size += len(pages.embedded([prompt, fresh]).encode())
            # Always one, or there would be nothing to see of pictures that are large.
            if kept and size > LIMIT:
                break
            kept.append(prompt)
            uris |= fresh
        part = {**data, "prompts": kept, "pictures": uris, "samples": None}
        if len(kept) < len(prompts):
            part["note"] = (
                f"of {len(prompts)} here; gallery/index.html in the results shows all of them"
            )
        if kept:
            result[slug] = page(part)
    return result


def _slug(text: str) -> str:
    """A plain file name: `food-beverage`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "other"


def _uri(path: Path) -> str:
    """A picture as a data URI, no larger than LARGEST_INSIDE pixels.

    As WebP, which at this quality looks the same and takes a fifth of the bytes of a PNG of 32
    pixels, so that a page shows five times as many prompts.
    """
    from PIL import Image

    buffer = io.BytesIO()
    picture = pixels.read(path)
    picture.thumbnail((LARGEST_INSIDE, LARGEST_INSIDE), Image.Resampling.LANCZOS)
    quality = 95 if max(picture.size) <= SMALL else 85
    picture.save(buffer, "WEBP", quality=quality, method=3, use_sharp_yuv=True)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def choose(prompts: pd.DataFrame, hard: pd.DataFrame | None, limit: int) -> pd.DataFrame:
    """The prompts to show, by id, `rank` among the hard ones added (0: not hard).

    Hard prompts come first, lowest score first; they may take half of the places, and more when
    there are not enough study prompts for the rest.
    """
    rank = {key: i + 1 for i, key in enumerate([] if hard is None else hard["id"])}
    study = [key for key in prompts["id"][prompts["set"] == "study"] if key not in rank]
    places = max(limit // 2, limit - len(study))
    ids = [*list(rank)[:places]]
    ids += study[: limit - len(ids)]
    table = prompts.set_index("id").loc[ids]
    return table.assign(rank=[rank.get(key, 0) for key in ids])


def page(data: Mapping[str, Any]) -> str:
    """The whole page as HTML; `data` as the program in templates/gallery.js reads it."""
    return pages.render(
        "gallery.html",
        title=data["study"],
        noise=data["noise"],
        reference=data["reference"],
        style=pages.source("gallery.css"),
        program=pages.source("gallery.js"),
        data=pages.embedded(data),
    )


def _noise(settings: Settings) -> str:
    """What rows have in common, in words."""
    apart = ", ".join(name.replace("_", " ") for name in settings.sets)
    drawn = "drawn with the same noise by every model"
    drawing = [model for model in settings.models if model not in (BASE, *settings.sets)]
    if not all(parse_model(model).step for model in drawing):
        drawn += " whose latents have the shape of base's"
    if not apart:
        return drawn
    drawn = f"{drawn}; " if BASE in settings.models else ""
    return f"{drawn}pictures of {apart} are from elsewhere, whose seeds are only numbers"


def _columns(grids: Grids, settings: Settings) -> list[dict[str, Any]]:
    """Models, then the rounds of each arm of each refined model, then references: key, group, label
    within it, full name, and two bools, refined and reference."""
    columns = []
    for model in settings.models:
        variant, step, _ = parse_model(model)
        label = f"{step:,} steps" if step else model
        columns.append({"key": (model, "", 0), "label": label, "group": variant, "name": model})
    for key in grids.rounds(settings.models):
        model, arm, number = key
        words = arm.replace("_", " ")
        group = words if model == "base" else f"{words} of {model}"
        columns.append({"key": key, "label": f"round {number}", "group": group, "name": name(key)})
    held = grids.references()
    for key in held:
        columns.append({"key": key, "label": key[0], "group": "for scale", "name": key[0]})
    return [
        {**column, "refined": column["key"][1] != "", "reference": column["key"] in held}
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


def _judged(folder: Path) -> dict[tuple[str, str], float]:
    """{(prompt's id, checksum of the picture): score} by one further judge."""
    scores: dict[tuple[str, str], float] = {}
    for path in sorted(folder.glob("*.csv")):
        rows = read_further(path)
        pairs = zip(rows["id"], rows["sha256"], strict=True)
        scores |= dict(zip(pairs, rows["score"].astype(float), strict=True))
    return scores


def _cell(row: Mapping[str, Any], picture: str, further: Sequence[Mapping]) -> list:
    """[picture, clipscore, guide, fidelity, strict, fact, fact, ..., further judge, ...]; None
    where empty."""
    guide = None if math.isnan(row["guide"]) else round(row["guide"], 2)
    scores = [round(row["clipscore"], 2), guide]
    values = [row["fidelity"], row["strict"], *(row[fact] for fact in FACTS)]
    values += [judged.get((row["id"], row["sha256"]), math.nan) for judged in further]
    return [picture, *scores, *(None if math.isnan(v) else round(v, 3) for v in values)]


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


def _samples(root: Path, models: Sequence[str], pictures: _Pictures) -> dict[str, Any] | None:
    """What each checkpoint drew of the development prompts when it was trained; None if nothing.

    Of training/<model>/samples, as `sample.development` writes it: columns (group, label) and rows
    of one prompt and seed with a picture, or None, for each column.
    """
    columns, rows = [], {}
    for model in models:
        folder = Path("training") / model / "samples"
        if not (root / folder / METADATA).is_file():
            continue
        variant, step, _ = parse_model(model)
        for row in read_metadata(root / folder):
            place = {"picture": (folder / row["file_name"]).as_posix(), "sha256": row["sha256"]}
            line = rows.setdefault((row["id"], row["seed"]), {"text": row["prompt"], "cells": {}})
            line["cells"][len(columns)] = pictures.add(place)
        columns.append({"group": variant, "label": f"{step:,} steps"})
    if not columns:
        return None
    order = range(len(columns))
    lines = [
        {"text": row["text"], "seed": seed, "cells": [row["cells"].get(i) for i in order]}
        for (_, seed), row in rows.items()
    ]
    return {"columns": columns, "rows": lines}


def _seeds(grids: Grids, models: Sequence[str]) -> list[dict[str, Any]]:
    """All seeds of plain pictures, those first that the reference has; those only of hard prompts
    are fresh."""
    found = [seed for model in models for seed in grids.seeds(model, "study")]
    selection = list(dict.fromkeys(found))
    fresh = [seed for seed in grids.seeds(models[0], "hard") if seed not in selection]
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
            picture = pixels.read(content)
        except pixels.Unreadable as error:
            raise UserError(f"{path}: not a picture ({error}); delete it and rerun") from None
        self.largest = max(self.largest, *picture.size)
        if max(picture.size) <= LARGEST:
            return content, path.suffix
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=88)
        return buffer.getvalue(), ".jpg"
