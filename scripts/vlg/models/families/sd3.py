"""Stable Diffusion 3 and 3.5: a transformer that predicts flow, two CLIPs and T5 for texts, a VAE
of 16 channels with a shift."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.files import read_json
from vlg.models.components import load_component, load_network
from vlg.models.device import at_least_float32, waiting
from vlg.models.family import Condition
from vlg.models.flow import check_stated, logit_normal
from vlg.models.flowing import FlowFamily, check_latents, check_scheduler
from vlg.models.latent import square_side
from vlg.models.stated import APART, check_words, told

if TYPE_CHECKING:
    import torch

CLASSES = ("StableDiffusion3Pipeline",)
PARTS = (
    "transformer",
    "vae",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "tokenizer",
    "tokenizer_2",
    "tokenizer_3",
    "scheduler",
)
WEIGHTED = ("transformer", "vae", "text_encoder", "text_encoder_2")  # T5 may be left out
# As published: those of 3 "incl_clips", and of 3.5 those to which others have added them.
ONE_FILE = {
    "name": "Stable Diffusion 3",
    "shape": "sd3",
    "parts": {
        "model.diffusion_model.": "transformer",
        "first_stage_model.": "VAE",
        "text_encoders.clip_l.": "text encoder",
        "text_encoders.clip_g.": "second text encoder",
    },
    "remedy": "give one that includes both CLIPs, or the diffusers folder",
}
SERVED = {
    "transformer": "SD3Transformer2DModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModelWithProjection",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "text_encoder_3": "T5EncoderModel",
}
ENDS = ("", "_2", "_3")  # of the names of text encoders and their tokenizers: CLIP, CLIP, T5
T5 = "text_encoder_3"
HEAD = 64  # width of a head of attention where no weight says it
T5_TOKENS = 256  # of a text, as the pipeline has them; fewer where T5's tokenizer says fewer
# What diffusers and transformers take where a config says nothing.
USUAL = {"sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16}
USUAL |= {"joint_attention_dim": 4096, "pooled_projection_dim": 2048, "pos_embed_max_size": 96}
WORDS = {"": 49408, "_2": 49408, "_3": 32128}


class StableDiffusion3(FlowFamily):
    """A `StableDiffusion3Pipeline` folder. Its condition is `states` [n, 77, width of both CLIPs],
    `pooled` [n, width] and, where the folder has T5, `t5` [n, up to 256, width]; without, the
    network is shown zeros in its place."""

    kind, usual = "SD3Transformer2DModel", USUAL
    # As in diffusers' train_dreambooth_lora_sd3.py: the attention of pictures and texts together.
    lora_targets = tuple(
        f"attn.{name}"
        for name in (
            *("add_k_proj", "add_q_proj", "add_v_proj", "to_add_out"),
            *("to_k", "to_out.0", "to_q", "to_v"),
        )
    )

    @classmethod
    def check(cls, folder: Path) -> None:
        index = told(folder, "model_index.json")
        has_t5 = _has_t5(index)
        for part, served in SERVED.items():
            found = (index.get(part) or [None, served])[1]
            if found != served and (part != T5 or has_t5):
                raise UserError(
                    f"model_index.json: {part} is a {found}; give a base with a {served}"
                )
        net = USUAL | told(folder, "transformer/config.json")
        vae = told(folder, "vae/config.json")
        texts = [told(folder, f"text_encoder{end}/config.json") for end in ENDS[: 2 + has_t5]]
        cls._check_network(net, vae)
        check_latents(vae, "Stable Diffusion 3", 1.5305, 0.0609)
        cls._check_widths(net, texts)
        check_scheduler(folder, check_stated)
        for end, text in zip(ENDS, texts, strict=False):
            check_words(folder, f"tokenizer{end}", text.get("vocab_size", WORDS[end]))

    @staticmethod
    def _check_network(net: dict[str, Any], vae: dict[str, Any]) -> None:
        name, channels = "transformer/config.json", vae.get("latent_channels", 4)
        for key in ("in_channels", "out_channels"):
            if (net[key] or net["in_channels"]) != channels:
                raise UserError(
                    f"{name}: {key} is {net[key]} and the VAE's latents have {channels} channels; "
                    "give a base that draws from text alone"
                )
        try:
            side = square_side(net["sample_size"])
        except ValueError:
            side = 0
        most = net["patch_size"] * net["pos_embed_max_size"]
        if not side or side % net["patch_size"] or side > most:
            raise UserError(
                f"{name}: sample_size is {net['sample_size']!r}; write the side of square latents "
                f"there, a multiple of {net['patch_size']} up to {most}"
            )

    @staticmethod
    def _check_widths(net: dict[str, Any], texts: list[dict[str, Any]]) -> None:
        """What the text encoders give is what the network takes."""
        name, (one, two, *t5) = "transformer/config.json", texts
        pooled = sum(text.get("projection_dim", 512) for text in (one, two))
        if net["pooled_projection_dim"] != pooled:
            raise UserError(
                f"{name}: pooled_projection_dim is {net['pooled_projection_dim']} and the CLIPs' "
                f"projection_dim together {pooled}; {APART}"
            )
        wanted = net["joint_attention_dim"]
        width = sum(text.get("hidden_size", 512) for text in (one, two))
        if width > wanted:
            raise UserError(
                f"{name}: joint_attention_dim is {wanted} and the CLIPs' hidden_size together "
                f"{width}; {APART}"
            )
        if t5 and (width := t5[0].get("d_model", 512)) != wanted:
            raise UserError(
                f"{name}: joint_attention_dim is {wanted} and T5's d_model {width}; {APART}"
            )

    @classmethod
    def shaped(cls, tensors: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Of 3, 3.5 medium and 3.5 large alike: sizes are those of the weights."""
        start = "model.diffusion_model."
        shapes = {n.removeprefix(start): each["shape"] for n, each in tensors.items()}
        blocks = {n.split(".")[1] for n in shapes if n.startswith("joint_blocks.")}
        dual = {n.split(".")[1] for n in shapes if ".x_block.attn2." in n}
        width, channels, patch, _ = shapes["x_embedder.proj.weight"]
        norm = shapes.get("joint_blocks.0.x_block.attn.ln_q.weight")
        head = norm[0] if norm else HEAD
        told = {
            "in_channels": channels,
            "out_channels": shapes["final_layer.linear.weight"][0] // patch**2,
            "patch_size": patch,
            "num_layers": len(blocks),
            "attention_head_dim": head,
            "num_attention_heads": width // head,
            "caption_projection_dim": width,
            "joint_attention_dim": shapes["context_embedder.weight"][1],
            "pooled_projection_dim": shapes["y_embedder.mlp.0.weight"][1],
            "pos_embed_max_size": math.isqrt(shapes["pos_embed"][1]),
            "dual_attention_layers": sorted(map(int, dual)),
            "qk_norm": "rms_norm" if norm else None,
        }
        return {"transformer/config.json": told}

    # --- components ---

    @cached_property
    def text(self) -> list[tuple[Any, Any]]:
        """(tokenizer, text encoder) of each CLIP, and of T5 where the folder has it."""
        from transformers import (
            CLIPTextModelWithProjection,
            CLIPTokenizer,
            T5EncoderModel,
            T5TokenizerFast,
        )
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        clip, t5 = (CLIPTokenizer, CLIPTextModelWithProjection), (T5TokenizerFast, T5EncoderModel)
        kinds = [clip, clip, t5][: 2 + _has_t5(read_json(self.folder / "model_index.json"))]
        found = []
        for end, (words, kind) in zip(ENDS, kinds, strict=False):
            tokenizer = load_component(words, self.folder, f"tokenizer{end}")
            # In float16 transformers keeps in float32 what overflows in T5.
            text = load_network(kind, self.folder, f"text_encoder{end}", dtype=self.dtype)
            found.append((tokenizer, text.to(waiting(self.device)).eval().requires_grad_(False)))
        return found

    # --- texts and pictures ---

    def condition(self, texts: Sequence[str]) -> Condition:
        """Tokenized as StableDiffusion3Pipeline does."""
        import torch

        (one, first), (two, second), *t5 = self.text
        length = min(one.model_max_length, first.config.max_position_embeddings)
        states, pooled = [], []
        with self.reading(), torch.no_grad():
            for tokenizer, text in ((one, first), (two, second)):
                ids = self._ids(tokenizer, texts, length)
                seen = text(ids, output_hidden_states=True)
                states.append(seen.hidden_states[-2])
                pooled.append(seen.text_embeds)
            found = {"states": torch.cat(states, dim=-1), "pooled": torch.cat(pooled, dim=-1)}
            for tokenizer, text in t5:
                length = min(T5_TOKENS, tokenizer.model_max_length)
                found["t5"] = text(self._ids(tokenizer, texts, length))[0]
        return {name: value.to(self.dtype) for name, value in found.items()}

    # --- noise ---

    def draw_timesteps(self, n: int, generator: torch.Generator) -> torch.Tensor:
        return logit_normal(n, self.timesteps, generator)

    def denoising(
        self,
        predicted: torch.Tensor,
        target: torch.Tensor,
        t: torch.Tensor,
        min_snr_gamma: float | None = None,
    ) -> torch.Tensor:
        """Mean squared error of the estimate of z_0, [n], in float32."""
        error = (at_least_float32(predicted) - target).square().mean(dim=(1, 2, 3))
        if min_snr_gamma is None:
            return self.schedule.weighted(error, t)
        return self.min_snr(error, t, min_snr_gamma)

    # --- the network ---

    def predict(
        self, net: Callable[..., Any], z_t: torch.Tensor, t: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """t: whole timesteps, or T sigma in floating point."""
        import torch
        from torch.nn.functional import pad

        states, t5 = condition["states"], condition.get("t5")
        width = self.config["joint_attention_dim"]
        if t5 is None:
            t5 = states.new_zeros(len(states), T5_TOKENS, width)
        texts = torch.cat([pad(states, (0, width - states.shape[-1])), t5], dim=1)
        times = (self.schedule.sigma(t) * self.timesteps).expand(len(z_t))
        return net(z_t, texts, condition["pooled"], times, return_dict=False)[0]


def _has_t5(index: dict[str, Any]) -> bool:
    """Whether a model_index.json names T5."""
    return bool((index.get(T5) or [None])[0])
