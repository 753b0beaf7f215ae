"""One archive of a study, to be handed on: the same study gives the same bytes."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import yaml

from vlg.errors import UserError
from vlg.files import CARD, CHECKSUM, MANIFEST, atomic, read_json, sha256

# In this order they say what came out, what of, and how; a part that was not made is left out.
PARTS = ("tables", "figures", "gallery", "sheets", "report", "scores", "judges")
PARTS += (
    "prompts.tsv",
    "hard_prompts.tsv",
    "development.tsv",
    "provenance.json",
    "training",
    "models",
)
NEEDED = ("tables", "scores", "prompts.tsv", "provenance.json")
LOGS = ("log.csv", "held_out.csv", "summary.json")  # of a training; its state is not handed on


def members(study: Path, models: bool) -> list[Path]:
    """The files of an archive, sorted. Without `models`, of these only cards and manifests.

    UserError when the study is not finished.
    """
    for name in NEEDED:
        if not (study / name).exists():
            raise UserError(f"{study / name}: not found; finish the study with make study first")
    found = []
    for part in PARTS:
        place = study / part
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            inside = path.relative_to(study).parts
            if not path.is_file() or path.suffix == CHECKSUM:
                continue
            if part == "training" and (len(inside) != 3 or inside[2] not in LOGS):
                continue
            if part == "models" and not models and path.name not in (CARD, MANIFEST):
                continue
            found.append(path)
    return sorted(found)


def config_text(config: dict[str, Any], shipped: dict[str, Any]) -> str:
    """The whole config of a study as an overlay of `shipped`, the config.yaml it is laid over.

    An overlay adds and changes keys: variants and arms that only `shipped` has are set to null,
    which drops them.
    """
    result = json.loads(json.dumps(config))
    for section, name in (("finetune", "variants"), ("refine", "arms")):
        for extra in (shipped.get(section) or {}).get(name) or {}:
            result[section][name].setdefault(extra, None)
    head = "# The whole config of this study: make study CONFIG=<this file, as <study>.yaml>\n"
    return head + yaml.safe_dump(result, sort_keys=True, allow_unicode=True)


def write(study: Path, out: Path, models: bool, shipped: dict[str, Any]) -> int:
    """Write the archive (.tar.gz); the number of its files.

    Beside the study's files it holds config.yaml and manifest.json, with the checksum of every
    file. Nothing in it depends on when, by whom or where it was written.
    """
    files = members(study, models)
    texts = {
        "config.yaml": config_text(read_json(study / "provenance.json")["config"], shipped),
    }
    listed = {
        path.relative_to(study).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in files
    }
    texts[MANIFEST] = json.dumps({"files": listed}, indent=2, sort_keys=True) + "\n"
    with (
        atomic(out) as temporary,
        open(temporary, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        import io

        for name, text in sorted(texts.items()):
            data = text.encode()
            tar.addfile(_entry(f"{study.name}/{name}", len(data)), io.BytesIO(data))
        for path in files:
            name = f"{study.name}/{path.relative_to(study).as_posix()}"
            with open(path, "rb") as file:
                tar.addfile(_entry(name, path.stat().st_size), file)
    return len(files) + len(texts)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """A plain file that is everybody's and of no time."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, 0
    return entry
