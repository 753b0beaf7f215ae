"""The guide: a frozen CLIP whose image tower training and drawing look through.

As a rule an open_clip folder; `vlg.models.guides` has those that are made of others.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.files import MANIFEST, check_manifest

if TYPE_CHECKING:
    import torch

    from vlg.models.ledger import Ledger

CONFIG = "open_clip_config.json"
SPEC = "guide.json"  # of a guide that is made of others


class Guide:
    """Unit embeddings of pictures and captions, the picture's differentiable in its pixels."""

    def __init__(self, model: torch.nn.Module, folder: Path) -> None:
        self.model = model.eval().requires_grad_(False)
        self.folder = folder
        preprocess: dict[str, Any] = model.visual.preprocess_cfg
        size = preprocess["size"]
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        self.mean, self.std = preprocess["mean"], preprocess["std"]
        self.squash = preprocess["resize_mode"] == "squash"
        self.mode = "bilinear" if preprocess["interpolation"] == "bilinear" else "bicubic"
        self._tokenizer: Any = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def watch(self, ledger: Ledger, part: str = "guide") -> None:
        """Let a ledger count the pictures that are looked at, as `part`."""
        ledger.watch(part, self.model.visual)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        """Embeddings of `texts`, [n, d], of length 1, without gradient. Long texts are cut."""
        import torch

        with torch.no_grad():
            return self.model.encode_text(self.tokens(texts), normalize=True)

    def tokens(self, texts: list[str]) -> torch.Tensor:
        """Token ids, [n, length]."""
        if self._tokenizer is None:
            import open_clip

            try:
                with quiet():
                    self._tokenizer = open_clip.get_tokenizer(f"local-dir:{self.folder}")
            except Exception as error:
                raise UserError(
                    f"{self.folder}: open_clip cannot load its tokenizer ({error}); restore it"
                ) from error
        return self._tokenizer(texts).to(self.device)

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        """Embeddings, [n, d], of length 1, of `pictures` [n, 3, height, width] in 0..1."""
        return self.model.encode_image(self.preprocess(pictures), normalize=True)

    def preprocess(self, pictures: torch.Tensor) -> torch.Tensor:
        """Resize, crop and normalise as open_clip does to a picture file, differentiably.

        As in open_clip, the shorter side is resized (bicubic or bilinear, antialiased) and the
        middle is cut out; `squash` models take the whole picture. The clamp stands for the file's
        0..255: a bicubic kernel overshoots at edges.
        """
        import torch
        from torch.nn.functional import interpolate

        height, width = pictures.shape[-2:]
        if (height, width) != self.size:
            target, mode = self._resized(height, width)
            pictures = interpolate(pictures, target, mode=mode, antialias=True).clamp(0, 1)
            top, left = (
                int(round((side - wanted) / 2))
                for side, wanted in zip(target, self.size, strict=True)
            )
            pictures = pictures[..., top : top + self.size[0], left : left + self.size[1]]
        mean, std = (torch.tensor(v).to(pictures)[:, None, None] for v in (self.mean, self.std))
        return (pictures - mean) / std

    def _resized(self, height: int, width: int) -> tuple[tuple[int, int], str]:
        """To which (height, width) a picture is resized, and how; `open_clip.image_transform`."""
        if self.squash:
            return self.size, self.mode
        if self.size[0] == self.size[1]:
            short, long = self.size[0], int(self.size[0] * max(height, width) / min(height, width))
            return ((short, long) if height <= width else (long, short)), self.mode
        ratio = min(height / self.size[0], width / self.size[1])
        return (round(height / ratio), round(width / ratio)), "bicubic"  # whatever is stated


def load_guide(folder: Path | str, device: str = "cpu") -> Guide:
    """Load a guide's folder, frozen: an open_clip one, or what its `guide.json` says.

    UserError as of `load_open_clip`.
    """
    if (Path(folder) / SPEC).is_file():
        from vlg.models.guides import load_made

        return load_made(Path(folder), device)
    return load_open_clip(folder, device)


def load_open_clip(folder: Path | str, device: str = "cpu") -> Guide:
    """Load an open_clip `local-dir` folder (open_clip_config.json and weights), frozen.

    Raises UserError when the folder is missing, incomplete or damaged; if it has a manifest, its
    checksums are compared first.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: no {CONFIG}; models.guide must be an open_clip folder")
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: no *.safetensors; save the guide's weights as safetensors")
    if (folder / MANIFEST).is_file():
        check_manifest(folder)
    import open_clip

    try:
        with quiet():
            model = open_clip.create_model(
                f"local-dir:{folder}", device=device, require_pretrained=True
            )
    except Exception as error:
        raise UserError(f"{folder}: open_clip cannot load it ({error}); restore it") from error
    return Guide(model, folder)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No messages within the block: open_clip tells each of its steps to the root logger."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
