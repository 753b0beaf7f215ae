"""Captioned pictures for fine-tuning: drawn in the shapes world, or gathered from a folder."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
from pathlib import Path, PurePosixPath

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
    """[{"file_name": ..., "text": [captions]}] of an image folder, checked, one row a picture."""
    table = source / pictures.METADATA
    if table.is_file():
        try:
            lines = table.read_text("utf-8").split("\n")
            rows = [json.loads(line) for line in lines if line.strip()]
        except (ValueError, RecursionError) as error:
            raise UserError(f"{table}: not JSON lines ({error}); mend it") from None
    elif (source / "metadata.csv").is_file():
        table = source / "metadata.csv"
        try:
            # Spreadsheets put a byte order mark at the beginning.
            with open(table, newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        except (ValueError, csv.Error) as error:
            raise UserError(f"{table}: not a CSV file in UTF-8 ({error}); mend it") from None
    else:
        table = source
        rows = [
            {"file_name": path.relative_to(source).as_posix(), "text": _beside(path)}
            for path in sorted(source.rglob("*"))
            if path.suffix.lower() in KINDS
        ]
    if not rows:
        raise UserError(f"{table}: no captioned pictures; dataset.source needs at least one")
    captions: dict[str, list[str]] = {}
    for number, row in enumerate(rows, start=1):
        row = row if isinstance(row, dict) else {}
        name, text = row.get("file_name"), row.get("text")
        texts = text if isinstance(text, list) else [text]
        told = texts and all(isinstance(each, str) and each.strip() for each in texts)
        if not isinstance(name, str) or not told:
            raise UserError(f"{table}: row {number} lacks file_name or a caption; complete it")
        # The name is also the link's below `out`: neither may lead out of its folder.
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not (source / name).is_file():
            raise UserError(f"{table}: row {number}: {name} is no file below {source}; mend it")
        # Several captions may also stand in rows of their own.
        captions.setdefault(path.as_posix(), []).extend(texts)
    return [{"file_name": name, "text": texts} for name, texts in captions.items()]


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
    try:
        lines = text.read_text("utf-8").split("\n")
    except ValueError as error:
        raise UserError(f"{text}: not UTF-8 text ({error}); save it as such") from None
    return [line.strip() for line in lines if line.strip()]


def _write(out: Path, rows: list[dict]) -> None:
    # ASCII: many readers of JSON lines also break them at Unicode's other line ends.
    lines = (json.dumps(row) + "\n" for row in rows)
    write_text(out / pictures.METADATA, "".join(lines))
