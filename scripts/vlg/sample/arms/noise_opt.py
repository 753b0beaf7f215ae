"""The gradient of the guide on the noise that a picture begins from: ReNO (arXiv:2406.04312).

Ascent of 100 cos by the guide, through decoder and steps to the noise, less `regularization` times
K(z) = ||z||^2 / 2 - (d - 1) log ||z||, which holds the length of the d numbers of the noise where
that of standard normal ones is. The best of all pictures on the way stays. ReNO is of models of one
step; of one with many the gradient goes through all of them, as in arXiv:2405.18881.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vlg.config import sections
from vlg.config.keys import NEUTRAL
from vlg.sample.arm import Arm, Before, Drawn, choose

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vlg.models.guide import Guide
    from vlg.sample.sampler import Sampler

NEEDS = ("guide",)
ROUNDS = 1
DOSE = ("iterations", 50)


class Settings(sections.ArmKeys):
    """How the noise is led. The defaults are those of ReNO's released code."""

    iterations: int = Field(
        50, ge=1, description="Pictures drawn of each; after each but the last a step is taken."
    )
    learning_rate: float = Field(5.0, gt=0, description="Of the steps.")
    momentum: sections.Share = Field(0.9, description="Nesterov's, of the steps.")
    max_grad_norm: float = Field(
        0.1, gt=0, description="To which a picture's gradient is shortened where it is longer."
    )
    weight: float = Field(
        0.01, gt=0, description="Of 100·cos by the guide, as ReNO weighs its CLIP."
    )
    regularization: float = Field(
        0.01, ge=0, description="Of what holds the noise at its usual length."
    )
    checkpointing: bool = Field(
        False,
        json_schema_extra=NEUTRAL,
        description=(
            "Compute each step once more in the backward pass instead of keeping what it was made "
            "of: memory of one step and not of all, for half as much compute again."
        ),
    )


class NoiseOpt(Arm):
    """Each picture has an ascent of its own: gradients are shortened one by one."""

    settings: Settings

    def draw(self, sampler: Sampler, guide: Guide, before: Before) -> Drawn:
        import numpy as np

        def part(texts: list[str], seeds: list[int]) -> np.ndarray:
            latents = sampler.latents(texts, seeds, before.noise)
            return self.ascend(sampler, guide, texts, seeds, latents)

        images = np.concatenate(sampler.parts(part, before.texts, before.seeds))
        return choose(guide, before, images)

    def ascend(
        self,
        sampler: Sampler,
        guide: Guide,
        texts: list[str],
        seeds: list[int],
        latents: torch.Tensor,
    ) -> np.ndarray:
        """The best pictures (n, height, width, 3) uint8 on the way from this noise [n, ...]."""
        import torch
        from torch.utils.checkpoint import checkpoint

        from vlg.models.cosines import latent_cosines

        s, family = self.settings, sampler.family
        condition, negative = sampler.conditions(texts)
        wanted = guide.encode_text(texts)
        again = functools.partial(checkpoint, family.net, use_reentrant=False)
        noise = latents.float().requires_grad_()
        optimizer = torch.optim.SGD(
            [noise], lr=s.learning_rate, momentum=s.momentum, nesterov=s.momentum > 0
        )
        best = torch.full((len(texts),), -torch.inf, device=noise.device)
        kept = noise.detach().clone()
        for iteration in range(s.iterations):
            last = iteration == s.iterations - 1
            with torch.set_grad_enabled(not last):
                z = family.sample(
                    condition, noise.to(family.dtype), sampler.settings,
                    negative=negative, grad=not last, net=again if s.checkpointing else None,
                )  # fmt: skip
                seen = 100 * latent_cosines(family, guide, z, wanted)
            better = (seen.detach() > best) | (iteration == 0)
            best = torch.where(better, seen.detach(), best)
            kept[better] = z.detach()[better].float()
            if not last:
                loss = s.regularization * excess(noise) - s.weight * seen
                (noise.grad,) = torch.autograd.grad(loss.sum(), noise)
                shorten(noise.grad, s.max_grad_norm)
                optimizer.step()
        return sampler.decoded(texts, seeds, kept.to(family.dtype))


def excess(noise: torch.Tensor) -> torch.Tensor:
    """K of each sample, [n]: least where the length is sqrt(d - 1)."""
    flat = noise.flatten(1)
    length = flat.norm(dim=1)
    return 0.5 * length.square() - (flat.shape[1] - 1) * length.log()


def shorten(gradient: torch.Tensor, longest: float) -> None:
    """Shorten, in place, each sample's gradient to this length, as torch clips a norm."""
    lengths: Any = gradient.flatten(1).norm(dim=1)
    share = (longest / (lengths + 1e-6)).clamp(max=1)
    gradient.mul_(share.view(-1, *[1] * (gradient.ndim - 1)))
