"""PickScore: which picture people would pick (Kirstain et al., arXiv:2305.01569)."""

from __future__ import annotations

from typing import Any

from vlg.config import sections
from vlg.judge.kinds.clip import ClipScore


class Settings(sections.ModelJudgeKeys):
    """Of its own it has none."""


class PickScore(ClipScore):
    """The cosine of a Hugging Face CLIP times its own `logit_scale`, as the model card has it: for
    `hub:yuvalkirstain/PickScore_v1` about 100 cos, 18 to 24."""

    def __call__(self, images: Any, prompts: list[str]) -> list[float]:
        return [self.clip.scale / 100 * score for score in super().__call__(images, prompts)]
