"""Own samples: pictures that the network draws while it is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vlg.models.device import send

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vlg.config.sections import Denoising
    from vlg.data.source import Source
    from vlg.models.family import Family, Step
    from vlg.train.method import Net


def draw(
    family: Family,
    net: Net,
    data: Source,
    captions: list[int],
    path: Denoising,
    latents: torch.Tensor,
    *,
    begin: int = 0,
    end: int | None = None,
    grad: int = 0,
    noise: Callable[[int], torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(latents behind the last of the steps, its one-step estimate of the clean ones), [n, ...].

    Drawn by `net` for rows of the data's captions, from `latents` as they are before step `begin`,
    to `end` (exclusive; None: the last), with gradient through the last `grad` steps alone. noise:
    as `Family.sample` has it.
    """
    last = (path.steps if end is None else end) - 1
    seen: list[torch.Tensor] = []

    def look(step: Step) -> None:
        if step.index == last:
            seen.append(step.estimate)

    z = family.sample(
        _told(family, data, captions),
        latents,
        path,
        negative=_told(family, data, [0] * len(captions)) if path.guidance_scale > 1 else None,
        net=net,
        begin=begin,
        end=end,
        on_step=look,
        grad=grad,
        noise=noise,
    )
    return z, seen[0]


def _told(family: Family, data: Source, captions: list[int]) -> dict[str, torch.Tensor]:
    return {name: send(v, family.device) for name, v in data.condition(captions).items()}


def as_bytes(pictures: torch.Tensor) -> np.ndarray:
    """Pictures [n, 3, h, w] in 0..1 as (n, h, w, 3) uint8."""
    return (pictures * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
