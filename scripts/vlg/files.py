"""Files that are whole or absent: atomic writes, checksums and manifests."""

from __future__ import annotations

import contextlib
import csv
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlg.errors import UserError

MANIFEST = "manifest.json"
HALF = ".tmp-"  # how the names of half-written files and folders begin
CARD = "README.md"  # of a model: written after its scores, so no part of what its manifest lists
CHECKSUM = ".sha256"  # beside a file that stands alone, as `sha256sum --check` reads it


def sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic(path: Path | str, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; rename it to `path` when the block ends well.

    A reader sees the old file or the new one, never half of one; after an error nothing is left.
    The parent folder is made. The temporary name keeps the suffix, for writers that look at it.
    durable: have it on the disk before the rename, so that this holds after a power cut, too, and
    remove what killed processes left half-written of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{HALF}{path.name}-"
    if durable:
        for leftover in path.parent.glob(glob.escape(prefix) + "*"):
            leftover.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if durable:
            _flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Like `atomic`, for a folder: what stood at `path` is replaced when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{HALF}{path.name}-"
    for leftover in path.parent.glob(glob.escape(prefix) + "*"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    temporary.chmod(0o755)
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have a file's content on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text with LF line ends, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_rows(path: Path | str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file with a header, atomically, and its checksum beside it."""
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_checksum(path)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def below(folder: Path) -> list[Path]:
    """The files in a folder and in those below it, in order; links are followed, each folder once.

    What macOS writes beside files on other disks (`._name`) is not of them.
    """
    found, seen = [], {os.path.realpath(folder)}
    for where, inside, names in os.walk(folder, followlinks=True):
        inside[:] = sorted(name for name in inside if _new(os.path.join(where, name), seen))
        found += [Path(where, name) for name in names if not name.startswith("._")]
    return sorted(path for path in found if path.is_file())


def _new(folder: str, seen: set[str]) -> bool:
    """Whether a folder, by whatever link it was met, is not among those seen; it is from now on."""
    real = os.path.realpath(folder)
    known = real in seen
    seen.add(real)
    return not known


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of pictures' metadata.jsonl; UserError when it is missing or damaged."""
    try:
        # Not splitlines(): a prompt may hold any of Unicode's line ends.
        return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    except FileNotFoundError:
        raise UserError(f"{path}: not found; rerun the step that draws these pictures") from None
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); delete it and rerun") from None


def read_json(path: Path | str) -> Any:
    """Read a JSON file; UserError names the file when it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: not found; check the path or rerun the step that writes it"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and rerun") from None


POINTER = b"version https://git-lfs"  # how the text begins that Git LFS leaves in a file's place


def is_pointer(path: Path | str) -> bool:
    """Whether a file was not fetched by Git LFS; False of what cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(POINTER)) == POINTER
    except OSError:
        return False


def check_pointer(path: Path | str) -> None:
    """UserError for what Git LFS left in a file's place."""
    if is_pointer(path):
        raise UserError(f"{path}: a pointer of Git LFS and not the file; git lfs pull")


def link(source: Path | str, target: Path | str) -> None:
    """Hard-link a file, or copy it where that cannot be (another file system).

    Symbolic links, of which the Hub's cache is made, are followed: a study must not depend on them.
    """
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)


def checksums(folder: Path | str) -> dict[str, dict[str, Any]]:
    """{path below `folder`: {"sha256": ..., "bytes": ...}} of all its files.

    Left out are the manifest, the card of a model, and files of checksums.
    """
    folder = Path(folder)
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, CARD) and path.suffix != CHECKSUM
    }


def identity(folder: Path | str) -> str:
    """What identifies a model folder, 16 hex digits: the checksums of its files.

    They are read from its manifest where it has one; what else that says does not count.
    """
    folder = Path(folder)
    manifest = folder / MANIFEST
    files = read_json(manifest)["files"] if manifest.is_file() else checksums(folder)
    sums = {name: facts["sha256"] for name, facts in files.items()}
    # As a list of one, as it has always been written into score files.
    text = json.dumps([sums], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_checksum(path: Path | str) -> None:
    """Write the checksum of a file beside it: `a.csv.sha256` of `a.csv`."""
    path = Path(path)
    write_text(path.with_name(path.name + CHECKSUM), f"{sha256(path)}  {path.name}\n")


def own_checksum(manifest: dict[str, Any]) -> str:
    """The checksum of a manifest's own entries, without the one that holds it."""
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path | str, only: Collection[Path] | None = None, **facts: Any) -> None:
    """Write `folder`/manifest.json: the checksum of each file, the given facts, its own checksum.

    only: the files to list, where other steps write into the folder, too. The manifest is written
    last, so a folder that has one is whole, and it is the file by which the DAG knows the folder:
    being small, Snakemake compares it by content and not by time.
    """
    os.sync()  # a power cut must not leave a manifest of files that never reached the disk
    files = checksums(folder)
    if only is not None:
        names = {path.relative_to(folder).as_posix() for path in only}
        files = {name: known for name, known in files.items() if name in names}
    manifest = {**facts, "files": files}
    write_json(Path(folder) / MANIFEST, {**manifest, "sha256": own_checksum(manifest)})


def check_manifest(folder: Path | str) -> dict[str, Any]:
    """Compare every file of `folder` with its manifest and return the manifest.

    Raises UserError naming the first file that is missing, cut short or altered.
    """
    folder = Path(folder)
    manifest = read_json(folder / MANIFEST)
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError(
                f"{path}: missing though {MANIFEST} lists it; delete {folder} and rerun"
            )
        if path.stat().st_size != expected["bytes"] or sha256(path) != expected["sha256"]:
            raise UserError(f"{path}: checksum differs from {MANIFEST}; delete {folder} and rerun")
    return manifest
