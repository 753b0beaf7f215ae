"""What kinds of judges share that take the cosine of a model of open_clip."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from vlg.judge.kind import Judge
from vlg.models.device import Parts, send

if TYPE_CHECKING:
    import torch


class Cosines(Judge):
    """100 cos, rounded to four places; loading gives it to `take`."""

    def take(self, model: Any, dtype: torch.dtype) -> None:
        """model: open_clip's, frozen, on its device and of this type; cosines are in float32."""
        self.model, self.dtype = model, dtype
        self._parts = Parts("scoring pictures")

    @abstractmethod
    def tokens(self, texts: list[str]) -> torch.Tensor:
        """Token ids (n, length) on the device."""

    def __call__(self, images: Any, prompts: list[str]) -> list[float]:
        pixels = self.prepare(images) if isinstance(images, list) else images
        distinct = list(dict.fromkeys(prompts))
        texts = self._texts(distinct)[[distinct.index(prompt) for prompt in prompts]]
        parts = self._parts(self._cosines, pixels, texts)
        return [round(100 * cosine, 4) for part in parts for cosine in part.tolist()]

    def _texts(self, texts: list[str]) -> torch.Tensor:
        import torch

        with torch.no_grad():
            return _unit(self.model.encode_text(self.tokens(texts)))

    def _cosines(self, pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.no_grad():
            seen = _unit(self.model.encode_image(send(pixels.to(self.dtype), self.device)))
        return (seen * texts).sum(dim=1)


def _unit(found: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.normalize(found.float(), dim=-1)
