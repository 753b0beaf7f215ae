"""100 cos between a picture and its prompt, by an open_clip folder; such a judge can guide, too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlg.config import sections
from vlg.judge.openclip import Cosines
from vlg.models import stated
from vlg.models.guide import Guide

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vlg.models.ledger import Ledger


class Settings(sections.ModelJudgeKeys):
    """Of its own it has none."""


class Rounded(Guide):
    """One that computes in 16 bits; its embeddings are made of length 1 in float32."""

    def __init__(self, guide: Guide, dtype: torch.dtype) -> None:
        super().__init__(guide.model.to(dtype), guide.folder)
        self.dtype = dtype

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        import torch

        with torch.no_grad():
            found = self.model.encode_text(self.tokens(texts))
        return torch.nn.functional.normalize(found.float(), dim=-1)

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        import torch

        found = self.model.encode_image(self.preprocess(pictures).to(self.dtype))
        return torch.nn.functional.normalize(found.float(), dim=-1)


class OpenClip(Cosines):
    """The cosine as open_clip takes it, whose own transform prepares the pictures. The guide, which
    must be differentiable, resizes floats and not bytes."""

    form = "guide"
    mark = "open_clip_config.json"
    guides = True

    def load(self) -> None:
        import torch
        from open_clip.transform import PreprocessCfg, image_transform_v2

        from vlg.models.device import set_precision
        from vlg.models.guide import load_guide

        dtype = set_precision(self.precision)
        self.guide = load_guide(self.root / self.settings.source, self.device)
        if dtype != torch.float32:
            self.guide = Rounded(self.guide, dtype)
        self.take(self.guide.model, dtype)
        cfg = PreprocessCfg(**self.guide.model.visual.preprocess_cfg)
        self.transform = image_transform_v2(cfg, is_train=False)

    @property
    def inside(self) -> Guide:
        return self.guide

    @classmethod
    def check(cls, settings: sections.JudgeKeys, root: Path = Path()) -> None:
        super().check(settings, root)
        stated.check("guide", root / settings.source, settings.source)

    def watch(self, ledger: Ledger, part: str = "judge") -> None:
        self.guide.watch(ledger, part)

    def prepare(self, images: list[np.ndarray]) -> torch.Tensor:
        import torch
        from PIL import Image

        return torch.stack([self.transform(Image.fromarray(image)) for image in images])

    def tokens(self, texts: list[str]) -> torch.Tensor:
        return self.guide.tokens(texts)

    @property
    def side(self) -> int:
        return max(self.guide.size)

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.guide.encode_image(pictures)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return self.guide.encode_text(texts)
