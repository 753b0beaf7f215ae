"""CLIP-IQA: how good a picture looks, whatever its prompt (Wang, Chan & Loy, arXiv:2207.12396)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from vlg.config import sections
from vlg.judge.kind import Judge
from vlg.models import stated

if TYPE_CHECKING:
    import numpy as np

    from vlg.models.clip import Clip
    from vlg.models.ledger import Ledger


Text = Annotated[str, Field(min_length=1)]


class Settings(sections.ModelJudgeKeys):
    """What is asked of a picture."""

    # Others in the paper: Natural / Synthetic, Clean / Noisy, Colorful / Dull photo.
    pair: tuple[Text, Text] = Field(
        ("Good photo.", "Bad photo."),
        description=(
            "What is asked of a picture, and its contrary; the score is the share of the first. "
            "For example `[Sharp photo., Blurry photo.]`."
        ),
    )


class ClipIQA(Judge):
    """100 times the probability that a CLIP gives to the first of `pair` against the second."""

    settings: Settings

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
        texts = self.clip.encode_text(list(self.settings.pair))
        cosines = self.clip.encode_image(images) @ texts.T
        return (100 * (cosines * self.clip.scale).softmax(dim=1)[:, 0]).tolist()
