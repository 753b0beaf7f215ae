"""What the guide says of one-step estimates, and the weight that this has in a loss.

Each function takes whole batches and returns one value per sample, so that callers choose what to
average over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vlg.models.device import at_least_float32

if TYPE_CHECKING:
    import torch

    from vlg.models.family import Family
    from vlg.models.guide import Guide

# w(t) of a guide's term, by name, from abar_t, the share of the picture in what the network sees:
# abar leaves the noisiest samples next to no weight, uniform leaves it to the window alone.
WEIGHTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "abar": lambda abar: abar,
    "sqrt_abar": lambda abar: abar.sqrt(),
    "uniform": lambda abar: abar * 0 + 1,
}


def inside(t: torch.Tensor, captioned: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    """Which samples a guide's term concerns: indices [m] of those inside the window and captioned.

    t: [n] timesteps; captioned: [n] bool, False where caption dropout struck; window: the lowest
    and highest timestep, both included. At high noise the estimate of z_0 is a blur, and at very
    low noise the term breeds adversarial texture.
    """
    return ((t >= window[0]) & (t <= window[1]) & captioned).nonzero()[:, 0]


def guide_cosine(
    family: Family,
    guide: Guide,
    z_t: torch.Tensor,
    predicted: torch.Tensor,
    t: torch.Tensor,
    embeddings: torch.Tensor,
    exactly: bool = False,
) -> torch.Tensor:
    """cos(E_img(A(D(z0_hat))), e) of each sample, [m], differentiable.

    z0_hat is the one-step estimate, D the decoder (`exactly`: the base's own), A and E_img are the
    guide's, `embeddings` [m, d] the unit vectors e. z0_hat and the cosine are in float32 even where
    the network computes in bfloat16, whose 8 bits would leave steps of 0.004 in a cosine near 1.
    Give it only the samples that matter: a decoded sample costs several calls of the network.
    """
    z0_hat = family.estimate(z_t, at_least_float32(predicted), t)
    return cosine(family, guide, z0_hat, embeddings, exactly)


def cosine(
    family: Family,
    guide: Guide,
    latents: torch.Tensor,
    embeddings: torch.Tensor,
    exactly: bool = False,
) -> torch.Tensor:
    """cos(E_img(A(D(latents))), e) of each sample, [m]; see `guide_cosine`."""
    pictures = at_least_float32(family.decode(latents, exactly))
    seen = at_least_float32(guide.encode_image(pictures))
    return (seen * embeddings).sum(dim=1)
