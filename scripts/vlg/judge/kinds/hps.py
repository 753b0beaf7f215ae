"""HPSv2 and HPSv2.1: what people prefer, by an open_clip (Wu et al., arXiv:2306.09341)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from vlg.config import sections
from vlg.errors import UserError
from vlg.judge.openclip import Cosines
from vlg.models import weights
from vlg.models.device import place, set_precision

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vlg.models.ledger import Ledger


class Settings(sections.ModelJudgeKeys):
    """Which weights."""

    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="Checksum of `source`, a file of weights; a pickled one (.pt) needs it.",
    )
    architecture: str = Field("ViT-H-14", description="What open_clip calls the model.")


class HumanPreferenceScore(Cosines):
    """100 cos by `source`, the file HPS_v2_compressed.pt or HPS_v2.1_compressed.pt of xswu/HPSv2,
    or the same as safetensors. As there, a picture is not cropped but padded with black.

    The package returns the cosine, its published tables have 100 times that.
    """

    settings: Settings

    def load(self) -> None:
        import open_clip

        from vlg.models.guide import quiet

        own, source = self.settings, self.root / self.settings.source
        tensors = weights.read(source, own.source, own.sha256)
        try:
            with quiet():
                model = open_clip.create_model(own.architecture)
                self.tokenizer = open_clip.get_tokenizer(own.architecture)
            model.load_state_dict(tensors)
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(
                f"{own.source}: not the weights of open_clip's {own.architecture} ({why}); give "
                "HPSv2's, or another architecture"
            ) from error
        dtype = set_precision(self.precision)
        self.take(place(model.to(dtype).eval().requires_grad_(False), self.device), dtype)
        cfg = self.model.visual.preprocess_cfg
        self.mean, self.std = cfg["mean"], cfg["std"]
        size = self.model.visual.image_size
        self._side = size if isinstance(size, int) else max(size)

    @property
    def side(self) -> int:
        return self._side

    @classmethod
    def check(cls, settings: Settings, root: Path = Path()) -> None:
        weights.check(root / settings.source, settings.source, settings.sha256)

    @classmethod
    def files(cls, settings: Settings, root: Path = Path()) -> list[Path]:
        return [root / settings.source]

    def watch(self, ledger: Ledger, part: str = "judge") -> None:
        ledger.watch(part, self.model.visual)

    def prepare(self, images: list[np.ndarray]) -> torch.Tensor:
        """Pixels (n, 3, side, side): the longer side resized (bicubic, antialiased), the shorter
        padded on both ends. As in its package floats are resized, and overshoot 0..1 at edges."""
        import torch
        from torch.nn.functional import interpolate, pad

        pictures = []
        for image in images:
            small = torch.tensor(image).permute(2, 0, 1).float() / 255
            scale = self.side / max(small.shape[1:])
            if scale != 1:
                target = [round(side * scale) for side in small.shape[1:]]
                small = interpolate(small[None], target, mode="bicubic", antialias=True)[0]
            down, right = (self.side - side for side in small.shape[1:])
            ends = (right // 2, right - right // 2, down // 2, down - down // 2)
            pictures.append(pad(small, ends))
        pixels = torch.stack(pictures)
        mean, std = (torch.tensor(each)[:, None, None] for each in (self.mean, self.std))
        return (pixels - mean) / std

    def tokens(self, texts: list[str]) -> torch.Tensor:
        return self.tokenizer(texts).to(self.device)
