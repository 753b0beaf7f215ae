"""The schedule of models of flow matching, and how their pictures are drawn.

z_t = (1 - sigma_t) z_0 + sigma_t noise, and the network predicts the flow, noise - z_0 (rectified
flow; Esser et al., arXiv:2403.03206). With u = (t + 1) / T for t = 0 .. T - 1 and a shift s,
sigma_t = s u / (1 + (s - 1) u): 1 at the last timestep, where nothing of the picture is left. The
network is told T sigma_t. A sampler stops at sigmas between those of whole timesteps; they are
given as T sigma in floating point, whole timesteps as integers. Each function takes whole batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.models.components import load_component

if TYPE_CHECKING:
    import torch

    from vlg.config.sections import Denoising

SCHEDULER = "FlowMatchEulerDiscreteScheduler"
# What a shift by the number of a picture's tokens goes by, and what it is as published.
SHIFT_BY_SIZE = {"base_image_seq_len": 256, "max_image_seq_len": 4096}
SHIFT_BY_SIZE |= {"base_shift": 0.5, "max_shift": 1.15}


def check_stated(config: Mapping[str, Any], by_size: bool = False) -> None:
    """UserError when a scheduler_config.json is not that of a flow with a fixed shift, or, where
    it may be so (`by_size`), with one that depends on the size of a picture."""
    name = "scheduler_config.json"
    if (found := config.get("_class_name", SCHEDULER)) != SCHEDULER:
        raise UserError(f"{name}: is of a {found}; give a base with a {SCHEDULER}")
    if config.get("use_dynamic_shifting") and not by_size:
        raise UserError(
            f"{name}: use_dynamic_shifting is set, and this family's schedule is the same for all "
            "pictures; give a base of Stable Diffusion 3 or 3.5"
        )
    if config.get("invert_sigmas"):
        raise UserError(f"{name}: invert_sigmas is set; give a base whose sigmas fall")
    if by_size:
        _check_shift_by_size(config, name)
    if not _positive(shift := config.get("shift", 1.0)):
        raise UserError(f"{name}: shift is {shift!r}; set that of the base (3.0 as published)")
    _check_steps(config, name)


# With which DPM-Solver++ draws here.
SOLVER = {"use_dynamic_shifting": False, "use_karras_sigmas": False, "solver_order": 2}
SOLVER |= {"algorithm_type": "dpmsolver++", "solver_type": "midpoint"}


def check_solver(config: Mapping[str, Any]) -> None:
    """UserError when a scheduler_config.json is not that of DPM-Solver++ at the sigmas of a flow
    with a fixed shift."""
    name, wanted = "scheduler_config.json", "DPMSolverMultistepScheduler"
    if (found := config.get("_class_name", wanted)) != wanted:
        raise UserError(f"{name}: is of a {found}; give a base with a {wanted}")
    for key, value in (("prediction_type", "flow_prediction"), ("use_flow_sigmas", True)):
        if config.get(key) != value:
            raise UserError(
                f"{name}: {key} is {config.get(key)!r} and of a flow {value!r}; give a base that "
                "predicts flow"
            )
    for key, value in SOLVER.items():
        if config.get(key, value) != value:
            raise UserError(
                f"{name}: {key} is {config[key]!r} and of this family {value!r}; give the "
                "scheduler of the base"
            )
    if not _positive(shift := config.get("flow_shift", 1.0)):
        raise UserError(f"{name}: flow_shift is {shift!r}; set that of the base (3.0 as published)")
    _check_steps(config, name)


def _check_steps(config: Mapping[str, Any], name: str) -> None:
    steps = config.get("num_train_timesteps", 1000)
    if not _positive(steps) or steps != int(steps):
        raise UserError(f"{name}: num_train_timesteps is {steps!r}; set a whole number (1000)")


def _check_shift_by_size(config: Mapping[str, Any], name: str) -> None:
    """UserError unless its four numbers say a line."""
    for key, usual in SHIFT_BY_SIZE.items():
        if not _positive(found := config.get(key, usual)):
            raise UserError(f"{name}: {key} is {found!r}; set that of the base ({usual})")
    least, most = (config.get(f"{w}_image_seq_len", SHIFT_BY_SIZE[f"{w}_image_seq_len"])
                   for w in ("base", "max"))  # fmt: skip
    if least >= most:
        raise UserError(
            f"{name}: base_image_seq_len is {least} and max_image_seq_len {most}; set those of the "
            "base (256 and 4096)"
        )


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


@dataclass
class Flow:
    """sigmas: [T] float, share of the noise at each timestep, rising to 1."""

    sigmas: torch.Tensor

    def __len__(self) -> int:
        """T."""
        return len(self.sigmas)

    def sigma(self, t: torch.Tensor) -> torch.Tensor:
        """sigma of timesteps [n], or of T sigma in floating point."""
        return t / len(self.sigmas) if t.is_floating_point() else self.sigmas[t]

    def _wide(self, t: torch.Tensor) -> torch.Tensor:
        return self.sigma(t)[:, None, None, None]

    def add_noise(self, z0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """z_t [n, c, h, w]."""
        sigma = self._wide(t)
        return (1 - sigma) * z0 + sigma * noise

    def target(self, z0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the network should predict for z_t: noise - z_0."""
        return noise - z0

    def estimate(self, z_t: torch.Tensor, predicted: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The one-step estimate of z_0 from the network's prediction."""
        return z_t - self._wide(t) * predicted

    def share(self, t: torch.Tensor) -> torch.Tensor:
        """Share of the picture in the variance of z_t, [n]; abar_t of the noise schedule that has
        the same ratio of picture and noise."""
        sigma = self.sigma(t)
        return (1 - sigma).square() / ((1 - sigma).square() + sigma.square())

    def weighted(self, error: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Squared errors [n] of the flow as those of the estimate of z_0, sigma^2 times as large:
        the loss of diffusers' train_dreambooth_lora_sd3.py as it is set by default."""
        return error * self.sigma(t).square()

    def min_snr(self, error: torch.Tensor, t: torch.Tensor, gamma: float) -> torch.Tensor:
        """Squared errors [n] of the flow with min-SNR weights, SNR = (1 - sigma)^2 / sigma^2: those
        of the estimate of z_0 times min(SNR, gamma) (Hang et al. 2023, 3.4)."""
        sigma = self.sigma(t)
        return error * (1 - sigma).square().minimum(gamma * sigma.square())


def logit_normal(n: int, length: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Timesteps [n] below `length`: those of u = sigmoid(standard normal) before the shift, as
    Stable Diffusion 3 was trained (arXiv:2403.03206, 3.1)."""
    import torch

    u = torch.randn(n, generator=generator).sigmoid()
    return (u * length).long().clamp(max=length - 1)


def load_flow(base: Path | str) -> Flow:
    """The schedule of a diffusers folder."""
    return Flow(_scheduler(base).sigmas.flip(0))


def _scheduler(base: Path | str) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler as Scheduler

    # One that draws noise of its own would draw it unseeded.
    return load_component(Scheduler, base, "scheduler", stochastic_sampling=False)


class Solver:
    """diffusers' solvers of flow, as `Family.sample` calls a scheduler.

    All stop at the sigmas of the pipeline's scheduler. `ddim` takes its step, Euler's, which is
    DDIM's for z_t as above; `dpm++` is DPM-Solver++ (2M), of which the stochastic form is SDE-
    DPM-Solver++. The stochastic form of `ddim` is DDIM's at eta 1, the same as SDE-DPM-Solver++
    of first order: with z' and sigma' behind the step, sigma_up = sigma' sqrt(1 - ((1 - sigma)
    sigma' / (sigma (1 - sigma')))^2) of z' is fresh noise. In small steps it is the SDE of
    Flow-GRPO (arXiv:2505.05470, of deviation a sqrt(sigma / (1 - sigma))) at a = sqrt 2; steps of
    any size leave picture and noise their shares of z' (arXiv:2509.05952).

    how: what else the pipeline tells its scheduler of the steps (`sigmas`, `mu`).
    """

    init_noise_sigma = 1.0

    def __init__(
        self,
        base: Path,
        settings: Denoising,
        device: str,
        begin: int,
        stochastic: bool,
        **how: Any,
    ) -> None:
        from diffusers import DPMSolverMultistepScheduler

        self.inner = _scheduler(base)
        self.inner.set_timesteps(settings.steps, device=device, **how)
        self.timesteps = self.inner.timesteps
        if settings.scheduler == "dpm++" or stochastic:
            euler, self.inner = (
                self.inner,
                DPMSolverMultistepScheduler(
                    num_train_timesteps=self.inner.config.num_train_timesteps,
                    solver_order=2 if settings.scheduler == "dpm++" else 1,
                    algorithm_type="sde-dpmsolver++" if stochastic else "dpmsolver++",
                    prediction_type="flow_prediction",
                    use_flow_sigmas=True,
                ),
            )
            self.inner.set_timesteps(settings.steps, device=device)
            self.inner.sigmas, self.inner.timesteps = euler.sigmas, euler.timesteps
        self.inner.set_begin_index(begin)

    @property
    def model_outputs(self) -> list[torch.Tensor | None]:
        """What a solver of several steps remembers."""
        return getattr(self.inner, "model_outputs", [])

    def scale_model_input(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """z: the network takes latents as they are."""
        return z

    def add_noise(self, z0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """z_t of timesteps [n] of this solver."""
        sigma = (t / self.inner.config.num_train_timesteps)[:, None, None, None]
        return ((1 - sigma) * z0 + sigma * noise).to(z0.dtype)

    def step(
        self, predicted: torch.Tensor, t: torch.Tensor, z: torch.Tensor, **more: Any
    ) -> tuple[torch.Tensor]:
        """The latents behind a step."""
        return self.inner.step(predicted, t, z, **more)
