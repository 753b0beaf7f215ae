"""Z-Image and Z-Image-Turbo: a transformer that predicts flow, Qwen3 for texts, FLUX.1's VAE."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.models.family import Condition
from vlg.models.flow import check_stated
from vlg.models.flowing import (
    SquaresFlow,
    check_latents,
    check_parts,
    check_scheduler,
    check_side,
)
from vlg.models.language import LanguageFlow, check_same, check_text
from vlg.models.stated import told

if TYPE_CHECKING:
    import torch

CLASSES = ("ZImagePipeline",)
PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
WEIGHTED = ("transformer", "vae", "text_encoder")
# Why not all weights are trained.
LORA_ONLY = "6.2 billion weights with gradients and AdamW's moments take 98 GB"
SERVED = {
    "transformer": "ZImageTransformer2DModel",
    "vae": "AutoencoderKL",
    "text_encoder": ("Qwen3Model", "Qwen3ForCausalLM"),
}
# What diffusers takes where a config says nothing.
USUAL = {"in_channels": 16, "cap_feat_dim": 2560, "dim": 3840, "n_heads": 30}
USUAL |= {"axes_dims": [32, 48, 48], "axes_lens": [1024, 512, 512]}
PATCH = {"all_patch_size": [2], "all_f_patch_size": [1], "siglip_feat_dim": None}
TOKENS = 512  # of a text, as the pipeline has them; fewer where its tokenizer says fewer


class ZImage(LanguageFlow, SquaresFlow):
    """A `ZImagePipeline` folder. A guidance scale is what it is everywhere, 1 for none; that of the
    pipeline, 0 for none, is one less.

    The network fills a text up to a multiple of 32 tokens, puts the picture behind it, and takes a
    list of texts as long as each is. It gives the flow from noise to picture, and is told how much
    is picture.
    """

    kind, usual, lora_only = "ZImageTransformer2DModel", USUAL, LORA_ONLY
    reader, words = "Qwen3Model", "Qwen2TokenizerFast"
    fourfold = False
    # As in diffusers' train_dreambooth_lora_z_image.py.
    lora_targets = ("to_k", "to_q", "to_v", "to_out.0")

    @classmethod
    def check(cls, folder: Path) -> None:
        check_parts(folder, SERVED)
        net = USUAL | told(folder, "transformer/config.json")
        vae = told(folder, "vae/config.json")
        file, halvings = "transformer/config.json", len(vae["block_out_channels"])
        check_same(file, net, PATCH, "Z-Image")
        if net["in_channels"] != (channels := vae.get("latent_channels", 4)):
            raise UserError(
                f"{file}: in_channels is {net['in_channels']} and the VAE's latents have "
                f"{channels} channels; give a base that draws from text alone"
            )
        axes, head = net["axes_dims"], net["dim"] // net["n_heads"]
        if len(axes) != 3 or sum(axes) != head:
            raise UserError(
                f"{file}: axes_dims {axes} are not the {head} of dim / n_heads; get the model again"
            )
        rows, places = check_side(vae, halvings) // 2**halvings, net["axes_lens"]
        if places[0] < TOKENS + 2 or rows > min(places[1:]):
            raise UserError(
                f"{file}: axes_lens {places} have no place for {TOKENS} tokens of a text and "
                f"{rows} x {rows} of a picture; write a smaller sample_size into vae/config.json"
            )
        check_latents(vae, "Z-Image", 0.3611, 0.1159)
        check_text(folder, net, "cap_feat_dim", "Qwen3's", chat=True)
        check_scheduler(folder, check_stated, by_size=True)

    def _read(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        words, qwen = self.text[0]
        chats = [
            words.apply_chat_template(
                [{"role": "user", "content": text}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=True,
            )
            for text in texts
        ]
        ids, mask = self._tokens(chats, min(TOKENS, words.model_max_length))
        seen = qwen(ids, attention_mask=mask.bool(), output_hidden_states=True)
        return seen.hidden_states[-2], mask

    def predict(
        self, net: Callable[..., Any], z_t: torch.Tensor, t: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """t: whole timesteps, or T sigma in floating point."""
        import torch

        times = t if t.is_floating_point() else self.schedule.sigma(t) * self.timesteps
        clean = (self.timesteps - times) / self.timesteps
        lengths = condition["mask"].long().sum(dim=1).tolist()
        texts = [each[:n] for each, n in zip(condition["states"], lengths, strict=True)]
        found = net(
            list(z_t[:, :, None].unbind()), clean.expand(len(z_t)), texts, return_dict=False
        )[0]
        return -torch.stack(found)[:, :, 0]
