"""What families have in common whose transformer predicts flow in a VAE's latents with a shift."""

from __future__ import annotations

import json
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.models.components import load_network
from vlg.models.flow import Solver, load_flow
from vlg.models.latent import LatentFamily

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from vlg.config.sections import Denoising


class FlowFamily(LatentFamily):
    """kind: diffusers' class of the network. usual: what that takes where a config says nothing."""

    network_name = "transformer"
    shifted = True
    kind: str
    usual: Mapping[str, Any]

    def _network(self, dtype: torch.dtype) -> Any:
        import diffusers

        kind = getattr(diffusers, self.kind)
        net = load_network(kind, self.folder, "transformer", torch_dtype=dtype)
        self._loaded("network", net)
        return net

    @cached_property
    def schedule(self) -> Any:
        schedule = load_flow(self.folder)
        schedule.sigmas = schedule.sigmas.to(self.device)
        return schedule

    @cached_property
    def config(self) -> dict[str, Any]:  # type: ignore[override]
        return {**self.usual, **super().config}

    def path(self, settings: Denoising) -> list[int]:
        """The whole timesteps whose sigmas are nearest to those of the steps."""
        sigmas = self._scheduler(settings, 0).timesteps.cpu() / self.timesteps
        apart = (self.schedule.sigmas.cpu() - sigmas[:, None]).abs()
        return [int(t) for t in apart.argmin(dim=1)]

    def _scheduler(self, settings: Denoising, begin: int, stochastic: bool = False) -> Any:
        return Solver(self.folder, settings, self.device, begin, stochastic)


def check_latents(vae: Mapping[str, Any], name: str, scale: float, shift: float) -> None:
    """UserError unless a latent is the encoder's output less `shift_factor`, times
    `scaling_factor`. scale, shift: as published with the family, which is called `name`."""
    file = "vae/config.json"
    for key in ("latents_mean", "latents_std"):
        if vae.get(key):
            raise UserError(
                f"{file}: {key} is set, which this family's latents do not have; give the VAE "
                f"of {name}"
            )
    for key, usual in (("scaling_factor", scale), ("shift_factor", shift)):
        found = vae.get(key)
        number = isinstance(found, int | float) and math.isfinite(found)
        if not number or (key == "scaling_factor" and found <= 0):
            raise UserError(
                f"{file}: {key} is {json.dumps(found)}; set the number that the base was "
                f"trained with ({usual} of {name})"
            )
