"""Draw pictures with a model folder, the noise of each keyed by (prompt, seed).

A picture depends on its prompt, seed, model and settings. Which other pictures share its batch
changes floats in their last bits, so a grey level of a PNG may differ by one; batches are laid out
by position in the list of a job, so a job that is repeated gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg.config.sections import Sampling
from vlg.errors import UserError
from vlg.files import check_manifest
from vlg.models import noise
from vlg.models.device import Parts, send, set_precision
from vlg.models.family import Condition, Family, open_family

if TYPE_CHECKING:
    import torch

    from vlg.models.ledger import Ledger


class Sampler:
    """A model folder, ready to draw; `family` is the model, for arms that do more.

    settings: how pictures are drawn, as `sections.Sampling` or its keys. base: the folder of the
    study's base, for an arm that draws with it too; of it the network is taken.
    """

    def __init__(
        self,
        folder: Path,
        settings: Sampling | Mapping[str, Any],
        device: str,
        base: Path | None = None,
    ) -> None:
        if not isinstance(settings, Sampling):
            settings = Sampling.parse(settings, "generate")
        check_manifest(folder)
        self.settings = settings
        self.family = open_family(folder, device, set_precision(settings.precision))
        if settings.vae_tiling:
            self.family.tile()
        self.family.load()
        self.base: Family | None = None
        if base:
            check_manifest(base)
            self.base = open_family(base, device, self.family.dtype)
        self.parts = Parts("drawing pictures")
        self._embedded: tuple[list[str], Condition, Condition] = ([], {}, {})

    def watch(self, ledger: Ledger) -> None:
        """Let a ledger count what is drawn. Texts, which are embedded once for many pictures, are
        no part of a picture's cost."""
        self.family.watch(ledger)
        if self.base:
            self.base.watch(ledger)

    def conditions(self, texts: list[str]) -> tuple[Condition, Condition]:
        """(what the network is told of texts, and of as many empty ones).

        Kept a batch at a time, as the rounds of an arm ask for the same: a prompt embedded among
        others differs in its last bits.
        """
        if self._embedded[0] != texts:
            with self.family.reading():
                negative = self.family.condition([""] * len(texts))
                self._embedded = texts, self.family.condition(texts), negative
        return self._embedded[1:]

    def draw(
        self,
        texts: list[str],
        seeds: list[int],
        purpose: str = "latents",
        settings: Sampling | None = None,
        steer: Callable[[list[str], list[int]], Mapping[str, Any]] | None = None,
    ) -> np.ndarray:
        """Draw prompts from noise keyed by (purpose, prompt, seed): (n, height, width, 3) uint8.

        A batch that does not fit into memory is drawn in halves; so is one of `redraw`.
        settings: others than the sampler's own. steer: what else `Family.sample` is given for these
        prompts and seeds, `on_step` for example.
        """

        def part(texts: list[str], seeds: list[int]) -> np.ndarray:
            more = steer(texts, seeds) if steer else {}
            latents = self.latents(texts, seeds, purpose)
            return self.finish(texts, seeds, latents, settings=settings, **more)

        return np.concatenate(self.parts(part, texts, seeds))

    def latents(self, texts: list[str], seeds: list[int], purpose: str) -> torch.Tensor:
        """The noise [n, ...] that pictures begin from, keyed by (purpose, prompt, seed)."""
        import torch

        shape = self.family.latent_shape
        drawn = [noise.latents(*key, shape, purpose) for key in zip(texts, seeds, strict=True)]
        return send(torch.stack(drawn).to(self.family.dtype), self.family.device)

    def redraw(
        self,
        images: np.ndarray,
        texts: list[str],
        seeds: list[int],
        strength: float,
        purpose: str,
    ) -> np.ndarray:
        """SDEdit (arXiv:2108.01073): noise pictures to `strength` of the schedule, denoise them.

        images: (n, height, width, 3) uint8; strength in 0..1; noise keyed as in `draw`.
        """
        import torch

        steps = self.settings.steps
        if int(steps * strength) < 1:
            raise UserError(f"refine.arms: strength {strength} of {steps} steps is none; raise it")

        def part(images: np.ndarray, texts: list[str], seeds: list[int]) -> np.ndarray:
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
            generators = [
                noise.generator(purpose, text, seed)
                for text, seed in zip(texts, seeds, strict=True)
            ]
            start = self.family.renoised(pixels, generators, self.settings, strength)
            return self.finish(texts, seeds, *start)

        return np.concatenate(self.parts(part, images, texts, seeds))

    def finish(
        self,
        texts: list[str],
        seeds: list[int],
        latents: torch.Tensor,
        begin: int = 0,
        settings: Sampling | None = None,
        **more: Any,
    ) -> np.ndarray:
        """Pictures (n, height, width, 3) uint8 from latents as they are before step `begin`.

        more: what else `Family.sample` takes.
        """
        import torch

        with torch.no_grad():
            condition, negative = self.conditions(texts)
            z = self.family.sample(
                condition,
                latents,
                settings or self.settings,
                negative=negative,
                begin=begin,
                **more,
            )
            return self.decoded(texts, seeds, z)

    def decoded(self, texts: list[str], seeds: list[int], z: torch.Tensor) -> np.ndarray:
        """Pictures (n, height, width, 3) uint8 of clean latents; UserError for one not finite."""
        import torch

        with torch.no_grad():
            pictures = self.family.decode(z)
            self._check_finite(texts, seeds, z, pictures)
            return as_images(pictures)

    def _check_finite(
        self, texts: list[str], seeds: list[int], z: torch.Tensor, pictures: torch.Tensor
    ) -> None:
        """UserError for the first picture that is not finite; as bytes it would be black."""
        import torch

        def broken(values: torch.Tensor) -> list[int]:
            return (~torch.isfinite(values).flatten(1).all(1)).nonzero()[:, 0].tolist()

        if not (found := broken(pictures)):
            return
        text, seed = texts[found[0]], seeds[found[0]]
        text = text if len(text) <= 60 else f"{text[:57]}..."
        if found[0] in broken(z):
            why = (
                "its latents are not either: the precision, or a prediction_type or schedule that "
                "is not the model's (scheduler/scheduler_config.json)"
            )
        else:
            why = "its latents are: the VAE overflows"
        precision = self.settings.precision
        remedy = "give another base or VAE, or mend its configuration"
        if precision != "fp32":
            remedy = f"set generate.precision: fp32 (it is {precision}), or {remedy}"
        raise UserError(
            f"{self.family.folder}: the picture of {text!r}, seed {seed}, is not finite, {why}; "
            f"{remedy}"
        )


def as_images(pictures: torch.Tensor) -> np.ndarray:
    """Pictures [n, 3, height, width] in 0..1 as (n, height, width, 3) uint8."""
    floats = pictures.cpu().permute(0, 2, 3, 1).float().numpy()
    return np.rint(floats * 255).astype(np.uint8)
