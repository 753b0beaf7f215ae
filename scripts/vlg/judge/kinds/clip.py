"""ClipScore: 100 cos between a picture and its prompt, by a Hugging Face CLIP or SigLIP folder.

Such a judge can guide, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.config import sections
from vlg.judge.kind import Judge
from vlg.models import stated

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vlg.models.clip import Clip
    from vlg.models.ledger import Ledger


class Settings(sections.ModelJudgeKeys):
    """Of its own it has none."""


class ClipScore(Judge):
    """The metric of Hessel et al. (arXiv:2104.08718), not clamped at 0."""

    guides = True

    def load(self) -> None:
        from vlg.models.clip import Clip

        self.clip = Clip(self.root / self.settings.source, self.device, self.precision)

    @property
    def inside(self) -> Clip:
        return self.clip

    @classmethod
    def check(cls, settings: sections.JudgeKeys, root: Path = Path()) -> None:
        super().check(settings, root)
        stated.check("judge", root / settings.source, settings.source)

    def watch(self, ledger: Ledger, part: str = "judge") -> None:
        self.clip.watch(ledger, part)

    def prepare(self, images: list[np.ndarray]) -> Any:
        return self.clip.prepare(images)

    def __call__(self, images: Any, prompts: list[str]) -> list[float]:
        return self.clip.scores(images, prompts)

    @property
    def side(self) -> int:
        return self.clip.side

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.clip.encode_pictures(pictures)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return self.clip.encode_text(texts)
