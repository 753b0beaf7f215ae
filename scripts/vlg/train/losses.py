"""The two losses: denoising, and the CLIP term of embed fine-tuning.

z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps, with abar_t the schedule's cumulative product of
alphas, 1 at no noise and near 0 at t = 999. Each function takes whole batches and returns one value
per sample, so that callers choose what to average over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlg.errors import UserError
from vlg.models.checkpoints import load_component

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from vlg.models.guide import Guide

# w(t) of the CLIP term, by name, from abar_t.
WEIGHTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "abar": lambda abar: abar,
    "sqrt_abar": lambda abar: abar.sqrt(),
    "uniform": lambda abar: abar * 0 + 1,
}


@dataclass
class Schedule:
    """The noise schedule of a base model.

    abar: [T] float, cumulative products of alphas. prediction: what the UNet's output means,
    `epsilon` or `v_prediction` (v = sqrt(abar) eps - sqrt(1 - abar) z_0; Salimans & Ho 2022, 2.4).
    """

    abar: torch.Tensor
    prediction: str = "epsilon"

    def __post_init__(self) -> None:
        if self.prediction not in ("epsilon", "v_prediction"):
            raise UserError(
                f"scheduler_config.json: prediction_type {self.prediction} is not supported; "
                "use a base model that predicts epsilon or v_prediction"
            )

    def coefficients(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(sqrt(abar_t), sqrt(1 - abar_t)) for timesteps t [n], shaped [n, 1, 1, 1]."""
        abar = self.abar[t][:, None, None, None]
        return abar.sqrt(), (1 - abar).sqrt()

    def add_noise(self, z0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """z_t [n, c, h, w]."""
        signal, sigma = self.coefficients(t)
        return signal * z0 + sigma * noise

    def target(self, z0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the UNet should predict for z_t."""
        if self.prediction == "epsilon":
            return noise
        signal, sigma = self.coefficients(t)
        return signal * noise - sigma * z0

    def estimate(self, z_t: torch.Tensor, predicted: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The one-step estimate of z_0 from the UNet's prediction."""
        signal, sigma = self.coefficients(t)
        if self.prediction == "epsilon":
            return (z_t - sigma * predicted) / signal
        return signal * z_t - sigma * predicted


def load_schedule(base: Path | str) -> Schedule:
    """The schedule of a diffusers folder, whichever sampler its scheduler_config.json names."""
    from diffusers import DDPMScheduler

    scheduler = load_component(DDPMScheduler, base, "scheduler")
    return Schedule(scheduler.alphas_cumprod, scheduler.config.prediction_type)


def denoising(
    schedule: Schedule,
    predicted: torch.Tensor,
    target: torch.Tensor,
    t: torch.Tensor,
    min_snr_gamma: float | None = None,
) -> torch.Tensor:
    """Mean squared error of each sample, [n], in float32.

    With `min_snr_gamma` weighted by min(SNR, gamma) / SNR, for v prediction by
    min(SNR, gamma) / (SNR + 1), where SNR = abar / (1 - abar): Min-SNR, Hang et al. 2023, 3.4.
    At gamma 5 and SD's schedule that lowers the weight of t below 147.
    """
    error = (at_least_float32(predicted) - target).square().mean(dim=(1, 2, 3))
    if min_snr_gamma is None:
        return error
    abar = schedule.abar[t]
    snr = abar / (1 - abar)
    return error * snr.clamp(max=min_snr_gamma) / (snr + (schedule.prediction != "epsilon"))


def clip_samples(t: torch.Tensor, captioned: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    """Which samples the CLIP term concerns: indices [m] of those inside the window and captioned.

    t: [n] timesteps; captioned: [n] bool, False where caption dropout struck; window: the lowest
    and highest timestep, both included. At high noise the estimate of z_0 is a blur, and at very
    low noise the term breeds adversarial texture.
    """
    return ((t >= window[0]) & (t <= window[1]) & captioned).nonzero()[:, 0]


def clip_term(
    schedule: Schedule,
    decode: Callable[[torch.Tensor], torch.Tensor],
    guide: Guide,
    z_t: torch.Tensor,
    predicted: torch.Tensor,
    t: torch.Tensor,
    embeddings: torch.Tensor,
    weighting: str = "abar",
) -> tuple[torch.Tensor, torch.Tensor]:
    """w(t) (1 - cos) and cos of each sample, both [m], the first with its gradient.

    w(t) is one of WEIGHTS. The estimate of z_0 is an abar_t-th part picture: abar leaves the
    noisiest samples next to no weight, uniform leaves it to the window alone.

    cos = cos(E_img(A(D(z0_hat))), e): `decode` is D, latents to pictures in 0..1; `guide` is A and
    E_img; `embeddings` [m, d] are the unit vectors e. z0_hat and the cosine are in float32 even
    where the UNet computes in bfloat16, whose 8 bits would leave steps of 0.004 in a cosine near 1.
    Give it only the samples that `clip_samples` names: a decoded sample costs several UNet calls.
    """
    z0_hat = schedule.estimate(z_t, at_least_float32(predicted), t)
    pictures = at_least_float32(decode(z0_hat))
    seen = at_least_float32(guide.encode_image(pictures))
    cosine = (seen * embeddings).sum(dim=1)
    return WEIGHTS[weighting](schedule.abar[t]) * (1 - cosine), cosine.detach()


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """x in float32, or unchanged when it is more precise (gradient checks run in float64)."""
    import torch

    return x.to(torch.promote_types(x.dtype, torch.float32))
