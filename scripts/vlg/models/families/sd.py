"""Stable Diffusion 1.x and 2.x: a UNet that predicts noise or v, one CLIP text encoder, a VAE."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.files import read_json
from vlg.models.components import load_component, load_network
from vlg.models.device import waiting
from vlg.models.family import Condition
from vlg.models.latent import LatentFamily, square_side
from vlg.models.schedule import check_stated, load_schedule
from vlg.models.stated import check_words, told

if TYPE_CHECKING:
    import torch

    from vlg.config.sections import Denoising

CLASSES = ("StableDiffusionPipeline",)
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
WEIGHTED = ("unet", "vae", "text_encoder")
# A checkpoint in one file: what it is, the folder in resources/ that says how large its parts are,
# and how the names of each part begin.
ONE_FILE = {
    "name": "Stable Diffusion 1.x",
    "shape": "sd15",
    "parts": {
        "model.diffusion_model.": "UNet",
        "first_stage_model.": "VAE",
        "cond_stage_model.": "text encoder",
    },
}
SERVED = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
# Keys of a UNet that let it take more than latents, timestep and text, and values that don't.
FURTHER = {
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "addition_embed_type": (None, "text"),
    "encoder_hid_dim_type": (None, "text_proj"),
}
# Schedulers that clip what is not said to be left; others know nothing of it.
CLIPPING = ("DDIMScheduler", "DDPMScheduler")


class StableDiffusion(LatentFamily):
    """A `StableDiffusionPipeline` folder. Its condition is `states`, [n, tokens, width]."""

    network_name = "unet"
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0")
    served = SERVED
    further = FURTHER
    encoders = {"text_encoder": "tokenizer"}  # of texts, each with its tokenizer

    @classmethod
    def check(cls, folder: Path) -> None:
        """Where a key is not there, it has the default that diffusers or transformers gives it."""
        index = told(folder, "model_index.json")
        for part, served in cls.served.items():
            found = (index.get(part) or [None, served])[1]
            if not str(found).startswith(served):
                raise UserError(
                    f"model_index.json: {part} is a {found}; give a base with a {served}"
                )
        unet, vae = (told(folder, f"{part}/config.json") for part in ("unet", "vae"))
        texts = [told(folder, f"{part}/config.json") for part in cls.encoders]
        texts = [text.get("text_config") or text for text in texts]
        cls._check_unet(unet, vae.get("latent_channels", 4))
        cls._check_size(unet, vae)
        cls._check_latents(vae)
        cls._check_texts(unet, texts)
        try:
            check_stated(told(folder / "scheduler", "scheduler_config.json"))
        except UserError as error:
            raise UserError(f"scheduler/{error}") from None
        for name, text in zip(cls.encoders.values(), texts, strict=True):
            check_words(folder, name, text.get("vocab_size", 49408))

    @staticmethod
    def _check_texts(unet: dict[str, Any], texts: list[dict[str, Any]]) -> None:
        """The UNet looks at the states of all text encoders side by side."""
        widths = [text.get("hidden_size", 512) for text in texts]
        wanted = unet.get("encoder_hid_dim") or unet.get("cross_attention_dim", 1280)
        whole = sum(widths) if all(isinstance(width, int) for width in widths) else None
        if any(each != whole for each in (wanted if isinstance(wanted, list) else [wanted])):
            whose = "text encoder's" if len(widths) == 1 else "text encoders'"
            raise UserError(
                f"unet/config.json: cross_attention_dim is {wanted} and the {whose} "
                f"hidden_size {' + '.join(map(str, widths))}; give a base whose parts belong "
                "together"
            )

    @classmethod
    def _check_unet(cls, unet: dict[str, Any], channels: int) -> None:
        for key in ("in_channels", "out_channels"):
            if unet.get(key, 4) != channels:
                raise UserError(
                    f"unet/config.json: {key} is {unet.get(key, 4)} and the VAE's latents have "
                    f"{channels} channels (a model of inpainting or editing?); give a base that "
                    "draws from text alone"
                )
        for key, allowed in cls.further.items():
            if unet.get(key) not in allowed:
                raise UserError(
                    f"unet/config.json: {key} is {unet[key]!r}, the UNet takes more than text; "
                    "give a base that draws from text alone"
                )

    @staticmethod
    def _check_latents(vae: dict[str, Any]) -> None:
        """A latent is the encoder's output times `scaling_factor`, and nothing else."""
        factor = vae.get("scaling_factor", 0.18215)
        if not isinstance(factor, (int, float)) or not 0 < factor < math.inf:
            raise UserError(
                f"vae/config.json: scaling_factor is {json.dumps(factor)}; set the number that the "
                "base was trained with (0.18215 of Stable Diffusion)"
            )
        for key in ("shift_factor", "latents_mean", "latents_std"):
            if vae.get(key):
                raise UserError(
                    f"vae/config.json: {key} is set, which this family's latents do not have; give "
                    "the VAE of Stable Diffusion 1.x, 2.x or XL"
                )

    @staticmethod
    def _check_size(unet: dict[str, Any], vae: dict[str, Any]) -> None:
        size = unet.get("sample_size")
        try:
            square_side(size)
        except ValueError:
            pixels, halvings = vae.get("sample_size"), len(vae.get("block_out_channels", [0])) - 1
            usual = pixels // 2**halvings if isinstance(pixels, int) else 64
            raise UserError(
                f"unet/config.json: sample_size is {json.dumps(size)}; write the side of square "
                f"latents there, for example {usual}"
            ) from None

    # --- components ---

    def _network(self, dtype: torch.dtype) -> Any:
        from diffusers import UNet2DConditionModel

        unet = load_network(UNet2DConditionModel, self.folder, "unet", torch_dtype=dtype)
        self._loaded("network", unet)
        return unet

    @cached_property
    def text(self) -> list[tuple[Any, Any]]:
        import transformers
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        pairs = []
        for part, name in self.encoders.items():
            tokenizer = load_component(transformers.CLIPTokenizer, self.folder, name)
            encoder = load_network(getattr(transformers, self.served[part]), self.folder, part)
            encoder = encoder.to(waiting(self.device)).to(self.dtype).eval().requires_grad_(False)
            pairs.append((tokenizer, encoder))
        return pairs

    @cached_property
    def schedule(self) -> Any:
        schedule = load_schedule(self.folder)
        schedule.abar = schedule.abar.to(self.device)
        return schedule

    # --- texts ---

    def condition(self, texts: Sequence[str]) -> Condition:
        return {"states": self._encoded(texts)[0][0]}

    def _encoded(self, texts: Sequence[str], **options: Any) -> list[Any]:
        """What each text encoder says of texts.

        Tokenized as the pipelines do, if the tokenizer states a length; one that does not says
        10^30, and the text encoder has the last word.
        """
        import torch

        said = []
        with self.reading(), torch.no_grad():
            for tokenizer, encoder in self.text:
                length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
                said.append(encoder(self._ids(tokenizer, texts, length), **options))
        return said

    # --- the network ---

    def predict(
        self, net: Callable[..., Any], z_t: torch.Tensor, t: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        told = self._told(z_t, condition)
        return net(z_t, t, condition["states"], return_dict=False, **told)[0]

    def _told(self, z_t: torch.Tensor, condition: Condition) -> dict[str, Any]:
        """What the UNet is told beside latents, timestep and states of texts."""
        return {"timestep_cond": condition["scale"]} if "scale" in condition else {}

    def told_scale(self, condition: Condition, scale: float, z: torch.Tensor) -> Condition | None:
        """As a vector `scale`, [n, width], if the UNet takes one."""
        width = self.config.get("time_cond_proj_dim")
        if not width:
            return None
        import torch
        from diffusers import StableDiffusionPipeline

        scales = torch.tensor(scale - 1).repeat(len(z))
        embed = StableDiffusionPipeline.get_guidance_scale_embedding
        vector = embed(None, scales, embedding_dim=width).to(z.device, z.dtype)
        return {**condition, "scale": vector}

    def _scheduler(self, settings: Denoising, begin: int, stochastic: bool = False) -> Any:
        from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

        kinds = {"ddim": DDIMScheduler, "dpm++": DPMSolverMultistepScheduler}
        own = {}
        stated = read_json(self.folder / "scheduler" / "scheduler_config.json")
        if settings.scheduler == "ddim" and stated.get("_class_name") not in CLIPPING:
            own["clip_sample"] = stated.get("clip_sample", False)
        if settings.scheduler == "dpm++":  # the base's may be a solver that draws unseeded noise
            own["algorithm_type"] = "sde-dpmsolver++" if stochastic else "dpmsolver++"
        scheduler = load_component(kinds[settings.scheduler], self.folder, "scheduler", **own)
        scheduler.set_timesteps(settings.steps, device=self.device)
        if begin and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        return scheduler
