"""What a guide says of pictures, drawn already or still in latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlg.models.device import Parts, at_least_float32

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vlg.models.family import Family
    from vlg.models.guide import Guide


def latent_cosines(
    family: Family, guide: Guide, latents: torch.Tensor, wanted: torch.Tensor
) -> torch.Tensor:
    """cos of each picture that clean latents [n, ...] decode to, and its unit embedding in `wanted`
    [n, d]; in float32, differentiable."""
    pictures = at_least_float32(family.decode(latents.to(family.dtype)))
    return (at_least_float32(guide.encode_image(pictures)) * wanted).sum(dim=1)


def guide_scores(guide: Guide, images: np.ndarray, texts: list[str]) -> list[float]:
    """100 cos by the guide of each (picture, text); images (n, height, width, 3) uint8.

    guide: anything with `device`, `encode_image` and `encode_text` as `Guide` has them.
    """
    import torch

    def part(images: np.ndarray, texts: list[str]) -> list[float]:
        # Bytes travel to the device, a quarter of the floats; the floats are the same there.
        pixels = torch.from_numpy(images).to(guide.device).permute(0, 3, 1, 2).float().div(255)
        with torch.no_grad():
            cosines = (guide.encode_image(pixels) * guide.encode_text(texts)).sum(1)
        return [round(100 * value, 4) for value in cosines.tolist()]

    return [score for scores in Parts("scoring pictures")(part, images, texts) for score in scores]
