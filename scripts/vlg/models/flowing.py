"""What families have in common whose transformer predicts flow in a VAE's latents."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.files import read_json
from vlg.models.components import load_network
from vlg.models.flow import Solver, load_flow
from vlg.models.latent import LatentFamily, square_side
from vlg.models.stated import told

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from vlg.config.sections import Denoising

SIDE = 1024  # of a picture where the VAE says nothing


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


class SquaresFlow(FlowFamily):
    """One whose network sees squares of 2 x 2 latents, whose VAE says how large pictures are, and
    whose shift may go by the number of squares."""

    fourfold = True  # whether the network takes a square as one latent of 4 times the channels

    @cached_property
    def resolution(self) -> int:  # type: ignore[override]
        return square_side(self.vae_config.get("sample_size", SIDE))

    @property
    def latent_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        side = self.resolution // 2**self.halvings
        return (self.config["in_channels"] // (4 if self.fourfold else 1), side, side)

    @staticmethod
    def _packed(z: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """([n, squares, 4 c] of latents [n, c, h, w], the squares' rows and columns)."""
        from torch.nn.functional import pixel_unshuffle

        squares = pixel_unshuffle(z, 2)
        rows, columns = squares.shape[-2:]
        return squares.flatten(2).transpose(1, 2), (rows, columns)

    @staticmethod
    def _unpacked(squares: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        """The way back."""
        from torch.nn.functional import pixel_shuffle

        return pixel_shuffle(squares.transpose(1, 2).unflatten(2, shape), 2)

    def _sigmas(self, t: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Of timesteps; of whole ones by way of T sigma, as networks are told it."""
        if t.is_floating_point():
            return t.to(dtype) / self.timesteps
        return self.schedule.sigma(t) * self.timesteps / self.timesteps

    def _scheduler(self, settings: Denoising, begin: int, stochastic: bool = False) -> Any:
        """At the sigmas of the pipelines, whose shift depends on the number of squares where the
        scheduler's config says so."""
        import numpy as np
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        stated = read_json(self.folder / "scheduler" / "scheduler_config.json")
        known = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        names = ("base_seq_len", "max_seq_len", "base_shift", "max_shift")
        given = {name: stated[key] for name, key in zip(names, known, strict=True) if key in stated}
        return Solver(
            self.folder, settings, self.device, begin, stochastic,
            sigmas=np.linspace(1.0, 1 / settings.steps, settings.steps),
            mu=calculate_shift((self.latent_shape[-1] // 2) ** 2, **given),
        )  # fmt: skip


def check_parts(folder: Path, served: Mapping[str, str | tuple[str, ...]]) -> None:
    """UserError when a part of a folder is of another class than is served, or than one of those
    that are."""
    index = told(folder, "model_index.json")
    for part, each in served.items():
        known = (each,) if isinstance(each, str) else each
        if (found := (index.get(part) or [None, known[0]])[1]) not in known:
            raise UserError(f"model_index.json: {part} is a {found}; give a base with a {known[0]}")


def check_scheduler(folder: Path, check: Callable[..., None], **how: Any) -> None:
    """UserError when `check` refuses what a folder's scheduler_config.json says."""
    try:
        check(told(folder / "scheduler", "scheduler_config.json"), **how)
    except UserError as error:
        raise UserError(f"scheduler/{error}") from None


def check_side(vae: Mapping[str, Any], halvings: int) -> int:
    """The side of pictures in pixels, as a VAE's config says it; UserError unless the VAE and what
    packs its latents can halve it so often."""
    unit = 2**halvings
    try:
        side = square_side(vae.get("sample_size", SIDE))
    except ValueError:
        side = 0
    if not side or side % unit:
        raise UserError(
            f"vae/config.json: sample_size is {vae['sample_size']!r}; write the side of "
            f"square pictures there, a multiple of {unit} ({SIDE} as published)"
        )
    return side


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
