"""Captioned pictures for fine-tuning: drawn in the shapes world, or gathered from a folder."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
from pathlib import Path

from vlg import pictures
from vlg.errors import UserError
from vlg.files import write_text

KINDS = {".png", ".jpg", ".jpeg", ".webp"}


def draw(out: Path, size: int, seed: int) -> None:
    """Draw `size` scenes with full captions, of pairs the base has seen and pairs it has not."""
    from PIL import Image
    from tqdm import tqdm

    from vlg.shapes import captions, world

    rng = random.Random(f"dataset {seed}")
    rows = []
    for index in tqdm(range(size), desc="dataset", mininterval=5):
        scene = world.sample(rng, world.SEEN + world.ADAPT)
        name = f"{index:06d}.png"
        Image.fromarray(world.render(scene)).save(out / name)
        rows.append({"file_name": name, "text": captions.caption(scene, rng)})
    _write(out, rows)


def gather(source: Path, out: Path, size: int | None) -> None:
    """Link a fixed subset of `size` captioned pictures of `source` (None: all) into `out`.

    Captions come from metadata.jsonl or metadata.csv (file_name, text; text may be a list in
    jsonl) or from a .txt file beside each picture, one caption a line. UserError names the
    folder, line or picture that lacks one.
    """
    rows = captioned(source)
    if size is not None and size < len(rows):
        # Chosen by a hash of the name, so that adding pictures changes little.
        rows = sorted(rows, key=lambda row: pictures.key("dataset", row["file_name"]))[:size]
        rows.sort(key=lambda row: row["file_name"])
    for row in rows:
        target = out / row["file_name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        link(source / row["file_name"], target)
    _write(out, rows)


def captioned(source: Path) -> list[dict]:
    """[{"file_name", "text"}] of an image folder, checked."""
    table = source / pictures.METADATA
    if table.is_file():
        try:
            lines = table.read_text("utf-8").split("\n")
            rows = [json.loads(line) for line in lines if line.strip()]
        except ValueError as error:
            raise UserError(f"{table}: not JSON lines ({error}); mend it") from None
    elif (source / "metadata.csv").is_file():
        table = source / "metadata.csv"
        with open(table, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    else:
        table = source
        rows = [
            {"file_name": path.relative_to(source).as_posix(), "text": _beside(path)}
            for path in sorted(source.rglob("*"))
            if path.suffix.lower() in KINDS
        ]
    if not rows:
        raise UserError(f"{table}: no captioned pictures; dataset.source needs at least one")
    result = []
    for number, row in enumerate(rows, start=1):
        name, text = row.get("file_name"), row.get("text")
        texts = text if isinstance(text, list) else [text]
        if not isinstance(name, str) or not all(isinstance(t, str) and t.strip() for t in texts):
            raise UserError(f"{table}: row {number} lacks file_name or a caption; complete it")
        path = source / name
        if not path.resolve().is_relative_to(source.resolve()) or not path.is_file():
            raise UserError(f"{table}: row {number}: {name} is no file below {source}; mend it")
        result.append({"file_name": name, "text": text})
    return result


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where that cannot be."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _beside(path: Path) -> list[str]:
    text = path.with_suffix(".txt")
    if not text.is_file():
        raise UserError(f"{path}: no caption; write {text.name} beside it or a metadata.jsonl")
    return [line.strip() for line in text.read_text("utf-8").split("\n") if line.strip()]


def _write(out: Path, rows: list[dict]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(out / pictures.METADATA, "".join(lines))
