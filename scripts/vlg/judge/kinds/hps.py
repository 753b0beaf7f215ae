"""HPSv2 and HPSv2.1: what people prefer, by an open_clip (Wu et al., arXiv:2306.09341)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vlg.config import sections
from vlg.errors import UserError
from vlg.judge.kind import Judge
from vlg.models import weights
from vlg.models.device import Parts, place, send, set_precision

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


class HumanPreferenceScore(Judge):
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
        self.dtype = set_precision(self.precision)
        self.model: Any = place(model.to(self.dtype).eval().requires_grad_(False), self.device)
        cfg = self.model.visual.preprocess_cfg
        self.mean, self.std = cfg["mean"], cfg["std"]
        size = self.model.visual.image_size
        self._side = size if isinstance(size, int) else max(size)
        self._parts = Parts("scoring pictures")

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

    def __call__(self, images: Any, prompts: list[str]) -> list[float]:
        pixels = self.prepare(images) if isinstance(images, list) else images
        distinct = list(dict.fromkeys(prompts))
        places = [distinct.index(prompt) for prompt in prompts]
        texts = self._encode_text(distinct)[places]
        found = self._parts(self._cosines, pixels, texts)
        return [100 * cosine for part in found for cosine in part.tolist()]

    def _encode_text(self, texts: list[str]) -> torch.Tensor:
        import torch

        with torch.no_grad():
            found = self.model.encode_text(self.tokenizer(texts).to(self.device))
        return torch.nn.functional.normalize(found.float(), dim=-1)

    def _cosines(self, pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.no_grad():
            seen = self.model.encode_image(send(pixels.to(self.dtype), self.device))
        return (torch.nn.functional.normalize(seen.float(), dim=-1) * texts).sum(dim=1)
