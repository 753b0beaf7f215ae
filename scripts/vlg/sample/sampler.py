"""Draw pictures with a Stable Diffusion folder, the noise of each keyed by (prompt, seed).

A picture depends on its prompt, seed, model and settings. Which other pictures share its batch
changes floats in their last bits, so a grey level of a PNG may differ by one; batches are laid out
by position in the list of a job, so a job that is repeated gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg.errors import UserError
from vlg.files import check_manifest
from vlg.models import noise
from vlg.models.device import Parts, place, send, set_precision

if TYPE_CHECKING:
    import torch

    from vlg.models.ledger import Ledger


class Sampler:
    """A diffusers Stable Diffusion folder, ready to draw.

    settings: steps, guidance_scale (1 is none), scheduler ("ddim" or "dpm++"); optionally precision
    (`device.set_precision`) and vae_tiling (decode in overlapping tiles of half the side, whose
    seams are blended: less memory, slightly other pictures). After each call, `unet_calls` is the
    number of UNet evaluations one picture of it took (two for a guided step).
    """

    def __init__(self, folder: Path, settings: dict[str, Any], device: str) -> None:
        from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline

        check_manifest(folder)
        self.dtype = set_precision(settings.get("precision", "fp32"))
        try:
            self.pipeline = StableDiffusionPipeline.from_pretrained(
                folder,
                dtype=self.dtype,
                use_safetensors=True,
                local_files_only=True,
                safety_checker=None,
            ).to(device)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder}: diffusers cannot load it ({error}); restore it") from error
        self.pipeline.set_progress_bar_config(disable=True)
        kinds = {"ddim": DDIMScheduler, "dpm++": DPMSolverMultistepScheduler}
        kind = kinds[settings["scheduler"]]
        self.pipeline.scheduler = kind.from_config(self.pipeline.scheduler.config)
        self.settings = settings
        unet = place(self.pipeline.unet, device, compiled=True)
        vae = place(self.pipeline.vae, device)
        self.latent_shape = (unet.config.in_channels, *[unet.config.sample_size] * 2)
        self.side = unet.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1)
        if settings.get("vae_tiling"):
            vae.enable_tiling()
            vae.tile_sample_min_size = self.side // 2
            vae.tile_latent_min_size = unet.config.sample_size // 2
        self._parts = Parts("drawing pictures")
        self._embedded: tuple[list[str], dict[str, Any]] = ([], {})
        self._rows = 0
        self.unet_calls = 0
        unet.register_forward_hook(self._count)

    def watch(self, ledger: Ledger) -> None:
        """Let a ledger count what is drawn. Texts, which are embedded once for many pictures, are
        no part of a picture's cost."""
        ledger.watch("network", self.pipeline.unet)
        ledger.watch("decoder", self.pipeline.vae.decoder)
        ledger.watch("encoder", self.pipeline.vae.encoder)

    def _count(self, unet: Any, inputs: Any, output: Any) -> None:
        self._rows += len(output[0])

    def _embeddings(self, texts: list[str]) -> dict[str, Any]:
        """Text embeddings as the pipeline takes them. The rounds of a refinement ask for the same.

        Kept a batch at a time: a prompt embedded among others differs in its last bits.
        """
        import torch

        if self._embedded[0] != texts:
            guided = self.settings["guidance_scale"] > 1
            with torch.no_grad():
                pair = self.pipeline.encode_prompt(texts, self.pipeline.device, 1, guided)
            names = ("prompt_embeds", "negative_prompt_embeds")
            self._embedded = texts, dict(zip(names, pair, strict=True))
        return self._embedded[1]

    def _run(self, pipeline: Callable[..., Any], texts: list[str], **inputs: Any) -> np.ndarray:
        self._rows = 0
        result = pipeline(
            **self._embeddings(texts),
            num_inference_steps=self.settings["steps"],
            guidance_scale=self.settings["guidance_scale"],
            output_type="np",
            **inputs,
        )
        self.unet_calls = self._rows // len(texts)
        return np.rint(result.images * 255).astype(np.uint8)

    def draw(self, texts: list[str], seeds: list[int], purpose: str = "latents") -> np.ndarray:
        """Draw prompts from noise keyed by (purpose, prompt, seed): (n, height, width, 3) uint8.

        A batch that does not fit into memory is drawn in halves; so is one of `redraw`.
        """
        import torch

        def part(texts: list[str], seeds: list[int]) -> np.ndarray:
            latents = torch.stack(
                [
                    noise.latents(text, seed, self.latent_shape, purpose)
                    for text, seed in zip(texts, seeds, strict=True)
                ]
            )
            return self._run(self.pipeline, texts, latents=self._send(latents))

        return np.concatenate(self._parts(part, texts, seeds))

    def _send(self, tensor: torch.Tensor) -> torch.Tensor:
        return send(tensor.to(self.dtype), self.pipeline.device)

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
        from diffusers import StableDiffusionImg2ImgPipeline

        steps = self.settings["steps"]
        if int(steps * strength) < 1:
            raise UserError(f"refine.arms: strength {strength} of {steps} steps is none; raise it")
        pipeline = StableDiffusionImg2ImgPipeline(
            **self.pipeline.components, requires_safety_checker=False
        )
        pipeline.set_progress_bar_config(disable=True)

        def part(images: np.ndarray, texts: list[str], seeds: list[int]) -> np.ndarray:
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
            generators = [
                noise.generator(purpose, text, seed)
                for text, seed in zip(texts, seeds, strict=True)
            ]
            return self._run(pipeline, texts, image=pixels, strength=strength, generator=generators)

        return np.concatenate(self._parts(part, images, texts, seeds))
