"""The shapes world's verifier: the share of a prompt's facts that are true, read from the pixels.

As a guide it is the oracle, what a way to guide could reach if its guide were never wrong. It has
no gradient, and knows the sentences of that world alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlg.config import sections
from vlg.errors import UserError
from vlg.judge import sizes
from vlg.judge.kind import SHAPES, Judge

if TYPE_CHECKING:
    import numpy as np
    import torch

CONTROL = "oracle"  # what a guide of this kind is, in tables


class Settings(sections.JudgeKeys):
    """Of its own it has none."""


class Verifier(Judge):
    """100 where all of a prompt is true."""

    guides = True

    def load(self) -> None:
        """Nothing has to be loaded."""

    def __call__(self, images: list[np.ndarray], prompts: list[str]) -> list[float]:
        return [100 * true(image, text) for image, text in zip(images, prompts, strict=True)]

    @property
    def side(self) -> int:
        from vlg.shapes.world import SIDE

        return SIDE

    def encode_image(self, pictures: torch.Tensor) -> Shown:
        return Shown(pictures)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        """The texts themselves, [n, length] UTF-8 and 0 behind: rows may be chosen and repeated."""
        import torch

        found = [text.encode() for text in texts]
        length = max(map(len, found), default=0)
        return torch.tensor([[*text, *[0] * (length - len(text))] for text in found])

    @classmethod
    def check(cls, settings: sections.JudgeKeys, root: Path = Path()) -> None:
        if settings.source != SHAPES:
            raise UserError(
                f"{settings.source!r}: the verifier is of the shapes world; write source: {SHAPES}"
            )

    @classmethod
    def files(cls, settings: sections.JudgeKeys, root: Path = Path()) -> list[Path]:
        return []


class Shown:
    """Pictures as the verifier sees them, in the place of their embeddings: the product with texts
    is the share of true facts, [n, 1], whose sum is what that of unit embeddings is, a score."""

    def __init__(self, pictures: torch.Tensor) -> None:
        """pictures: [n, 3, h, w] in 0..1."""
        self.pictures = pictures.detach()

    @property
    def dtype(self) -> torch.dtype:
        return self.pictures.dtype

    def to(self, dtype: torch.dtype) -> Shown:
        return self

    def __mul__(self, texts: torch.Tensor) -> torch.Tensor:
        import torch

        pixels = self.pictures.float().clamp(0, 1).mul(255).round().byte()
        images = pixels.permute(0, 2, 3, 1).cpu().numpy()
        said = [bytes(row).rstrip(b"\0").decode() for row in texts.tolist()]
        found = [true(image, text) for image, text in zip(images, said, strict=True)]
        return torch.tensor(found, device=self.pictures.device)[:, None]


def true(image: np.ndarray, text: str) -> float:
    """Share of the text's facts that a picture (height, width, 3) uint8 shows; UserError where the
    text is no sentence of the shapes world."""
    from vlg.shapes import captions, verify

    said = captions.parse(text)
    if said is None:
        raise UserError(
            f"the verifier cannot read {text!r}; it knows the sentences of the shapes world alone"
        )
    return float(verify.check(sizes.of_the_world(image), said)["fidelity"] or 0)
