"""A folder of captioned pictures: its listing, and each picture as pixels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlg.data import pixels
from vlg.data.text import is_whole
from vlg.errors import UserError

if TYPE_CHECKING:
    import torch

HELD_OUT = 0.04, 2, 256  # share of the pictures kept for validation, at least, at most


def read_captions(data: Path) -> list[tuple[str, list[str]]]:
    """[(file name, captions)] of an image folder, in the order of its metadata.jsonl.

    Each line is {"file_name": ..., "text": a caption or a list of captions}, as Hugging Face
    `datasets` reads it. Raises UserError naming the line that is not.
    """
    path = data / "metadata.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: not found; dataset.source must be a folder with metadata.jsonl")
    pictures = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            name, texts = row["file_name"], row["text"]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise UserError(
                f'{path}:{number}: must be {{"file_name": ..., "text": ...}}; mend the line'
            ) from None
        texts = [texts] if isinstance(texts, str) else texts
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise UserError(f"{path}:{number}: empty caption; write one or remove the line")
        if not all(map(is_whole, texts)):
            raise UserError(f"{path}:{number}: half a character in a caption; mend or remove it")
        if not (data / name).is_file():
            raise UserError(f"{path}:{number}: {name} is missing; restore it or remove the line")
        pictures.append((name, texts))
    if len(pictures) <= HELD_OUT[1]:
        raise UserError(
            f"{path}: {len(pictures)} pictures and {HELD_OUT[1]} are held out; add some"
        )
    return pictures


def read_picture(
    path: Path, resolution: int, crop: tuple[float, float, float] = (1.0, 0.5, 0.5)
) -> torch.Tensor:
    """[3, resolution, resolution] float32 in 0..1.

    The largest middle square is resized to `resolution`. crop: (share of that square's side to
    keep, place from left to right, from top to bottom, both in 0..1).
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    try:
        picture = pixels.read(path)
    except (FileNotFoundError, pixels.Unreadable) as error:
        raise UserError(f"{path}: not a whole picture ({error}); replace or remove it") from None
    share, x, y = crop
    if share < 1:
        side = share * min(picture.size)
        left, top = x * (picture.width - side), y * (picture.height - side)
        box = (left, top, left + side, top + side)
        picture = picture.resize((resolution, resolution), Image.Resampling.BICUBIC, box)
    elif picture.size != (resolution, resolution):
        picture = ImageOps.fit(picture, (resolution, resolution), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture in pixels."""
    try:
        width, height = pixels.size(path)
    except (FileNotFoundError, pixels.Unreadable) as error:
        raise UserError(f"{path}: not a whole picture ({error}); replace or remove it") from None
    return height, width


def corner(
    size: tuple[int, int], resolution: int, crop: tuple[float, float, float] = (1.0, 0.5, 0.5)
) -> tuple[int, int]:
    """(top, left) of what `read_picture` cuts out, in pixels of the picture as it is then resized.

    size: (height, width) of the file. In whole pixels, as diffusers' example scripts for Stable
    Diffusion XL have them.
    """
    share, x, y = crop
    x, y = (x, y) if share < 1 else (0.5, 0.5)
    height, width = (int(resolution * each / (share * min(size))) for each in size)
    return round(y * (height - resolution)), round(x * (width - resolution))


@dataclass
class Listing:
    """Pictures and captions in the order of all rows.

    rows: of each picture, the numbers of its captions; captions[0] is the empty one.
    """

    files: list[str]
    captions: list[str]
    rows: list[list[int]]

    @property
    def held_out(self) -> int:
        """How many of the last pictures are kept from training."""
        return min(max(HELD_OUT[1], int(len(self.files) * HELD_OUT[0])), HELD_OUT[2])


def read_listing(data: Path) -> Listing:
    """The listing of an image folder."""
    pictures = read_captions(data)
    captions = list(dict.fromkeys(["", *(text for _, texts in pictures for text in texts)]))
    row = {text: i for i, text in enumerate(captions)}
    rows = [[row[text] for text in texts] for _, texts in pictures]
    return Listing([name for name, _ in pictures], captions, rows)


def jittered(picture: torch.Tensor, factors: list[float]) -> torch.Tensor:
    """A picture [3, h, w] in 0..1 with brightness, contrast and saturation times `factors`."""
    import torch

    brightness, contrast, saturation = factors
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]  # ITU-R BT.601
    picture = picture * brightness
    mean = (picture * luma).sum(dim=0).mean()
    picture = mean + contrast * (picture - mean)
    grey = (picture * luma).sum(dim=0)
    return (grey + saturation * (picture - grey)).clamp(0, 1)
