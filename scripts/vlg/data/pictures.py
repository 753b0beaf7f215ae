"""Folders of pictures: PNG files that say what they are, and metadata.jsonl, written last.

Each PNG carries, as text, its row of the metadata and a key: the hash of everything it was made
from. A job that is run again keeps the pictures whose key still fits and draws the others.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vlg.data import pixels
from vlg.errors import UserError
from vlg.files import atomic, read_lines, sha256, write_checksum, write_text

T = TypeVar("T")

METADATA = "metadata.jsonl"
TEXT = "vlg"  # the name of the PNG text chunk
END = b"\0\0\0\0IEND\xaeB`\x82"  # how every PNG ends


def key(*parts: Any) -> str:
    """Hash of what a picture is made from: 16 hex digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save(path: Path, picture: np.ndarray, row: dict[str, Any]) -> None:
    """Write a picture (height, width, 3) uint8 as PNG with its row inside, atomically."""
    text = PngInfo()
    text.add_text(TEXT, json.dumps(row, sort_keys=True))
    with atomic(path, durable=False) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", pnginfo=text)


class Writer:
    """Saves pictures while the next ones are drawn.

    A PNG of 512 x 512 takes 40 ms to compress, about as long as a GPU takes to draw it. Used as a
    context: at its end, whatever ended it, all pictures given so far are whole files. An error of
    saving (a full disk) is raised by the next `save` after it, or at the end.
    """

    THREADS = 4  # compression leaves Python's lock
    WAITING = 256  # pictures in memory at most: 0.2 GB at 512 px

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.THREADS, "png")
        self._pending: deque[Future[None]] = deque()

    def save(self, path: Path, picture: np.ndarray, row: dict[str, Any]) -> None:
        """Like `pictures.save`, soon."""
        while self._pending and (self._pending[0].done() or len(self._pending) >= self.WAITING):
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(save, path, picture, row))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._pool.shutdown(wait=True)
        if kind is None:
            for future in self._pending:
                future.result()


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in runs of `size`, the last one shorter."""
    return (items[start : start + size] for start in range(0, len(items), size))


def ahead(
    function: Callable[[Sequence[T]], Any], batches: Iterable[Sequence[T]], threads: int
) -> Iterator[tuple[Sequence[T], Any]]:
    """(batch, function(batch)) in turn, `threads` of them being computed before they are asked for.

    Reading and resizing a picture of 512 x 512 takes 10 ms of a core; a GPU scores it in 1.
    """
    with ThreadPoolExecutor(threads, "ahead") as pool:
        pending: deque[tuple[Sequence[T], Future[Any]]] = deque()
        for batch in batches:
            pending.append((batch, pool.submit(function, batch)))
            if len(pending) > threads:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()


def kept(path: Path, expected: str) -> dict[str, Any] | None:
    """The row inside a finished picture whose key is `expected`; None when it must be drawn."""
    try:
        data = path.read_bytes()
        if not data.endswith(END):  # decoding does not need it
            return None
        with Image.open(io.BytesIO(data)) as picture:
            picture.verify()  # the checksums of all chunks, at which decoding does not look
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            row = json.loads(picture.text[TEXT])
            return row if row["key"] == expected else None
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, AttributeError):
        return None
    except Image.DecompressionBombError:
        return None


def load(path: Path) -> np.ndarray:
    """A picture as (height, width, 3) uint8; UserError when it is missing, cut or no picture."""
    try:
        return np.asarray(pixels.read(path))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; delete {path.parent} and rerun") from None
    except pixels.Unreadable as error:
        raise UserError(
            f"{path}: not a whole picture ({error}); delete {path.parent} and rerun"
        ) from None


def one_coloured(images: Iterable[np.ndarray]) -> list[bool]:
    """Which pictures (height, width, 3) have one colour throughout, as failed ones often do."""
    return [bool((image == image[0, 0]).all()) for image in images]


def write_metadata(folder: Path, rows: Iterable[dict[str, Any]], **models: str) -> None:
    """Write metadata.jsonl and its checksum: the folder is whole once the former exists.

    Each row also gets its picture's checksum and `models`, the hashes of those that made it.
    """
    lines = [
        json.dumps(
            {**row, **models, "sha256": sha256(folder / row["file_name"])},
            ensure_ascii=False,
            sort_keys=True,
        )
        for row in rows
    ]
    os.sync()  # all pictures at once; a power cut must not leave metadata of files cut short
    write_text(folder / METADATA, "".join(line + "\n" for line in lines))
    write_checksum(folder / METADATA)


def read_metadata(folder: Path) -> list[dict[str, Any]]:
    """Rows of a folder's metadata.jsonl; UserError when it is missing or damaged."""
    return read_lines(folder / METADATA)


def listed(folders: Iterable[Path], only: str | None = None) -> list[tuple[Path, dict[str, Any]]]:
    """(folder, metadata row) of the pictures of folders, in order; only: those of one set."""
    return [
        (folder, row)
        for folder in folders
        for row in read_metadata(folder)
        if only in (None, row["set"])
    ]


def load_checked(folder: Path, row: dict[str, Any]) -> np.ndarray:
    """The picture of one row; UserError when its bytes are not those that were drawn."""
    path = folder / row["file_name"]
    picture = load(path)
    if sha256(path) != row["sha256"]:
        raise UserError(f"{path}: checksum differs from {METADATA}; delete {folder} and rerun")
    return picture


def prune(folder: Path, names: set[str]) -> None:
    """Delete pictures that no longer belong to the folder."""
    for path in folder.glob("*.png"):
        if path.name not in names:
            path.unlink()
