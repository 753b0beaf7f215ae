"""Both loss terms of a batch, computed with the frozen models they need."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.models import checkpoints
from vlg.models.device import Parts, autocast, place, send
from vlg.train import losses

if TYPE_CHECKING:
    import torch

    from vlg.data.encoded import Source
    from vlg.models.guide import Guide
    from vlg.train.batches import Batch
    from vlg.train.loop import Settings


class Losses:
    """Both loss terms of a batch: the frozen models, the cache and the settings behind them."""

    def __init__(
        self,
        settings: Settings,
        cache: Source,
        base: Path,
        guide: Path | None,
        device: str,
        decoder: Path | None = None,
    ) -> None:
        self.settings, self.cache, self.device = settings, cache, device
        self.base, self.guide_folder, self.decoder_folder = base, guide, decoder
        self.schedule = losses.load_schedule(base)
        self.schedule.abar = self.schedule.abar.to(device)
        self.timesteps = len(self.schedule.abar)
        self.guide: Guide | None = None
        self.parts = Parts("evaluating held-out pictures")
        if not 0 <= settings.window[0] <= settings.window[1] < self.timesteps:
            raise UserError(
                f"finetune.window: {list(settings.window)} must rise within the schedule, "
                f"0 .. {self.timesteps - 1}"
            )
        if settings.guide_scale:
            self.load_guide()

    def load_guide(self) -> None:
        """Load what only the CLIP term needs: the guide and the VAE's decoder."""
        from vlg.models.guide import load_guide

        if self.guide_folder is None:
            raise UserError("--guide: missing, and guide_scale is not 0; give the guide's folder")
        if not self.cache.guided:
            raise UserError("--embeddings: missing; give the folder that encode_guide.py wrote")
        self.guide = load_guide(self.guide_folder, self.device)
        vae = checkpoints.load_vae(self.base, self.device)
        self.vae = self.decoder = place(vae, self.device)
        if self.decoder_folder:
            tiny = checkpoints.load_tiny_decoder(self.decoder_folder, self.device)
            self.decoder = place(tiny, self.device)
        if self.settings.gradient_checkpointing:
            self.decoder.enable_gradient_checkpointing()

    def decode(self, latents: torch.Tensor, exactly: bool = False) -> torch.Tensor:
        """Latents to pictures in 0..1, clamped as the pipeline does.

        exactly: by the base's own VAE, even if a tiny decoder serves the gradient.
        """
        vae = self.vae if exactly else self.decoder
        pictures = vae.decode(latents / vae.config.scaling_factor).sample
        return (pictures / 2 + 0.5).clamp(0, 1)

    def predict(self, unet: Any, batch: Batch) -> tuple[torch.Tensor, ...]:
        """(z_t, the UNet's prediction, its target, t) of a batch, on the device."""
        mean, std = self.cache.latents(batch.pictures, batch.flipped, batch.augment)
        z0 = send(mean + std * batch.posterior, self.device)
        noise, t = send(batch.noise, self.device), send(batch.timesteps, self.device)
        states = send(self.cache.states(batch.captions), self.device)
        z_t = self.schedule.add_noise(z0, noise, t)
        predicted = unet(z_t, t, states, return_dict=False)[0]
        return z_t, predicted, self.schedule.target(z0, noise, t), t

    def embeddings(self, batch: Batch, rows: list[int], target: str) -> torch.Tensor:
        """What these rows should look like to the guide: unit vectors [m, d].

        `mix` lies half-way between the caption and the picture.
        """
        from torch.nn.functional import normalize

        text = self.cache.guide_captions([batch.captions[i] for i in rows])
        if target == "text":
            return text.to(self.device)
        image = self.cache.guide_pictures([batch.pictures[i] for i in rows])
        return (image if target == "image" else normalize(text + image, dim=1)).to(self.device)

    def __call__(self, unet: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(denoising [n], CLIP term [m], cosines [m]) of a batch; the CLIP term is unscaled.

        m is the number of captioned samples inside the window; with guide_scale 0 it is 0 and
        neither guide nor decoder is there.
        """
        import torch

        s = self.settings
        z_t, predicted, target, t = self.predict(unet, batch)
        denoising = losses.denoising(self.schedule, predicted, target, t, s.min_snr_gamma)
        if not s.guide_scale:
            return denoising, denoising[:0], denoising[:0].detach()
        # chosen on the CPU, where the timesteps were drawn: no wait for the device
        captioned = torch.tensor([caption != 0 for caption in batch.captions])
        rows = losses.clip_samples(batch.timesteps, captioned, s.window).tolist()
        if not rows:
            return denoising, denoising[:0], denoising[:0].detach()
        e = self.embeddings(batch, rows, s.target)
        clip, cosine = losses.clip_term(
            self.schedule, self.decode, self.guide, z_t[rows], predicted[rows], t[rows], e,
            s.weighting,
        )  # fmt: skip
        return denoising, clip, cosine

    def held_out(self, unet: Any, batches: list[Batch]) -> dict[str, float]:
        """Mean denoising loss and guide cosine on held-out pictures, one number each.

        The loss is plain mean squared error and the cosine (with the caption) that of the samples
        in the lower half of the schedule, where the one-step estimate shows the picture: neither
        depends on a variant's settings, so variants can be compared. No cosine without a guide.
        """
        import torch

        errors, cosines = [], []

        def part(span: range) -> None:
            some = batch.part(slice(span.start, span.stop))
            z_t, predicted, target, t = self.predict(unet, some)
            error = losses.denoising(self.schedule, predicted, target, t)
            rows = (some.timesteps < self.timesteps // 2).nonzero()[:, 0].tolist()
            if rows and self.guide:
                e = self.embeddings(some, rows, "text")
                decode = functools.partial(self.decode, exactly=True)
                samples = z_t[rows], predicted[rows], t[rows], e
                _, cosine = losses.clip_term(self.schedule, decode, self.guide, *samples)
                cosines.append(cosine)
            errors.append(error)

        with torch.no_grad(), autocast(self.device, self.settings.precision):
            for batch in batches:
                self.parts(part, range(len(batch.pictures)))
        return {
            "denoising": torch.cat(errors).mean().item(),
            "guide_cosine": torch.cat(cosines).mean().item() if cosines else math.nan,
        }
