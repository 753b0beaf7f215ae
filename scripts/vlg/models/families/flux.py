"""FLUX.1 schnell and dev: a transformer that predicts flow, CLIP and T5 for texts, a VAE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.models.components import load_component, load_network
from vlg.models.device import waiting
from vlg.models.family import Condition
from vlg.models.flow import check_stated
from vlg.models.flowing import (
    SquaresFlow,
    check_latents,
    check_parts,
    check_scheduler,
    check_side,
)
from vlg.models.stated import APART, check_words, told

if TYPE_CHECKING:
    import torch

CLASSES = ("FluxPipeline",)
PARTS = (
    "transformer",
    "vae",
    "text_encoder",
    "text_encoder_2",
    "tokenizer",
    "tokenizer_2",
    "scheduler",
)
WEIGHTED = ("transformer", "vae", "text_encoder", "text_encoder_2")
# Why not all weights are trained.
LORA_ONLY = "11.9 billion weights with gradients and AdamW's moments take 190 GB"
SERVED = {
    "transformer": "FluxTransformer2DModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "T5EncoderModel",
}
# What diffusers and transformers take where a config says nothing.
USUAL = {"patch_size": 1, "in_channels": 64, "out_channels": None, "guidance_embeds": False}
USUAL |= {"joint_attention_dim": 4096, "pooled_projection_dim": 768, "attention_head_dim": 128}
USUAL |= {"axes_dims_rope": [16, 56, 56]}
WORDS = {"tokenizer": 49408, "tokenizer_2": 32128}
# Of a text for T5, as published for dev and schnell; fewer where its tokenizer says fewer.
T5_TOKENS = {True: 512, False: 256}
TRAINED_AT = 3.5  # guidance that the network is told in training, as diffusers' example has it


class Flux(SquaresFlow):
    """A `FluxPipeline` folder. Its condition is `t5` [n, up to 512 or 256, width], `pooled`
    [n, width] of CLIP and, in drawing with a network that is told a guidance scale, `guidance`
    [n]; in training such a network is told `TRAINED_AT`.

    Latents are [n, 16, h, w] everywhere but in the network, which takes squares of 2 x 2 of them.
    """

    kind, usual, lora_only = "FluxTransformer2DModel", USUAL, LORA_ONLY
    # As in diffusers' train_dreambooth_lora_flux.py.
    lora_targets = (
        "attn.to_k", "attn.to_q", "attn.to_v", "attn.to_out.0", "attn.add_k_proj",
        "attn.add_q_proj", "attn.add_v_proj", "attn.to_add_out", "ff.net.0.proj", "ff.net.2",
        "ff_context.net.0.proj", "ff_context.net.2",
    )  # fmt: skip

    @classmethod
    def check(cls, folder: Path) -> None:
        check_parts(folder, SERVED)
        net = USUAL | told(folder, "transformer/config.json")
        vae = told(folder, "vae/config.json")
        clip, t5 = (told(folder, f"text_encoder{end}/config.json") for end in ("", "_2"))
        cls._check_network(net, vae)
        check_latents(vae, "FLUX.1", 0.3611, 0.1159)
        pooled, width = clip.get("hidden_size", 512), t5.get("d_model", 512)
        for key, wanted, whose in (
            ("pooled_projection_dim", pooled, "CLIP's hidden_size"),
            ("joint_attention_dim", width, "T5's d_model"),
        ):
            if net[key] != wanted:
                raise UserError(
                    f"transformer/config.json: {key} is {net[key]} and {whose} {wanted}; {APART}"
                )
        check_scheduler(folder, check_stated, by_size=True)
        for (part, usual), text in zip(WORDS.items(), (clip, t5), strict=True):
            check_words(folder, part, text.get("vocab_size", usual))

    @staticmethod
    def _check_network(net: dict[str, Any], vae: dict[str, Any]) -> None:
        name, channels = "transformer/config.json", vae.get("latent_channels", 4)
        for key in ("in_channels", "out_channels"):
            if (net[key] or net["in_channels"]) != 4 * channels:
                raise UserError(
                    f"{name}: {key} is {net[key]} and 2 x 2 of the VAE's latents have "
                    f"{4 * channels} channels; give a base that draws from text alone"
                )
        axes, head = net["axes_dims_rope"], net["attention_head_dim"]
        if len(axes) != 3 or sum(axes) != head or net["patch_size"] != 1:
            raise UserError(
                f"{name}: axes_dims_rope {axes}, attention_head_dim {head} and patch_size "
                f"{net['patch_size']} are not those of a FLUX.1; get the model again"
            )
        check_side(vae, len(vae["block_out_channels"]))

    @classmethod
    def check_guidance(cls, folder: Path, scale: float) -> None:
        net = USUAL | told(folder, "transformer/config.json")
        if scale > 1 and not net["guidance_embeds"]:
            raise UserError(
                f"guidance_scale is {scale:g}, and this network is told none (FLUX.1 schnell); set "
                "it to 1"
            )

    # --- components ---

    @cached_property
    def text(self) -> list[tuple[Any, Any]]:
        """(tokenizer, text encoder) of CLIP and of T5."""
        from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        found = []
        for end, words, kind in (
            ("", CLIPTokenizer, CLIPTextModel),
            ("_2", T5TokenizerFast, T5EncoderModel),
        ):
            tokenizer = load_component(words, self.folder, f"tokenizer{end}")
            # In float16 transformers keeps in float32 what overflows in T5.
            text = load_network(kind, self.folder, f"text_encoder{end}", dtype=self.dtype)
            found.append((tokenizer, text.to(waiting(self.device)).eval().requires_grad_(False)))
        return found

    # --- texts ---

    def condition(self, texts: Sequence[str]) -> Condition:
        """Tokenized as FluxPipeline does."""
        import torch

        (words, clip), (pieces, t5) = self.text
        most = T5_TOKENS[bool(self.config["guidance_embeds"])]
        short = min(words.model_max_length, clip.config.max_position_embeddings)
        with self.reading(), torch.no_grad():
            found = {
                "t5": t5(self._ids(pieces, texts, min(most, pieces.model_max_length)))[0],
                "pooled": clip(self._ids(words, texts, short)).pooler_output,
            }
        return {name: value.to(self.dtype) for name, value in found.items()}

    # --- the network ---

    def told_scale(self, condition: Condition, scale: float, z: torch.Tensor) -> Condition | None:
        """As `guidance`, [n], for dev, into which guidance was distilled; schnell is told none."""
        if not self.config["guidance_embeds"]:
            if scale > 1:
                try:
                    self.check_guidance(self.folder, scale)
                except UserError as error:
                    raise UserError(f"{self.folder}: {error}") from None
            return None
        return {**condition, "guidance": z.new_full((len(z),), scale)}

    def predict(
        self, net: Callable[..., Any], z_t: torch.Tensor, t: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """t: whole timesteps, or T sigma in floating point."""
        import torch

        states, pooled = condition["t5"], condition["pooled"]
        sigmas = self._sigmas(t, z_t.dtype)
        scale = condition.get("guidance")
        if scale is None and self.config["guidance_embeds"]:
            scale = torch.full((len(z_t),), TRAINED_AT, device=z_t.device)
        packed, (height, width) = self._packed(z_t)
        # Texts, whose places are all 0, come first; all in one tensor, whose length is no batch's.
        places = torch.zeros(states.shape[1] + height * width, 3, device=z_t.device)
        grid = places[states.shape[1] :].view(height, width, 3)
        grid[..., 1] = torch.arange(height, device=z_t.device)[:, None]
        grid[..., 2] = torch.arange(width, device=z_t.device)
        flow = net(
            packed, states, pooled, sigmas.expand(len(z_t)), places, places[:0],
            guidance=scale, return_dict=False,
        )[0]  # fmt: skip
        return self._unpacked(flow, (height, width))
