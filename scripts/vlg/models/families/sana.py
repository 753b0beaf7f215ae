"""Sana: a transformer of linear attention that predicts flow, Gemma 2 for texts, an autoencoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.files import read_json
from vlg.models.components import load_component
from vlg.models.family import Condition
from vlg.models.flow import SCHEDULER, Solver, check_solver, check_stated
from vlg.models.flowing import check_parts, check_scheduler
from vlg.models.language import LanguageFlow, check_same, check_text
from vlg.models.latent import square_side
from vlg.models.stated import told

if TYPE_CHECKING:
    import torch

    from vlg.config.sections import Denoising

CLASSES = ("SanaPipeline",)
PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
WEIGHTED = ("transformer", "vae", "text_encoder")
SERVED = {
    "transformer": "SanaTransformer2DModel",
    "vae": "AutoencoderDC",
    "text_encoder": ("Gemma2Model", "Gemma2ForCausalLM"),
}
# What diffusers takes where a config says nothing.
USUAL = {"sample_size": 32, "patch_size": 1, "in_channels": 32, "out_channels": 32}
USUAL |= {"caption_channels": 2304, "timestep_scale": 1.0}
TOKENS = 300  # of a text, as the pipeline has them


class Sana(LanguageFlow):
    """A `SanaPipeline` folder. A text stands in lower case behind the pipeline's instruction, the
    empty one alone, as the pipeline reads what guidance leads away from.

    The scheduler of the published folders is DPM-Solver++ with a shift, which tells the network the
    whole number below T sigma; training has the timesteps without a shift, as diffusers' example.
    """

    kind, usual = "SanaTransformer2DModel", USUAL
    vae_kind, shifted = "AutoencoderDC", False
    reader, words = "Gemma2Model", "GemmaTokenizerFast"
    # As in diffusers' train_dreambooth_lora_sana.py.
    lora_targets = ("to_k", "to_q", "to_v")

    @classmethod
    def check(cls, folder: Path) -> None:
        check_parts(folder, SERVED)
        net = USUAL | told(folder, "transformer/config.json")
        vae = told(folder, "vae/config.json")
        file, channels = "transformer/config.json", vae.get("latent_channels", 32)
        check_same(file, net, {"guidance_embeds": False}, "Sana")
        for key in ("in_channels", "out_channels"):
            if (net[key] or net["in_channels"]) != channels:
                raise UserError(
                    f"{file}: {key} is {net[key]} and the VAE's latents have {channels} channels; "
                    "give a base that draws from text alone"
                )
        try:
            side = square_side(net["sample_size"])
        except ValueError:
            side = 0
        if not side or side % net["patch_size"]:
            raise UserError(
                f"{file}: sample_size is {json.dumps(net['sample_size'])}; write the side of "
                f"square latents there, a multiple of {net['patch_size']}"
            )
        scale = vae.get("scaling_factor", 1.0)
        if not isinstance(scale, int | float) or not 0 < scale < float("inf"):
            raise UserError(
                f"vae/config.json: scaling_factor is {json.dumps(scale)}; set the number that the "
                "base was trained with (0.41407 of Sana)"
            )
        check_text(folder, net, "caption_channels", "Gemma's")
        kind = told(folder / "scheduler", "scheduler_config.json").get("_class_name")
        check_scheduler(folder, check_stated if kind == SCHEDULER else check_solver)

    # --- components ---

    @property
    def halvings(self) -> int:
        return len(self.vae_config["encoder_block_out_channels"]) - 1

    @property
    def vae_dtype(self) -> torch.dtype:
        return self.wide_dtype

    # --- texts and pictures ---

    def _read(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        words, gemma = self.text[0]
        before = "\n".join(instruction())
        length = len(words.encode(before)) + TOKENS - 2
        # Of the instruction, the first token alone stays.
        chosen = [0, *range(length - TOKENS + 1, length)]
        found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for empty in (True, False):
            rows = [row for row, text in enumerate(texts) if (not text) == empty]
            if not rows:
                continue
            read = ["" if empty else before + texts[row].lower().strip() for row in rows]
            ids, mask = self._tokens(read, TOKENS if empty else length)
            states = gemma(ids, attention_mask=mask)[0]
            if not empty:
                states, mask = states[:, chosen], mask[:, chosen]
            found |= dict(zip(rows, zip(states, mask, strict=True), strict=True))
        whole = [torch.stack(each) for each in zip(*map(found.get, range(len(texts))), strict=True)]
        return whole[0], whole[1]

    def _posterior(self, pixels: torch.Tensor) -> Any:
        """Without any deviation: this autoencoder gives latents themselves."""
        import torch
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        z = self.vae.encode(pixels).latent
        return DiagonalGaussianDistribution(torch.cat([z, z], dim=1), deterministic=True)

    # --- the network ---

    def predict(
        self, net: Callable[..., Any], z_t: torch.Tensor, t: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """t: whole timesteps, or T sigma in floating point."""
        if t.is_floating_point():
            times = t.floor() if self._by_solver else t
        else:
            times = self.schedule.sigma(t) * self.timesteps
        times = times.expand(len(z_t)) * self.config["timestep_scale"]
        found = net(
            z_t, condition["states"], times, encoder_attention_mask=condition["mask"],
            return_dict=False,
        )  # fmt: skip
        return found[0]  # type: ignore[no-any-return]

    @cached_property
    def _by_solver(self) -> bool:
        """Whether the scheduler is DPM-Solver++, not Euler's steps of flow."""
        stated = read_json(self.folder / "scheduler" / "scheduler_config.json")
        return bool(stated.get("_class_name") != SCHEDULER)

    def _scheduler(self, settings: Denoising, begin: int, stochastic: bool = False) -> Any:
        if not self._by_solver:
            return super()._scheduler(settings, begin, stochastic)
        from diffusers import DPMSolverMultistepScheduler

        own = load_component(DPMSolverMultistepScheduler, self.folder, "scheduler")
        own.set_timesteps(settings.steps)
        return Solver(
            self.folder, settings, self.device, begin, stochastic, sigmas=own.sigmas[:-1].numpy()
        )


def instruction() -> list[str]:
    """The lines that stand before a text: the pipeline's default."""
    import inspect

    from diffusers import SanaPipeline

    keys = inspect.signature(SanaPipeline.__call__).parameters
    return list(keys["complex_human_instruction"].default)
