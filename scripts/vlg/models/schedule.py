"""The noise schedule of models that predict noise or v.

z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps, with abar_t the schedule's cumulative product of
alphas, 1 at no noise and near 0 at t = 999. Each function takes whole batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.models.components import load_component

if TYPE_CHECKING:
    from pathlib import Path

    import torch


PREDICTIONS = ("epsilon", "v_prediction")
BETAS = ("beta_start", "beta_end", "beta_schedule", "trained_betas")
SHAPES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace")  # of betas
SPACINGS = ("leading", "linspace", "trailing")  # of timesteps
LEAST_SNR = 1e-20  # far below that of any step that has a picture in it


def check_stated(config: Mapping[str, Any]) -> None:
    """UserError when a scheduler_config.json is not that of a model which predicts noise or v.

    Schedules of flow matching and of EDM have no betas; read as one that has, they would get its
    class's default betas.
    """
    name = str(config.get("_class_name", "the scheduler"))
    # Saved from another class's config, one of flow matching may still have betas.
    flows = name.startswith("FlowMatch") or config.get("use_flow_sigmas")
    if flows or not any(key in config for key in BETAS):
        raise UserError(
            f"scheduler_config.json: {name} is no noise schedule with betas (flow matching?); give "
            "a base that predicts epsilon or v_prediction"
        )
    found = config.get("prediction_type", PREDICTIONS[0])
    if found not in PREDICTIONS:
        raise UserError(
            f"scheduler_config.json: prediction_type {found} is not supported; "
            "use a base model that predicts epsilon or v_prediction"
        )
    for key, known in (("beta_schedule", SHAPES), ("timestep_spacing", SPACINGS)):
        if config.get(key, known[0]) not in known:
            raise UserError(
                f"scheduler_config.json: {key} is {config[key]!r}; set it to the one that the base "
                f"was trained with ({', '.join(known)})"
            )
    for key in ("beta_start", "beta_end"):
        beta = config.get(key, 0.01)
        if not isinstance(beta, (int, float)) or not 0 < beta < 1:
            raise UserError(f"scheduler_config.json: {key} is {beta!r}; set a number in 0 to 1")


@dataclass
class Schedule:
    """abar: [T] float, cumulative products of alphas. prediction: what the network's output means,
    `epsilon` or `v_prediction` (v = sqrt(abar) eps - sqrt(1 - abar) z_0; Salimans & Ho 2022, 2.4).
    """

    abar: torch.Tensor
    prediction: str = "epsilon"

    def __post_init__(self) -> None:
        check_stated({"prediction_type": self.prediction, "trained_betas": None})

    def __len__(self) -> int:
        """T."""
        return len(self.abar)

    def share(self, t: torch.Tensor) -> torch.Tensor:
        """Share of the picture in the variance of z_t, [n]: abar_t."""
        return self.abar[t]

    def coefficients(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(sqrt(abar_t), sqrt(1 - abar_t)) for timesteps t [n], shaped [n, 1, 1, 1]."""
        abar = self.abar[t][:, None, None, None]
        return abar.sqrt(), (1 - abar).sqrt()

    def add_noise(self, z0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """z_t [n, c, h, w]."""
        signal, sigma = self.coefficients(t)
        return signal * z0 + sigma * noise

    def target(self, z0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the network should predict for z_t."""
        if self.prediction == "epsilon":
            return noise
        signal, sigma = self.coefficients(t)
        return signal * noise - sigma * z0

    def estimate(self, z_t: torch.Tensor, predicted: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The one-step estimate of z_0 from the network's prediction."""
        signal, sigma = self.coefficients(t)
        if self.prediction == "epsilon":
            return (z_t - sigma * predicted) / signal
        return signal * z_t - sigma * predicted

    def min_snr(self, error: torch.Tensor, t: torch.Tensor, gamma: float) -> torch.Tensor:
        """Errors [n] weighted by min(SNR, gamma) / SNR, for v prediction by
        min(SNR, gamma) / (SNR + 1), where SNR = abar / (1 - abar): Min-SNR, Hang et al. 2023, 3.4.
        At gamma 5 and SD's schedule that lowers the weight of t below 147. Where a schedule ends
        at an SNR of 0, the weights are their limits, 1 and 0.
        """
        abar = self.abar[t]
        snr = (abar / (1 - abar)).clamp(min=LEAST_SNR)
        return error * snr.clamp(max=gamma) / (snr + (self.prediction != "epsilon"))


def load_schedule(base: Path | str) -> Schedule:
    """The schedule of a diffusers folder, whichever sampler its scheduler_config.json names."""
    from diffusers import DDPMScheduler

    scheduler = load_component(DDPMScheduler, base, "scheduler")
    return Schedule(scheduler.alphas_cumprod, scheduler.config.prediction_type)
