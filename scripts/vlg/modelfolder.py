"""Model folders: what may be in them, and how they get into a study."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from vlg.dataset import link
from vlg.errors import UserError
from vlg.files import check_manifest

MARK = {"base": "model_index.json", "guide": "open_clip_config.json", "judge": "config.json"}
TEXTS = {".json", ".txt", ".model"}  # configurations, vocabularies, merges


def take(source: Path, kind: str, out: Path) -> None:
    """Link a user's model folder to `out`, leaving out all that is not needed to load it.

    kind: "base" (diffusers), "guide" (open_clip) or "judge" (Hugging Face CLIP). UserError when
    the folder is not of that kind, has weights only in other formats, or a file is cut short.
    """
    if not (source / MARK[kind]).is_file():
        raise UserError(f"models.{kind}: {source} has no {MARK[kind]}; give a whole model folder")
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    if not weights:
        raise UserError(f"models.{kind}: {source} has no *.safetensors; convert its weights")
    for path in weights:
        check_safetensors(path)
    for path in files:
        if path in weights or path.suffix in TEXTS:
            name = path.relative_to(source)
            if name.name == "manifest.json":
                continue
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            link(path, out / name)


def check_safetensors(path: Path) -> None:
    """UserError when a safetensors file is not as long as its header says."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, 100_000_000):
                raise ValueError("header longer than the file")
            header = json.loads(file.read(length))
        spans = [t["data_offsets"] for name, t in header.items() if name != "__metadata__"]
        if not all(0 <= begin <= end for begin, end in spans):
            raise ValueError("offsets out of order")
        if 8 + length + max((end for _, end in spans), default=0) != size:
            raise ValueError("cut short")
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        struct.error,
    ) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}); get it again") from None


def unpack(shipped: Path, source: str, out: Path) -> None:
    """Copy one shipped model (`base`, `base-early`, `guide`, `judge`) in float32.

    base-early holds only the parts in which it differs from base. UserError when a file's
    checksum is not the manifest's.
    """
    import shutil

    from safetensors.torch import load_file, save_file

    check_manifest(shipped)
    for part in ("base", source) if source.startswith("base") else (source,):
        shutil.copytree(shipped / part, out, dirs_exist_ok=True)
    for path in out.rglob("*.safetensors"):
        tensors = load_file(path)
        single = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
        save_file(single, path, metadata={"format": "pt"})
