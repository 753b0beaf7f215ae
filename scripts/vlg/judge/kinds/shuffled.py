"""A guide that is shown other texts: a control, of which nothing must come.

It says how well a picture fits a caption of the data other than the one asked for, the same one
each time: which, depends on the text alone. A folder holds the guide and the captions,

guide/       a guide
texts.json   ["a caption", ...]
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlg.config import sections
from vlg.files import read_json
from vlg.judge import sizes
from vlg.judge.kind import Judge

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vlg.models.ledger import Ledger

CONTROL = "shuffled"  # what a guide of this kind is, in tables
TEXTS = "texts.json"
GUIDE = "guide"


class Settings(sections.JudgeKeys):
    """Of its own it has none."""


class Shuffled(Judge):
    """The cosine with another caption."""

    guides = True
    mark = TEXTS

    def load(self) -> None:
        from vlg.models.guide import load_guide

        folder = self.root / self.settings.source
        self.guide = load_guide(folder / GUIDE, self.device)
        self.texts: list[str] = read_json(folder / TEXTS)

    def watch(self, ledger: Ledger, part: str = "judge") -> None:
        self.guide.watch(ledger, part)

    def __call__(self, images: list[np.ndarray], prompts: list[str]) -> list[float]:
        return sizes.guided(self.guide, images, [*map(self.other, prompts)])

    @property
    def side(self) -> int:
        return max(self.guide.size)

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.guide.encode_image(pictures)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return self.guide.encode_text([*map(self.other, texts)])

    def other(self, text: str) -> str:
        """The caption that stands for a text; the empty one stays."""
        return other(text, self.texts) if text else text

    @classmethod
    def files(cls, settings: sections.JudgeKeys, root: Path = Path()) -> list[Path]:
        folder = root / settings.source
        return [folder / TEXTS, *sorted((folder / GUIDE).rglob("*.safetensors"))]


def other(text: str, texts: Sequence[str]) -> str:
    """One of two texts or more, each there once, that is not `text`."""
    place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % len(texts)
    return texts[place] if texts[place] != text else texts[place - 1]
